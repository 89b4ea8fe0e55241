//! What one start of an agent shows of itself. NUMBERED: its reports have numbers without a gap, and its heartbeats name the
//! last one. DRAINED-FIRST: what requests could reach is told to drain before it is dropped.

use crate::process::Commons;
use heddle_agent_core::{Action, RunId};
use heddle_protocol::host_report::{Heartbeat, HostReport};
use heddle_protocol::id::HostId;
use std::collections::BTreeSet;

/// What one start has shown until now.
#[derive(Debug, Default)]
pub struct Shown {
    /// The number of the last report.
    reported: u64,
    /// Runs that requests could reach and that are not dropped.
    reached: BTreeSet<RunId>,
    /// Those of them that were told to drain.
    drained: BTreeSet<RunId>,
}

impl Shown {
    /// Looks at reports before they are sent.
    pub fn reports(&mut self, commons: &Commons, host: &HostId, reports: &[HostReport]) {
        for report in reports {
            let (is, last) = (report.status_seq, self.reported);
            if is != last + 1 {
                commons.break_rule("numbered", format!("{host} sends report {is} after report {last}"));
            }
            self.reported = is;
        }
    }

    /// Looks at a heartbeat before it is sent.
    pub fn beats(&self, commons: &Commons, host: &HostId, heartbeat: &Heartbeat) {
        let (names, last) = (heartbeat.status_seq, self.reported);
        if names != last {
            let what = format!("a heartbeat of {host} names report {names}, and the last was {last}");
            commons.break_rule("numbered", what);
        }
    }

    /// Looks at what the core has decided.
    pub fn begins(&mut self, commons: &Commons, host: &HostId, action: &Action) {
        match action {
            Action::SetRoutes { serving } => self.reached.extend(serving.values()),
            Action::DrainUnit { run, .. } => {
                self.drained.insert(*run);
            }
            Action::DropUnit { run, unit } => {
                let (reached, drained) = (self.reached.remove(run), self.drained.remove(run));
                if reached && !drained {
                    let what = format!("{host} drops {unit}, which answered requests and was not told to drain");
                    commons.break_rule("drained-first", what);
                }
            }
            _ => {}
        }
    }
}
