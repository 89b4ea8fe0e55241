//! What is live on this host beside routes: units that take messages, and what they run by themselves or when it is due.
//!
//! In: which runs are live now. Out: for each, guards that end what it began when it is live no more. Nothing here waits.

use crate::instance::PreparedUnit;
use crate::run::fired::Fired;
use crate::run::service;
use heddle_agent_core::{Fact, RunId};
use heddle_capability::{CapabilitySet, Guard};
use heddle_protocol::host_report::{Fire, FireAnswer};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::mpsc;

/// The runs that are live, with what goes on for them.
#[derive(Default)]
pub(crate) struct Live {
    runs: Mutex<BTreeMap<RunId, LiveRun>>,
    fired: Mutex<Fired>,
    facts: OnceLock<mpsc::Sender<Fact>>,
}

struct LiveRun {
    unit: Arc<PreparedUnit>,
    _guards: Vec<Guard>,
}

impl Live {
    /// Says where word of what runs by itself goes; before that it goes nowhere.
    pub(crate) fn report_to(&self, facts: mpsc::Sender<Fact>) {
        // A second control loop would be a second agent.
        let _ = self.facts.set(facts);
    }

    /// Makes exactly these runs live.
    pub(crate) fn set(&self, units: &BTreeMap<RunId, Arc<PreparedUnit>>, capabilities: &CapabilitySet) {
        let ended: Vec<LiveRun> = {
            let mut live = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            let ended = live
                .extract_if(.., |run, _| !units.contains_key(run))
                .map(|(_, ended)| ended);
            let ended = ended.collect();
            for (run, unit) in units {
                live.entry(*run).or_insert_with(|| LiveRun {
                    unit: Arc::clone(unit),
                    _guards: self.begin(*run, unit, capabilities),
                });
            }
            ended
        };
        // Ended outside the lock: a guard may do whatever it likes.
        drop(ended);
    }

    /// Begins what is due now, in the live run of its unit.
    pub(crate) fn fire(&self, fire: &Fire) -> FireAnswer {
        let unit = {
            let live = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            let found = live.values().find(|run| *run.unit.id() == fire.unit);
            found.map(|run| Arc::clone(&run.unit))
        };
        let mut fired = self.fired.lock().unwrap_or_else(PoisonError::into_inner);
        fired.begin(fire, unit.as_ref())
    }

    /// Begins what a unit does by itself.
    fn begin(&self, run: RunId, unit: &Arc<PreparedUnit>, capabilities: &CapabilitySet) -> Vec<Guard> {
        let mut guards = Vec::new();
        for consume in &unit.template().consumes {
            let Some(component) = unit.callable(&consume.component) else {
                continue;
            };
            match capabilities.consume(&consume.capability, consume, component) {
                Ok(guard) => guards.push(guard),
                Err(error) => tracing::error!(unit = %unit.id(), %error, "a unit takes no messages"),
            }
        }
        guards.extend(service::begin(run, unit, self.facts.get()));
        guards
    }
}
