//! What a manifest may say that this release does not run yet.
//!
//! In: a valid object. Out: each of its fields that would be accepted and then ignored. The scheduler refuses them, so
//! that nobody believes in a policy that is not kept.

use super::document::Document;
use super::object::Object;
use super::placement::Strategy;
use super::policy::RolloutStrategy;
use super::problem::{FieldPath, Problem, in_order};
use super::rule;
use super::workload::{Workload, WorkloadSpec};

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

/// Where a rule stands in a workload, what it is called, and what to write instead.
type NotPlanned = (fn(&WorkloadSpec) -> Vec<FieldPath>, &'static str, &'static str);

/// Rules of placement and reservations that the planner does not obey. Deleting a line accepts the rule.
const NOT_PLANNED: &[NotPlanned] = &[
    (prefer, "preferences", "remove it, or use `require`"),
    (max_skew, "bounds on skew", "remove it; shares are even without it"),
    (avoid, "anti-affinity", "remove it"),
    (near, "affinity", "remove it"),
    (
        max_per_host,
        "bounds per host",
        "remove it; replicas share hosts evenly",
    ),
    (tolerate, "tolerations", "remove it"),
    (strategy, "packing", "remove it, or write `strategy: spread`"),
    (priority, "priorities", "remove it"),
    (reserve_cpu, "reservations of processor time", "remove it"),
    (reserve_resources, "countable resources", "remove it"),
];

/// A field of `spec.placement`, if it is written.
fn placed(written: bool, field: &'static str) -> Vec<FieldPath> {
    written
        .then(|| FieldPath::spec().key("placement").key(field))
        .into_iter()
        .collect()
}

fn prefer(spec: &WorkloadSpec) -> Vec<FieldPath> {
    placed(!spec.placement.prefer.is_empty(), "prefer")
}

fn max_skew(spec: &WorkloadSpec) -> Vec<FieldPath> {
    let at = FieldPath::spec().key("placement").key("spread");
    let spreads = spec.placement.spread.iter().enumerate();
    spreads
        .filter(|(_, spread)| spread.max_skew.is_some())
        .map(|(index, _)| at.index(index).key("maxSkew"))
        .collect()
}

fn avoid(spec: &WorkloadSpec) -> Vec<FieldPath> {
    placed(!spec.placement.avoid.is_empty(), "avoid")
}

fn near(spec: &WorkloadSpec) -> Vec<FieldPath> {
    placed(!spec.placement.near.is_empty(), "near")
}

fn max_per_host(spec: &WorkloadSpec) -> Vec<FieldPath> {
    placed(spec.placement.max_per_host.is_some(), "maxPerHost")
}

fn tolerate(spec: &WorkloadSpec) -> Vec<FieldPath> {
    placed(!spec.placement.tolerate.is_empty(), "tolerate")
}

fn strategy(spec: &WorkloadSpec) -> Vec<FieldPath> {
    placed(spec.placement.strategy == Strategy::Pack, "strategy")
}

fn priority(spec: &WorkloadSpec) -> Vec<FieldPath> {
    placed(spec.placement.priority != 0, "priority")
}

fn reserve_cpu(spec: &WorkloadSpec) -> Vec<FieldPath> {
    let at = FieldPath::spec().key("reserve").key("cpu");
    spec.reserve.cpu.map(|_| at).into_iter().collect()
}

fn reserve_resources(spec: &WorkloadSpec) -> Vec<FieldPath> {
    let at = FieldPath::spec().key("reserve").key("resources");
    (!spec.reserve.resources.is_empty()).then_some(at).into_iter().collect()
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
        self.placement(spec);
        let health = at.key("health");
        self.removed(spec.health.ready.is_some(), &health.key("ready"), "health checks");
        self.removed(spec.health.live.is_some(), &health.key("live"), "health checks");
        self.rollout(workload);
        self.disconnect(workload);
    }

    fn placement(&mut self, spec: &WorkloadSpec) {
        for (places, what, instead) in NOT_PLANNED {
            for at in places(spec) {
                self.not_yet(true, &at, what, instead);
            }
        }
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
