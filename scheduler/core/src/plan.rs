//! Where every replica should be. Reads like a table of contents: retire, keep, place, roll out.
//!
//! In: the world and the time. Out: the placements that change, and a report of what still waits and why. It cannot
//! fail, and it moves as little as it can: a host that joins moves nothing, silence stops nothing, and planning again
//! once a plan is carried out changes nothing.

pub(crate) mod job;
mod keep;
mod preempt;
pub(crate) mod rebalance;
mod retire;
mod roll_out;
mod take;

use crate::diff::placement_changes;
use crate::place::Need;
use crate::place::capacity::Take;
use crate::place::index::HostNo;
use crate::place::room::{Room, Standing};
use crate::place::shape::Layout;
use crate::world::{Dirty, World};
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::record::{JobProgress, PlaceRecord, WorkloadRecord};
use heddle_protocol::report::{PlacementChange, RejectionCount, WaitingOn};
use heddle_protocol::time::Mono;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use keep::daemon_fits;
pub(crate) use preempt::is_leaned_on;

/// The version of this planner: kept in audit records, so that a past decision is replayed by the code that made it.
pub const PLANNER: &str = concat!("heddle-scheduler-core/", env!("CARGO_PKG_VERSION"));

/// The placements that change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The new placement of each workload that gets another one; none where nothing is left of it.
    pub places: BTreeMap<WorkloadId, Option<Arc<PlaceRecord>>>,
}

/// What a plan changes, and what it could not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanReport {
    /// The workloads that there is something to say about.
    pub workloads: BTreeMap<WorkloadId, WorkloadReport>,
    /// How many workloads were looked at.
    pub considered: usize,
    /// The version of the fleet that was planned for.
    pub(crate) fleet_version: u64,
}

/// What a plan changes for one workload, and what it could not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadReport {
    /// Replicas wanted; for a daemon, the hosts that it fits.
    pub wanted: u32,
    /// Replicas that have a place, of those wanted.
    pub placed: u32,
    /// What it waits for.
    pub waiting: Vec<WaitingOn>,
    /// What starts and stops where.
    pub changes: Vec<PlacementChange>,
}

impl Plan {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The plan as writes to commit.
    ///
    /// # Errors
    /// Never in practice: placements are plain JSON.
    pub fn writes(&self) -> Result<Vec<crate::apply::Write>, serde_json::Error> {
        let write = |(id, place): (&WorkloadId, &Option<Arc<PlaceRecord>>)| {
            let value = place.as_deref().map(serde_json::to_vec).transpose()?;
            Ok(crate::apply::Write {
                key: Key::Place(id.clone()),
                value,
            })
        };
        self.places.iter().map(write).collect()
    }

    /// The hosts whose specs it changes, in this world.
    pub fn hosts(&self, world: &World) -> BTreeSet<HostId> {
        let before = self.places.keys().filter_map(|id| world.places.get(id));
        let after = self.places.values().flatten();
        before
            .chain(after)
            .flat_map(|place| &place.sets)
            .flat_map(|set| set.hosts.keys())
            .cloned()
            .collect()
    }

    /// Takes the placements into a world, as if they were committed.
    pub fn carry_out(&self, world: &mut World) {
        for (id, place) in &self.places {
            world.set_place(id, place.clone());
        }
    }
}

impl PlanReport {
    /// Everything that starts and stops, ordered by workload.
    pub fn changes(&self) -> Vec<PlacementChange> {
        self.workloads
            .values()
            .flat_map(|w| w.changes.iter().cloned())
            .collect()
    }

    /// Everything that waits.
    pub fn waiting(&self) -> Vec<(WorkloadId, WaitingOn)> {
        let each = |(id, w): (&WorkloadId, &WorkloadReport)| {
            w.waiting.iter().map(|on| (id.clone(), on.clone())).collect::<Vec<_>>()
        };
        self.workloads.iter().flat_map(each).collect()
    }
}

