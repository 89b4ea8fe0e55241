//! Inspects placements for what must never be: used by tests of the planner, of the whole line, and by chaos runs.
//!
//! In: a world whose plan was carried out. Out: every rule that is broken, in words.

use crate::place::{Fleet, Need};
use crate::world::World;
use heddle_protocol::host_spec::{Callee, HostSpecBody};
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::record::Replicas;
use heddle_protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that is wrong with the placements.
pub fn check_places(world: &World, now: Mono) -> Vec<String> {
    let mut broken = Vec::new();
    let fleet = Fleet::new(world, now);
    for (id, place) in &world.places {
        let Some(record) = world.workloads.get(id) else {
            broken.push(format!("{id}: is placed and was deleted"));
            continue;
        };
        let template = world.templates.get(&record.template).map(Arc::as_ref);
        let need = Need {
            intent: &record.intent,
            template,
        };
        let generations: BTreeSet<_> = place.sets.iter().map(|set| set.generation).collect();
        if generations.len() != place.sets.len() {
            broken.push(format!("{id}: two sets have one generation"));
        }
        for set in &place.sets {
            if set.hosts.is_empty() || set.hosts.values().any(|count| *count == 0) {
                broken.push(format!("{id}@{}: a set or a count is empty", set.generation));
            }
            if !world.templates.contains_key(&set.template) {
                broken.push(format!("{id}@{}: its template is not there", set.generation));
            }
            let newest = set.generation == record.intent.unit_generation;
            // Of hosts that are not heard nothing is taken away, so they may hold more.
            let heard = |host: &HostId| fleet.get(host).is_some_and(|view| !view.is_unheard());
            let total: u32 = set
                .hosts
                .iter()
                .filter(|(host, _)| heard(host))
                .map(|(_, count)| count)
                .sum();
            for (host, count) in &set.hosts {
                let Some(view) = fleet.get(host) else {
                    broken.push(format!("{id}@{}: is on {host}, which is not admitted", set.generation));
                    continue;
                };
                if newest && !view.is_emptied() && !need.fits(view) && view.liveness.holds_work() {
                    // A misplaced replica may wait for its replacement; there must then be no more of them than wanted.
                    if let Replicas::Count(wanted) = record.intent.replicas
                        && *count > wanted
                    {
                        broken.push(format!(
                            "{id}@{}: more than wanted on {host}, where it does not fit",
                            set.generation
                        ));
                    }
                }
                if newest && record.intent.replicas == Replicas::Daemon && *count > 1 {
                    broken.push(format!("{id}@{}: a daemon is on {host} {count} times", set.generation));
                }
            }
            // The newest generation may hold twice its number at most: what stays, and what is being replaced.
            if let Replicas::Count(wanted) = record.intent.replicas
                && total > wanted.saturating_mul(2)
            {
                broken.push(format!("{id}@{}: {total} replicas of {wanted} wanted", set.generation));
            }
        }
    }
    broken.extend(over_capacity(&fleet));
    broken
}

/// Hosts that hold more than they have to give.
fn over_capacity(fleet: &Fleet<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for host in fleet.hosts().iter().filter(|host| host.labels.is_some()) {
        if host.used_bytes > host.capacity.memory_bytes {
            broken.push(format!(
                "{}: {} bytes placed of {}",
                host.id, host.used_bytes, host.capacity.memory_bytes
            ));
        }
        if host.used_replicas > host.capacity.replica_slots {
            broken.push(format!(
                "{}: {} replicas placed of {}",
                host.id, host.used_replicas, host.capacity.replica_slots
            ));
        }
    }
    broken
}

/// Everything that is wrong with the specs that hosts are sent: they name only what they hold.
pub fn check_specs(specs: &BTreeMap<HostId, HostSpecBody>) -> Vec<String> {
    let mut broken = Vec::new();
    for (host, spec) in specs {
        let units: BTreeSet<_> = spec.units.iter().map(|unit| unit.id()).collect();
        if units.len() != spec.units.len() {
            broken.push(format!("{host}: two units have one id"));
        }
        for unit in spec
            .units
            .iter()
            .filter(|unit| !spec.templates.contains_key(&unit.template))
        {
            broken.push(format!("{host}: the template of {} is missing", unit.id()));
        }
        for target in spec
            .routes
            .iter()
            .flat_map(|route| &route.targets)
            .filter(|t| !units.contains(&t.unit))
        {
            broken.push(format!("{host}: a route leads to {}, which is not there", target.unit));
        }
        for serve in spec.serves.iter().filter(|serve| !units.contains(&serve.unit)) {
            broken.push(format!("{host}: {} is served, which is not there", serve.unit));
        }
        broken.extend(unknown_callees(spec).map(|id| format!("{host}: {id} is called, and nobody says where it is")));
    }
    broken
}

/// Workloads that components call and that the spec says nothing of.
fn unknown_callees(spec: &HostSpecBody) -> impl Iterator<Item = &WorkloadId> {
    let components = spec.templates.values().flat_map(|template| &template.components);
    let calls = components.flat_map(|component| component.calls.values());
    let called = calls.filter_map(|call| match &call.to {
        Callee::Workload(id) => Some(id),
        Callee::Prefix(_) => None,
    });
    called.filter(|id| !spec.callees.contains_key(*id))
}
