//! How workloads fare: what is meant and placed, beside what hosts say of it.
//!
//! In: the world and the time. Out: one status per workload, with the generation that it speaks of and, if it is not
//! good, its cause. A host's word counts only while the host is heard.

use crate::liveness::{HostLiveness, Verdicts, is_heard, verdicts_at};
use crate::observed::ObservedHost;
use crate::place::Fleet;
use crate::plan::{daemon_fits, look};
use crate::world::World;
use heddle_protocol::api::status::{Endpoint, FiredStatus, JobStatus, PlacedUnit, WorkloadState, WorkloadStatus};
use heddle_protocol::host_report::UnitPhase;
use heddle_protocol::id::{Generation, HostId, UnitId, WorkloadId};
use heddle_protocol::record::{PlaceRecord, Replicas, WorkloadRecord};
use heddle_protocol::report::WaitingOn;
use heddle_protocol::time::Mono;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How one workload fares; none if there is nothing of it.
pub fn workload_status(world: &World, id: &WorkloadId, now: Mono) -> Option<WorkloadStatus> {
    StatusView::new(world, now).workload(id)
}

/// How several workloads fare, those of which there is nothing left out.
pub fn workload_statuses<'a>(
    world: &World,
    ids: impl IntoIterator<Item = &'a WorkloadId>,
    now: Mono,
) -> Vec<WorkloadStatus> {
    let view = StatusView::new(world, now);
    ids.into_iter().filter_map(|id| view.workload(id)).collect()
}

/// Replicas of the newest generation and of earlier ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) placed: u32,
    pub(crate) ready: u32,
    pub(crate) placed_old: u32,
    pub(crate) ready_old: u32,
}

/// Counts a workload's replicas on some hosts: placed, and known to be ready now.
pub(crate) fn tally(
    world: &World,
    id: &WorkloadId,
    record: Option<&WorkloadRecord>,
    now: Mono,
    counts: impl Fn(&HostId) -> bool,
) -> Tally {
    let mut tally = Tally::default();
    for set in world.places.get(id).iter().flat_map(|p| &p.sets) {
        let newest = record.is_some_and(|r| r.intent.unit_generation == set.generation);
        for (host, count) in set.hosts.iter().filter(|(host, _)| counts(host)) {
            let observed = world.observed.get(host).filter(|_| is_heard(world, host, now));
            let ready = observed.map_or(0, |o| o.ready(id, set.generation, *count));
            if newest {
                (tally.placed, tally.ready) = (tally.placed + count, tally.ready + ready);
            } else {
                (tally.placed_old, tally.ready_old) = (tally.placed_old + count, tally.ready_old + ready);
            }
        }
    }
    tally
}

/// Whether every replica of the newest generation is ready and no other is placed. Asked after every change of what
/// somebody waits for, so it looks no further than the first host that says no.
pub(crate) fn is_settled(world: &World, id: &WorkloadId, record: &WorkloadRecord, now: Mono) -> bool {
    match record.intent.replicas {
        Replicas::Count(_) => {
            let newest = record.intent.unit_generation;
            let place = world.places.get(id).map(Arc::as_ref);
            let sets = || place.into_iter().flat_map(|place| &place.sets);
            let placed = place.map_or(0, |place| place.count_of(newest));
            let is_ready = |host: &HostId, count: u32| {
                let observed = world.observed.get(host).filter(|_| is_heard(world, host, now));
                observed.is_some_and(|o| o.ready(id, newest, count) == count)
            };
            placed == wanted_of(world, id, record)
                && sets().all(|set| set.generation == newest || set.hosts.values().all(|count| *count == 0))
                && sets()
                    .flat_map(|set| &set.hosts)
                    .all(|(host, count)| is_ready(host, *count))
        }
        Replicas::Daemon => {
            let fleet = Fleet::new(world, now);
            let (tally, wanted) = daemon_tally(world, id, record, &fleet, now);
            tally.is_settled(wanted)
        }
    }
}

/// Replicas that there should be now: of a job, the runs that are still to end well.
fn wanted_of(world: &World, id: &WorkloadId, record: &WorkloadRecord) -> u32 {
    crate::plan::job::wanted(&record.intent, world.places.get(id).map(Arc::as_ref))
}

impl Tally {
    fn is_settled(&self, wanted: u32) -> bool {
        self.placed == wanted && self.ready == wanted && self.placed_old == 0
    }
}

