//! Inspects placements for what must never be: used by tests of the planner, of the whole line, and by chaos runs.
//!
//! In: a world whose plan was carried out. Out: every rule that is broken, in words.

use crate::place::{Fleet, HostView, Need};
use crate::world::World;
use heddle_protocol::host_spec::{Callee, HostSpecBody};
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::record::{Company, Replicas, WorkloadRecord};
use heddle_protocol::report::Rejection;
use heddle_protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that is wrong with the placements.
pub fn check_places(world: &World, now: Mono) -> Vec<String> {
    let mut broken = Vec::new();
    let fleet = Fleet::new(world, now);
    for (id, place) in world.places.iter() {
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
                // On one that is known and not heard yet it stays as it is.
                if newest && heard(host) && !view.is_emptied() && !need.fits(view) && view.liveness.holds_work() {
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

/// Every rule that a plan broke: what it placed, in the world as it is once the plan is carried out.
pub fn check_plan(before: &World, after: &World, now: Mono) -> Vec<String> {
    let mut broken = Vec::new();
    let fleet = Fleet::new(after, now);
    let late = latecomers(before, after);
    for (id, record) in after.workloads.iter() {
        let Some(gain) = Gain::of(before, after, id, record) else {
            continue;
        };
        let template = after.templates.get(&record.template).map(Arc::as_ref);
        let need = Need {
            intent: &record.intent,
            template,
        };
        for host in gain.hosts.iter().filter_map(|host| fleet.get(host)) {
            // What is free there is checked for all placements together.
            let lasting = |r: &Rejection| {
                !matches!(
                    r,
                    Rejection::Memory { .. }
                        | Rejection::Slots { .. }
                        | Rejection::Cpu { .. }
                        | Rejection::Resource { .. }
                )
            };
            let refusals = need.refusals(host).into_iter().filter(lasting);
            broken.extend(refusals.map(|r| format!("{id}: was placed on {}, which is {r}", host.id)));
            let count = gain.newest.get(host.id).copied().unwrap_or(0);
            if record.intent.rules.max_per_host.is_some_and(|most| count > most) {
                broken.push(format!("{id}: {count} were placed on {}", host.id));
            }
            broken.extend(company_broken(before, after, &fleet, id, record, host));
        }
        if late.is_none_or(|priority| priority <= record.intent.rules.priority) {
            broken.extend(skew_broken(&fleet, &need, id, &gain));
        }
    }
    broken
}

/// The greatest priority of what gained a place that must be near to something. It may have had to wait until a lower priority had
/// its places, and then have taken one of them, which nothing but the plan itself remembers.
fn latecomers(before: &World, after: &World) -> Option<u32> {
    let gained = after.workloads.iter().filter(|(id, record)| {
        let must = record.intent.rules.near.iter().any(|near| near.weight.is_none());
        must && Gain::of(before, after, id, record).is_some_and(|gain| !gain.hosts.is_empty())
    });
    gained.map(|(_, record)| record.intent.rules.priority).max()
}

/// What a workload gained by a plan.
struct Gain<'a> {
    /// Where its newest generation is.
    newest: &'a BTreeMap<HostId, u32>,
    /// Where it has more than before.
    hosts: Vec<&'a HostId>,
    /// Whether it has fewer anywhere.
    lost: bool,
}

impl<'a> Gain<'a> {
    fn of(before: &World, after: &'a World, id: &WorkloadId, record: &WorkloadRecord) -> Option<Self> {
        let generation = record.intent.unit_generation;
        let set = after
            .places
            .get(id)?
            .sets
            .iter()
            .find(|set| set.generation == generation)?;
        let sets = before.places.get(id).into_iter().flat_map(|place| &place.sets);
        let earlier = sets
            .filter(|set| set.generation == generation)
            .flat_map(|set| &set.hosts);
        let earlier: BTreeMap<&HostId, u32> = earlier.map(|(host, count)| (host, *count)).collect();
        let more = |(host, count): &(&HostId, &u32)| **count > earlier.get(host).copied().unwrap_or(0);
        let now = |host: &HostId| set.hosts.get(host).copied().unwrap_or(0);
        Some(Self {
            newest: &set.hosts,
            hosts: set.hosts.iter().filter(more).map(|(host, _)| host).collect(),
            lost: earlier.iter().any(|(host, count)| now(host) < *count),
        })
    }
}

/// Company that a replica was placed with, or without, against the rules.
fn company_broken(
    before: &World,
    after: &World,
    fleet: &Fleet<'_>,
    id: &WorkloadId,
    record: &WorkloadRecord,
    host: &HostView<'_>,
) -> Vec<String> {
    let at = |world: &World, other: &WorkloadId, by: &str| {
        let same = |other: &HostView<'_>| other.value(by).is_some() && other.value(by) == host.value(by);
        world.hosts_of(other).any(|other| fleet.get(&other).is_some_and(same))
    };
    let mut broken = Vec::new();
    let hard = |c: &&Company| c.weight.is_none();
    let mine = record
        .intent
        .rules
        .avoid
        .iter()
        .filter(hard)
        .map(|c| (&c.workload, &c.by));
    let theirs = after.workloads.iter().flat_map(|(other, record)| {
        let names_it = record
            .intent
            .rules
            .avoid
            .iter()
            .filter(hard)
            .filter(|c| c.workload == *id);
        names_it.map(move |c| (other, &c.by))
    });
    for (other, by) in mine.chain(theirs).filter(|(other, _)| *other != id) {
        if at(after, other, by) {
            broken.push(format!("{id}: was placed on {}, where by {by} {other} is", host.id));
        }
    }
    for Company { workload, by, .. } in record.intent.rules.near.iter().filter(hard) {
        if !at(after, workload, by) && !at(before, workload, by) {
            broken.push(format!(
                "{id}: was placed on {}, where by {by} no {workload} is",
                host.id
            ));
        }
    }
    broken
}

/// Hard bounds on skew that placing broke. Where a plan also took replicas away, the others did not have to follow.
fn skew_broken(fleet: &Fleet<'_>, need: &Need<'_>, id: &WorkloadId, gain: &Gain<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    if gain.lost || gain.hosts.is_empty() {
        return broken;
    }
    let path = |host: &HostView<'_>, level: usize| -> Vec<String> {
        let rules = need.intent.spread.iter().take(level);
        rules
            .map(|rule| host.value(&rule.by).unwrap_or("").to_owned())
            .collect()
    };
    for (level, rule) in (1..).zip(&need.intent.spread) {
        let Some(most) = rule.max_skew.filter(|_| rule.hard) else {
            continue;
        };
        let mut counts: BTreeMap<Vec<String>, (u64, bool)> = BTreeMap::new();
        for host in fleet.hosts() {
            let stays = need.fits(host) && !host.is_emptied() && host.liveness.holds_work();
            let count = gain.newest.get(host.id).filter(|_| stays).copied().unwrap_or(0);
            let takes = need.fits(host) && need.takes_new(host);
            let entry = counts.entry(path(host, level)).or_default();
            (entry.0, entry.1) = (entry.0 + u64::from(count), entry.1 || takes);
        }
        let weight = |path: &[String]| match (rule.weights.is_empty(), path.last()) {
            (false, Some(value)) => u64::from(rule.weights.get(value).copied().unwrap_or(0).max(1)),
            _ => 1,
        };
        for host in gain.hosts.iter().filter_map(|host| fleet.get(host)) {
            let mine = path(host, level);
            let count = counts.get(&mine).map_or(0, |(count, _)| *count);
            let beside = counts
                .iter()
                .filter(|(other, (_, open))| *open && other.starts_with(&mine[..level - 1]));
            let over = |(other, (least, _)): (&Vec<String>, &(u64, bool))| {
                count * weight(other) > least * weight(&mine) + u64::from(most) * weight(&mine) * weight(other)
            };
            if beside.into_iter().any(over) {
                broken.push(format!("{id}: was placed in {mine:?} beyond a skew of {most}"));
            }
        }
    }
    broken
}

/// Hosts that hold more than they have to give.
fn over_capacity(fleet: &Fleet<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for host in fleet.hosts().iter().filter(|host| host.labels.is_some()) {
        if host.used.bytes > host.capacity.memory_bytes {
            broken.push(format!(
                "{}: {} bytes placed of {}",
                host.id, host.used.bytes, host.capacity.memory_bytes
            ));
        }
        if host.used.replicas > host.capacity.replica_slots {
            broken.push(format!(
                "{}: {} replicas placed of {}",
                host.id, host.used.replicas, host.capacity.replica_slots
            ));
        }
        if host
            .capacity
            .cpu_millis
            .is_some_and(|all| host.used.cpu_millis > u64::from(all))
        {
            broken.push(format!(
                "{}: {}m of processor time placed",
                host.id, host.used.cpu_millis
            ));
        }
        for (name, used) in host.used.resources() {
            if used > u64::from(host.capacity.resources.get(name).copied().unwrap_or(0)) {
                broken.push(format!("{}: {used} of {name} placed", host.id));
            }
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
