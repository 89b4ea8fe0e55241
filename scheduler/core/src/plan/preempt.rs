//! Preempt: a workload for which no host has room takes the place of replicas of lower priority, with the least harm.
//!
//! Only want of room is cured so: a host that does not fit, or that company or a bound on skew closes, stays closed. On
//! each host the fewest replicas go that make room (exactly so where one is enough; otherwise the largest first, and none
//! that was not needed after all). Of the hosts the one is chosen where the fewest go, then the one where the lowest
//! priority does, then where the fewest of them are ready, then where the fewest workloads are left with nothing, then the
//! first by id. What goes seeks another place in the same plan. A workload that another one must be near
//! loses nothing.
//!
//! It ends, and planning again changes nothing: each time a replica of some priority gets a place, only replicas of lower
//! priority lose one.

use super::{Draft, Drafts, Kept, job, take};
use crate::place::bounds::Bounds;
use crate::place::capacity::Take;
use crate::place::index::HostNo;
use crate::place::room::{Room, Standing};
use crate::place::shape::Layout;
use crate::world::World;
use heddle_protocol::id::WorkloadId;
use heddle_protocol::record::Replicas;
use heddle_protocol::report::PlacementChange;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Makes room for what a workload misses, as far as it can. Returns whether anything changed, or others have to be planned
/// first.
pub(super) fn preempt<'a>(drafts: &mut Drafts<'a>, room: &mut Room<'a>, place: usize) -> bool {
    let Some(draft) = drafts.get(place) else { return false };
    let priority = draft.record.intent.rules.priority;
    if draft.missing == 0 || !room.world.has_below(priority) || room.awaits_taker(&draft.layout) {
        return false;
    }
    let (id, layout) = (draft.id, draft.layout.clone());
    if look_at_lower_ones(drafts, room, &layout, priority) {
        return true;
    }
    let mut changed = false;
    while let Some(harm) = least_harm(drafts, room, place) {
        for (victim, count) in &harm.victims {
            evict(drafts, room, victim, harm.host, *count, id);
        }
        let Some(draft) = drafts.get(place) else { break };
        take::put(draft, room, harm.host, 1);
        draft.missing -= 1;
        draft.tell_whereabouts(room);
        changed = true;
        if draft.missing == 0 {
            break;
        }
    }
    changed
}

/// What goes to make room on one host.
struct Harm {
    host: HostNo,
    /// Whose replicas, and how many.
    victims: BTreeMap<WorkloadId, u32>,
    /// How bad it is: replicas, their highest priority, those ready, workloads left with nothing, the host's place.
    score: (u32, u32, u32, u32, u64),
}

/// The hosts that are closed for want of room alone, by id.
fn candidates<'a>(draft: &Draft<'a>, room: &mut Room<'a>) -> Vec<HostNo> {
    let kept: Vec<(HostNo, u32)> = draft.kept.values().map(|kept| (kept.host, kept.count)).collect();
    let bounds = Bounds::new(room, draft.layout.clone(), draft.id, &draft.record.intent, &kept);
    let daemon = draft.record.intent.replicas == Replicas::Daemon;
    let mut hosts: Vec<HostNo> = Vec::new();
    for number in draft.layout.takers() {
        let Some(class) = room.index().class(*number) else {
            continue;
        };
        for rung in class.ladder.iter() {
            let there = draft.kept.contains_key(&rung.rank);
            let once = daemon || draft.job.is_some();
            let busy = draft.job.is_some() && job::is_busy(draft, room, rung.host);
            let own = draft.outgoing.iter().any(|o| o.host == rung.host);
            let Some(who) = room.who(rung.host) else { continue };
            let open = room.fits(&draft.layout, rung.host)
                && bounds.refusals_of(&who.id, class.key.labels.as_ref()).is_empty();
            let closed = !open || busy || own || (there && once);
            if !closed {
                hosts.push(rung.host);
            }
        }
    }
    hosts.sort_by_key(|host| room.seat(*host).map(|seat| seat.rank));
    hosts
}

