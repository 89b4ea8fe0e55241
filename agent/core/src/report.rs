//! What to say to the scheduler: only what changed, or everything when it asks.
//!
//! In: what is running. Out: status messages, each small enough for one NATS message, numbered without gaps, so that
//! the scheduler notices when one was lost.

use crate::capability::CapabilityPhase;
use crate::running::{Run, Running};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::{Accepted, HostReport, UnitPhase, UnitStatus};
use heddle_protocol::id::{BootId, CapabilityName, UnitId};
use heddle_protocol::mutant::mutant;
use std::collections::BTreeMap;

/// Largest status message, in bytes, roughly: well below NATS's payload limit.
pub const REPORT_BYTES_MAX: usize = 400 << 10;
/// Bytes of one unit's status beside its name and its reason, at most.
const STATUS_BYTES: usize = 128;

/// Remembers what was said.
#[derive(Debug, Clone)]
pub struct Reporter {
    boot_id: BootId,
    status_seq: u64,
    said: Said,
    running_digest: Digest,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Said {
    accepted: Option<Accepted>,
    units: BTreeMap<UnitId, UnitStatus>,
    bound: BTreeMap<CapabilityName, String>,
    capability_errors: BTreeMap<CapabilityName, String>,
}

impl Reporter {
    /// A reporter that has said nothing.
    pub fn new(boot_id: BootId) -> Self {
        let said = Said::default();
        Self {
            boot_id,
            status_seq: 0,
            running_digest: running_digest(&said.units),
            said,
        }
    }

    /// The number of the last status message.
    pub fn status_seq(&self) -> u64 {
        self.status_seq
    }

    /// The digest of what runs, as last said.
    pub fn running_digest(&self) -> Digest {
        self.running_digest
    }

    /// The units as last said.
    pub fn units(&self) -> impl Iterator<Item = &UnitStatus> {
        self.said.units.values()
    }

    /// The addresses of the listeners, as last said.
    pub fn bound(&self) -> &BTreeMap<CapabilityName, String> {
        &self.said.bound
    }

    /// Messages that say what changed since the last ones; none if nothing did.
    pub fn changes(&mut self, running: &Running, accepted: Option<Accepted>) -> Vec<HostReport> {
        let now = say(running, accepted);
        if now == self.said || mutant("changes-are-not-reported") {
            return Vec::new();
        }
        let changed = now
            .units
            .iter()
            .filter(|(id, status)| self.said.units.get(id) != Some(status));
        let changed: Vec<UnitStatus> = changed.map(|(_, status)| status.clone()).collect();
        let removed: Vec<UnitId> = self
            .said
            .units
            .keys()
            .filter(|id| !now.units.contains_key(id))
            .cloned()
            .collect();
        self.take(now);
        self.messages(false, changed, removed)
    }

    /// Messages that say everything.
    pub fn full(&mut self, running: &Running, accepted: Option<Accepted>) -> Vec<HostReport> {
        let now = say(running, accepted);
        let mut units: Vec<UnitStatus> = now.units.values().cloned().collect();
        // One message that says everything is worth more than the reasons; those follow with the next change.
        if units.iter().map(status_bytes).sum::<usize>() > REPORT_BYTES_MAX {
            units.iter_mut().for_each(|status| status.reason = None);
        }
        self.take(now);
        self.messages(true, units, Vec::new())
    }

    fn take(&mut self, now: Said) {
        if now.units != self.said.units {
            self.running_digest = running_digest(&now.units);
        }
        self.said = now;
    }

    fn messages(&mut self, full: bool, units: Vec<UnitStatus>, removed: Vec<UnitId>) -> Vec<HostReport> {
        let mut messages = vec![self.message(full)];
        let mut bytes = 0;
        for part in units
            .into_iter()
            .map(Part::Unit)
            .chain(removed.into_iter().map(Part::Removed))
        {
            let more = match &part {
                Part::Unit(status) => status_bytes(status),
                Part::Removed(unit) => unit_bytes(unit),
            };
            if bytes > 0 && bytes + more > REPORT_BYTES_MAX {
                messages.push(self.message(false));
                bytes = 0;
            }
            bytes += more;
            if let Some(message) = messages.last_mut() {
                match part {
                    Part::Unit(status) => message.units.push(status),
                    Part::Removed(unit) => message.removed.push(unit),
                }
            }
        }
        messages
    }

    fn message(&mut self, full: bool) -> HostReport {
        self.status_seq += u64::from(!mutant("reports-are-not-numbered"));
        HostReport {
            boot_id: self.boot_id.clone(),
            status_seq: self.status_seq,
            full,
            accepted: self.said.accepted,
            units: Vec::new(),
            removed: Vec::new(),
            running_digest: self.running_digest,
            bound: self.said.bound.clone(),
            capability_errors: self.said.capability_errors.clone(),
        }
    }
}

enum Part {
    Unit(UnitStatus),
    Removed(UnitId),
}

fn say(running: &Running, accepted: Option<Accepted>) -> Said {
    let mut said = Said {
        accepted,
        ..Said::default()
    };
    // A later run of the same unit, and above all the wanted one, speaks for the unit; one that drains does so only
    // when it is the last.
    for (_, run) in running.runs() {
        if run.phase != UnitPhase::Draining || !said.units.contains_key(&run.unit) {
            said.units.insert(run.unit.clone(), status(running, run));
        }
    }
    for (name, phase) in running.capabilities() {
        match phase {
            CapabilityPhase::Set { bound: Some(bound) } => {
                said.bound.insert(name.clone(), bound.clone());
            }
            CapabilityPhase::Failed { reason, .. } => {
                said.capability_errors.insert(name.clone(), reason.clone());
            }
            CapabilityPhase::Set { bound: None } | CapabilityPhase::Setting => {}
        }
    }
    said
}

fn status(running: &Running, run: &Run) -> UnitStatus {
    let waits = || {
        let (name, reason) = running.lacking(run)?;
        Some(match reason {
            Some(reason) => format!("waits for capability {name}: {reason}"),
            None => format!("waits for capability {name}"),
        })
    };
    let reason = match run.phase {
        UnitPhase::Starting => waits().or_else(|| run.reason.clone()),
        // What went wrong before it was ready was cleared then; this is how its own runs fare.
        UnitPhase::Ready => run.reason.clone(),
        _ => run.reason.clone(),
    };
    let count = if matches!(run.phase, UnitPhase::Ready | UnitPhase::Draining) {
        run.held_count
    } else {
        run.count
    };
    UnitStatus {
        unit: run.unit.clone(),
        count,
        phase: run.phase,
        reason,
        attempts: run.attempts,
        completed: run.completed,
        failed: run.failed,
    }
}

fn status_bytes(status: &UnitStatus) -> usize {
    // A reason may hold characters that JSON writes as six.
    unit_bytes(&status.unit) + STATUS_BYTES + status.reason.as_ref().map_or(0, |reason| reason.len() * 2)
}

fn unit_bytes(unit: &UnitId) -> usize {
    unit.workload.namespace.as_str().len() + unit.workload.name.as_str().len() + 64
}

/// The digest of what runs: of each unit's phase and replicas. Reasons and attempts are left out, so that a unit that
/// fails again and again does not look like news.
fn running_digest(units: &BTreeMap<UnitId, UnitStatus>) -> Digest {
    let mut bytes = Vec::with_capacity(units.len() * 64);
    for status in units.values() {
        bytes.extend_from_slice(format!("{} {} {}\n", status.unit, status.count, status.phase.as_str()).as_bytes());
    }
    Digest::of(&bytes)
}
