//! Where every replica should be. Reads like a table of contents: retire, keep, place, roll out.
//!
//! In: the world and the time. Out: the placements that change, and a report of what still waits and why. It cannot
//! fail, and it moves as little as it can: a host that joins moves nothing, silence stops nothing, and planning again
//! once a plan is carried out changes nothing.

pub(crate) mod job;
mod keep;
mod retire;
mod roll_out;
mod take;

use crate::diff::placement_changes;
use crate::place::{Fleet, HostView, Need};
use crate::world::{Dirty, World};
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::record::{JobProgress, PlaceRecord, WorkloadRecord};
use heddle_protocol::report::{PlacementChange, RejectionCount, WaitingOn};
use heddle_protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use keep::daemon_fits;

/// The version of this planner: kept in audit records, so that a past decision is replayed by the code that made it.
pub const PLANNER: &str = concat!("heddle-scheduler-core/", env!("CARGO_PKG_VERSION"));

/// The placements that change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The new placement of each workload that gets another one; none where nothing is left of it.
    pub places: BTreeMap<WorkloadId, Option<PlaceRecord>>,
}

/// What a plan changes, and what it could not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanReport {
    /// The workloads that there is something to say about.
    pub workloads: BTreeMap<WorkloadId, WorkloadReport>,
    /// How many workloads were looked at.
    pub considered: usize,
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
        let write = |(id, place): (&WorkloadId, &Option<PlaceRecord>)| {
            let value = place.as_ref().map(serde_json::to_vec).transpose()?;
            Ok(crate::apply::Write {
                key: Key::Place(id.clone()),
                value,
            })
        };
        self.places.iter().map(write).collect()
    }

    /// The hosts whose specs it changes, in this world.
    pub fn hosts(&self, world: &World) -> BTreeSet<HostId> {
        let before = self
            .places
            .keys()
            .filter_map(|id| world.places.get(id))
            .map(Arc::as_ref);
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
            world.set_place(id, place.clone().map(Arc::new));
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
    plan_these(world, Fleet::new(world, now), &all)
}

/// Plans some workloads, and those that lack a place. With everything in `dirty` that changed since the world was last
/// planned, and that plan noted ([`World::note_plan`]), it decides what [`plan`] decides.
pub fn plan_only(world: &World, now: Mono, dirty: &Dirty) -> (Plan, PlanReport) {
    match dirty {
        Dirty::All => plan(world, now),
        Dirty::Only(some) => {
            let fleet = Fleet::new(world, now);
            // What is on hosts that are lost or emptied seeks a place too, until it has gone from there.
            let left = |host: &&HostView<'_>| host.is_emptied() || !host.liveness.holds_work();
            let stranded = fleet
                .hosts()
                .iter()
                .filter(left)
                .flat_map(|host| world.workloads_on(host.id));
            let ids = some.iter().chain(world.seeking()).cloned().chain(stranded).collect();
            plan_these(world, fleet, &ids)
        }
    }
}

