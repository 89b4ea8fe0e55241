//! What clients are told of changes: what became of objects, and what the plan that follows does. And what they were told
//! that changes would do, so that an apply can be held to it (`--at`).
//!
//! In: a decision's answer and the plan's report. Out: the whole answer; and, of an apply that names the commit of its
//! plan, whether it would still do the same.

use crate::serve::fit;
use heddle_protocol::api::apply::{Applied, AppliedObject, Waiting};
use heddle_protocol::api::hosts::JoinToken;
use heddle_protocol::api::rebalance::Rebalanced;
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::digest::Digest;
use heddle_protocol::id::WorkloadId;
use heddle_protocol::report::{PlacementChange, WaitingOn};
use heddle_scheduler_core::steps::steps;
use heddle_scheduler_core::{PlanReport, WorkloadReport, World};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Placement changes in one answer; the plan itself has no limit.
const CHANGES_MAX: usize = 2_000;
/// Workloads that wait, in one answer.
const WAITING_MAX: usize = 200;
/// Plans that are remembered. Whoever applies one does it soon.
const PLANS_MAX: usize = 64;
/// Objects and placement changes of all of them.
const PARTS_MAX: usize = 500_000;

/// What a client is told, before the plan is known.
#[derive(Debug)]
pub enum Draft {
    /// What became of objects.
    Applied(Applied),
    /// What moves.
    Rebalanced(Rebalanced),
    /// A join token.
    Token(JoinToken),
    /// Nothing.
    Nothing,
}

impl Draft {
    /// The answer; `before` is the world that the plan changes.
    pub fn finish(self, commit: u64, before: &World, told: &Told<'_>) -> serde_json::Value {
        match self {
            Self::Applied(applied) => {
                serde_json::to_value(with_plan(applied, commit, before, told)).unwrap_or_default()
            }
            Self::Rebalanced(moves) => serde_json::to_value(Rebalanced { commit, ..moves }).unwrap_or_default(),
            Self::Token(token) => serde_json::to_value(token).unwrap_or_default(),
            Self::Nothing => serde_json::Value::Null,
        }
    }
}

/// What a plan does, looked through once for however many answers tell of it.
#[derive(Debug)]
pub struct Told<'r> {
    report: &'r PlanReport,
    /// What would be planned without the change, if that is known.
    without: Option<&'r PlanReport>,
    /// Who makes room, by those who take their place.
    made_room: BTreeMap<&'r WorkloadId, BTreeSet<&'r WorkloadId>>,
}

impl<'r> Told<'r> {
    /// Looks through what a plan does.
    pub fn new(report: &'r PlanReport, without: Option<&'r PlanReport>) -> Self {
        let mut made_room: BTreeMap<&WorkloadId, BTreeSet<&WorkloadId>> = BTreeMap::new();
        for (id, workload) in &report.workloads {
            let takers = workload
                .changes
                .iter()
                .filter_map(|change| change.preempted_by.as_ref());
            for by in takers {
                made_room.entry(by).or_default().insert(id);
            }
        }
        Self {
            report,
            without,
            made_room,
        }
    }

    /// What the plan says of the workloads that a change of some objects concerns: those that it names, those that make room for
    /// them and so on, and all if it changes what hosts are lent. If it is known what would be planned without it, so are
    /// those with which something else would happen: they find a place because of it, or find none.
    fn of(&self, objects: &[AppliedObject]) -> Vec<(&'r WorkloadId, &'r WorkloadReport)> {
        if objects.iter().any(|object| object.kind == "Platform") {
            return self.report.workloads.iter().collect();
        }
        let named = objects.iter().filter(|object| object.kind == "Workload");
        let mut all: BTreeSet<WorkloadId> = named.filter_map(|o| WorkloadId::parse(&o.name).ok()).collect();
        if let Some(without) = self.without {
            let ids = self.report.workloads.keys().chain(without.workloads.keys());
            let others = ids.filter(|id| changes_of(self.report, id) != changes_of(without, id));
            all.extend(others.cloned());
        }
        // Who makes room may in turn take the place of others.
        let mut takers: Vec<WorkloadId> = all.iter().cloned().collect();
        while let Some(taker) = takers.pop() {
            for id in self.made_room.get(&taker).into_iter().flatten() {
                if all.insert((*id).clone()) {
                    takers.push((*id).clone());
                }
            }
        }
        let found = all.iter().filter_map(|id| self.report.workloads.get_key_value(id));
        found.collect()
    }
}

