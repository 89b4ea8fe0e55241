//! Take: gives each missing replica the host that should have it, one after the other.

use super::{Draft, Kept, OutgoingState, job};
use crate::place::filter::count_refusals;
use crate::place::score::{self, Candidate};
use crate::place::spread::SpreadTree;
use crate::place::{Fleet, HostView, capacity};
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::record::{Intent, Replicas};
use heddle_protocol::report::{Rejection, RejectionCount};
use std::collections::BTreeMap;

/// Places what is missing, and notes what no host takes. Returns whether anything was placed.
pub(super) fn take<'a>(draft: &mut Draft<'a>, fleet: &mut Fleet<'a>) -> bool {
    let placed_before = draft.placed();
    match draft.record.intent.replicas {
        Replicas::Count(_) => {
            let missing = draft.wanted.saturating_sub(draft.placed());
            draft.missing = match missing {
                0 => 0,
                _ if fleet.awaits_taker(&draft.need) => missing,
                _ => missing - place_replicas(draft, fleet, missing),
            };
        }
        Replicas::Daemon => {
            draft.missing = place_daemons(draft, fleet);
        }
    }
    if draft.missing > 0 {
        draft.refusals = refusals(draft, fleet);
    }
    draft.placed() > placed_before
}

/// Places up to `missing` replicas; returns how many found a host.
fn place_replicas<'a>(draft: &mut Draft<'a>, fleet: &mut Fleet<'a>, missing: u32) -> u32 {
    let intent = &draft.record.intent;
    let takers = fleet.takers(&draft.need);
    let mut earlier: BTreeMap<&HostId, u32> = BTreeMap::new();
    for outgoing in draft.outgoing.iter().filter(|o| o.state == OutgoingState::Heard) {
        *earlier.entry(&outgoing.host).or_default() += outgoing.count;
    }
    let mut tree = SpreadTree::new(draft.wanted);
    let mut candidates: Vec<Candidate> = Vec::with_capacity(takers.len());
    for index in takers.iter().copied() {
        let Some(view) = fleet.host(index) else { continue };
        if draft.job.is_some() && job::is_busy(draft, view) {
            continue;
        }
        let path = tree.add_host(&intent.spread, view);
        let count = draft.kept.get(view.id).map_or(0, |k| k.count);
        candidates.push(Candidate {
            index,
            path,
            count,
            earlier: earlier.get(view.id).copied().unwrap_or(0),
        });
    }
    // Hosts that keep replicas and take no more count in the spread all the same.
    for (host, kept) in &draft.kept {
        if let Some(view) = fleet.get(host) {
            let path = tree.add_host(&intent.spread, view);
            tree.add(&path, kept.count);
        }
    }
    tree.set_targets(&intent.spread);

    let mut placed = 0;
    while placed < missing {
        candidates.retain(|c| {
            fleet
                .host(c.index)
                .is_some_and(|host| capacity::has_room(host, intent.reserve_bytes))
        });
        let best = (0..candidates.len()).min_by(|a, b| score::compare(fleet, &tree, &candidates[*a], &candidates[*b]));
        let Some(best) = best else { break };
        let chosen = &mut candidates[best];
        chosen.count += 1;
        tree.add(&chosen.path, 1);
        fleet.add(chosen.index, intent.reserve_bytes, 1);
        placed += 1;
        if let Some(host) = fleet.host(chosen.index) {
            let kept = draft.kept.entry(host.id.clone()).or_default();
            kept.count += 1;
            kept.ready = ready_there(draft.id, intent, host, kept.count);
        }
    }
    placed
}

/// Places one replica on each host that a daemon fits and is not on; returns how many found no room.
fn place_daemons<'a>(draft: &mut Draft<'a>, fleet: &mut Fleet<'a>) -> u32 {
    let reserve_bytes = draft.record.intent.reserve_bytes;
    let mut missing = 0;
    for index in fleet.takers(&draft.need).iter().copied() {
        let Some(host) = fleet.host(index) else { continue };
        if draft.kept.contains_key(host.id) {
            continue;
        }
        if capacity::has_room(host, reserve_bytes) {
            let ready = ready_there(draft.id, &draft.record.intent, host, 1);
            draft.kept.insert(
                host.id.clone(),
                Kept {
                    count: 1,
                    ready,
                    unheard: false,
                },
            );
            fleet.add(index, reserve_bytes, 1);
        } else {
            missing += 1;
        }
    }
    missing
}

/// Replicas that a host runs already: it came back with them, or was not told to stop them yet.
fn ready_there(id: &WorkloadId, intent: &Intent, host: &HostView<'_>, count: u32) -> u32 {
    let heard = host.observed.filter(|_| !host.is_unheard());
    heard.map_or(0, |o| o.ready(id, intent.unit_generation, count))
}

/// Why hosts would not take one more replica, by the reason that decides.
fn refusals(draft: &Draft<'_>, fleet: &Fleet<'_>) -> Vec<RejectionCount> {
    let first = fleet.hosts().iter().filter_map(|host| {
        let daemon = draft.record.intent.replicas == Replicas::Daemon;
        let there = daemon && draft.kept.contains_key(host.id);
        let rejection = if there {
            Some(Rejection::AlreadyThere)
        } else {
            draft.need.refusals(host).into_iter().next()
        };
        Some((host.id.clone(), rejection?))
    });
    count_refusals(first)
}
