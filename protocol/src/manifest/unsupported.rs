//! What a manifest may say that this release does not run yet.
//!
//! In: a valid object. Out: each of its fields that would be accepted and then ignored. The scheduler refuses them, so
//! that nobody believes in a policy that is not kept.

use super::document::Document;
use super::object::Object;
use super::placement::{Placement, Selector, Strategy};
use super::platform::Platform;
use super::policy::RolloutStrategy;
use super::problem::{FieldPath, Problem, in_order};
use super::rule;
use super::workload::Workload;

/// The fields of an object that this release does not run.
pub fn unsupported(document: &Document) -> Vec<Problem> {
    let mut found = Found {
        document,
        problems: Vec::new(),
    };
    match &document.object {
        Object::Platform(platform) => found.platform(platform),
        Object::Config(_) | Object::SecretRef(_) | Object::Policy(_) => {}
        Object::Workload(workload) => found.workload(workload),
    }
    in_order(found.problems)
}

struct Found<'a> {
    document: &'a Document,
    problems: Vec<Problem>,
}

impl Found<'_> {
    /// Reports a field if it is written: what it is about, and what to do instead.
    fn not_yet(&mut self, written: bool, at: &FieldPath, what: &str, instead: &str) {
        if written {
            let subject = match at.to_string() {
                root if root.is_empty() => "this kind of object".to_owned(),
                path => format!("`{path}`"),
            };
            let message =
                format!("{subject} is part of the manifest's shape, but this release has no {what} yet; {instead}");
            self.problems
                .push(self.document.problem(at, rule::NOT_YET_SUPPORTED, message));
        }
    }

    fn removed(&mut self, written: bool, at: &FieldPath, what: &str) {
        self.not_yet(written, at, what, "remove it");
    }

    fn platform(&mut self, platform: &Platform) {
        let at = FieldPath::spec();
        self.selector(&at.key("hosts"), &platform.spec.hosts);
    }

    fn workload(&mut self, workload: &Workload) {
        let (spec, at) = (&workload.spec, FieldPath::spec());
        self.placement(&spec.placement);
        let health = at.key("health");
        self.removed(spec.health.ready.is_some(), &health.key("ready"), "health checks");
        self.removed(spec.health.live.is_some(), &health.key("live"), "health checks");
        self.rollout(workload);
        self.disconnect(workload);
    }

    fn selector(&mut self, at: &FieldPath, selector: &Selector) {
        for (key, condition) in selector {
            let at = at.entry(key);
            for (field, written) in [("gt", condition.gt.is_some()), ("lt", condition.lt.is_some())] {
                self.not_yet(
                    written,
                    &at.key(field),
                    "comparisons of labels",
                    "use `in`, `notIn` or `exists`",
                );
            }
        }
    }

    fn placement(&mut self, placement: &Placement) {
        let at = FieldPath::spec().key("placement");
        for (index, required) in placement.require.iter().enumerate() {
            self.selector(&at.key("require").index(index), required);
        }
        self.not_yet(
            !placement.prefer.is_empty(),
            &at.key("prefer"),
            "preferences",
            "remove it, or use `require`",
        );
        for (index, spread) in placement.spread.iter().enumerate() {
            let at = at.key("spread").index(index).key("maxSkew");
            self.not_yet(
                spread.max_skew.is_some(),
                &at,
                "bounds on skew",
                "remove it; shares are even without it",
            );
        }
        self.removed(!placement.avoid.is_empty(), &at.key("avoid"), "anti-affinity");
        let pack = placement.strategy == Strategy::Pack;
        self.not_yet(
            pack,
            &at.key("strategy"),
            "packing",
            "remove it, or write `strategy: spread`",
        );
        self.removed(placement.priority != 0, &at.key("priority"), "priorities");
    }

    fn rollout(&mut self, workload: &Workload) {
        let (rollout, at) = (&workload.spec.rollout, FieldPath::spec().key("rollout"));
        let instead = "remove it; a new replica is ready before the old one stops in any case";
        let blue_green = rollout.strategy == RolloutStrategy::BlueGreen;
        self.not_yet(
            blue_green,
            &at.key("strategy"),
            "blue-green rollouts",
            "write `strategy: rolling`",
        );
        self.not_yet(
            rollout.canary.is_some(),
            &at.key("canary"),
            "canary rollouts",
            "write `strategy: rolling`",
        );
        for (field, written) in [
            ("maxSurge", rollout.max_surge.is_some()),
            ("maxUnavailable", rollout.max_unavailable.is_some()),
            ("minReady", rollout.min_ready.is_some()),
            ("progressDeadline", rollout.progress_deadline.is_some()),
            ("onFailure", rollout.on_failure.is_some()),
        ] {
            self.not_yet(written, &at.key(field), "rollout policies", instead);
        }
    }

    fn disconnect(&mut self, workload: &Workload) {
        let (disconnect, at) = (&workload.spec.disconnect, FieldPath::spec().key("disconnect"));
        for (field, written) in [
            ("lostAfter", disconnect.lost_after.is_some()),
            ("replace", disconnect.replace.is_some()),
            ("reconcile", disconnect.reconcile.is_some()),
            ("stopAfter", disconnect.stop_after.is_some()),
        ] {
            let instead = "remove it; a cut-off host keeps what it has, and lost replicas are replaced";
            self.not_yet(written, &at.key(field), "disconnect policies", instead);
        }
    }
}