fn plan_these<'a>(world: &'a World, mut fleet: Fleet<'a>, ids: &'a BTreeSet<WorkloadId>) -> (Plan, PlanReport) {
    let mut plan = Plan::default();
    let mut report = PlanReport {
        workloads: BTreeMap::new(),
        considered: ids.len(),
    };

    let (wanted, retired): (Vec<_>, Vec<_>) = ids.iter().partition(|id| world.workloads.contains_key(*id));
    for id in retired {
        retire::retire(world, &mut fleet, id, &mut plan);
    }
    // All workloads give up what they no longer need before any takes more, so that the order among them matters less.
    let mut drafts: Vec<Draft<'_>> = Vec::with_capacity(wanted.len());
    for id in wanted {
        let Some(mut draft) = Draft::new(world, id) else {
            continue;
        };
        keep::keep(&mut draft, &mut fleet);
        drafts.push(draft);
    }
    // What is placed on a host that still runs it is ready at once, and may let others go, who make room.
    let mut settled = false;
    while !settled {
        settled = true;
        for draft in &mut drafts {
            settled &= !roll_out::trim_outgoing(draft, &mut fleet);
        }
        for draft in &mut drafts {
            settled &= !take::take(draft, &mut fleet);
        }
    }
    for draft in &mut drafts {
        let after = roll_out::assemble(draft);
        let before = draft.place;
        let mut entry = WorkloadReport {
            wanted: draft.wanted,
            placed: draft.placed(),
            waiting: draft.waiting(&fleet),
            changes: Vec::new(),
        };
        if before != after.as_ref() {
            entry.changes = placement_changes(draft.id, before, after.as_ref());
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

/// How many replicas of a workload there should be, and what it waits for, if it were planned now by itself.
pub(crate) fn look<'a>(world: &'a World, mut fleet: Fleet<'a>, id: &'a WorkloadId) -> Option<(u32, Vec<WaitingOn>)> {
    let mut draft = Draft::new(world, id)?;
    keep::keep(&mut draft, &mut fleet);
    take::take(&mut draft, &mut fleet);
    Some((draft.wanted, draft.waiting(&fleet)))
}

/// One workload while it is planned.
pub(crate) struct Draft<'a> {
    pub(crate) id: &'a WorkloadId,
    pub(crate) record: &'a WorkloadRecord,
    pub(crate) need: Need<'a>,
    /// Where it is now.
    pub(crate) place: Option<&'a PlaceRecord>,
    /// Replicas wanted; for a daemon, the hosts that it fits.
    pub(crate) wanted: u32,
    /// Replicas of the newest generation that stay, by host; new ones join them.
    pub(crate) kept: BTreeMap<HostId, Kept>,
    /// Replicas that go once enough of the newest generation is ready.
    pub(crate) outgoing: Vec<Outgoing>,
    /// How far it is, if it is a job.
    pub(crate) job: Option<JobProgress>,
    /// Replicas that no host took, and why.
    pub(crate) missing: u32,
    pub(crate) refusals: Vec<RejectionCount>,
}

/// Replicas of the newest generation on one host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) count: u32,
    /// Of those, how many are known to be ready.
    pub(crate) ready: u32,
    /// Whether nothing can be said of the host now.
    pub(crate) unheard: bool,
}

/// Replicas that go: of an earlier generation, or on a host that is lost or being emptied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) host: HostId,
    /// Which of the placement's sets they are of.
    pub(crate) set: usize,
    pub(crate) reserve_bytes: u64,
    pub(crate) count: u32,
    pub(crate) ready: u32,
    pub(crate) state: OutgoingState,
}

/// What is known of the host of outgoing replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OutgoingState {
    /// It lives.
    Heard,
    /// Nothing is known of it now.
    Unheard,
    /// It is lost.
    Lost,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(world: &'a World, id: &'a WorkloadId) -> Option<Self> {
        let record = world.workloads.get(id)?.as_ref();
        let template = world.templates.get(&record.template).map(Arc::as_ref);
        Some(Self {
            id,
            record,
            need: Need {
                intent: &record.intent,
                template,
            },
            place: world.places.get(id).map(Arc::as_ref),
            wanted: 0,
            kept: BTreeMap::new(),
            outgoing: Vec::new(),
            job: None,
            missing: 0,
            refusals: Vec::new(),
        })
    }

    pub(crate) fn placed(&self) -> u32 {
        self.kept.values().map(|k| k.count).sum()
    }

    pub(crate) fn ready(&self) -> u32 {
        self.kept.values().map(|k| k.ready).sum()
    }

    /// What it waits for, once it has been placed as far as possible.
    pub(crate) fn waiting(&self, fleet: &Fleet<'_>) -> Vec<WaitingOn> {
        let mut waiting = Vec::new();
        if self.missing > 0 {
            waiting.push(WaitingOn::Hosts {
                missing: self.missing,
                rejections: self.refusals.clone(),
            });
        }
        for (zone, hosts) in fleet.partitions() {
            let mine: BTreeSet<HostId> = hosts.iter().filter(|h| self.has_replicas_on(h)).cloned().collect();
            if !mine.is_empty() {
                waiting.push(WaitingOn::Partition {
                    zone: zone.clone(),
                    hosts: mine,
                });
            }
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

    fn has_replicas_on(&self, host: &HostId) -> bool {
        self.kept.contains_key(host) || self.outgoing.iter().any(|o| o.host == *host)
    }
}