/// Sees to it that everything of lower priority on hosts that fit is planned too: whoever plans all of them and whoever plans
/// only what changed must know the same of them. Returns whether any was not.
fn look_at_lower_ones<'a>(drafts: &mut Drafts<'a>, room: &mut Room<'a>, layout: &Layout, priority: u32) -> bool {
    let world = room.world;
    let lower = |id: &&WorkloadId| {
        let record = world.workloads.get(*id);
        record.is_some_and(|record| record.intent.rules.priority < priority)
    };
    let classes = layout.takers().iter().filter_map(|class| room.index().class(*class));
    let hosts = classes.flat_map(|class| class.ladder.iter().map(|rung| rung.host));
    let there: BTreeSet<&WorkloadId> = hosts.flat_map(|host| world.residents_of(host)).filter(lower).collect();
    let mut added = false;
    for id in there {
        if drafts.find(id).is_none() {
            added |= drafts.add(room, id).is_some();
        }
    }
    added
}

/// The host on which making room does the least harm.
fn least_harm<'a>(drafts: &mut Drafts<'a>, room: &mut Room<'a>, place: usize) -> Option<Harm> {
    let draft = drafts.get(place)?;
    let hosts = candidates(draft, room);
    let rules = &draft.record.intent.rules;
    let (take, priority) = (draft.take(), rules.priority);
    let least_priority = room.world.least_priority();
    let mut best: Option<Harm> = None;
    for host in hosts {
        let Some(harm) = harm_on(drafts, room, host, take, priority) else {
            continue;
        };
        if best.as_ref().is_none_or(|best| harm.score < best.score) {
            best = Some(harm);
        }
        // Nothing can be better.
        if best
            .as_ref()
            .is_some_and(|best| best.score.0 == 1 && best.score.1 == least_priority)
            && best.as_ref().is_some_and(|best| (best.score.2, best.score.3) == (0, 0))
        {
            break;
        }
    }
    best
}

/// One replica that might go.
struct Victim<'a> {
    id: &'a WorkloadId,
    take: Take<'a>,
    priority: u32,
    ready: bool,
    /// Replicas that its workload has in all.
    of: u32,
}

/// What would go on a host to make room for one replica; none if that cannot be.
fn harm_on<'a>(drafts: &mut Drafts<'a>, room: &Room<'a>, host: HostNo, take: Take<'_>, priority: u32) -> Option<Harm> {
    let seat = room.seat(host)?;
    if room.standing(host) != Standing::Heard {
        return None;
    }
    let mut victims = victims_on(drafts, room, host, priority);
    victims.sort_by_key(|v| (v.priority, v.ready, Reverse(v.of), v.id));
    let frees = |gone: &[&Victim<'_>]| frees(room, host, take, gone);
    let mut gone: Vec<&Victim<'_>> = match victims.iter().find(|victim| frees(&[victim])) {
        Some(one) => vec![one],
        None => {
            let mut largest: Vec<&Victim<'_>> = victims.iter().collect();
            largest.sort_by_key(|v| (Reverse(v.take.bytes), v.priority, v.ready, Reverse(v.of), v.id));
            let enough = (1..=largest.len()).find(|count| largest.get(..*count).is_some_and(frees))?;
            largest.truncate(enough);
            largest
        }
    };
    // What was not needed after all stays, the most harmful first.
    gone.sort_by_key(|v| Reverse((v.priority, v.ready, Reverse(v.of))));
    let mut at = 0;
    while at < gone.len() {
        let without: Vec<&Victim<'_>> = gone
            .iter()
            .enumerate()
            .filter(|(n, _)| *n != at)
            .map(|(_, v)| *v)
            .collect();
        match frees(&without) {
            true => gone = without,
            false => at += 1,
        }
    }
    let mut by_workload: BTreeMap<WorkloadId, u32> = BTreeMap::new();
    for victim in &gone {
        *by_workload.entry(victim.id.clone()).or_default() += 1;
    }
    let left_with_nothing = gone
        .iter()
        .filter(|v| by_workload.get(v.id).is_some_and(|gone| *gone >= v.of))
        .count();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let score = (
        number(gone.len()),
        gone.iter().map(|v| v.priority).max().unwrap_or(0),
        number(gone.iter().filter(|v| v.ready).count()),
        number(left_with_nothing),
        seat.rank,
    );
    Some(Harm {
        host,
        victims: by_workload,
        score,
    })
}

