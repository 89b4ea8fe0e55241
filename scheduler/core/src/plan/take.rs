//! Take: gives each missing replica the host that should have it, one after the other.

use super::{Draft, Outgoing, job};
use crate::place::bounds::Bounds;
use crate::place::capacity::{Take, refusals_of};
use crate::place::choose::{Wants, choose};
use crate::place::company::Surroundings;
use crate::place::filter::{Traits, count_grouped, set_name};
use crate::place::index::HostNo;
use crate::place::room::{Room, Standing};
use heddle_protocol::id::HostId;
use heddle_protocol::record::Replicas;
use heddle_protocol::report::{Rejection, RejectionCount};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Places what is missing, and notes how much no host takes. Returns whether anything was placed.
pub(super) fn take<'a>(draft: &mut Draft<'a>, room: &mut Room<'a>) -> bool {
    let placed = match draft.record.intent.replicas {
        Replicas::Count(_) => {
            let missing = draft.wanted.saturating_sub(draft.placed());
            let placed = match missing {
                0 => 0,
                _ if room.awaits_taker(&draft.layout) => 0,
                _ => place_replicas(draft, room, missing),
            };
            let back = stay(draft, missing - placed);
            draft.missing = missing - placed - back;
            placed + back
        }
        Replicas::Daemon => place_daemons(draft, room),
    };
    if placed > 0 {
        draft.tell_whereabouts(room);
    }
    placed > 0
}

/// Lets replicas that were to be moved stay, because nothing else takes their place; returns how many.
fn stay(draft: &mut Draft<'_>, most: u32) -> u32 {
    let mut back = 0;
    if most == 0 {
        return 0;
    }
    for moving in draft.outgoing.iter_mut().rev().filter(|outgoing| outgoing.moving) {
        let count = moving.count.min(most - back);
        let kept = draft.kept.entry(moving.rank).or_default();
        kept.host = moving.host;
        kept.unheard = moving.standing != Standing::Heard;
        kept.count += count;
        kept.ready += count.min(moving.ready);
        moving.count -= count;
        moving.ready -= count.min(moving.ready);
        back += count;
        if back == most {
            break;
        }
    }
    draft.outgoing.retain(|outgoing| outgoing.count > 0);
    draft.kept.retain(|_, kept| kept.count > 0);
    back
}

/// Places up to `missing` replicas; returns how many found a host.
fn place_replicas<'a>(draft: &mut Draft<'a>, room: &mut Room<'a>, missing: u32) -> u32 {
    let near = &draft.record.intent.rules.near;
    let keeps_together = near.iter().any(|c| c.workload == *draft.id && c.weight.is_none());
    if !keeps_together {
        return place_some(draft, room, missing);
    }
    // Where the first one goes decides where the others may.
    let mut placed = 0;
    if draft.placed() == 0 && draft.outgoing.is_empty() {
        placed = place_some(draft, room, 1);
        draft.tell_whereabouts(room);
    }
    placed + place_some(draft, room, missing - placed)
}

fn place_some<'a>(draft: &mut Draft<'a>, room: &mut Room<'a>, missing: u32) -> u32 {
    let hosts = chosen(draft, room, missing);
    put_all(draft, room, &hosts);
    hosts.iter().map(|(_, count)| count).sum()
}

/// The hosts that up to `missing` replicas would be placed on.
pub(super) fn chosen(draft: &Draft<'_>, room: &mut Room<'_>, missing: u32) -> Vec<(HostNo, u32)> {
    let intent = &draft.record.intent;
    let mut earlier: BTreeMap<HostNo, u32> = BTreeMap::new();
    let heard = |o: &&Outgoing| o.standing == Standing::Heard && !o.moving;
    for outgoing in draft.outgoing.iter().filter(heard) {
        *earlier.entry(outgoing.host).or_default() += outgoing.count;
    }
    let kept: Vec<(HostNo, u32)> = draft.kept.values().map(|kept| (kept.host, kept.count)).collect();
    let holders = match draft.need.template.filter(|_| intent.rules.prefer_image) {
        Some(template) => room.holders(template),
        None => Arc::default(),
    };
    let surroundings = Surroundings::of(room, draft.id, intent);
    let reported = room.world.is_reported(draft.id);
    let room: &Room<'_> = room;
    let moving: BTreeSet<HostNo> = draft.outgoing.iter().filter(|o| o.moving).map(|o| o.host).collect();
    let is_kept = |host: HostNo| room.seat(host).is_some_and(|seat| draft.kept.contains_key(&seat.rank));
    let runs = |host| draft.job.is_some() && (is_kept(host) || (reported && job::is_busy(draft, room, host)));
    // What is moved away does not come back.
    let busy = |host| moving.contains(&host) || runs(host);
    let wants = Wants {
        intent,
        wanted: draft.wanted,
        kept: &kept,
        earlier: &earlier,
        holders: &holders,
        surroundings: &surroundings,
        busy: &busy,
    };
    choose(room, &draft.layout, &wants, missing)
}