/// Plans all workloads.
pub fn plan(world: &World, now: Mono) -> (Plan, PlanReport) {
    let all = world.workloads.keys().chain(world.places.keys()).cloned().collect();
    plan_these(world, Room::new(world, now), &all)
}

/// Plans some workloads, and those that lack a place. With everything in `dirty` that changed since the world was last
/// planned, and that plan noted ([`World::note_plan`]), it decides what [`plan`] decides.
pub fn plan_only(world: &World, now: Mono, dirty: &Dirty) -> (Plan, PlanReport) {
    match dirty {
        Dirty::All => plan(world, now),
        Dirty::Only(some) => {
            let room = Room::new(world, now);
            // What is on hosts that are lost or emptied seeks a place too, until it has gone from there.
            let hosts = room.index().left().chain(room.judged_anew());
            let stranded = hosts.flat_map(|host| world.residents_of(host));
            let seeking = world.seeking(room.index().version());
            let ids = some.iter().chain(seeking).chain(stranded).cloned().collect();
            plan_these(world, room, &ids)
        }
    }
}

fn plan_these<'a>(world: &'a World, mut room: Room<'a>, ids: &BTreeSet<WorkloadId>) -> (Plan, PlanReport) {
    let mut plan = Plan::default();
    let mut report = PlanReport {
        workloads: BTreeMap::new(),
        considered: ids.len(),
        fleet_version: world.fleet().version(),
    };

    let (wanted, retired): (Vec<_>, Vec<_>) = ids.iter().partition(|id| world.workloads.contains_key(*id));
    for id in retired {
        retire::retire(world, &mut room, id, &mut plan);
    }
    // All workloads give up what they no longer need before any takes more, so that the order among them matters less.
    let mut drafts = Drafts::default();
    for id in wanted {
        drafts.add(&mut room, id);
    }
    // By priority, so that nothing is placed by a rule that a greater priority then breaks by taking its place.
    let mut least = drafts.priority_below(None);
    while let Some(priority) = least {
        take_what_is_free(&mut drafts, &mut room, priority);
        // Only then does anyone take another's place: so it does not matter who else is looked at.
        let order = drafts.order(priority);
        if !order
            .into_iter()
            .any(|place| preempt::preempt(&mut drafts, &mut room, place))
        {
            least = drafts.priority_below(Some(priority));
        }
    }
    for draft in drafts.by_id() {
        let after = roll_out::assemble(draft, &room).map(Arc::new);
        if draft.missing > 0 {
            draft.refusals = take::refusals(draft, &mut room);
        }
        let before = draft.place;
        let mut entry = WorkloadReport {
            wanted: draft.wanted,
            placed: draft.placed(),
            waiting: draft.waiting(&room),
            changes: Vec::new(),
        };
        if before != after.as_deref() {
            entry.changes = placement_changes(draft.id, before, after.as_deref());
            preempt::tell(draft, &room, &mut entry.changes);
            plan.places.insert(draft.id.clone(), after);
        }
        if !entry.waiting.is_empty() || !entry.changes.is_empty() {
            report.workloads.insert(draft.id.clone(), entry);
        }
    }
    for id in plan.places.keys() {
        if !world.workloads.contains_key(id) {
            let changes = placement_changes(id, world.places.get(id).map(Arc::as_ref), None);
            report.workloads.insert(
                id.clone(),
                WorkloadReport {
                    changes,
                    ..WorkloadReport::default()
                },
            );
        }
    }
    (plan, report)
}

/// Gives workloads of at least some priority what they miss, as far as it is free.
fn take_what_is_free<'a>(drafts: &mut Drafts<'a>, room: &mut Room<'a>, least: u32) {
    // What is placed on a host that still runs it is ready at once, and may let others go, who make room.
    let mut settled = false;
    while !settled {
        settled = true;
        for draft in drafts.by_id() {
            settled &= !roll_out::trim_outgoing(draft, room);
        }
        for place in drafts.order(least) {
            if let Some(draft) = drafts.get(place) {
                settled &= !take::take(draft, room);
            }
        }
    }
}