/// Whether one replica has room once some others are gone.
fn frees(room: &Room<'_>, host: HostNo, take: Take<'_>, gone: &[&Victim<'_>]) -> bool {
    let Some(seat) = room.seat(host) else { return false };
    let mut used = seat.used.clone();
    for victim in gone {
        used.remove(victim.take, 1);
    }
    used.room(seat.scarce, || room.index().capacity(host), take) > 0
}

/// The replicas on a host that might go: of the newest generation of workloads of lower priority, each by itself.
fn victims_on<'a>(drafts: &mut Drafts<'a>, room: &Room<'a>, host: HostNo, priority: u32) -> Vec<Victim<'a>> {
    let world = room.world;
    let mut ids: Vec<&WorkloadId> = world.residents_of(host).chain(room.came_to(host)).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut victims = Vec::new();
    for id in ids {
        let Some((id, record)) = world.workloads.get_key_value(id) else {
            continue;
        };
        if record.intent.rules.priority >= priority || is_leaned_on(world, id) {
            continue;
        }
        let Some(draft) = drafts.find(id) else { continue };
        let kept = room.seat(host).and_then(|seat| draft.kept.get(&seat.rank));
        let Some(Kept { count, ready, .. }) = kept.copied() else {
            continue;
        };
        let of = draft.placed();
        victims.extend((0..count).map(|n| Victim {
            id,
            take: Take::from(&record.intent),
            priority: record.intent.rules.priority,
            ready: n >= count.saturating_sub(ready),
            of,
        }));
    }
    victims
}

/// Whether another workload must be near: taking its place could take away what the other one was placed there for, and
/// even the one that takes it may be that other one.
pub(crate) fn is_leaned_on(world: &World, id: &WorkloadId) -> bool {
    let mut others = world.named_by(id).filter(|other| *other != id);
    others.any(|other| {
        let near = world.workloads.get(other).map(|record| &record.intent.rules.near);
        near.into_iter()
            .flatten()
            .any(|c| c.workload == *id && c.weight.is_none())
    })
}

/// Takes replicas off a host for another workload.
fn evict<'a>(
    drafts: &mut Drafts<'a>,
    room: &mut Room<'a>,
    victim: &WorkloadId,
    host: HostNo,
    count: u32,
    by: &WorkloadId,
) {
    let Some(draft) = drafts.find(victim) else { return };
    let Some(rank) = room.seat(host).map(|seat| seat.rank) else {
        return;
    };
    let Some(kept) = draft.kept.get_mut(&rank) else { return };
    let gone = count.min(kept.count);
    let unready = kept.count - kept.ready;
    kept.count -= gone;
    kept.ready -= gone.saturating_sub(unready).min(kept.ready);
    if kept.count == 0 {
        draft.kept.remove(&rank);
    }
    draft.preempted.insert(host, by.clone());
    room.remove(host, draft.take(), gone);
    draft.tell_whereabouts(room);
}

/// Says in a workload's changes who took the place of its replicas.
pub(super) fn tell(draft: &Draft<'_>, room: &Room<'_>, changes: &mut [PlacementChange]) {
    for (host, by) in &draft.preempted {
        let name = room.who(*host).map(|who| &who.id);
        let generation = draft.record.intent.unit_generation;
        let lost = |c: &&mut PlacementChange| Some(&c.host) == name && c.generation == generation && c.after < c.before;
        for change in changes.iter_mut().filter(lost) {
            change.preempted_by = Some(by.clone());
        }
    }
}
