//! What calls the components of a workload from outside, besides HTTP: messages, points in time, the start of a replica,
//! calls of strangers; and which components are entries because of it.

use super::interface::export_for;
use super::nearest::{list, nearest};
use super::{
    CAPABILITY_NOT_MESSAGING, CAPABILITY_UNKNOWN, HANDLER_AMBIGUOUS, HANDLER_MISSING, SUBJECT_NOT_ALLOWED, cron_form,
};
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::defaults::{JOB_ATTEMPTS, MESSAGE_ATTEMPTS, MESSAGES_IN_FLIGHT};
use heddle_protocol::host_spec::{CapabilityOffer, Consume, Run};
use heddle_protocol::id::{CapabilityName, ComponentName};
use heddle_protocol::manifest::{self, Document, FieldPath, Problem, Scale, Target, Workload, rule};
use heddle_protocol::record::{CronTrigger, ServedExport};
use heddle_protocol::wit;
use std::collections::{BTreeMap, BTreeSet};

/// The components of a workload, by name.
pub(super) type Artifacts = BTreeMap<ComponentName, ArtifactInfo>;

/// What components are called through.
const HTTP: &str = "an HTTP handler (wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3)";
const MESSAGES: &str = "a message handler (wasmcloud:messaging/handler@0.2.0)";
const RUN: &str = "wasi:cli/run@0.2 or wasi:cli/run@0.3";

fn takes_messages(artifact: &ArtifactInfo) -> bool {
    artifact.exports.contains("wasmcloud:messaging/handler@0.2.0")
}

fn runs(artifact: &ArtifactInfo) -> bool {
    let is_run = |e: &String| e.starts_with("wasi:cli/run@0.2.") || e.starts_with("wasi:cli/run@0.3.");
    artifact.exports.iter().any(is_run)
}

/// An interface as triggers name it, with or without a version.
fn exported<'a>(artifact: &'a ArtifactInfo, interface: &str) -> Option<&'a str> {
    match interface.contains('@') {
        true => export_for(artifact, interface),
        false => {
            let mut named = artifact.exports.iter().filter(|e| wit::link_names(interface, e));
            named.next_back().map(String::as_str)
        }
    }
}

/// A workload's triggers, resolved.
#[derive(Default)]
pub(super) struct Triggers {
    pub(super) consumes: Vec<Consume>,
    pub(super) run: Option<Run>,
    pub(super) cron: Vec<CronTrigger>,
    pub(super) serves: BTreeSet<ServedExport>,
}

/// What resolving triggers needs to know.
pub(super) struct Outside<'a> {
    pub(super) document: &'a Document,
    pub(super) workload: &'a Workload,
    pub(super) artifacts: &'a Artifacts,
    pub(super) catalog: &'a BTreeMap<CapabilityName, CapabilityOffer>,
}

