//! How hosts fare.

use crate::liveness::HostLiveness;
use crate::place::{Fleet, HostView};
use crate::world::World;
use heddle_protocol::api::hosts::{HostState, HostStatus};
use heddle_protocol::id::HostId;
use heddle_protocol::record::HostAdmin;
use heddle_protocol::time::Mono;

/// How one host fares; none if it is not admitted. The digest of the spec that it should hold is the pusher's to fill
/// in.
pub fn host_status(world: &World, host: &HostId, now: Mono) -> Option<HostStatus> {
    Fleet::new(world, now).get(host).map(|view| status_of(world, view, now))
}

/// How all hosts fare, ordered by id.
pub fn host_statuses(world: &World, now: Mono) -> Vec<HostStatus> {
    Fleet::new(world, now)
        .hosts()
        .iter()
        .map(|view| status_of(world, view, now))
        .collect()
}

fn status_of(world: &World, view: &HostView<'_>, now: Mono) -> HostStatus {
    let observed = view.observed;
    let hello = observed.and_then(|o| o.hello.as_ref());
    let taints = world.hosts.get(view.id).map(|record| &record.taints);
    HostStatus {
        host: view.id.clone(),
        state: state_of(view),
        heartbeat_age_ms: observed.map(|o| now.since(o.last_heard)),
        boot_id: observed.and_then(|o| o.boot_id.clone()),
        labels: view.labels.cloned().unwrap_or_default(),
        taints: taints.cloned().unwrap_or_default(),
        capacity: view.capacity.clone(),
        replicas: view.used.replicas,
        reserved_bytes: view.used.bytes,
        features: view.features.cloned().unwrap_or_default(),
        engine: hello.map(|h| h.engine.clone()).unwrap_or_default(),
        bound: observed.map(|o| o.bound.clone()).unwrap_or_default(),
        capability_errors: observed.map(|o| o.capability_errors.clone()).unwrap_or_default(),
        accepted: observed.and_then(|o| o.accepted),
        wanted_digest: None,
        version: hello.map(|h| h.version.clone()).unwrap_or_default(),
    }
}

/// The state in one word: what hinders most comes first.
fn state_of(view: &HostView<'_>) -> HostState {
    match (&view.liveness, view.admin) {
        (HostLiveness::Lost { .. } | HostLiveness::Partitioned { .. }, _) => HostState::Lost,
        (HostLiveness::NotSeen, _) => HostState::NotSeen,
        (HostLiveness::Alive, _) if view.leaving => HostState::Leaving,
        (HostLiveness::Alive, HostAdmin::Draining) => HostState::Draining,
        (HostLiveness::Alive, _) if view.offers.conflict.is_some() => HostState::Conflict,
        (HostLiveness::Alive, HostAdmin::Cordoned) => HostState::Cordoned,
        (HostLiveness::Alive, HostAdmin::Open) => HostState::Ready,
    }
}
