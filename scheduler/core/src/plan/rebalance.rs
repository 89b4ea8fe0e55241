//! Rebalance: which replicas would be better elsewhere by now, so many and no more.
//!
//! A plan moves as little as it can, so a fleet that hosts joined or left is not where it would be if all of it were placed
//! anew. On request the worst placed replica of a workload at rest is thought away, and the planner is asked where it would
//! go: if that is better by any wish but fullness, or clearly better by that, it moves. Both the new place and the word that
//! the old one goes are written to the placement; from then on it is a roll-out like any other, so that never fewer serve.

use super::keep::{keep, leaf_of};
use super::roll_out::assemble;
use super::take::{chosen, put};
use super::{Draft, Kept, Outgoing, Plan, is_leaned_on};
use crate::apply::Write;
use crate::place::company::Surroundings;
use crate::place::index::HostNo;
use crate::place::room::{Room, Standing};
use crate::place::shape::{Tree, levels};
use crate::place::tally::Tally;
use crate::world::World;
use heddle_protocol::api::rebalance::{BUDGET_MAX, Better, Move, Rebalance, Rebalanced};
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::id::{Namespace, WorkloadId};
use heddle_protocol::record::{Replicas, Strategy};
use heddle_protocol::time::Mono;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// By how much fullness must differ to be a reason, in millionths: a move costs a start.
const CLEARLY_PPM: u32 = 50_000;
/// Workloads looked at by one request: those on the fullest hosts.
const CONSIDERED_MAX: usize = 5_000;
/// Replicas thought away by one request, which bounds its time.
const LOOKS_MAX: u32 = 20_000;

/// Decides which replicas move. The caller commits the writes, if it is not a dry run, and sets the commit.
///
/// # Errors
/// If the budget is none or too large, or a workload is not there.
pub fn decide_rebalance(
    world: &World,
    asked: &Rebalance,
    namespace: &Namespace,
    now: Mono,
) -> Result<(Vec<Write>, Rebalanced), ApiError> {
    let refuse = |code, message: String, next: &str| Err(ApiError::new(code, message, next));
    if asked.budget == 0 || asked.budget > BUDGET_MAX {
        let message = format!(
            "failed to rebalance {} replicas: expected 1 to {BUDGET_MAX}",
            asked.budget
        );
        return refuse(ErrorCode::BadRequest, message, "say how many may move with `--budget`");
    }
    if let Some(id) = asked.workloads.iter().find(|id| !world.workloads.contains_key(*id)) {
        let message = format!("failed to rebalance workload {id}: it is not there");
        return refuse(ErrorCode::NotFound, message, "`heddle status -A` lists the workloads");
    }
    let named: BTreeSet<&WorkloadId> = asked.workloads.iter().collect();
    let is_asked = |id: &WorkloadId| {
        (named.is_empty() || named.contains(id)) && (!asked.in_namespace || id.namespace == *namespace)
    };
    let mut room = Room::new(world, now);
    let mut answer = Rebalanced::default();
    let mut drafts = at_rest(&mut room, is_asked, &mut answer);
    let (mut left, mut looks) = (asked.budget, LOOKS_MAX);
    // Hosts that something leaves: until it has gone, they have less room than it seems here.
    let mut sources: BTreeSet<HostNo> = BTreeSet::new();
    let mut open: Vec<usize> = (0..drafts.len()).collect();
    while left > 0 && looks > 0 && !open.is_empty() {
        open.retain(|at| {
            let Some(draft) = drafts.get_mut(*at).filter(|_| left > 0 && looks > 0) else {
                // Not looked at to its end.
                return true;
            };
            let moved = move_one(draft, &mut room, &mut sources, &mut looks);
            left -= u32::from(moved.is_some());
            let goes_on = moved.is_some();
            answer.moves.extend(moved);
            goes_on
        });
    }
    answer.more |= !open.is_empty();
    let moving = drafts.iter().filter(|draft| !draft.outgoing.is_empty());
    let places = moving.map(|draft| (draft.id.clone(), assemble(draft, &room).map(Arc::new)));
    let plan = Plan {
        places: places.collect(),
    };
    let writes = plan
        .writes()
        .map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string(), "report this"))?;
    Ok((writes, answer))
}

