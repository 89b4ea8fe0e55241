//! Triggers: what calls a workload.

use super::super::problem::FieldPath;
use super::super::rule;
use super::super::workload::{HttpTrigger, Workload};
use super::link::known_component;
use super::{Check, schedule, syntax};

pub(super) fn check(check: &mut Check<'_>, workload: &Workload) {
    for (index, trigger) in workload.spec.triggers.iter().enumerate() {
        let at = FieldPath::spec().key("triggers").index(index);
        check.exactly_one(
            &at,
            &[
                ("http", trigger.http.is_some()),
                ("messaging", trigger.messaging.is_some()),
                ("cron", trigger.cron.is_some()),
                ("service", trigger.service.is_some()),
                ("wrpc", trigger.wrpc.is_some()),
            ],
        );
        if let Some(http) = &trigger.http {
            check_http(check, &at.key("http"), http);
            component(check, &at.key("http"), http.component.as_deref(), workload);
        }
        if let Some(messaging) = &trigger.messaging {
            let at = at.key("messaging");
            check.name(&at.key("capability"), &messaging.capability);
            check.syntax(
                &at.key("subject"),
                rule::BAD_SUBJECT,
                syntax::subject(&messaging.subject),
            );
            component(check, &at, messaging.component.as_deref(), workload);
        }
        if let Some(cron) = &trigger.cron {
            let at = at.key("cron");
            check.syntax(
                &at.key("schedule"),
                rule::BAD_SCHEDULE,
                schedule::schedule(&cron.schedule),
            );
            if let Some(zone) = &cron.time_zone {
                check.syntax(&at.key("timeZone"), rule::BAD_TIME_ZONE, schedule::time_zone(zone));
            }
            component(check, &at, cron.component.as_deref(), workload);
        }
        if let Some(service) = &trigger.service {
            component(check, &at.key("service"), service.component.as_deref(), workload);
        }
        if let Some(wrpc) = &trigger.wrpc {
            let at = at.key("wrpc");
            check.syntax(
                &at.key("interface"),
                rule::BAD_INTERFACE,
                syntax::interface(&wrpc.interface),
            );
            check.syntax(&at.key("prefix"), rule::BAD_PREFIX, syntax::rpc_prefix(&wrpc.prefix));
            component(check, &at, wrpc.component.as_deref(), workload);
        }
    }
    one_service(check, workload);
    job(check, workload);
}

/// A replica runs one thing by itself.
fn one_service(check: &mut Check<'_>, workload: &Workload) {
    let triggers = workload.spec.triggers.iter().enumerate();
    let services: Vec<usize> = triggers
        .filter(|(_, t)| t.service.is_some())
        .map(|(index, _)| index)
        .collect();
    for index in services.iter().skip(1) {
        let message = "a workload has one service; give the other component a workload of its own";
        let at = FieldPath::spec().key("triggers").index(*index).key("service");
        check.report(&at, rule::NOT_TOGETHER, message);
    }
}

/// Nothing calls a job: it runs to its end.
fn job(check: &mut Check<'_>, workload: &Workload) {
    let Some(job) = &workload.spec.job else { return };
    component(check, &FieldPath::spec().key("job"), job.component.as_deref(), workload);
    for index in 0..workload.spec.triggers.len() {
        let message = "a job runs to its end and is called by nothing; take the trigger out, or `job`";
        let at = FieldPath::spec().key("triggers").index(index);
        check.report(&at, rule::NOT_TOGETHER, message);
    }
}

fn check_http(check: &mut Check<'_>, at: &FieldPath, http: &HttpTrigger) {
    check.name(&at.key("capability"), &http.capability);
    if let Some(host) = &http.host {
        check.syntax(&at.key("host"), rule::BAD_HOST, syntax::host(host));
    }
    check.syntax(&at.key("path"), rule::BAD_PATH, syntax::path(&http.path));
    check.unique(&at.key("methods"), http.methods.iter().map(|method| method.as_str()));
}

fn component(check: &mut Check<'_>, at: &FieldPath, name: Option<&str>, workload: &Workload) {
    if let Some(name) = name {
        known_component(check, &at.key("component"), name, workload);
    }
}
