//! NEW-BEFORE-OLD: where nothing breaks, a workload that once had all its replicas reachable never has fewer than both what
//! it had and what it wants, whatever is rolled out, moved or drained.

use crate::agent::Agent;
use crate::truth::Truth;
use heddle_protocol::id::WorkloadId;
use heddle_protocol::key::Key;
use heddle_protocol::record::{Replicas, WorkloadRecord};
use std::collections::BTreeMap;

/// How long replicas must have answered to count as had, in milliseconds: so long a report may be on its way, and one that the
/// scheduler cannot know of may be taken for one that does not answer. A report that another one overtakes is asked for
/// again, which is three ways of up to 200 ms, and then a decision has to be stored and taken in.
const KNOWN_AFTER_MS: u64 = 1_000;

/// What each workload must not fall below.
#[derive(Debug, Default)]
pub struct Floors {
    floors: BTreeMap<WorkloadId, Floor>,
    /// The newest commit that was looked at.
    seen: u64,
}

#[derive(Debug, Default)]
struct Floor {
    at: u32,
    /// How often the workload had been deleted when this began: what is deleted may go, also if it is applied anew at once.
    deletions: u32,
    /// Since when more than that answer, and how many did all the while.
    more: Option<(u64, u32)>,
}

impl Floor {
    fn rise(&mut self, has: u32, now: u64) {
        if has <= self.at {
            self.more = None;
            return;
        }
        let (since, least) = self.more.unwrap_or((now, has));
        let least = least.min(has);
        self.more = Some((since, least));
        if now.saturating_sub(since) >= KNOWN_AFTER_MS {
            self.at = least;
            self.more = (has > least).then_some((now, has));
        }
    }
}

impl Floors {
    /// Looks at a world in which nothing is broken.
    pub fn check(&mut self, truth: &Truth, agents: &[Agent], now: u64) -> Option<String> {
        let deletions = |id: &WorkloadId| truth.deletions.get(id).copied().unwrap_or(0);
        self.floors
            .retain(|id, floor| truth.workloads.contains_key(id) && floor.deletions == deletions(id));
        self.lower(truth);
        let mut reachable: BTreeMap<WorkloadId, u32> = BTreeMap::new();
        for (unit, count) in agents.iter().flat_map(Agent::served) {
            *reachable.entry(unit.workload).or_default() += count;
        }
        for (id, record) in &truth.workloads {
            let Replicas::Count(wanted) = record.intent.replicas else {
                self.floors.remove(id);
                continue;
            };
            let has = reachable.get(id).copied().unwrap_or(0);
            let floor = self.floors.entry(id.clone()).or_insert_with(|| Floor {
                deletions: deletions(id),
                ..Floor::default()
            });
            floor.at = floor.at.min(wanted);
            if has < floor.at {
                return Some(format!(
                    "{id} has {has} replicas that answer; it had {} and wants {wanted}",
                    floor.at
                ));
            }
            floor.rise(has.min(wanted), now);
        }
        None
    }

    /// What was wanted for a moment only may go as well: fewer, and at once more again.
    fn lower(&mut self, truth: &Truth) {
        let commits = truth.commits.range(self.seen + 1..).map(|(_, commit)| commit);
        for change in commits.flat_map(|commit| &commit.changes) {
            let Key::Workload(id) = &change.key else { continue };
            let record = change.is::<WorkloadRecord>();
            if let (Some(floor), Some(Replicas::Count(wanted))) =
                (self.floors.get_mut(id), record.map(|record| record.intent.replicas))
            {
                floor.at = floor.at.min(wanted);
            }
        }
        self.seen = truth.n();
    }
}
