//! Keep: which of the replicas that are placed stay, and which are on their way out.
//!
//! A replica stays if it is of the newest generation, on a host that may hold it, and not one too many. A host that is
//! not heard just now is taken to hold its replicas. Replicas on a host that was forgotten are gone.

use super::{Draft, Kept, Outgoing, OutgoingState, job};
use crate::liveness::HostLiveness;
use crate::place::score::{self, Candidate};
use crate::place::spread::SpreadTree;
use crate::place::{Fleet, HostView, Need};
use heddle_protocol::id::HostId;
use heddle_protocol::record::{HostAdmin, Replicas};
use std::cmp::Ordering;

/// Sorts a workload's replicas into those that stay and those that go.
pub(super) fn keep<'a>(draft: &mut Draft<'a>, fleet: &mut Fleet<'a>) {
    let current = draft.record.intent.unit_generation;
    let daemon = draft.record.intent.replicas == Replicas::Daemon;
    for (index, set) in draft.place.iter().flat_map(|p| &p.sets).enumerate() {
        for (host, count) in &set.hosts {
            let Some(view) = fleet.get(host) else {
                // Forgotten: an operator said that it does not come back.
                continue;
            };
            let is_current = set.generation == current;
            let fits = draft.need.fits(view);
            let state = match view.liveness {
                HostLiveness::Lost { .. } => OutgoingState::Lost,
                _ if view.is_unheard() => OutgoingState::Unheard,
                _ => OutgoingState::Heard,
            };
            let heard = state == OutgoingState::Heard;
            let known_ready = view.observed.map_or(0, |o| o.ready(draft.id, set.generation, *count));
            let ready = if heard { known_ready } else { 0 };
            // A daemon has no replacement elsewhere: it leaves hosts that are emptied or that it no longer fits, and
            // waits on lost ones.
            let stays = match (daemon, is_current) {
                (true, _) if view.is_emptied() || !fits => {
                    fleet.remove(host, set.reserve_bytes, *count);
                    continue;
                }
                (true, is_current) => is_current,
                (false, is_current) => is_current && state != OutgoingState::Lost && !view.is_emptied() && fits,
            };
            if stays {
                draft.kept.insert(
                    host.clone(),
                    Kept {
                        count: *count,
                        ready,
                        unheard: !heard,
                    },
                );
            } else {
                let reserve_bytes = set.reserve_bytes;
                draft.outgoing.push(Outgoing {
                    host: host.clone(),
                    set: index,
                    reserve_bytes,
                    count: *count,
                    ready,
                    state,
                });
            }
        }
    }
    match draft.record.intent.replicas {
        Replicas::Count(wanted) => {
            draft.wanted = wanted;
            job::settle(draft, fleet);
            let surplus = draft.placed().saturating_sub(draft.wanted);
            if surplus > 0 {
                drop_surplus(draft, fleet, surplus);
            }
        }
        Replicas::Daemon => {
            draft.wanted = daemon_fits(&draft.need, fleet, |host| draft.kept.contains_key(host));
            drop_second_daemons(draft, fleet);
        }
    }
}

/// How many hosts a daemon fits: those that would take it, and those that have it.
pub(crate) fn daemon_fits<'a>(need: &Need<'a>, fleet: &Fleet<'a>, has: impl Fn(&HostId) -> bool) -> u32 {
    let counts = |host: &&HostView<'a>| {
        let lost = matches!(host.liveness, HostLiveness::Lost { .. });
        let open = host.admin == HostAdmin::Open && !host.is_emptied() && host.offers.conflict.is_none();
        !lost && need.fits(host) && ((open && host.labels.is_some()) || has(host.id))
    };
    u32::try_from(fleet.hosts().iter().filter(counts).count()).unwrap_or(u32::MAX)
}

/// Takes away the replicas that are one too many. Those that are not ready go before those of which nothing is known,
/// and those before ready ones, so that a smaller number never serves worse than it must; among equals the most crowded
/// place gives first.
fn drop_surplus<'a>(draft: &mut Draft<'a>, fleet: &mut Fleet<'a>, surplus: u32) {
    let rules = &draft.record.intent.spread;
    let mut tree = SpreadTree::new(draft.wanted);
    let mut candidates: Vec<(Candidate, Kept)> = Vec::new();
    for (host, kept) in &draft.kept {
        let Some(index) = fleet.find(host) else { continue };
        let Some(view) = fleet.host(index) else { continue };
        let path = tree.add_host(rules, view);
        candidates.push((
            Candidate {
                index,
                path,
                count: kept.count,
                earlier: 0,
            },
            *kept,
        ));
    }
    tree.set_targets(rules);
    for (candidate, _) in &candidates {
        tree.add(&candidate.path, candidate.count);
    }
    let unready = |k: &Kept| !k.unheard && k.count > k.ready;
    let rank = |k: &Kept| match k {
        k if unready(k) => 0,
        k if k.unheard => 1,
        _ => 2,
    };
    for _ in 0..surplus {
        let first_to_go = |(a, a_kept): &(Candidate, Kept), (b, b_kept): &(Candidate, Kept)| -> Ordering {
            rank(b_kept)
                .cmp(&rank(a_kept))
                .then_with(|| score::compare(fleet, &tree, a, b))
        };
        // What may be the only one that serves stays until its host is heard, or enough others are known to be ready.
        let enough = candidates.iter().map(|(_, kept)| kept.ready).sum::<u32>() >= draft.wanted;
        let may_go = |kept: &Kept| kept.count > 0 && (enough || unready(kept));
        let occupied = candidates.iter_mut().filter(|(_, kept)| may_go(kept));
        let Some((candidate, kept)) = occupied.max_by(|a, b| first_to_go(a, b)) else {
            break;
        };
        if !unready(kept) {
            kept.ready = kept.ready.saturating_sub(1);
        }
        kept.count -= 1;
        candidate.count -= 1;
        tree.remove(&candidate.path, 1);
        let index = candidate.index;
        if let Some(host) = fleet.host(index).map(|view| view.id) {
            fleet.remove(host, draft.record.intent.reserve_bytes, 1);
        }
    }
    for (candidate, kept) in candidates {
        let Some(host) = fleet.host(candidate.index).map(|view| view.id) else {
            continue;
        };
        match kept.count {
            0 => drop(draft.kept.remove(host)),
            _ => drop(draft.kept.insert(host.clone(), kept)),
        }
    }
}

/// A daemon runs once per host.
fn drop_second_daemons(draft: &mut Draft<'_>, fleet: &mut Fleet<'_>) {
    let reserve_bytes = draft.record.intent.reserve_bytes;
    for (host, kept) in &mut draft.kept {
        let surplus = kept.count.saturating_sub(1);
        if surplus > 0 {
            kept.count -= surplus;
            kept.ready = kept.ready.min(kept.count);
            fleet.remove(host, reserve_bytes, surplus);
        }
    }
}
