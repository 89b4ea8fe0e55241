//! What must come true once everything is mended: every host serves what is placed on it and nothing else, everything that
//! is wanted is placed as far as there is room, no old generation is left, and everybody who asked has an answer.

use super::Fleet;
use crate::agent::Agent;
use crate::people::People;
use crate::truth::{Truth, Units};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::UnitPhase;
use heddle_protocol::id::{HostId, UnitId};
use heddle_protocol::record::{HostAdmin, PlaceRecord, Replicas, WorkloadRecord};
use std::collections::{BTreeMap, BTreeSet};

/// What is missing; nothing if all is well.
pub fn missing(
    truth: &Truth,
    agents: &[Agent],
    people: &People,
    fleet: &Fleet,
    bad: &BTreeSet<Digest>,
    leaders: usize,
) -> Option<String> {
    if leaders != 1 {
        return Some(format!("{leaders} schedulers run"));
    }
    if people.waiting() > 0 {
        return Some(format!("{} requests have no answer", people.waiting()));
    }
    let hosts = agents.iter().find_map(|agent| host(truth, agent, bad));
    let orphan = truth
        .places
        .iter()
        .find(|(id, place)| !truth.workloads.contains_key(*id) && !place.sets.is_empty());
    let orphan = orphan.map(|(id, _)| format!("{id} is deleted and placed"));
    let workloads = || {
        truth.workloads.iter().find_map(|(id, record)| {
            let place = truth.places.get(id);
            workload(truth, record, place, fleet, bad).map(|why| format!("{id}: {why}"))
        })
    };
    hosts.or(orphan).or_else(workloads)
}

fn host(truth: &Truth, agent: &Agent, bad: &BTreeSet<Digest>) -> Option<String> {
    let Some(life) = &agent.life else {
        return Some(format!("{} is off", agent.id));
    };
    let expected: Units = truth.units_now(&agent.id);
    let held: Units = life
        .spec
        .units
        .iter()
        .map(|unit| (unit.id(), (unit.count, unit.template)))
        .collect();
    if held != expected {
        return Some(format!("{} holds {held:?}, and {expected:?} is placed on it", agent.id));
    }
    let starts = |unit: &UnitId| {
        let template = expected
            .get(unit)
            .and_then(|(_, digest)| life.spec.templates.get(digest));
        template.is_some_and(|template| template.components.iter().all(|c| !bad.contains(&c.artifact)))
    };
    let expected_served: BTreeMap<UnitId, u32> = expected
        .iter()
        .filter(|(unit, _)| starts(unit))
        .map(|(unit, (count, _))| (unit.clone(), *count))
        .collect();
    let served = agent.served();
    if served != expected_served {
        return Some(format!("{} serves {served:?} instead of {expected_served:?}", agent.id));
    }
    let left = life
        .running
        .runs()
        .find(|(_, run)| run.phase == UnitPhase::Draining || !expected.contains_key(&run.unit));
    left.map(|(_, run)| format!("{} still has {}, which is {}", agent.id, run.unit, run.phase.as_str()))
}

fn workload(
    truth: &Truth,
    record: &WorkloadRecord,
    place: Option<&PlaceRecord>,
    fleet: &Fleet,
    bad: &BTreeSet<Digest>,
) -> Option<String> {
    let newest = record.intent.unit_generation;
    let sets = place.map_or(&[][..], |place| &place.sets);
    let placed: BTreeMap<HostId, u32> = sets
        .iter()
        .filter(|set| set.generation == newest)
        .flat_map(|set| set.hosts.clone())
        .collect();
    let eligible: Vec<&HostId> = truth
        .hosts
        .iter()
        .filter(|(host, known)| {
            known.admin == HostAdmin::Open
                && fleet.get(*host).is_some_and(|facts| {
                    let mut rules = record.intent.require.iter();
                    rules.all(|rule| rule.rule.allows(facts.labels.get(&rule.label).map(String::as_str)))
                })
        })
        .map(|(host, _)| host)
        .collect();
    let is_full = |host: &HostId| {
        let used: u32 = truth.units_now(host).values().map(|(count, _)| count).sum();
        used >= fleet.get(host).map_or(0, |facts| facts.slots)
    };
    if let Some(host) = sets.iter().find_map(|set| set.moving.keys().next()) {
        return Some(format!("a replica on {host} is still about to move"));
    }
    let has: u32 = placed.values().sum();
    // What never becomes ready replaces nothing: what it was to replace stays.
    let is_bad = record.artifacts.values().any(|artifact| bad.contains(&artifact.digest));
    let short = match record.intent.replicas {
        Replicas::Count(wanted) if has > wanted && !is_bad => {
            return Some(format!("{has} replicas are placed, {wanted} wanted"));
        }
        Replicas::Count(wanted) => has < wanted,
        Replicas::Daemon => eligible.iter().any(|host| !placed.contains_key(*host)),
    };
    let room = match record.intent.replicas {
        Replicas::Count(_) => eligible.iter().find(|host| !is_full(host)),
        Replicas::Daemon => eligible
            .iter()
            .find(|host| !placed.contains_key(**host) && !is_full(host)),
    };
    if let (true, Some(host)) = (short, room) {
        return Some(format!(
            "{has} replicas are placed of {:?}, and {host} has room",
            record.intent.replicas
        ));
    }
    // A host that takes nothing new keeps what it has of a daemon.
    let stays = |host: &HostId| {
        let open = truth
            .hosts
            .get(host)
            .is_some_and(|known| known.admin == HostAdmin::Open);
        record.intent.replicas == Replicas::Daemon && !open
    };
    let mut old = sets.iter().filter(|set| set.generation != newest);
    let old = old.find(|set| !set.hosts.keys().all(stays));
    match old {
        Some(set) if !short && !is_bad => Some(format!("generation {} is still there", set.generation)),
        _ => None,
    }
}
