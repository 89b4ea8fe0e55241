//! A placement that a commit adds is one that the host can take: it is admitted, its labels are those that are asked for,
//! nobody has said that it takes no work, and it has the room.

use super::Fleet;
use crate::truth::{CommitSeen, Truth};
use heddle_protocol::id::HostId;
use heddle_protocol::key::Key;
use heddle_protocol::record::{HostAdmin, PlaceRecord, Replicas};
use std::collections::{BTreeMap, BTreeSet};

/// Replicas of a placement by host, of all generations.
pub fn by_host(place: Option<&PlaceRecord>) -> BTreeMap<HostId, u32> {
    let mut counts = BTreeMap::new();
    for (host, count) in place.iter().flat_map(|place| &place.sets).flat_map(|set| &set.hosts) {
        *counts.entry(host.clone()).or_default() += count;
    }
    counts
}

/// Looks at a commit.
pub fn check(truth: &Truth, commit: &CommitSeen, fleet: &Fleet, broken: &mut Vec<(&'static str, String)>) {
    let n = commit.version.n;
    let mut grown = BTreeSet::new();
    for change in &commit.changes {
        let Key::Place(id) = &change.key else { continue };
        let (was, is) = (by_host(change.was().as_ref()), by_host(change.is().as_ref()));
        let Some(record) = truth.workloads.get(id) else {
            if !is.is_empty() {
                broken.push(("places", format!("commit {n} places {id}, which is deleted")));
            }
            continue;
        };
        for (host, count) in is {
            if count <= was.get(&host).copied().unwrap_or(0) {
                continue;
            }
            grown.insert(host.clone());
            let (Some(admitted), Some(facts)) = (truth.hosts.get(&host), fleet.get(&host)) else {
                broken.push((
                    "places",
                    format!("commit {n} places {id} on {host}, which is not admitted"),
                ));
                continue;
            };
            if admitted.admin != HostAdmin::Open {
                broken.push((
                    "places",
                    format!("commit {n} places {id} on {host}, which takes no work"),
                ));
            }
            let fits = |rule: &heddle_protocol::record::Requirement| {
                rule.rule.allows(facts.labels.get(&rule.label).map(String::as_str))
            };
            if !record.intent.require.iter().all(fits) {
                broken.push((
                    "places",
                    format!("commit {n} places {id} on {host}, whose labels are others"),
                ));
            }
        }
        if let (Replicas::Daemon, Some(place)) = (record.intent.replicas, change.is::<PlaceRecord>()) {
            let newest = |place: &PlaceRecord| {
                let set = place
                    .sets
                    .iter()
                    .find(|set| set.generation == record.intent.unit_generation);
                set.map(|set| set.hosts.clone()).unwrap_or_default()
            };
            let before = change
                .was::<PlaceRecord>()
                .map(|place| newest(&place))
                .unwrap_or_default();
            let grew = |host: &HostId, count: u32| count > before.get(host).copied().unwrap_or(0);
            if newest(&place)
                .iter()
                .any(|(host, count)| *count > 1 && grew(host, *count))
            {
                broken.push(("places", format!("commit {n} places daemon {id} twice on one host")));
            }
        }
    }
    for host in grown {
        let used: u32 = truth.units_now(&host).values().map(|(count, _)| count).sum();
        let slots = fleet.get(&host).map_or(0, |facts| facts.slots);
        if used > slots {
            broken.push((
                "places",
                format!("commit {n} places {used} replicas on {host}, which has {slots} slots"),
            ));
        }
    }
}
