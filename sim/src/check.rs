//! What must always be true, one checker per file. Safety is looked at after every commit and every event; what must come
//! true in the end, after everything was mended.
//!
//! In: the model of the store, agents as they really are, answers as people heard them. Out: rules that are broken, named.

pub mod acked;
pub mod agents;
pub mod audit;
pub mod available;
pub mod converged;
pub mod digest;
pub mod history;
pub mod intent;
pub mod newer;
pub mod once;
pub mod places;
pub mod pushes;
pub mod replayed;
pub mod silence;

use crate::agent::Agent;
use crate::process::{Commons, lock};
use crate::truth::{CommitSeen, Truth};
use heddle_protocol::id::HostId;
use heddle_scheduler::store::{Head, Stored};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// What is known of hosts without asking them.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// Their labels.
    pub labels: BTreeMap<String, String>,
    /// The replicas that they have room for.
    pub slots: u32,
}

/// What is known of all hosts.
pub type Fleet = Arc<BTreeMap<HostId, HostFacts>>;

/// Has every commit looked at in the moment when it is stored.
pub fn watch(commons: &Arc<Commons>, truth: &Arc<Mutex<Truth>>, fleet: &Fleet) {
    // The realm belongs to what is shared: holding that from here would keep every world for ever.
    let (at, truth, fleet) = (Arc::downgrade(commons), Arc::clone(truth), Arc::clone(fleet));
    commons.realm.watch(move |batch: &[Stored]| {
        let Some(at) = at.upgrade() else { return };
        let mut truth = lock(&truth);
        let before = truth.head.clone();
        let digest_before = truth.digest;
        let Some(commit) = truth.take(batch, at.net.now()) else {
            return at.break_rule("one-history", "a batch moves no head".to_owned());
        };
        at.net.mix(commit.version);
        at.net.say(|| in_words(&commit));
        let leaving = lock(&at.leaving).clone();
        for (rule, what) in committed(&truth, before.as_ref(), digest_before, &commit, &fleet, &leaving) {
            at.break_rule(rule, what);
        }
    });
}

fn committed(
    truth: &Truth,
    before: Option<&Head>,
    digest_before: heddle_scheduler::store::SetDigest,
    commit: &CommitSeen,
    fleet: &Fleet,
    leaving: &BTreeSet<HostId>,
) -> Vec<(&'static str, String)> {
    let mut broken = Vec::new();
    history::check(truth, before, &mut broken);
    digest::check(truth, digest_before, &mut broken);
    audit::check(commit, &mut broken);
    once::check(truth, commit, &mut broken);
    intent::check(commit, &mut broken);
    places::check(truth, commit, fleet, &mut broken);
    silence::check(truth, commit, fleet, leaving, &mut broken);
    broken
}

fn in_words(commit: &CommitSeen) -> String {
    let mut changes = Vec::new();
    for change in &commit.changes {
        let sign = if change.after.is_some() { "" } else { "-" };
        let what = match change.is::<heddle_protocol::record::PlaceRecord>() {
            Some(place) if matches!(change.key, heddle_protocol::key::Key::Place(_)) => {
                let sets = place.sets.iter().map(|set| {
                    let hosts: Vec<String> = set
                        .hosts
                        .iter()
                        .map(|(host, count)| format!("{host}×{count}"))
                        .collect();
                    format!("@{}[{}]", set.generation, hosts.join(" "))
                });
                sets.collect::<Vec<_>>().join("")
            }
            _ => String::new(),
        };
        changes.push(format!("{sign}{}{what}", change.key));
    }
    let requests: Vec<&str> = commit
        .audit
        .iter()
        .flat_map(|audit| audit.requests.iter().map(|request| request.request_id.as_str()))
        .collect();
    let facts = commit
        .audit
        .as_ref()
        .map(|audit| audit.facts.join("; "))
        .unwrap_or_default();
    format!(
        "commit {} by {}: {} [{}] {facts}",
        commit.version,
        commit.leader,
        changes.join(" "),
        requests.join(" ")
    )
}

/// Replicas of a workload that requests can really reach, on whatever host.
pub fn reachable(agents: &[Agent], workload: &heddle_protocol::id::WorkloadId) -> u32 {
    let served = agents.iter().flat_map(|agent| agent.served());
    served
        .filter(|(unit, _)| unit.workload == *workload)
        .map(|(_, count)| count)
        .sum()
}