/// How many replicas of a workload there should be, and what it waits for, if it were planned now by itself.
pub(crate) fn look(world: &World, now: Mono, id: &WorkloadId) -> Option<(u32, Vec<WaitingOn>)> {
    let mut room = Room::new(world, now);
    let mut draft = Draft::new(&mut room, id)?;
    keep::keep(&mut draft, &mut room);
    take::take(&mut draft, &mut room);
    if draft.missing > 0 {
        draft.refusals = take::refusals(&draft, &mut room);
    }
    Some((draft.wanted, draft.waiting(&room)))
}

/// The workloads that are planned, ordered by id.
#[derive(Default)]
pub(crate) struct Drafts<'a> {
    all: Vec<Draft<'a>>,
}

impl<'a> Drafts<'a> {
    /// Adds a workload, and sorts out what of it stays. Returns its place, also if it was there.
    pub(crate) fn add(&mut self, room: &mut Room<'a>, id: &WorkloadId) -> Option<usize> {
        let place = match self.all.last().is_some_and(|last| last.id < id) {
            true => self.all.len(),
            false => match self.all.binary_search_by(|draft| draft.id.cmp(id)) {
                Ok(place) => return Some(place),
                Err(place) => place,
            },
        };
        let mut draft = Draft::new(room, id)?;
        keep::keep(&mut draft, room);
        draft.tell_whereabouts(room);
        self.all.insert(place, draft);
        Some(place)
    }

    pub(crate) fn by_id(&mut self) -> impl Iterator<Item = &mut Draft<'a>> {
        self.all.iter_mut()
    }

    pub(crate) fn get(&mut self, place: usize) -> Option<&mut Draft<'a>> {
        self.all.get_mut(place)
    }

    pub(crate) fn find(&mut self, id: &WorkloadId) -> Option<&mut Draft<'a>> {
        let place = self.all.binary_search_by(|draft| draft.id.cmp(id)).ok()?;
        self.all.get_mut(place)
    }

    /// The places of those with at least some priority, the highest first, then by id.
    fn order(&self, least: u32) -> Vec<usize> {
        let priorities = self.priorities().enumerate();
        let mut order: Vec<(Reverse<u32>, usize)> = priorities
            .filter(|(_, priority)| *priority >= least)
            .map(|(place, priority)| (Reverse(priority), place))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, place)| place).collect()
    }

    /// The highest priority that any has, or that any has below another one.
    fn priority_below(&self, priority: Option<u32>) -> Option<u32> {
        self.priorities()
            .filter(|p| priority.is_none_or(|than| *p < than))
            .max()
    }

    fn priorities(&self) -> impl Iterator<Item = u32> {
        self.all.iter().map(|draft| draft.record.intent.rules.priority)
    }
}

/// One workload while it is planned.
pub(crate) struct Draft<'a> {
    pub(crate) id: &'a WorkloadId,
    pub(crate) record: &'a WorkloadRecord,
    pub(crate) need: Need<'a>,
    pub(crate) layout: Arc<Layout>,
    /// Where it is now.
    pub(crate) place: Option<&'a PlaceRecord>,
    /// Replicas wanted; for a daemon, the hosts that it fits.
    pub(crate) wanted: u32,
    /// Replicas of the newest generation that stay, by their host's place in the order of ids; new ones join them.
    pub(crate) kept: BTreeMap<u64, Kept>,
    /// Replicas that go once enough of the newest generation is ready.
    pub(crate) outgoing: Vec<Outgoing>,
    /// How far it is, if it is a job.
    pub(crate) job: Option<JobProgress>,
    /// Replicas that no host took, and why.
    pub(crate) missing: u32,
    pub(crate) refusals: Vec<RejectionCount>,
    /// Who took the place of replicas of it, by host.
    pub(crate) preempted: BTreeMap<HostNo, WorkloadId>,
}

