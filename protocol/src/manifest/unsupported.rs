//! What a manifest may say that this release does not run yet.
//!
//! In: a valid object. Out: each of its fields that would be accepted and then ignored. The scheduler refuses them, so
//! that nobody believes in a policy that is not kept.

use super::document::Document;
use super::object::Object;
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
        Object::Platform(_) | Object::Config(_) | Object::SecretRef(_) | Object::Policy(_) | Object::Quota(_) => {}
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

    fn workload(&mut self, workload: &Workload) {
        let (spec, at) = (&workload.spec, FieldPath::spec());
        let health = at.key("health");
        self.removed(spec.health.ready.is_some(), &health.key("ready"), "health checks");
        self.removed(spec.health.live.is_some(), &health.key("live"), "health checks");
        self.rollout(workload);
        self.disconnect(workload);
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