impl Outside<'_> {
    /// The triggers, but for HTTP's.
    pub(super) fn triggers(&self, problems: &mut Vec<Problem>) -> Triggers {
        let mut found = Triggers::default();
        for (index, trigger) in self.workload.spec.triggers.iter().enumerate() {
            let at = FieldPath::spec().key("triggers").index(index);
            if let Some(messaging) = &trigger.messaging {
                found
                    .consumes
                    .extend(self.consume(&at.key("messaging"), messaging, problems));
            }
            if let Some(cron) = &trigger.cron {
                found.cron.extend(self.cron(&at.key("cron"), cron, problems));
            }
            if let Some(service) = &trigger.service {
                let at = at.key("service");
                let component = self.pick(&at, service.component.as_deref(), RUN, runs, problems);
                found.run = component.map(|component| Run::Service { component });
            }
            if let Some(wrpc) = &trigger.wrpc {
                found.serves.extend(self.served(&at.key("wrpc"), wrpc, problems));
            }
        }
        if let Scale::Job(job) = self.workload.spec.scale() {
            let at = FieldPath::spec().key("job");
            let component = self.pick(&at, job.component.as_deref(), RUN, runs, problems);
            found.run = component.map(|component| Run::Job {
                component,
                attempts: job.attempts.unwrap_or(JOB_ATTEMPTS),
                deadline_ms: job.deadline.map(|d| d.as_ms()),
            });
        }
        found.cron.sort();
        found
            .consumes
            .sort_by(|a, b| (&a.capability, &a.subject, &a.component).cmp(&(&b.capability, &b.subject, &b.component)));
        found
    }

    fn consume(
        &self,
        at: &FieldPath,
        trigger: &manifest::MessagingTrigger,
        problems: &mut Vec<Problem>,
    ) -> Option<Consume> {
        let capability = self.messaging(at, trigger, problems);
        let component = self.pick(at, trigger.component.as_deref(), MESSAGES, takes_messages, problems);
        Some(Consume {
            capability: capability?,
            component: component?,
            subject: trigger.subject.clone(),
            max_in_flight: trigger.max_inflight.unwrap_or(MESSAGES_IN_FLIGHT),
            attempts: trigger.attempts.unwrap_or(MESSAGE_ATTEMPTS),
        })
    }

    /// The messaging capability of a trigger, if it gives out the trigger's subject.
    fn messaging(
        &self,
        at: &FieldPath,
        trigger: &manifest::MessagingTrigger,
        problems: &mut Vec<Problem>,
    ) -> Option<CapabilityName> {
        let subjects = |offer: &CapabilityOffer| match offer {
            CapabilityOffer::MessagingNats { subjects, .. } | CapabilityOffer::MessagingJetstream { subjects, .. } => {
                Some(subjects.clone())
            }
            _ => None,
        };
        let name = CapabilityName::parse(&trigger.capability).ok();
        let offer = name.as_ref().and_then(|n| self.catalog.get(n));
        let given = match offer.map(subjects) {
            Some(Some(given)) => given,
            found => {
                let others = self.catalog.iter().filter(|(_, offer)| subjects(offer).is_some());
                let others: Vec<&str> = others.map(|(name, _)| name.as_str()).collect();
                let (rule, what) = match found {
                    Some(_) => (CAPABILITY_NOT_MESSAGING, "capability {} is no messaging"),
                    None => (CAPABILITY_UNKNOWN, "no platform lends a capability named {}"),
                };
                let what = what.replace("{}", &trigger.capability);
                let message = format!("{what}; messaging capabilities: {}", list(&others));
                let problem = self.document.problem(&at.key("capability"), rule, message);
                problems.push(match nearest(&trigger.capability, others) {
                    Some(meant) => problem.suggest(meant),
                    None => problem,
                });
                return None;
            }
        };
        if !given.iter().any(|pattern| covers(pattern, &trigger.subject)) {
            let message = format!(
                "capability {} does not give subject {} to workloads; it gives {}",
                trigger.capability,
                trigger.subject,
                list(&given)
            );
            problems.push(self.document.problem(&at.key("subject"), SUBJECT_NOT_ALLOWED, message));
            return None;
        }
        name
    }

    fn cron(
        &self,
        at: &FieldPath,
        trigger: &manifest::CronTrigger,
        problems: &mut Vec<Problem>,
    ) -> Option<CronTrigger> {
        let component = self.pick(at, trigger.component.as_deref(), RUN, runs, problems);
        let mut whole = true;
        if let Err(why) = cron_form::schedule(&trigger.schedule) {
            problems.push(self.document.problem(&at.key("schedule"), rule::BAD_SCHEDULE, why));
            whole = false;
        }
        if let Some(Err(why)) = trigger.time_zone.as_deref().map(cron_form::time_zone) {
            problems.push(self.document.problem(&at.key("timeZone"), rule::BAD_TIME_ZONE, why));
            whole = false;
        }
        component.filter(|_| whole).map(|component| CronTrigger {
            component,
            schedule: trigger.schedule.clone(),
            time_zone: trigger.time_zone.clone(),
        })
    }

    fn served(
        &self,
        at: &FieldPath,
        trigger: &manifest::WrpcTrigger,
        problems: &mut Vec<Problem>,
    ) -> Option<ServedExport> {
        let what = &trigger.interface;
        let exports = |artifact: &ArtifactInfo| exported(artifact, what).is_some();
        let component = self.pick(at, trigger.component.as_deref(), what, exports, problems)?;
        let interface = exported(self.artifacts.get(&component)?, what)?.to_owned();
        Some(ServedExport {
            component,
            interface,
            prefix: trigger.prefix.clone(),
        })
    }

    /// The component that a trigger calls: the named one, or the only one that can be called so.
    fn pick(
        &self,
        at: &FieldPath,
        named: Option<&str>,
        what: &str,
        can: impl Fn(&ArtifactInfo) -> bool,
        problems: &mut Vec<Problem>,
    ) -> Option<ComponentName> {
        match pick(self.workload, self.artifacts, named, can) {
            Picked::One(name) => Some(name),
            Picked::NotThat { named, others } => {
                let message = format!(
                    "component {named} does not export {what}; components that do: {}",
                    list(&others)
                );
                let problem = self.document.problem(&at.key("component"), HANDLER_MISSING, message);
                problems.push(match others.as_slice() {
                    [only] => problem.suggest(only.as_str()),
                    _ => problem,
                });
                None
            }
            Picked::None => {
                let exports: BTreeSet<&String> = self.artifacts.values().flat_map(|a| &a.exports).collect();
                let message = format!("no component exports {what}; they export: {}", list(exports));
                problems.push(self.document.problem(at, HANDLER_MISSING, message));
                None
            }
            Picked::Several(names) => {
                let message = format!("components {} export {what}: name one as `component`", list(&names));
                problems.push(self.document.problem(at, HANDLER_AMBIGUOUS, message));
                None
            }
        }
    }

    /// The component that an HTTP trigger calls.
    pub(super) fn http_handler(
        &self,
        at: &FieldPath,
        trigger: &manifest::HttpTrigger,
        problems: &mut Vec<Problem>,
    ) -> Option<ComponentName> {
        self.pick(
            at,
            trigger.component.as_deref(),
            HTTP,
            ArtifactInfo::serves_http,
            problems,
        )
    }
}

