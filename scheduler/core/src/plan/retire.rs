//! Retire: a placement whose workload was deleted goes, all at once.

use super::Plan;
use crate::place::capacity::Take;
use crate::place::room::Room;
use crate::world::World;
use heddle_protocol::id::WorkloadId;
use std::collections::BTreeMap;

/// Takes a deleted workload's replicas from all hosts.
pub(super) fn retire(world: &World, room: &mut Room<'_>, id: &WorkloadId, plan: &mut Plan) {
    let Some(place) = world.places.get(id) else { return };
    for set in &place.sets {
        for (host, count) in &set.hosts {
            if let Some(host) = room.find(host) {
                room.remove(host, Take::from(set), *count);
            }
        }
    }
    if world.named_by(id).next().is_some() {
        room.set_whereabouts(id, BTreeMap::new());
    }
    plan.places.insert(id.clone(), None);
}