/// The workloads whose replicas may move: all that is wanted is ready, and nothing of them is on its way. Those on the fullest
/// hosts come first.
fn at_rest<'a>(room: &mut Room<'a>, is_asked: impl Fn(&WorkloadId) -> bool, answer: &mut Rebalanced) -> Vec<Draft<'a>> {
    let world = room.world;
    let movable = |id: &WorkloadId| {
        let intent = world.workloads.get(id).map(|record| &record.intent);
        intent.is_some_and(|intent| {
            let together = |c: &heddle_protocol::record::Company| c.workload == *id && c.weight.is_none();
            intent.job.is_none()
                && matches!(intent.replicas, Replicas::Count(1..))
                && !intent.rules.near.iter().any(together)
        }) && !is_leaned_on(world, id)
    };
    let fleet = world.fleet();
    let mut found: Vec<(Reverse<u32>, &WorkloadId)> = Vec::new();
    for (id, place) in world.places.iter().filter(|(id, _)| is_asked(id) && movable(id)) {
        let hosts = place.sets.iter().flat_map(|set| set.hosts.keys());
        let fullness = hosts.filter_map(|host| Some(fleet.seat(fleet.number(host)?)?.fullness));
        found.push((Reverse(fullness.max().unwrap_or(0)), id));
    }
    found.sort_unstable();
    answer.more = found.len() > CONSIDERED_MAX;
    found.truncate(CONSIDERED_MAX);
    let mut drafts = Vec::new();
    for (_, id) in found {
        let Some(mut draft) = Draft::new(room, id) else {
            continue;
        };
        keep(&mut draft, room);
        let all_ready = draft
            .kept
            .values()
            .all(|kept| !kept.unheard && kept.ready == kept.count);
        if draft.outgoing.is_empty() && draft.placed() == draft.wanted && all_ready {
            drafts.push(draft);
        } else {
            answer.restless += 1;
        }
    }
    answer.considered = u32::try_from(drafts.len()).unwrap_or(u32::MAX);
    drafts
}

/// What a host is to a replica, beside its place in the spread. The least is the best.
#[derive(Debug, Clone, Copy)]
struct Worth {
    leaf: u32,
    count: u32,
    disliked: i64,
    lacks_image: bool,
    fullness: u32,
}

/// What the hosts of one workload are compared by.
struct Judge<'j> {
    packs: bool,
    surroundings: &'j Surroundings,
    holders: &'j BTreeSet<HostNo>,
    minds_image: bool,
    tree: Tree,
    leaves: BTreeMap<HostNo, u32>,
}

impl Judge<'_> {
    fn worth(&mut self, draft: &Draft<'_>, room: &Room<'_>, host: HostNo) -> Option<Worth> {
        let leaf = match self.leaves.get(&host) {
            Some(leaf) => *leaf,
            None => {
                let leaf = leaf_of(room, &mut self.tree, draft, host);
                self.leaves.insert(host, leaf);
                leaf
            }
        };
        let seat = room.seat(host)?;
        let class = room.class_of(host)?;
        let preferred = draft.layout.fit(seat.class()?).preferred
            + self.surroundings.weight_of_class(&class.key)
            + self.surroundings.weight_of_host(host);
        Some(Worth {
            leaf,
            count: draft.kept.get(&seat.rank).map_or(0, |kept| kept.count),
            disliked: -preferred,
            lacks_image: self.minds_image && !self.holders.contains(&host),
            fullness: seat.fullness,
        })
    }

    /// How many replicas each place of the spread has now.
    fn tally(&self, draft: &Draft<'_>) -> Tally {
        let rules = &draft.record.intent.spread;
        let mut tally = Tally::new(Arc::new(self.tree.clone()));
        for kept in draft.kept.values() {
            if let Some(leaf) = self.leaves.get(&kept.host) {
                tally.add(*leaf, kept.count);
            }
        }
        tally.set_targets(if draft.layout.by_host { rules } else { levels(rules) }, draft.wanted);
        tally
    }

    fn by_count(&self, a: &Worth, b: &Worth) -> Ordering {
        match self.packs {
            true => Ordering::Equal,
            false => a.count.cmp(&b.count),
        }
    }

    /// The last wish. What packs is to be together: the fullest host would be another one whenever others move.
    fn by_fill(&self, a: &Worth, b: &Worth) -> Ordering {
        match self.packs {
            true => b.count.cmp(&a.count),
            false => a.fullness.cmp(&b.fullness),
        }
    }

    /// Why a replica is better at `there` than at `here`, if it is. Both without the replica, and how full with it.
    fn better(&self, tally: &Tally, here: &Worth, there: &Worth) -> Option<Better> {
        let by = [
            (tally.compare_leaves(there.leaf, here.leaf), Better::Spread),
            (self.by_count(there, here), Better::FewerReplicas),
            (there.disliked.cmp(&here.disliked), Better::Preferred),
            (there.lacks_image.cmp(&here.lacks_image), Better::HoldsImage),
        ];
        match by.into_iter().find(|(order, _)| order.is_ne()) {
            Some((Ordering::Less, why)) => Some(why),
            Some(_) => None,
            None if self.packs => (there.count > here.count).then_some(Better::Together),
            None => (there.fullness.saturating_add(CLEARLY_PPM) <= here.fullness).then_some(Better::Emptier),
        }
    }
}