enum Picked {
    One(ComponentName),
    NotThat { named: String, others: Vec<ComponentName> },
    None,
    Several(Vec<ComponentName>),
}

fn pick(
    workload: &Workload,
    artifacts: &Artifacts,
    named: Option<&str>,
    can: impl Fn(&ArtifactInfo) -> bool,
) -> Picked {
    let able: Vec<ComponentName> = artifacts
        .iter()
        .filter(|(_, a)| can(a))
        .map(|(n, _)| n.clone())
        .collect();
    if let Some(named) = named {
        return match able.iter().find(|name| name.as_str() == named) {
            Some(name) => Picked::One(name.clone()),
            None => Picked::NotThat {
                named: named.to_owned(),
                others: able,
            },
        };
    }
    // What another component of the workload calls is not what the trigger means, if there is anything else.
    let linked = linked(workload);
    let free: Vec<&ComponentName> = able.iter().filter(|name| !linked.contains(name.as_str())).collect();
    match (free.as_slice(), able.as_slice()) {
        ([only], _) => Picked::One((*only).clone()),
        (_, [only]) => Picked::One(only.clone()),
        (_, []) => Picked::None,
        (_, _) => Picked::Several(able),
    }
}

/// The components that others of the workload are linked to.
fn linked(workload: &Workload) -> BTreeSet<&str> {
    let targets = workload.spec.links.iter().filter_map(|link| match link.to.target() {
        Some(Target::Component(name)) => Some(name),
        _ => None,
    });
    targets.collect()
}

/// The components of a workload that something calls from outside: those of triggers, and those that no other component
/// of the workload is linked to.
pub(super) fn entries(workload: &Workload, artifacts: &Artifacts) -> BTreeSet<ComponentName> {
    let linked = linked(workload);
    let mut entries: BTreeSet<ComponentName> = artifacts
        .keys()
        .filter(|name| !linked.contains(name.as_str()))
        .cloned()
        .collect();
    let mut called = |named: Option<&str>, can: &dyn Fn(&ArtifactInfo) -> bool| {
        if let Picked::One(name) = pick(workload, artifacts, named, can) {
            entries.insert(name);
        }
    };
    for trigger in &workload.spec.triggers {
        if let Some(http) = &trigger.http {
            called(http.component.as_deref(), &ArtifactInfo::serves_http);
        }
        if let Some(messaging) = &trigger.messaging {
            called(messaging.component.as_deref(), &takes_messages);
        }
        if let Some(cron) = &trigger.cron {
            called(cron.component.as_deref(), &runs);
        }
        if let Some(service) = &trigger.service {
            called(service.component.as_deref(), &runs);
        }
        if let Some(wrpc) = &trigger.wrpc {
            called(wrpc.component.as_deref(), &|a| exported(a, &wrpc.interface).is_some());
        }
    }
    if let Scale::Job(job) = workload.spec.scale() {
        called(job.component.as_deref(), &runs);
    }
    entries
}

/// Whether every subject that `wanted` stands for is one that `pattern` stands for.
fn covers(pattern: &str, wanted: &str) -> bool {
    let mut wanted = wanted.split('.');
    for token in pattern.split('.') {
        match (token, wanted.next()) {
            (">", rest) => return rest.is_some(),
            (_, None | Some(">")) => return false,
            ("*", Some(_)) => {}
            (token, Some(other)) if token == other => {}
            _ => return false,
        }
    }
    wanted.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_allowed_if_all_that_it_stands_for_is() {
        for (pattern, wanted, allowed) in [
            ("orders.>", "orders.new", true),
            ("orders.>", "orders.>", true),
            ("orders.>", "orders", false),
            ("orders.*", "orders.new", true),
            ("orders.*", "orders.*", true),
            ("orders.*", "orders.>", false),
            ("orders.*", "orders.a.b", false),
            ("orders.new", "orders.*", false),
            (">", "a.b", true),
        ] {
            assert_eq!(covers(pattern, wanted), allowed, "{wanted} within {pattern}");
        }
    }
}
