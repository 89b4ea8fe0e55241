//! What hosts said since this scheduler started. In memory only: it is rebuilt from the hosts within two heartbeats.

use crate::liveness::{LivenessOptions, Verdicts};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::{Accepted, Heartbeat, Hello, HostReport, UnitPhase, UnitStatus};
use heddle_protocol::id::{BootId, CapabilityName, Generation, HostId, UnitId, WorkloadId};
use heddle_protocol::time::Mono;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one host said since this scheduler started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObservedHost {
    /// Its introduction; none until it said hello to this scheduler.
    pub hello: Option<Arc<Hello>>,
    /// The start of its agent that speaks.
    pub boot_id: Option<BootId>,
    /// When it was last heard, in any way.
    pub last_heard: Mono,
    /// Its last heartbeat.
    pub heartbeat: Option<Heartbeat>,
    /// Whether its agent was told to stop.
    pub leaving: bool,
    /// The spec that it holds.
    pub accepted: Option<Accepted>,
    /// How its units fare.
    pub units: BTreeMap<UnitId, UnitStatus>,
    /// The number of the last status message that `units` includes; none until a full one came.
    pub status_seq: Option<u64>,
    /// The digest of what runs, as the last status message had it.
    pub running_digest: Option<Digest>,
    /// The addresses of its listeners.
    pub bound: BTreeMap<CapabilityName, String>,
    /// Capabilities that it could not set up, with the reason.
    pub capability_errors: BTreeMap<CapabilityName, String>,
    /// When it was last asked for a full status.
    pub(crate) report_asked_at: Option<Mono>,
    /// When it was last asked for a hello.
    pub(crate) hello_asked_at: Option<Mono>,
}

impl ObservedHost {
    /// How one unit fares.
    pub fn unit(&self, workload: &WorkloadId, generation: Generation) -> Option<&UnitStatus> {
        // The key is made of shared text, so this costs two counters.
        self.unit_of(&UnitId {
            workload: workload.clone(),
            generation,
        })
    }

    /// The same, for who has the id already.
    pub fn unit_of(&self, unit: &UnitId) -> Option<&UnitStatus> {
        self.units.get(unit)
    }

    /// Replicas of a unit that are ready, of those that are placed there, for who has the id already.
    pub fn ready_of(&self, unit: &UnitId, placed: u32) -> u32 {
        match self.unit_of(unit) {
            Some(status) if status.phase == UnitPhase::Ready => status.count.min(placed),
            _ => 0,
        }
    }

    /// Replicas of a unit that are ready, of those that are placed there.
    pub fn ready(&self, workload: &WorkloadId, generation: Generation, placed: u32) -> u32 {
        self.ready_of(
            &UnitId {
                workload: workload.clone(),
                generation,
            },
            placed,
        )
    }

    /// Its label's value.
    pub fn label(&self, label: &str) -> Option<&str> {
        self.hello
            .as_ref()
            .and_then(|hello| hello.labels.get(label))
            .map(String::as_str)
    }

    /// Whether what it says it runs differs from what is known of it: it should be asked for a full report. A heartbeat that
    /// is older than what is known says nothing: a scheduler that is behind would ask everybody, and fall behind further.
    pub(crate) fn is_behind(&self, heartbeat: &Heartbeat) -> bool {
        match self.status_seq {
            None => true,
            Some(known) if heartbeat.status_seq < known => false,
            Some(known) => heartbeat.status_seq > known || self.running_digest != Some(heartbeat.running_digest),
        }
    }

    /// Takes in which spec the host says that it holds. Within one start of an agent that only ever becomes newer, so a
    /// word that was under way while it took the next spec is old.
    pub(crate) fn note_accepted(&mut self, said: Option<Accepted>) {
        let newer = |said: &Accepted| self.accepted.is_none_or(|known| said.version >= known.version);
        self.accepted = said.filter(newer).or(self.accepted);
    }

    /// Forgets what an earlier start of the agent said.
    pub(crate) fn begin_boot(&mut self, boot_id: &BootId) {
        if self.boot_id.as_ref() == Some(boot_id) {
            return;
        }
        let hello = self.hello.take().filter(|hello| &hello.boot_id == boot_id);
        // A new start may ask at once; how often one asks is counted anew.
        *self = Self {
            hello,
            boot_id: Some(boot_id.clone()),
            last_heard: self.last_heard,
            ..Self::default()
        };
    }

    /// Takes in a status message. Says which units changed, or that a message is missing.
    pub(crate) fn take_report(&mut self, report: HostReport) -> TakenReport {
        let known = self.status_seq;
        let usable = match known {
            Some(seq) if report.status_seq <= seq && !report.full => return TakenReport::Old,
            Some(seq) if report.status_seq < seq => return TakenReport::Old,
            Some(seq) => report.full || report.status_seq == seq + 1,
            None => report.full,
        };
        if !usable {
            return TakenReport::Gap;
        }
        let mut changed = Vec::new();
        let named: BTreeMap<UnitId, UnitStatus> = report.units.into_iter().map(|u| (u.unit.clone(), u)).collect();
        let gone: Vec<UnitId> = match report.full {
            true => self
                .units
                .keys()
                .filter(|id| !named.contains_key(*id))
                .cloned()
                .collect(),
            false => report.removed,
        };
        for id in gone {
            if self.units.remove(&id).is_some() {
                changed.push((id, None));
            }
        }
        for (id, status) in named {
            if self.units.get(&id) != Some(&status) {
                changed.push((id.clone(), Some(status.clone())));
                self.units.insert(id, status);
            }
        }
        self.status_seq = Some(report.status_seq);
        self.running_digest = Some(report.running_digest);
        self.note_accepted(report.accepted);
        self.bound = report.bound;
        self.capability_errors = report.capability_errors;
        TakenReport::Taken(changed)
    }
}

/// What a status message brought.
pub(crate) enum TakenReport {
    /// The units that changed, or went.
    Taken(Vec<(UnitId, Option<UnitStatus>)>),
    /// Nothing: a newer one came before.
    Old,
    /// Nothing: one before it is missing.
    Gap,
}

/// Since when this scheduler may judge hosts by their silence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watch {
    /// The numbers to judge by.
    pub options: LivenessOptions,
    /// When this scheduler started.
    pub started_at: Mono,
    /// Since when its own link to NATS is up; none while it is down.
    pub link_up_since: Option<Mono>,
    /// When messages to this scheduler were lost last because it was too slow: silence until then proves nothing.
    pub missed_at: Option<Mono>,
    /// Whether placing may still wait for hosts that were not heard yet.
    pub(crate) settling: bool,
    /// When a host of a cut-off zone was last heard again, by zone.
    pub(crate) thawed_at: BTreeMap<String, Mono>,
    /// The last judgement of the hosts that was told as events.
    pub(crate) announced: Verdicts,
    /// Hosts that are not admitted and were asked for a hello, with when. Bounded.
    pub(crate) strangers: BTreeMap<HostId, Mono>,
}
