//! How much a namespace may have, and the names of countable things.

use super::super::problem::FieldPath;
use super::super::quota::Quota;
use super::super::rule;
use super::Check;

/// Different countable things in one object: hosts have a handful.
const RESOURCES_MAX: usize = 32;

pub(super) fn check(check: &mut Check<'_>, quota: &Quota) {
    let (spec, at) = (&quota.spec, FieldPath::spec());
    if *spec == Default::default() {
        let message = "write at least one of `workloads`, `replicas`, `memory`, `cpu`, `resources`";
        check.report(&at, rule::EMPTY_RULE, message);
    }
    resources(check, &at.key("resources"), spec.resources.keys());
}

/// Names of countable things.
pub(super) fn resources<'a>(check: &mut Check<'_>, at: &FieldPath, names: impl ExactSizeIterator<Item = &'a String>) {
    if names.len() > RESOURCES_MAX {
        let message = format!("at most {RESOURCES_MAX} may be named and there are {}", names.len());
        check.report(at, rule::WRONG_LENGTH, message);
    }
    for name in names {
        check.label_key(&at.entry(name), name);
    }
}