/// Puts replicas on a host.
pub(super) fn put<'a>(draft: &mut Draft<'a>, room: &mut Room<'a>, host: HostNo, count: u32) {
    put_all(draft, room, &[(host, count)]);
}

/// Puts replicas on hosts.
fn put_all<'a>(draft: &mut Draft<'a>, room: &mut Room<'a>, hosts: &[(HostNo, u32)]) {
    room.add_all(hosts, draft.id, draft.take());
    let reported = room.world.is_reported(draft.id);
    for (host, count) in hosts {
        let Some(rank) = room.seat(*host).map(|seat| seat.rank) else {
            continue;
        };
        let kept = draft.kept.entry(rank).or_default();
        kept.host = *host;
        kept.count += count;
        // It may run them already: it came back with them, or was not told to stop them yet.
        if reported && room.standing(*host) == Standing::Heard {
            let observed = room.observed(*host);
            kept.ready = observed.map_or(0, |o| {
                o.ready(draft.id, draft.record.intent.unit_generation, kept.count)
            });
        }
    }
}

/// Places one replica on each host that a daemon fits and is not on; notes how many found no room.
fn place_daemons<'a>(draft: &mut Draft<'a>, room: &mut Room<'a>) -> u32 {
    let surroundings = Surroundings::of(room, draft.id, &draft.record.intent);
    let (mut free, mut missing) = (Vec::new(), 0);
    for number in draft.layout.takers() {
        let Some(class) = room.index().class(*number) else {
            continue;
        };
        let open = surroundings.opens_class(&class.key);
        for host in class.ladder.iter().map(|rung| rung.host) {
            let Some(seat) = room.seat(host) else { continue };
            if draft.kept.contains_key(&seat.rank) || !room.fits(&draft.layout, host) {
                continue;
            }
            let has_room = room.index().room_on(host, draft.take()) > 0;
            match has_room && open && surroundings.opens_host(host) {
                true => free.push((host, 1)),
                false => missing += 1,
            }
        }
    }
    draft.missing = missing;
    put_all(draft, room, &free);
    u32::try_from(free.len()).unwrap_or(u32::MAX)
}

/// Why hosts would not take one more replica, by the reason that decides.
pub(super) fn refusals(draft: &Draft<'_>, room: &mut Room<'_>) -> Vec<RejectionCount> {
    let kept: Vec<(HostNo, u32)> = draft.kept.values().map(|kept| (kept.host, kept.count)).collect();
    let bounds = Bounds::new(room, draft.layout.clone(), draft.id, &draft.record.intent, &kept);
    let daemon = draft.record.intent.replicas == Replicas::Daemon;
    let mut all: Vec<(HostId, Rejection, u32)> = Vec::new();
    for (_, class) in room.index().classes().filter(|(_, class)| class.members > 0) {
        let traits = Traits::from(class);
        let first = draft.need.lasting_refusals(&traits).into_iter().next();
        if let Some(rejection) = first.clone().filter(|_| !daemon) {
            // All of its hosts give it; the first by id stands for them.
            let example = class.ladder.iter().min_by_key(|rung| rung.rank);
            all.extend(example.and_then(|rung| room.who(rung.host)).map(|who| {
                let mut rejection = rejection;
                set_name(&mut rejection, who.name());
                (who.id.clone(), rejection, class.members)
            }));
            continue;
        }
        for rung in class.ladder.iter() {
            let (Some(who), Some(seat)) = (room.who(rung.host), room.seat(rung.host)) else {
                continue;
            };
            let there = daemon && draft.kept.contains_key(&rung.rank);
            let own = || {
                let traits = Traits {
                    host: Some(&who.id),
                    ..traits
                };
                let by_name = draft.layout.named.as_ref();
                by_name.and_then(|_| draft.need.lasting_refusals(&traits).into_iter().next())
            };
            let no_room = || {
                {
                    let whole = || room.index().capacity(rung.host);
                    refusals_of(&seat.used, seat.scarce, whole, Take::from(&draft.record.intent))
                }
                .into_iter()
                .next()
            };
            let company = || {
                bounds
                    .refusals_of(&who.id, class.key.labels.as_ref())
                    .into_iter()
                    .next()
            };
            let rejection = match there {
                true => Some(Rejection::AlreadyThere),
                false => first.clone().or_else(own).or_else(no_room).or_else(company),
            };
            all.extend(rejection.map(|mut rejection| {
                set_name(&mut rejection, who.name());
                (who.id.clone(), rejection, 1)
            }));
        }
    }
    count_grouped(all.into_iter())
}
