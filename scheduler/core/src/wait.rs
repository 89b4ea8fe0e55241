//! Whether what clients wait for is there.

use crate::workload_status::{StatusView, is_settled, running_on};
use crate::world::World;
use heddle_protocol::api::status::{Waited, WorkloadState, WorkloadStatus};
use heddle_protocol::id::WorkloadId;
use heddle_protocol::record::WaitTarget;
use heddle_protocol::time::Mono;

/// How many of those that are not there an answer shows.
const MISSING_SHOWN: usize = 20;

/// How far some targets are. Asked after every change, so it looks closely only at what an answer shows.
pub fn waited(world: &World, targets: &[WaitTarget], now: Mono) -> Waited {
    let mut answer = Waited {
        done: false,
        reached: 0,
        superseded: Vec::new(),
        missing: Vec::new(),
    };
    let mut missing: Vec<&WorkloadId> = Vec::new();
    for target in targets {
        if is_superseded(world, target) {
            answer.superseded.push(target.workload.clone());
        }
        if is_reached(world, target, now) {
            answer.reached += 1;
        } else {
            missing.push(&target.workload);
        }
    }
    answer.done = missing.is_empty();
    if !answer.done {
        let view = StatusView::new(world, now);
        let shown = missing.into_iter().take(MISSING_SHOWN);
        answer.missing = shown
            .map(|id| view.workload(id).unwrap_or_else(|| nothing_of(id)))
            .collect();
    }
    answer
}

/// The first target from `from` on that is not there; none if all of those are. Whoever waits for many asks with this,
/// going on where it said before, and asks [`waited`] once it says none: then a long list costs no more per change than
/// a short one.
pub fn first_missing(world: &World, targets: &[WaitTarget], from: usize, now: Mono) -> Option<usize> {
    let rest = targets.iter().enumerate().skip(from);
    rest.filter(|(_, target)| !is_reached(world, target, now))
        .map(|(index, _)| index)
        .next()
}

/// Whether a target is there: every replica of its generation, or of a later one, is ready and nothing else is placed;
/// or, where nothing may be left, neither a record nor a unit on a host that is heard.
fn is_reached(world: &World, target: &WaitTarget, now: Mono) -> bool {
    let id = &target.workload;
    match (target.generation, world.workloads.get(id)) {
        (Some(generation), Some(record)) => record.generation >= generation && is_settled(world, id, record, now),
        (Some(_), None) => false,
        (None, Some(_)) => false,
        (None, None) => !world.places.contains_key(id) && running_on(world, id, now).next().is_none(),
    }
}

fn is_superseded(world: &World, target: &WaitTarget) -> bool {
    let newest = world.workloads.get(&target.workload).map(|r| r.generation);
    match target.generation {
        Some(generation) => newest.is_some_and(|n| n > generation),
        None => newest.is_some(),
    }
}

/// The status of a workload that was deleted while somebody waited for it to run.
fn nothing_of(id: &WorkloadId) -> WorkloadStatus {
    WorkloadStatus {
        workload: id.clone(),
        generation: Default::default(),
        state: WorkloadState::Deleting,
        desired: 0,
        placed: 0,
        ready: 0,
        ready_old: 0,
        units: Vec::new(),
        waiting: Vec::new(),
        endpoints: Vec::new(),
        job: None,
        fired: Vec::new(),
    }
}
