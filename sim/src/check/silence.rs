//! SILENCE-STOPS-NOTHING: without a request, a commit never leaves a workload with fewer replicas placed than it wants and
//! had; and an agent serves less than before only when a spec says so.

use super::Fleet;
use super::places::by_host;
use crate::agent::Agent;
use crate::truth::{CommitSeen, Truth};
use heddle_protocol::host_report::UnitPhase;
use heddle_protocol::id::{HostId, UnitId};
use heddle_protocol::key::Key;
use heddle_protocol::record::{HostAdmin, Replicas};
use std::collections::{BTreeMap, BTreeSet};

/// Looks at a commit.
pub fn check(
    truth: &Truth,
    commit: &CommitSeen,
    fleet: &Fleet,
    leaving: &BTreeSet<HostId>,
    broken: &mut Vec<(&'static str, String)>,
) {
    let n = commit.version.n;
    let changed: BTreeSet<&Key> = commit.changes.iter().map(|change| &change.key).collect();
    for change in &commit.changes {
        let Key::Place(id) = &change.key else { continue };
        let Some(record) = truth.workloads.get(id) else {
            continue;
        };
        if changed.contains(&Key::Workload(id.clone())) {
            continue;
        }
        let (mut was, is) = (by_host(change.was().as_ref()), by_host(change.is().as_ref()));
        // A host that was forgotten holds nothing any more.
        was.retain(|host, _| truth.hosts.contains_key(host));
        match record.intent.replicas {
            Replicas::Count(wanted) => {
                let (had, has): (u32, u32) = (was.values().sum(), is.values().sum());
                if has < had.min(wanted) {
                    let what = format!("commit {n} leaves {id} with {has} replicas of {wanted}; it had {had}");
                    broken.push(("silence-stops-nothing", what));
                }
            }
            Replicas::Daemon => {
                for host in was.keys().filter(|host| !is.contains_key(*host)) {
                    let open = truth
                        .hosts
                        .get(host)
                        .is_some_and(|host| host.admin != HostAdmin::Draining);
                    let fits = fleet.get(host).is_some_and(|facts| {
                        let rules = &record.intent.require;
                        rules
                            .iter()
                            .all(|rule| rule.rule.allows(facts.labels.get(&rule.label).map(String::as_str)))
                    });
                    if open && fits && !leaving.contains(host) {
                        let what = format!("commit {n} takes daemon {id} from {host}, where it fits");
                        broken.push(("silence-stops-nothing", what));
                    }
                }
            }
        }
    }
}

/// Looks at what requests are routed to: only to what is ready.
pub fn check_routes(agent: &Agent) -> Option<String> {
    let life = agent.life.as_ref()?;
    let phases: BTreeMap<_, _> = life.running.runs().map(|(id, run)| (id, run.phase)).collect();
    let (unit, _) = life
        .serving
        .iter()
        .find(|(_, run)| phases.get(run).is_none_or(|phase| *phase != UnitPhase::Ready))?;
    Some(format!("{} routes to {unit}, which is not ready", agent.id))
}

/// Looks at an agent that did not just take a new spec.
pub fn check_agent(agent: &Agent, before: &BTreeMap<UnitId, u32>) -> Option<String> {
    let now = agent.served();
    let less = before
        .iter()
        .find(|(unit, count)| now.get(*unit).copied().unwrap_or(0) < **count)?;
    Some(format!(
        "{} serves less of {} although no spec says so",
        agent.id, less.0
    ))
}