fn changes_of<'r>(report: &'r PlanReport, id: &WorkloadId) -> &'r [PlacementChange] {
    report
        .workloads
        .get(id)
        .map_or(&[], |workload| workload.changes.as_slice())
}

/// What hinders. Replicas that are about to start are no hindrance; what has no place is.
fn hinders(on: &&WaitingOn) -> bool {
    !matches!(on, WaitingOn::Units { .. })
}

/// Adds to an answer what the plan does.
fn with_plan(mut applied: Applied, commit: u64, before: &World, told: &Told<'_>) -> Applied {
    applied.commit = commit;
    let concerned = told.of(&applied.objects);
    let total: usize = concerned.iter().map(|(_, workload)| workload.changes.len()).sum();
    if total > CHANGES_MAX {
        applied
            .notes
            .push(format!("{total} placements change; the first {CHANGES_MAX} are listed"));
    }
    // Each workload's steps are its own: beyond what is listed none are worked out.
    for (_, workload) in &concerned {
        if applied.steps.len() >= CHANGES_MAX && applied.changes.len() >= CHANGES_MAX {
            break;
        }
        applied.steps.extend(steps(before, &workload.changes));
        applied.changes.extend_from_slice(&workload.changes);
    }
    applied.steps.truncate(CHANGES_MAX);
    applied.changes.truncate(CHANGES_MAX);
    let waiting = concerned.iter().flat_map(|(id, workload)| {
        let each = workload.waiting.iter().filter(hinders);
        each.map(|on| Waiting {
            workload: (*id).clone(),
            on: on.clone(),
        })
    });
    applied.waiting = waiting.take(WAITING_MAX).collect();
    fit::applied(applied)
}

/// What a change would do: all of it that a person goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    objects: Vec<AppliedObject>,
    changes: Vec<PlacementChange>,
    /// Replicas without a place, by workload.
    missing: BTreeMap<WorkloadId, u32>,
}

impl Planned {
    /// What the plan after a decision does.
    pub fn new(applied: &Applied, told: &Told<'_>) -> Self {
        let concerned = told.of(&applied.objects);
        let mut missing = BTreeMap::new();
        for (id, workload) in &concerned {
            for on in &workload.waiting {
                if let WaitingOn::Hosts { missing: count, .. } = on {
                    missing.insert((*id).clone(), *count);
                }
            }
        }
        let changes = concerned.iter().flat_map(|(_, workload)| &workload.changes);
        Self {
            objects: applied.objects.clone(),
            changes: changes.cloned().collect(),
            missing,
        }
    }

    fn parts(&self) -> usize {
        self.objects.len() + self.changes.len() + self.missing.len()
    }

    /// The first thing that is planned otherwise now, in words.
    fn difference(&self, now: &Self) -> String {
        let object = |object: &AppliedObject| {
            format!("{} {} {}", object.kind, object.name, object.change.as_str())
                + &format!(" at generation {}", object.generation)
        };
        let then: Vec<String> = self.objects.iter().map(object).collect();
        let found: Vec<String> = now.objects.iter().map(object).collect();
        let change = |change: &PlacementChange| change.to_string();
        let then = then.into_iter().chain(self.changes.iter().map(change));
        let found = found.into_iter().chain(now.changes.iter().map(change));
        let missing = |(id, count): (&WorkloadId, &u32)| format!("{count} of {id} without a place");
        let then: Vec<String> = then.chain(self.missing.iter().map(missing)).collect();
        let found: Vec<String> = found.chain(now.missing.iter().map(missing)).collect();
        let only = |here: &[String], there: &[String]| {
            let there: BTreeSet<&String> = there.iter().collect();
            here.iter().find(|line| !there.contains(line)).cloned()
        };
        match (only(&then, &found), only(&found, &then)) {
            (Some(then), Some(now)) => format!("it said `{then}`, and now it would be `{now}`"),
            (Some(then), None) => format!("it said `{then}`, which would not happen now"),
            (None, Some(now)) => format!("it would also be `{now}` now"),
            (None, None) => "it would happen in another order now".to_owned(),
        }
    }
}

/// What an apply is held to.
#[derive(Debug, Clone)]
pub struct At {
    /// The commit of the plan.
    pub commit: u64,
    /// What the plan said, if this scheduler made it and remembers it.
    pub planned: Option<Arc<Planned>>,
}