/// A daemon's replicas, and how many there should be. On a lost host it is neither wanted nor counted: nothing can take
/// its place, and it is there again when the host is.
fn daemon_tally(world: &World, id: &WorkloadId, record: &WorkloadRecord, fleet: &Fleet<'_>, now: Mono) -> (Tally, u32) {
    let lost = |host: &HostId| {
        fleet
            .get(host)
            .is_none_or(|v| matches!(v.liveness, HostLiveness::Lost { .. }))
    };
    let tally = tally(world, id, Some(record), now, |host| !lost(host));
    (tally, daemons_wanted(world, id, record, fleet))
}

/// The hosts that still run units of a workload, as far as they are heard.
pub(crate) fn running_on<'a>(
    world: &'a World,
    id: &WorkloadId,
    now: Mono,
) -> impl Iterator<Item = (&'a HostId, &'a UnitId)> {
    units_of(world, id).filter(move |(host, _)| is_heard(world, host, now))
}

/// A workload's units as hosts reported them last.
pub(crate) fn units_of<'a>(world: &'a World, id: &WorkloadId) -> impl Iterator<Item = (&'a HostId, &'a UnitId)> {
    let unit = |n: u64| UnitId {
        workload: id.clone(),
        generation: Generation(n),
    };
    let range = unit(0)..=unit(u64::MAX);
    // Whom nobody reports is looked for nowhere: there are ten thousand hosts, and this is asked at each apply.
    let hosts = world.is_reported(id).then_some(&world.observed);
    let of_host = move |(host, observed): (&'a HostId, &'a Arc<ObservedHost>)| {
        observed.units.range(range.clone()).map(move |(unit, _)| (host, unit))
    };
    hosts.into_iter().flat_map(|observed| observed.iter()).flat_map(of_host)
}

fn daemons_wanted(world: &World, id: &WorkloadId, record: &WorkloadRecord, fleet: &Fleet<'_>) -> u32 {
    let template = world.templates.get(&record.template).map(Arc::as_ref);
    let need = crate::place::Need {
        intent: &record.intent,
        template,
    };
    let place = world.places.get(id);
    let newest = |p: &&Arc<PlaceRecord>| p.sets.iter().any(|s| s.generation == record.intent.unit_generation);
    let has = |host: &HostId| place.filter(newest).is_some_and(|p| p.on_host(host) > 0);
    daemon_fits(&need, fleet, has)
}

/// The world at a time, looked at for any number of workloads.
pub(crate) struct StatusView<'a> {
    world: &'a World,
    verdicts: Cow<'a, Verdicts>,
    /// All hosts, once somebody needs them.
    fleet: OnceCell<Fleet<'a>>,
    now: Mono,
}

impl<'a> StatusView<'a> {
    pub(crate) fn new(world: &'a World, now: Mono) -> Self {
        Self {
            world,
            verdicts: verdicts_at(world, now),
            fleet: OnceCell::new(),
            now,
        }
    }

