//! Conditions on hosts, and how replicas share them.

use super::super::placement::{LabelRule, Placement, Selector, Spread};
use super::super::problem::FieldPath;
use super::super::rule;
use super::Check;

pub(super) fn check(check: &mut Check<'_>, placement: &Placement, daemon: bool) {
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
    check_spread(check, &at.key("spread"), &placement.spread, daemon);
    for (index, avoided) in placement.avoid.iter().enumerate() {
        let at = at.key("avoid").index(index);
        check.name(&at.key("workload"), &avoided.workload);
        check.label_key(&at.key("by"), &avoided.by);
    }
}

fn check_spread(check: &mut Check<'_>, at: &FieldPath, spreads: &[Spread], daemon: bool) {
    if daemon && !spreads.is_empty() {
        check.report(
            at,
            rule::NOT_TOGETHER,
            "a daemon runs on every host that fits, so there is nothing to spread",
        );
    }
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
    }
    let mut seen = std::collections::BTreeMap::new();
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
            "write at least one of `in`, `notIn`, `exists`, `gt`, `lt`",
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
    let wants_value = condition.in_values.is_some() || condition.gt.is_some() || condition.lt.is_some();
    if condition.exists == Some(false) && wants_value {
        let message = "`exists: false` excludes conditions on the label's value";
        check.report(&at.key("exists"), rule::NOT_TOGETHER, message);
    }
    if let (Some(above), Some(below)) = (condition.gt, condition.lt)
        && below.saturating_sub(above) < 2
    {
        let message = format!("no whole number is greater than {above} and less than {below}");
        check.report(&at.key("lt"), rule::OUT_OF_RANGE, message);
    }
}
