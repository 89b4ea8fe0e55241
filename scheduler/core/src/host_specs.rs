//! From placements to what each host should run: complete, resolved, nothing left to decide.
//!
//! In: the world. Out: one body per host. Equal worlds give equal bodies, and so equal digests.

use crate::desired::{HostOffers, always_offered, offers_of};
use crate::world::World;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{HostSpecBody, Route, RouteTarget, Serve, Template, Unit};
use heddle_protocol::id::{CapabilityName, Generation, HostId, UnitId, WorkloadId};
use heddle_protocol::mutant::mutant;
use heddle_protocol::record::{HttpTrigger, PlaceSet, RemoteExport};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What one host should run. A host that did not say hello yet is given no capabilities, for its labels are not known:
/// it has no spec to be sent before that ([`spec_is_known`]).
pub fn host_spec(world: &World, host: &HostId) -> HostSpecBody {
    let mut templates: BTreeMap<Digest, Arc<Template>> = BTreeMap::new();
    let mut units = Vec::new();
    let mut routes: BTreeMap<RouteOrder, Vec<RouteTarget>> = BTreeMap::new();
    let mut serves = BTreeSet::new();
    let mut callees = BTreeMap::new();
    let mut secret_versions = BTreeMap::new();
    for workload in world.workloads_on(host) {
        let Some(place) = world.places.get(&workload) else {
            continue;
        };
        for set in &place.sets {
            let Some(count) = set.hosts.get(host).copied() else {
                continue;
            };
            // A template that is not there could not be run; a commit never names one without writing it.
            let Some(template) = world.templates.get(&set.template) else {
                continue;
            };
            templates.insert(set.template, template.clone());
            let unit = Unit {
                workload: workload.clone(),
                generation: set.generation,
                template: set.template,
                count,
            };
            add_routes(&mut routes, set, &unit.id());
            add_serves(world, &mut serves, set, &unit.id(), template);
            for call in &set.calls {
                callees
                    .entry(call.workload.clone())
                    .or_insert_with(|| generations(world, &call.workload));
            }
            add_secret_versions(world, &mut secret_versions, &unit.workload, template);
            units.push(unit);
        }
    }
    if mutant("spec-lacks-a-unit") && units.len() > 1 {
        units.pop();
    }
    units.sort_by_key(Unit::id);
    let lent = match world.observed.get(host).and_then(|o| o.hello.as_ref()) {
        Some(hello) => offers_of(&hello.labels, &world.platforms),
        None => HostOffers {
            offers: always_offered(),
            ..HostOffers::default()
        },
    };
    let routes = routes
        .into_iter()
        .map(|((capability, host, path, methods), targets)| Route {
            capability,
            host,
            path,
            methods,
            targets,
        });
    HostSpecBody {
        templates,
        units,
        routes: routes.collect(),
        capabilities: lent.offers,
        capability_secrets: lent.secrets,
        serves: serves.into_iter().collect(),
        callees,
        secret_versions,
        compile: lent.compile.unwrap_or_default(),
        ..HostSpecBody::default()
    }
}

/// Whether a host's spec can be worked out: it has said hello, so its labels are known.
pub fn spec_is_known(world: &World, host: &HostId) -> bool {
    world.hosts.contains_key(host) && world.observed.get(host).is_some_and(|o| o.hello.is_some())
}

/// What several hosts should run: those of them whose spec can be worked out.
pub fn host_specs<'a>(world: &World, hosts: impl IntoIterator<Item = &'a HostId>) -> BTreeMap<HostId, HostSpecBody> {
    let known = hosts.into_iter().filter(|host| spec_is_known(world, host));
    known.map(|host| (host.clone(), host_spec(world, host))).collect()
}

type RouteOrder = (CapabilityName, Option<String>, String, BTreeSet<String>);

/// Sets come newest first, and so do a route's targets.
fn add_routes(routes: &mut BTreeMap<RouteOrder, Vec<RouteTarget>>, set: &PlaceSet, unit: &UnitId) {
    for trigger in &set.http {
        let HttpTrigger {
            capability,
            host,
            path,
            methods,
            component,
        } = trigger.clone();
        let target = RouteTarget {
            unit: unit.clone(),
            component,
        };
        routes
            .entry((capability, host, path, methods))
            .or_default()
            .push(target);
    }
}

/// What a unit serves over the network: to strangers, because a trigger says so; to workloads of the fleet, because one of
/// them calls it. An earlier generation that does not export something yet does not serve it.
fn add_serves(world: &World, serves: &mut BTreeSet<Serve>, set: &PlaceSet, unit: &UnitId, template: &Template) {
    for served in &set.serves {
        serves.insert(Serve {
            unit: unit.clone(),
            component: served.component.clone(),
            interface: served.interface.clone(),
            prefix: Some(served.prefix.clone()),
        });
    }
    for caller in world.callers(&unit.workload) {
        let meant = world.workloads.get(caller).into_iter().flat_map(|r| &r.intent.calls);
        let sets = world.places.get(caller).into_iter().flat_map(|p| &p.sets);
        let calls = meant.chain(sets.flat_map(|set| &set.calls));
        for call in calls.filter(|call| call.workload == unit.workload) {
            let is_entry = template.components.iter().any(|c| c.name == call.component);
            if is_entry && exports(world, unit, call) {
                serves.insert(Serve {
                    unit: unit.clone(),
                    component: call.component.clone(),
                    interface: call.interface.clone(),
                    prefix: None,
                });
            }
        }
    }
}

/// Whether a generation exports what is called, as far as it is still known.
fn exports(world: &World, unit: &UnitId, call: &RemoteExport) -> bool {
    let Some(record) = world.workloads.get(&unit.workload) else {
        // Deleted: what its replicas serve is about to end.
        return false;
    };
    let artifacts = match record.intent.unit_generation == unit.generation {
        true => Some(&record.artifacts),
        false => {
            let mut history = record.history.iter();
            history
                .find(|past| past.generation == unit.generation)
                .map(|past| &past.artifacts)
        }
    };
    let artifact = artifacts.and_then(|all| all.get(&call.component));
    artifact.is_some_and(|info| info.exports.contains(&call.interface))
}

/// The generations of a workload that have replicas, the newest first.
fn generations(world: &World, id: &WorkloadId) -> Vec<Generation> {
    let sets = world.places.get(id).into_iter().flat_map(|place| &place.sets);
    sets.map(|set| set.generation).collect()
}

/// The newest versions of the secrets that a unit takes while it runs.
fn add_secret_versions(
    world: &World,
    versions: &mut BTreeMap<Digest, String>,
    workload: &WorkloadId,
    template: &Template,
) {
    let Some(record) = world.workloads.get(workload) else {
        return;
    };
    for secret in crate::apply::secret_uses(template).filter(|secret| secret.version.is_none()) {
        let id = secret.id();
        if let Some(version) = record.secret_versions.get(&id) {
            versions.insert(id, version.clone());
        }
    }
}