/// Replicas of the newest generation on one host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) host: HostNo,
    pub(crate) count: u32,
    /// Of those, how many are known to be ready.
    pub(crate) ready: u32,
    /// Whether nothing can be said of the host now.
    pub(crate) unheard: bool,
}

/// Replicas that go: of an earlier generation, on a host that is lost or being emptied, or better elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) host: HostNo,
    /// Its place in the order of ids.
    pub(crate) rank: u64,
    /// Which of the placement's sets they are of.
    pub(crate) set: usize,
    pub(crate) count: u32,
    pub(crate) ready: u32,
    /// What is known of their host.
    pub(crate) standing: Standing,
    /// Whether they go only because they are better elsewhere.
    pub(crate) moving: bool,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(room: &mut Room<'a>, id: &WorkloadId) -> Option<Self> {
        let world = room.world;
        let (id, record) = world.workloads.get_key_value(id)?;
        let template = world.templates.get(&record.template).map(Arc::as_ref);
        let need = Need {
            intent: &record.intent,
            template,
        };
        Some(Self {
            id,
            record,
            need,
            layout: room.layout(&need),
            place: world.places.get(id).map(Arc::as_ref),
            wanted: 0,
            kept: BTreeMap::new(),
            outgoing: Vec::new(),
            job: None,
            missing: 0,
            refusals: Vec::new(),
            preempted: BTreeMap::new(),
        })
    }

    pub(crate) fn take(&self) -> Take<'a> {
        Take::from(&self.record.intent)
    }

    /// What replicas of one of the placement's sets take.
    pub(crate) fn take_of(&self, set: usize) -> Take<'a> {
        let set = self.place.and_then(|place| place.sets.get(set));
        set.map_or_else(|| self.take(), Take::from)
    }

    pub(crate) fn placed(&self) -> u32 {
        self.kept.values().map(|k| k.count).sum()
    }

    pub(crate) fn ready(&self) -> u32 {
        self.kept.values().map(|k| k.ready).sum()
    }

    /// Lets the room know where it is now, if that matters to any other workload or to itself.
    pub(crate) fn tell_whereabouts(&self, room: &mut Room<'a>) {
        let rules = &self.record.intent.rules;
        let minds = !rules.avoid.is_empty() || !rules.near.is_empty();
        if !minds && room.world.named_by(self.id).next().is_none() {
            return;
        }
        let kept = self.kept.values().map(|kept| (kept.host, kept.count));
        let mut hosts: BTreeMap<HostNo, u32> = BTreeMap::new();
        for (host, count) in kept.chain(self.outgoing.iter().map(|o| (o.host, o.count))) {
            *hosts.entry(host).or_default() += count;
        }
        room.set_whereabouts(self.id, hosts);
    }

    /// What it waits for, once it has been placed as far as possible.
    pub(crate) fn waiting(&self, room: &Room<'_>) -> Vec<WaitingOn> {
        let mut waiting = Vec::new();
        if self.missing > 0 {
            waiting.push(WaitingOn::Hosts {
                missing: self.missing,
                rejections: self.refusals.clone(),
            });
        }
        let hosts = self
            .kept
            .values()
            .map(|kept| kept.host)
            .chain(self.outgoing.iter().map(|o| o.host));
        let hosts = hosts.filter_map(|host| Some(&room.who(host)?.id));
        for (zone, hosts) in room.cut_off(hosts) {
            waiting.push(WaitingOn::Partition { zone, hosts });
        }
        let starting = self
            .kept
            .values()
            .filter(|k| !k.unheard)
            .map(|k| k.count - k.ready)
            .sum();
        if starting > 0 {
            waiting.push(WaitingOn::Units { starting });
        }
        waiting
    }
}
