//! Conditions on hosts, and how replicas share them.

use super::super::placement::{Company, LabelRule, Placement, Selector, Spread, Strategy};
use super::super::problem::{FieldPath, quoted};
use super::super::rule;
use super::super::workload::Workload;
use super::{Check, syntax};
use crate::label::VersionRule;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(check: &mut Check<'_>, workload: &Workload) {
    let (placement, daemon) = (&workload.spec.placement, workload.spec.daemon);
    let at = FieldPath::spec().key("placement");
    for (index, required) in placement.require.iter().enumerate() {
        selector(check, &at.key("require").index(index), required);
    }
    for (index, preference) in placement.prefer.iter().enumerate() {
        let at = at.key("prefer").index(index).key("label");
        if preference.label.is_empty() {
            check.report(&at, rule::EMPTY_RULE, "name at least one label");
        }
        check.labels(&at, &preference.label);
    }
    check_spread(check, &at.key("spread"), &placement.spread);
    company(check, &at.key("avoid"), &placement.avoid);
    company(check, &at.key("near"), &placement.near);
    avoid_self(check, &at, workload);
    avoid_and_near(check, &at, placement);
    tolerate(check, &at.key("tolerate"), placement);
    if daemon {
        no_choice(check, &at, placement);
    }
}

/// What chooses among hosts has no meaning for a daemon.
fn no_choice(check: &mut Check<'_>, at: &FieldPath, placement: &Placement) {
    let written: [(&'static str, bool); 7] = [
        ("prefer", !placement.prefer.is_empty()),
        ("spread", !placement.spread.is_empty()),
        ("avoid", !placement.avoid.is_empty()),
        ("near", !placement.near.is_empty()),
        ("maxPerHost", placement.max_per_host.is_some()),
        ("strategy", placement.strategy != Strategy::Spread),
        ("preferImage", placement.prefer_image),
    ];
    for (field, _) in written.into_iter().filter(|(_, written)| *written) {
        let message =
            format!("a daemon runs once on every host that fits, so `{field}` chooses nothing; use `require`");
        check.report(&at.key(field), rule::NOT_TOGETHER, message);
    }
}

/// Other workloads, to keep away from or to stay near to.
fn company(check: &mut Check<'_>, at: &FieldPath, all: &[Company]) {
    let mut seen = BTreeMap::new();
    for (index, company) in all.iter().enumerate() {
        let at = at.index(index);
        check.name(&at.key("workload"), &company.workload);
        check.label_key(&at.key("by"), &company.by);
        if let Some(first) = seen.insert((&company.workload, &company.by), index) {
            let message = format!(
                "{} by {} is listed twice; the first is item {first}",
                quoted(&company.workload),
                quoted(&company.by)
            );
            check.report(&at, rule::DUPLICATE_VALUE, message);
        }
    }
}

fn avoid_self(check: &mut Check<'_>, at: &FieldPath, workload: &Workload) {
    for (index, avoided) in workload.spec.placement.avoid.iter().enumerate() {
        if avoided.workload == workload.metadata.name {
            let instead = match avoided.by.as_str() {
                "host" => "`maxPerHost: 1`, which keeps its replicas on different hosts".to_owned(),
                by => format!(
                    "`spread: [{{ by: {}, maxSkew: 1 }}]`, which shares them out",
                    by.escape_debug()
                ),
            };
            let message = format!("a workload is not kept away from itself; write {instead}");
            check.report(&at.key("avoid").index(index).key("workload"), rule::AVOID_SELF, message);
        }
    }
}

fn avoid_and_near(check: &mut Check<'_>, at: &FieldPath, placement: &Placement) {
    let avoided: BTreeSet<_> = placement.avoid.iter().map(|a| (&a.workload, &a.by)).collect();
    for (index, near) in placement.near.iter().enumerate() {
        if avoided.contains(&(&near.workload, &near.by)) {
            let message = format!(
                "{} is avoided by {} and to be near by {}: one of the two must go",
                quoted(&near.workload),
                quoted(&near.by),
                quoted(&near.by)
            );
            check.report(&at.key("near").index(index), rule::NOT_TOGETHER, message);
        }
    }
}

fn tolerate(check: &mut Check<'_>, at: &FieldPath, placement: &Placement) {
    let mut seen = BTreeMap::new();
    for (index, toleration) in placement.tolerate.iter().enumerate() {
        let at = at.index(index);
        check.syntax(&at.key("taint"), rule::BAD_LABEL, syntax::label_key(&toleration.taint));
        if let Some(value) = &toleration.value {
            check.label_value(&at.key("value"), value);
        }
        if let Some(first) = seen.insert((&toleration.taint, &toleration.value), index) {
            let message = format!(
                "the taint {} is tolerated twice; the first is item {first}",
                quoted(&toleration.taint)
            );
            check.report(&at, rule::DUPLICATE_VALUE, message);
        }
    }
}

fn check_spread(check: &mut Check<'_>, at: &FieldPath, spreads: &[Spread]) {
    for (index, spread) in spreads.iter().enumerate() {
        let at = at.index(index);
        check.label_key(&at.key("by"), &spread.by);
        for value in spread.weights.keys() {
            check.label_value(&at.key("weights").entry(value), value);
        }
        if !spread.weights.is_empty() && spread.weights.values().all(|weight| *weight == 0) {
            check.report(
                &at.key("weights"),
                rule::ZERO_WEIGHTS,
                "all weights are 0, so no host could get a replica",
            );
        }
        if spread.hard.is_some() && spread.max_skew.is_none() {
            let message = "`hard` says what happens beyond `maxSkew`; write that too, or leave `hard` out";
            check.report(&at.key("hard"), rule::NEEDS_MAX_SKEW, message);
        }
    }
    let mut seen = BTreeMap::new();
    for (index, spread) in spreads.iter().enumerate() {
        if let Some(first) = seen.insert(spread.by.as_str(), index) {
            let message = format!("label `{}` is spread over twice; the first is item {first}", spread.by);
            check.report(&at.index(index).key("by"), rule::DUPLICATE_VALUE, message);
        }
    }
}

/// Conditions on labels, of a workload's placement or of a platform's hosts.
pub(super) fn selector(check: &mut Check<'_>, at: &FieldPath, selector: &Selector) {
    if selector.is_empty() {
        check.report(
            at,
            rule::EMPTY_RULE,
            "name at least one label, or leave the condition out",
        );
    }
    for (key, condition) in selector {
        let at = at.entry(key);
        check.label_key(&at, key);
        label_rule(check, &at, condition);
    }
}

fn label_rule(check: &mut Check<'_>, at: &FieldPath, condition: &LabelRule) {
    if *condition == LabelRule::default() {
        check.report(
            at,
            rule::EMPTY_RULE,
            "write at least one of `in`, `notIn`, `exists`, `gt`, `lt`, `version`",
        );
    }
    for (field, values) in [("in", &condition.in_values), ("notIn", &condition.not_in)] {
        let Some(values) = values else { continue };
        let at = at.key(field);
        if values.is_empty() {
            check.report(&at, rule::WRONG_LENGTH, "list at least one value");
        }
        for (index, value) in values.iter().enumerate() {
            check.label_value(&at.index(index), value);
        }
        check.unique(&at, values.iter().map(String::as_str));
    }
    let compares = condition.gt.is_some() || condition.lt.is_some() || condition.version.is_some();
    let wants_value = condition.in_values.is_some() || compares;
    if condition.exists == Some(false) && wants_value {
        let message = "`exists: false` excludes conditions on the label's value";
        check.report(&at.key("exists"), rule::NOT_TOGETHER, message);
    }
    if let Some(Err(error)) = condition.version.as_deref().map(VersionRule::parse) {
        let message = format!("{} is no requirement on versions: {}", quoted(&error.text), error.why);
        check.report(&at.key("version"), rule::BAD_VERSION_RULE, message);
    }
    if let (Some(above), Some(below)) = (condition.gt, condition.lt)
        && below.saturating_sub(above) < 2
    {
        let message = format!("no whole number is greater than {above} and less than {below}");
        check.report(&at.key("lt"), rule::OUT_OF_RANGE, message);
    }
}