impl At {
    /// Refuses unless the change would do what its plan said. What it would do now is worked out only if that is known;
    /// otherwise nothing may have been committed since.
    ///
    /// # Errors
    /// `conflict`, with what is planned otherwise, or that it cannot be told.
    pub fn check(&self, head: u64, now: impl FnOnce() -> Result<Planned, ApiError>) -> Result<(), ApiError> {
        let commit = self.commit;
        let why = match &self.planned {
            None if head == commit => return Ok(()),
            None => format!(
                "the newest commit is {head}, and this scheduler does not remember a plan of these documents at {commit}"
            ),
            Some(planned) => {
                let now = now()?;
                if **planned == now {
                    return Ok(());
                }
                format!("the plan is another one since: {}", planned.difference(&now))
            }
        };
        Err(ApiError::new(
            ErrorCode::Conflict,
            format!("failed to apply at commit {commit}: {why}"),
            "look at `heddle plan` again, then apply at its commit",
        ))
    }
}

/// The plans that clients were shown last.
#[derive(Debug, Default)]
pub struct PlanMemory {
    plans: BTreeMap<(Digest, u64), Arc<Planned>>,
    by_age: VecDeque<(Digest, u64)>,
    parts: usize,
}

impl PlanMemory {
    /// Remembers what a plan of some documents said. The oldest are forgotten.
    pub fn remember(&mut self, documents: Digest, commit: u64, planned: Planned) {
        let key = (documents, commit);
        self.parts += planned.parts();
        match self.plans.insert(key, Arc::new(planned)) {
            Some(before) => self.parts -= before.parts(),
            None => self.by_age.push_back(key),
        }
        while self.plans.len() > PLANS_MAX || (self.parts > PARTS_MAX && self.plans.len() > 1) {
            let Some(oldest) = self.by_age.pop_front() else { return };
            if let Some(gone) = self.plans.remove(&oldest) {
                self.parts -= gone.parts();
            }
        }
    }

    /// What an apply of some documents at a commit is held to.
    pub fn at(&self, documents: Digest, commit: u64) -> At {
        At {
            commit,
            planned: self.plans.get(&(documents, commit)).cloned(),
        }
    }
}

/// What documents are known by, in a plan and in the apply that follows it.
pub fn digest_of(body: &serde_json::Value) -> Digest {
    let documents = body.get("documents").unwrap_or(&serde_json::Value::Null);
    Digest::of(documents.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::api::apply::Change;
    use heddle_protocol::id::Generation;

    fn planned(on: &str) -> Planned {
        let change = serde_json::json!({
            "workload": "shop/cart", "generation": 2, "host": on, "before": 0, "after": 1,
        });
        Planned {
            objects: vec![AppliedObject {
                kind: "Workload".into(),
                name: "shop/cart".into(),
                generation: Generation(2),
                change: Change::Updated,
            }],
            changes: vec![serde_json::from_value(change).unwrap()],
            missing: BTreeMap::new(),
        }
    }

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    #[test]
    fn an_apply_is_held_to_the_plan_that_is_remembered_whatever_was_committed_since() {
        let mut memory = PlanMemory::default();
        memory.remember(digest("a"), 41, planned("host-a"));
        let at = memory.at(digest("a"), 41);
        assert!(at.check(44, || Ok(planned("host-a"))).is_ok());
        // The same commit is no excuse: hosts may have gone silent without one.
        let error = at.check(41, || Ok(planned("host-b"))).unwrap_err();
        assert_eq!(error.code, ErrorCode::Conflict);
        assert!(
            error
                .message
                .ends_with("it said `+ shop/cart@2 ×1 on host-a`, and now it would be `+ shop/cart@2 ×1 on host-b`"),
            "{}",
            error.message
        );
    }

    #[test]
    fn without_a_plan_to_hold_to_nothing_may_have_been_committed_since() {
        let at = PlanMemory::default().at(digest("a"), 41);
        let never = || -> Result<Planned, ApiError> { panic!("nothing is worked out") };
        assert!(at.check(41, never).is_ok());
        assert!(at.check(42, never).unwrap_err().message.contains("newest commit is 42"));
    }

    #[test]
    fn plans_are_remembered_by_their_documents_and_commit_and_the_oldest_forgotten() {
        let mut memory = PlanMemory::default();
        for n in 0..u64::try_from(PLANS_MAX).unwrap() + 1 {
            memory.remember(digest("a"), n, planned("host-a"));
        }
        assert!(memory.at(digest("a"), 0).planned.is_none());
        assert!(memory.at(digest("a"), 1).planned.is_some());
        assert!(memory.at(digest("b"), 1).planned.is_none());
        memory.remember(digest("a"), 1, planned("host-b"));
        assert_eq!((memory.plans.len(), memory.parts), (PLANS_MAX, 2 * PLANS_MAX));
    }
}
