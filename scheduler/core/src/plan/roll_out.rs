//! Roll out: an earlier generation, and what runs on hosts that are lost or emptied, goes as the newest becomes ready.
//!
//! With R replicas wanted and r of the newest generation ready, R − r of the outgoing ones stay: ready ones first, so
//! that never fewer serve than min(R, as many as did before). What is left of that number is filled with outgoing ones
//! that may yet serve, and lost hosts' last: what cannot be replaced is not given up, for silence stops nothing.

use super::{Draft, Outgoing};
use crate::place::room::{Room, Standing};
use heddle_protocol::id::HostId;
use heddle_protocol::record::{PlaceRecord, PlaceSet, Replicas};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Takes away the outgoing replicas whose replacements are ready. Returns whether there were any.
pub(super) fn trim_outgoing<'a>(draft: &mut Draft<'a>, room: &mut Room<'a>) -> bool {
    if draft.outgoing.is_empty() {
        return false;
    }
    let outgoing = std::mem::take(&mut draft.outgoing);
    let kept: Vec<Outgoing> = match draft.record.intent.replicas {
        Replicas::Count(_) => {
            let allowed = draft.wanted.saturating_sub(draft.ready());
            let replaced = |rank: u64| draft.kept.get(&rank).is_some_and(|k| k.ready > 0);
            allow(&outgoing, allowed, replaced)
        }
        // A daemon's generations replace each other host by host.
        Replicas::Daemon => {
            let replaced = |rank: u64| draft.kept.get(&rank).is_some_and(|k| k.ready > 0);
            outgoing.iter().filter(|o| !replaced(o.rank)).cloned().collect()
        }
    };
    let mut trimmed = false;
    for before in &outgoing {
        let after = kept
            .iter()
            .find(|k| k.host == before.host && k.set == before.set)
            .map_or(0, |k| k.count);
        if before.count > after {
            trimmed = true;
            room.remove(before.host, draft.take_of(before.set), before.count - after);
        }
    }
    draft.outgoing = kept;
    if trimmed {
        draft.tell_whereabouts(room);
    }
    trimmed
}

/// Keeps `allowed` of the outgoing replicas.
fn allow(outgoing: &[Outgoing], allowed: u32, replaced: impl Fn(u64) -> bool) -> Vec<Outgoing> {
    if allowed == 0 {
        return Vec::new();
    }
    // A group is ready in part where its host has not followed a change of its number yet.
    let ready = outgoing.iter().map(|o| Outgoing {
        count: o.ready,
        ..o.clone()
    });
    let others = outgoing.iter().map(|o| Outgoing {
        count: o.count - o.ready,
        ready: 0,
        ..o.clone()
    });
    let mut parts: Vec<Outgoing> = ready.chain(others).filter(|part| part.count > 0).collect();
    // Ready ones first; then those that may become ready; lost hosts' last. Among equals those on hosts where the newest
    // generation does not serve yet, so that every host that serves goes on serving; then the newest generation (sets
    // are ordered newest first). Ties by host id, so the same world always yields the same plan.
    parts.sort_by_key(|o| (Reverse(o.ready.min(1)), o.standing, replaced(o.rank), o.set, o.rank));
    let mut left = allowed;
    let mut kept: Vec<Outgoing> = Vec::new();
    for mut part in parts {
        // Nothing is known of an unheard host's replicas: they may be the ones that serve, so they stay, and others
        // are not given up for them.
        if part.standing != Standing::Unheard {
            part.count = part.count.min(left);
            part.ready = part.ready.min(part.count);
            left -= part.count;
        }
        match kept.iter_mut().find(|k| k.host == part.host && k.set == part.set) {
            Some(same) => (same.count, same.ready) = (same.count + part.count, same.ready + part.ready),
            None if part.count > 0 => kept.push(part),
            None => {}
        }
    }
    kept
}

/// The placement that the draft amounts to; none if it is empty.
pub(super) fn assemble(draft: &Draft<'_>, room: &Room<'_>) -> Option<PlaceRecord> {
    let intent = &draft.record.intent;
    let before = draft.place.map_or(&[][..], |p| &p.sets);
    let mut newest = PlaceSet {
        generation: intent.unit_generation,
        template: draft.record.template,
        reserve_bytes: intent.reserve_bytes,
        takes: intent.rules.takes.clone(),
        http: intent.http.clone(),
        hosts: draft
            .kept
            .values()
            .filter_map(|kept| Some((room.who(kept.host)?.id.clone(), kept.count)))
            .collect(),
        moving: BTreeMap::new(),
        serves: intent.serves.clone(),
        calls: intent.calls.clone(),
    };
    let mut earlier: BTreeMap<usize, BTreeMap<HostId, u32>> = BTreeMap::new();
    for outgoing in &draft.outgoing {
        let is_newest = before
            .get(outgoing.set)
            .is_some_and(|set| set.generation == intent.unit_generation);
        let hosts = if is_newest {
            &mut newest.hosts
        } else {
            earlier.entry(outgoing.set).or_default()
        };
        let Some(who) = room.who(outgoing.host) else { continue };
        *hosts.entry(who.id.clone()).or_default() += outgoing.count;
        if is_newest && outgoing.moving {
            newest.moving.insert(who.id.clone(), outgoing.count);
        }
    }
    let mut sets = Vec::with_capacity(1 + earlier.len());
    if !newest.hosts.is_empty() {
        sets.push(newest);
    }
    let earlier = earlier.into_iter().filter_map(|(index, hosts)| {
        Some(PlaceSet {
            hosts,
            moving: BTreeMap::new(),
            ..before.get(index)?.clone()
        })
    });
    sets.extend(earlier);
    // What was fired and how far a job is outlive the replicas.
    let fired = draft.place.map(|place| place.fired.clone()).unwrap_or_default();
    let job = draft.job.clone();
    let is_empty = sets.is_empty() && job.is_none() && fired.is_empty();
    (!is_empty).then_some(PlaceRecord { sets, job, fired })
}
