//! Retire: a placement whose workload was deleted goes, all at once.

use super::Plan;
use crate::place::Fleet;
use crate::world::World;
use heddle_protocol::id::WorkloadId;

/// Takes a deleted workload's replicas from all hosts.
pub(super) fn retire(world: &World, fleet: &mut Fleet<'_>, id: &WorkloadId, plan: &mut Plan) {
    let Some(place) = world.places.get(id) else { return };
    for set in &place.sets {
        for (host, count) in &set.hosts {
            fleet.remove(host, set.reserve_bytes, *count);
        }
    }
    plan.places.insert(id.clone(), None);
}
