//! From placements to what each host should run: complete, resolved, nothing left to decide.
//!
//! In: the world. Out: one body per host. Equal worlds give equal bodies, and so equal digests.

use crate::desired::{always_offered, offers_of};
use crate::world::World;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{HostSpecBody, Route, RouteTarget, Template, Unit};
use heddle_protocol::id::{CapabilityName, HostId, UnitId};
use heddle_protocol::record::{HttpTrigger, PlaceSet};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What one host should run. A host that did not say hello yet is given no capabilities, for its labels are not known:
/// it has no spec to be sent before that ([`spec_is_known`]).
pub fn host_spec(world: &World, host: &HostId) -> HostSpecBody {
    let mut templates: BTreeMap<Digest, Arc<Template>> = BTreeMap::new();
    let mut units = Vec::new();
    let mut routes: BTreeMap<RouteOrder, Vec<RouteTarget>> = BTreeMap::new();
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
            units.push(unit);
        }
    }
    units.sort_by_key(Unit::id);
    let capabilities = match world.observed.get(host).and_then(|o| o.hello.as_ref()) {
        Some(hello) => offers_of(&hello.labels, &world.platforms).offers,
        None => always_offered(),
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
        capabilities,
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
