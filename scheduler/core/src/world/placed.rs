//! Takes placements in: what they take of hosts, and who is where.
//!
//! In: a workload's placement as it is committed. Out: the index. A large workload that changes on a few hosts costs what
//! those cost: replicas that stay where they are touch nothing.

use super::{Index, World, put};
use crate::place::capacity::Take;
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::record::{PlaceRecord, PlaceSet};
use std::collections::BTreeSet;
use std::sync::Arc;

impl World {
    /// Replaces, adds or removes a placement.
    pub(crate) fn set_place(&mut self, id: &WorkloadId, record: Option<Arc<PlaceRecord>>) {
        let Index { fleet, residents, .. } = &mut self.index;
        let before = self.seen.records.places.get(id).map(Arc::as_ref);
        let after = record.as_deref();
        let resident = residents.number(id, after.is_some());
        for set in before.iter().flat_map(|place| &place.sets) {
            for (host, count) in others(set, twin(set, before, after)) {
                if let Some(number) = fleet.remove_from(host, Take::from(set), count) {
                    residents.leave(number, resident);
                }
            }
        }
        for set in after.iter().flat_map(|place| &place.sets) {
            let hosts = others(set, twin(set, after, before));
            for (number, _) in fleet.add_to(hosts, Take::from(set)) {
                residents.enter(number, resident);
            }
        }
        if after.is_none() {
            residents.forget(id);
        }
        let callees = self.callees(id);
        put(Arc::make_mut(&mut self.seen.records.places), id, record);
        self.refresh_callers(id, callees);
        self.refresh_short(id);
        self.remember_shape(id);
    }
}

/// The set of another placement whose replicas are the same ones and take as much, if it is clear which that is.
fn twin<'p>(set: &PlaceSet, own: Option<&PlaceRecord>, other: Option<&'p PlaceRecord>) -> Option<&'p PlaceSet> {
    let clear = |place: &PlaceRecord| {
        let generations: BTreeSet<_> = place.sets.iter().map(|set| set.generation).collect();
        generations.len() == place.sets.len()
    };
    let other = other.filter(|other| clear(other) && own.is_some_and(clear))?;
    let same = |twin: &&PlaceSet| {
        twin.generation == set.generation && twin.reserve_bytes == set.reserve_bytes && twin.takes == set.takes
    };
    other.sets.iter().find(same)
}

/// The hosts on which a set has not as many replicas as its twin.
fn others<'s>(set: &'s PlaceSet, twin: Option<&'s PlaceSet>) -> impl Iterator<Item = (&'s HostId, u32)> {
    // Both are ordered by id.
    let mut twins = twin.into_iter().flat_map(|twin| &twin.hosts).peekable();
    let differs = move |(host, count): &(&HostId, &u32)| {
        while twins.next_if(|(other, _)| other < host).is_some() {}
        let same = twins.next_if(|(other, _)| other == host);
        same.is_none_or(|(_, there)| there != *count)
    };
    set.hosts.iter().filter(differs).map(|(host, count)| (host, *count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fleet, host, id};
    use heddle_protocol::id::Generation;
    use std::collections::BTreeMap;

    type Sets<'s> = &'s [(u64, u64, &'s [(&'s str, u32)])];

    /// A placement of sets: their generation, the memory of a replica, and hosts with how many they have.
    fn placement(like: &PlaceRecord, sets: Sets<'_>) -> PlaceRecord {
        let set = |(generation, bytes, hosts): &(u64, u64, &[(&str, u32)])| PlaceSet {
            generation: Generation(*generation),
            reserve_bytes: *bytes,
            hosts: hosts.iter().map(|(name, count)| (host(name), *count)).collect(),
            ..like.sets[0].clone()
        };
        PlaceRecord {
            sets: sets.iter().map(set).collect(),
            ..like.clone()
        }
    }

    #[test]
    fn after_any_change_hosts_hold_what_the_placement_says() {
        let mut fleet = fleet().hosts(4).workload("web", 1);
        let like = PlaceRecord::clone(&fleet.world.places[&id("web")]);
        let stories: [Sets<'_>; 9] = [
            &[(1, 10, &[("host-1", 2), ("host-2", 1)])],
            &[(1, 10, &[("host-1", 2), ("host-3", 1)])],
            &[(1, 10, &[("host-1", 1), ("host-3", 1)]), (2, 10, &[("host-1", 1)])],
            &[(1, 20, &[("host-1", 1), ("host-3", 1)]), (2, 10, &[("host-1", 1)])],
            // No planner makes two sets of one generation.
            &[(2, 10, &[("host-1", 1)]), (2, 10, &[("host-1", 1), ("host-4", 3)])],
            &[(2, 10, &[("host-1", 1)])],
            &[(3, 10, &[("host-1", 1), ("host-2", 1), ("host-3", 1), ("host-4", 1)])],
            &[(3, 10, &[("host-2", 1), ("host-4", 2)])],
            &[],
        ];
        for (from, to) in stories.iter().flat_map(|from| stories.iter().map(move |to| (from, to))) {
            for sets in [from, to] {
                let place = placement(&like, sets);
                fleet.world.set_place(&id("web"), Some(Arc::new(place.clone())));
                let mut expected: BTreeMap<&HostId, (u64, u32)> = BTreeMap::new();
                for set in &place.sets {
                    for (host, count) in &set.hosts {
                        let sum = expected.entry(host).or_default();
                        *sum = (sum.0 + set.reserve_bytes * u64::from(*count), sum.1 + count);
                    }
                }
                for name in fleet.hosts.keys() {
                    let there = expected.get(name).copied().unwrap_or_default();
                    assert_eq!(fleet.world.usage(name), there, "{name} after {from:?} and {to:?}");
                    let resident = fleet.world.workloads_on(name).contains(&id("web"));
                    assert_eq!(resident, there.1 > 0, "{name} after {from:?} and {to:?}");
                }
            }
        }
        fleet.world.set_place(&id("web"), None);
        assert!(fleet.hosts.keys().all(|host| fleet.world.usage(host) == (0, 0)));
        assert!(fleet.hosts.keys().all(|host| fleet.world.workloads_on(host).is_empty()));
    }
}