/// Moves the replica of a workload that gains by it, if any does.
fn move_one<'a>(
    draft: &mut Draft<'a>,
    room: &mut Room<'a>,
    sources: &mut BTreeSet<HostNo>,
    looks: &mut u32,
) -> Option<Move> {
    let intent = &draft.record.intent;
    let surroundings = Surroundings::of(room, draft.id, intent);
    let template = draft.need.template.filter(|_| intent.rules.prefer_image);
    let holders = template.map(|template| room.holders(template)).unwrap_or_default();
    let mut judge = Judge {
        packs: intent.rules.strategy == Strategy::Pack,
        surroundings: &surroundings,
        holders: &holders,
        minds_image: intent.rules.prefer_image,
        tree: Tree::new(),
        leaves: BTreeMap::new(),
    };
    for from in worst(draft, room, &mut judge) {
        if *looks == 0 {
            return None;
        }
        *looks -= 1;
        let here = judge.worth(draft, room, from.host)?;
        let rank = room.seat(from.host)?.rank;
        think_away(draft, room, from.host, rank);
        let found = chosen(draft, room, 1).first().map(|(host, _)| *host);
        let to = found.filter(|to| *to != from.host && !sources.contains(to));
        let because = to.and_then(|to| {
            let there = judge.worth(draft, room, to)?;
            let seat = room.seat(to)?;
            // As full as it would be, beside as full as the other one is.
            let fullness = seat.used.fullness_with_ppm(seat.scarce, draft.take(), 1);
            let there = Worth { fullness, ..there };
            let here = Worth {
                count: here.count - 1,
                ..here
            };
            Some((to, judge.better(&judge.tally(draft), &here, &there)?))
        });
        let Some((to, because)) = because else {
            // As it was.
            room.add(from.host, draft.id, draft.take(), 1);
            let kept = draft.kept.entry(rank).or_insert(Kept {
                count: 0,
                ready: 0,
                ..from
            });
            (kept.count, kept.ready) = (kept.count + 1, kept.ready + 1);
            continue;
        };
        put(draft, room, to, 1);
        sources.insert(from.host);
        goes(draft, from.host, rank);
        draft.tell_whereabouts(room);
        return Some(Move {
            workload: draft.id.clone(),
            from: room.who(from.host)?.id.clone(),
            to: room.who(to)?.id.clone(),
            because,
        });
    }
    None
}

/// The hosts whose replica has most to gain: the worst by all wishes in their order, the least preferred, and the one that is
/// worst by fullness alone.
fn worst(draft: &Draft<'_>, room: &Room<'_>, judge: &mut Judge<'_>) -> Vec<Kept> {
    // One that is not ready yet is on its way there.
    let settled = draft.kept.values().filter(|kept| kept.ready == kept.count);
    let known: Vec<(Worth, Kept, u64)> = settled
        .filter_map(|kept| {
            let rank = room.seat(kept.host)?.rank;
            Some((judge.worth(draft, room, kept.host)?, *kept, rank))
        })
        .collect();
    let tally = judge.tally(draft);
    let by_all = |a: &(Worth, Kept, u64), b: &(Worth, Kept, u64)| {
        let place = tally.compare_leaves(a.0.leaf, b.0.leaf);
        place
            .then_with(|| judge.by_count(&a.0, &b.0))
            .then_with(|| a.0.disliked.cmp(&b.0.disliked))
            .then_with(|| a.0.lacks_image.cmp(&b.0.lacks_image))
            .then_with(|| judge.by_fill(&a.0, &b.0))
            .then_with(|| a.2.cmp(&b.2))
    };
    let by_liking = |a: &(Worth, Kept, u64), b: &(Worth, Kept, u64)| {
        let liking = a.0.disliked.cmp(&b.0.disliked);
        liking
            .then_with(|| a.0.lacks_image.cmp(&b.0.lacks_image))
            .then_with(|| by_all(a, b))
    };
    let by_fill = |a: &(Worth, Kept, u64), b: &(Worth, Kept, u64)| judge.by_fill(&a.0, &b.0).then_with(|| by_all(a, b));
    let worst = [
        known.iter().max_by(|a, b| by_all(a, b)),
        known.iter().max_by(|a, b| by_liking(a, b)),
        known.iter().max_by(|a, b| by_fill(a, b)),
    ];
    let mut hosts: Vec<Kept> = Vec::new();
    for (_, kept, _) in worst.into_iter().flatten() {
        if hosts.iter().all(|other| other.host != kept.host) {
            hosts.push(*kept);
        }
    }
    hosts
}

/// Takes one replica from a host, as if it had never been there.
fn think_away(draft: &mut Draft<'_>, room: &mut Room<'_>, host: HostNo, rank: u64) {
    if let Some(kept) = draft.kept.get_mut(&rank) {
        kept.count -= 1;
        kept.ready -= 1;
        if kept.count == 0 {
            draft.kept.remove(&rank);
        }
    }
    room.remove(host, draft.take(), 1);
}

/// Notes that one replica goes from a host once another one is ready.
fn goes(draft: &mut Draft<'_>, host: HostNo, rank: u64) {
    if let Some(same) = draft.outgoing.iter_mut().find(|outgoing| outgoing.host == host) {
        (same.count, same.ready) = (same.count + 1, same.ready + 1);
        return;
    }
    let newest = draft.record.intent.unit_generation;
    let sets = draft.place.iter().flat_map(|place| &place.sets);
    draft.outgoing.push(Outgoing {
        host,
        rank,
        set: sets.into_iter().position(|set| set.generation == newest).unwrap_or(0),
        count: 1,
        ready: 1,
        standing: Standing::Heard,
        moving: true,
    });
}
