//! Keep: which of the replicas that are placed stay, and which are on their way out.
//!
//! A replica stays if it is of the newest generation, on a host that may hold it, and not one too many. A host that is
//! not heard just now is taken to hold its replicas. Replicas on a host that was forgotten are gone.

use super::{Draft, Kept, Outgoing, job};
use crate::liveness::HostLiveness;
use crate::place::class::{Class, Mood};
use crate::place::filter::HOST_LABEL;
use crate::place::index::HostNo;
use crate::place::room::{Room, Standing};
use crate::place::shape::{Tree, levels};
use crate::place::tally::Tally;
use crate::place::{Fleet, HostView, Need};
use heddle_protocol::id::{HostId, UnitId};
use heddle_protocol::mutant::mutant;
use heddle_protocol::record::{HostAdmin, Replicas};
use std::cmp::Reverse;
use std::sync::Arc;

/// Sorts a workload's replicas into those that stay and those that go.
pub(super) fn keep<'a>(draft: &mut Draft<'a>, room: &mut Room<'a>) {
    let intent = &draft.record.intent;
    let daemon = intent.replicas == Replicas::Daemon;
    let reported = room.world.is_reported(draft.id);
    for (index, set) in draft.place.iter().flat_map(|p| &p.sets).enumerate() {
        let unit = UnitId {
            workload: draft.id.clone(),
            generation: set.generation,
        };
        for (host, count) in &set.hosts {
            let Some(number) = room.find(host) else {
                // Forgotten: an operator said that it does not come back.
                continue;
            };
            let is_current = set.generation == intent.unit_generation;
            let fits = room.fits(&draft.layout, number);
            let emptied = room.is_emptied(number);
            let standing = room.standing(number);
            let heard = standing == Standing::Heard;
            let observed = room.observed(number).filter(|_| heard && reported);
            let ready = observed.map_or(0, |o| o.ready_of(&unit, *count));
            // A daemon has no replacement elsewhere: it leaves hosts that are emptied or that it no longer fits, and
            // waits on lost ones.
            let stays = match (daemon, is_current) {
                (true, _) if emptied || !fits => {
                    room.remove(number, draft.take_of(index), *count);
                    continue;
                }
                (true, is_current) => is_current,
                (false, is_current) => is_current && standing != Standing::Lost && !emptied && fits,
            };
            let rank = room.seat(number).map_or(0, |seat| seat.rank);
            let moving = match stays && !daemon && intent.job.is_none() {
                true => set.moving.get(host).copied().unwrap_or(0).min(*count),
                false => 0,
            };
            let staying = if stays { *count - moving } else { 0 };
            if staying > 0 {
                let kept = Kept {
                    host: number,
                    count: staying,
                    ready: ready.min(staying),
                    unheard: !heard,
                };
                draft.kept.insert(rank, kept);
            }
            if moving > 0 && mutant("what-moves-goes-at-once") {
                room.remove(number, draft.take_of(index), moving);
            } else if *count > staying {
                draft.outgoing.push(Outgoing {
                    host: number,
                    rank,
                    set: index,
                    count: *count - staying,
                    ready: ready.saturating_sub(staying),
                    standing,
                    moving: moving > 0,
                });
            }
        }
    }
    match intent.replicas {
        Replicas::Count(wanted) => {
            draft.wanted = wanted;
            job::settle(draft, room);
            let surplus = draft.placed().saturating_sub(draft.wanted);
            if surplus > 0 {
                drop_surplus(draft, room, surplus);
            }
        }
        Replicas::Daemon => {
            draft.wanted = daemon_wanted(draft, room);
            drop_second_daemons(draft, room);
        }
    }
}

/// How many hosts a daemon fits, while it is planned.
fn daemon_wanted(draft: &Draft<'_>, room: &Room<'_>) -> u32 {
    let open = |class: &Class| {
        let key = &class.key;
        let takes = draft.need.takes_daemon(class);
        key.mood != Mood::Lost && !key.is_emptied() && takes && key.labels.is_some()
    };
    let index = room.index();
    let mut wanted = 0;
    for (number, class) in index.classes().filter(|(_, class)| open(class)) {
        if draft.layout.fit(number).fits {
            let fit = class
                .ladder
                .iter()
                .filter(|rung| draft.layout.named.is_none() || room.fits(&draft.layout, rung.host));
            wanted += u32::try_from(fit.count()).unwrap_or(u32::MAX);
        }
    }
    // Where it is it may stay, though the host takes nothing new.
    let stays = |kept: &&Kept| {
        let class = room.class_of(kept.host);
        class.is_some_and(|class| !open(class) && class.key.mood != Mood::Lost) && room.fits(&draft.layout, kept.host)
    };
    wanted + u32::try_from(draft.kept.values().filter(stays).count()).unwrap_or(u32::MAX)
}