    pub(crate) fn fleet(&self) -> &Fleet<'a> {
        self.fleet.get_or_init(|| Fleet::new(self.world, self.now))
    }

    fn is_alive(&self, host: &HostId) -> bool {
        self.world.hosts.contains_key(host) && self.verdicts.of(host) == HostLiveness::Alive
    }

    pub(crate) fn workload(&self, id: &WorkloadId) -> Option<WorkloadStatus> {
        let world = self.world;
        match world.workloads.get_key_value(id) {
            Some((id, record)) => Some(self.intended(id, record)),
            None => self.deleted(id),
        }
    }

    fn intended(&self, id: &'a WorkloadId, record: &'a WorkloadRecord) -> WorkloadStatus {
        let (tally, desired) = match record.intent.replicas {
            Replicas::Count(_) => {
                let wanted = wanted_of(self.world, id, record);
                (tally(self.world, id, Some(record), self.now, |_| true), wanted)
            }
            Replicas::Daemon => daemon_tally(self.world, id, record, self.fleet(), self.now),
        };
        let settled = tally.is_settled(desired);

        let units = self.units(id);
        let waiting = match settled {
            true => Vec::new(),
            false => look(self.world, self.now, id)
                .map(|(_, waiting)| waiting)
                .unwrap_or_default(),
        };
        let stuck = |u: &PlacedUnit| matches!(u.phase, Some(UnitPhase::Failed | UnitPhase::Refused));
        let hindered = waiting.iter().any(|w| !matches!(w, WaitingOn::Units { .. })) || units.iter().any(stuck);
        let job = self.job(id, record);
        let state = match (settled, hindered) {
            _ if job.as_ref().is_some_and(|job| job.failed > 0) => WorkloadState::Failed,
            _ if job.as_ref().is_some_and(|job| job.completed >= job.completions) => WorkloadState::Completed,
            (true, _) => WorkloadState::Ready,
            (false, true) => WorkloadState::Waiting,
            (false, false) => WorkloadState::Progressing,
        };
        WorkloadStatus {
            workload: id.clone(),
            generation: record.generation,
            state,
            desired,
            placed: tally.placed,
            ready: tally.ready,
            ready_old: tally.ready_old,
            units,
            waiting,
            endpoints: self.endpoints(id),
            job,
            fired: self.fired(id, record),
        }
    }

    fn deleted(&self, id: &WorkloadId) -> Option<WorkloadStatus> {
        let mut units = self.units(id);
        let placed: BTreeSet<(HostId, Generation)> = units.iter().map(|u| (u.host.clone(), u.generation)).collect();
        for (host, unit) in running_on(self.world, id, self.now) {
            if !placed.contains(&(host.clone(), unit.generation)) {
                units.push(self.unit(id, host, unit.generation, 0));
            }
        }
        let generation = units.iter().map(|u| u.generation).max()?;
        let tally = tally(self.world, id, None, self.now, |_| true);
        Some(WorkloadStatus {
            workload: id.clone(),
            generation,
            state: WorkloadState::Deleting,
            desired: 0,
            placed: 0,
            ready: 0,
            ready_old: tally.ready_old,
            units,
            waiting: Vec::new(),
            endpoints: Vec::new(),
            job: None,
            fired: Vec::new(),
        })
    }

    /// How far a job is.
    fn job(&self, id: &WorkloadId, record: &WorkloadRecord) -> Option<JobStatus> {
        let intent = &record.intent;
        let completions = intent.job?.completions;
        let place = self.world.places.get(id).map(Arc::as_ref);
        let progress = crate::plan::job::progress(intent, place);
        Some(JobStatus {
            completions,
            completed: progress.completed,
            failed: progress.failed,
            reason: progress.reason,
        })
    }

    /// What each cron trigger was fired for last, in the order of the triggers.
    fn fired(&self, id: &WorkloadId, record: &WorkloadRecord) -> Vec<FiredStatus> {
        let fired = self.world.places.get(id).map(|place| &place.fired);
        let each = record.intent.cron.iter().zip(0..);
        let status = each.map(|(trigger, index): (_, u32)| FiredStatus {
            component: trigger.component.clone(),
            schedule: trigger.schedule.clone(),
            time_zone: trigger.time_zone.clone(),
            last_due: fired.and_then(|fired| fired.get(&index)).copied(),
        });
        status.collect()
    }

    fn units(&self, id: &WorkloadId) -> Vec<PlacedUnit> {
        let sets = self.world.places.get(id).into_iter().flat_map(|p| &p.sets);
        let each = sets.flat_map(|set| set.hosts.iter().map(|(host, count)| (host, set.generation, *count)));
        each.map(|(host, generation, count)| self.unit(id, host, generation, count))
            .collect()
    }

    fn unit(&self, id: &WorkloadId, host: &HostId, generation: Generation, count: u32) -> PlacedUnit {
        let admitted = self.world.hosts.contains_key(host);
        let observed = self.world.observed.get(host).filter(|_| admitted);
        let status = observed.and_then(|o| o.unit(id, generation));
        PlacedUnit {
            host: host.clone(),
            generation,
            count,
            phase: status.map(|s| s.phase),
            reason: status.and_then(|s| s.reason.clone()),
            host_lost: !self.is_alive(host),
        }
    }

    /// Where ready units can be reached: the addresses that their hosts' listeners are bound to.
    fn endpoints(&self, id: &WorkloadId) -> Vec<Endpoint> {
        let mut endpoints = BTreeSet::new();
        for set in self.world.places.get(id).iter().flat_map(|p| &p.sets) {
            for (host, count) in &set.hosts {
                let Some(observed) = self.world.observed.get(host).filter(|_| self.is_alive(host)) else {
                    continue;
                };
                if observed.ready(id, set.generation, *count) == 0 {
                    continue;
                }
                for trigger in &set.http {
                    let Some(address) = observed.bound.get(&trigger.capability) else {
                        continue;
                    };
                    let url = format!("http://{address}{}", trigger.path);
                    endpoints.insert(Endpoint {
                        host: host.clone(),
                        url,
                        host_header: trigger.host.clone(),
                    });
                }
            }
        }
        endpoints.into_iter().collect()
    }
}