/// How many hosts a daemon fits: those that would take it, and those that have it.
pub(crate) fn daemon_fits<'a>(need: &Need<'a>, fleet: &Fleet<'a>, has: impl Fn(&HostId) -> bool) -> u32 {
    let counts = |host: &&HostView<'a>| {
        let lost = matches!(host.liveness, HostLiveness::Lost { .. });
        let closed = host.is_emptied() || host.offers.conflict.is_some() || !need.tolerates(host);
        let open = host.admin == HostAdmin::Open && !closed;
        !lost && need.fits(host) && ((open && host.labels.is_some()) || has(host.id))
    };
    u32::try_from(fleet.hosts().iter().filter(counts).count()).unwrap_or(u32::MAX)
}

/// Takes away the replicas that are one too many. Those that are not ready go before those of which nothing is known,
/// and those before ready ones, so that a smaller number never serves worse than it must; among equals the most crowded
/// place gives first.
fn drop_surplus<'a>(draft: &mut Draft<'a>, room: &mut Room<'a>, surplus: u32) {
    let rules = &draft.record.intent.spread;
    let mut tree = Tree::new();
    let mut candidates: Vec<(u64, Kept, u32)> = Vec::new();
    for (rank, kept) in &draft.kept {
        let leaf = leaf_of(room, &mut tree, draft, kept.host);
        candidates.push((*rank, *kept, leaf));
    }
    let mut tally = Tally::new(Arc::new(tree));
    for (_, kept, leaf) in &candidates {
        tally.add(*leaf, kept.count);
    }
    tally.set_targets(if draft.layout.by_host { rules } else { levels(rules) }, draft.wanted);
    let take = draft.take();
    let unready = |k: &Kept| !k.unheard && k.count > k.ready;
    let rank_of = |k: &Kept| match k {
        k if unready(k) => 0,
        k if k.unheard => 1,
        _ => 2,
    };
    let mut ready: u32 = candidates.iter().map(|(_, kept, _)| kept.ready).sum();
    for _ in 0..surplus {
        // What may be the only one that serves stays until its host is heard, or enough others are known to be ready.
        let enough = ready >= draft.wanted;
        let may_go = |kept: &Kept| kept.count > 0 && (enough || unready(kept));
        let fullness = |kept: &Kept| room.seat(kept.host).map_or(0, |seat| seat.fullness);
        let occupied = candidates.iter_mut().filter(|(_, kept, _)| may_go(kept));
        let first_to_go = occupied.max_by(|(a_at, a, a_leaf), (b_at, b, b_leaf)| {
            Reverse(rank_of(a))
                .cmp(&Reverse(rank_of(b)))
                .then_with(|| tally.compare_leaves(*a_leaf, *b_leaf))
                .then_with(|| a.count.cmp(&b.count))
                .then_with(|| fullness(a).cmp(&fullness(b)))
                .then_with(|| a_at.cmp(b_at))
        });
        let Some((_, kept, leaf)) = first_to_go else { break };
        if !unready(kept) && kept.ready > 0 {
            kept.ready -= 1;
            ready -= 1;
        }
        kept.count -= 1;
        tally.remove_one(*leaf);
        room.remove(kept.host, take, 1);
    }
    draft.kept = candidates
        .into_iter()
        .filter(|(_, kept, _)| kept.count > 0)
        .map(|(rank, kept, _)| (rank, kept))
        .collect();
}

/// A host's place in the spread.
pub(super) fn leaf_of(room: &Room<'_>, tree: &mut Tree, draft: &Draft<'_>, host: HostNo) -> u32 {
    let all = &draft.record.intent.spread;
    let rules = if draft.layout.by_host { all } else { levels(all) };
    let class = room.class_of(host);
    let who = room.who(host);
    tree.path(rules, |label| match label {
        HOST_LABEL => who.map_or("", |who| who.id.as_str()),
        label => class.and_then(|class| class.key.label(label)).unwrap_or(""),
    })
}

/// A daemon runs once per host.
fn drop_second_daemons(draft: &mut Draft<'_>, room: &mut Room<'_>) {
    let take = draft.take();
    for kept in draft.kept.values_mut() {
        let surplus = kept.count.saturating_sub(1);
        if surplus > 0 {
            kept.count -= surplus;
            kept.ready = kept.ready.min(kept.count);
            room.remove(kept.host, take, surplus);
        }
    }
}
