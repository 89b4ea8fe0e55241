//! Which hosts a change concerns: those whose specs may be others because of it.
//!
//! In: a record's key, and the world before and after. Out: hosts. Too many cost work, too few would leave a host with an old
//! spec; a spec that did not change is not pushed.

use crate::world::World;
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::record::{PlaceRecord, PlaceSet};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// The hosts whose specs may be others because of a record's change. Asked before the change and after it.
    pub fn hosts_touched(&self, key: &Key) -> BTreeSet<HostId> {
        match key {
            Key::Host(host) => BTreeSet::from([host.clone()]),
            Key::Platform(_) => self.hosts.keys().cloned().collect(),
            // Its own, of which routes, subjects and versions of secrets are part; its callers', who are told where it
            // is; and its callees', who are told what to serve.
            Key::Workload(id) | Key::Place(id) => {
                let callees = self.callees(id);
                let all = self.callers(id).chain(&callees).chain([id]);
                all.flat_map(|id| self.hosts_of(id)).collect()
            }
            Key::Config(_)
            | Key::SecretRef(_)
            | Key::NamespacePolicy(_)
            | Key::Quota(_)
            | Key::Template(_)
            | Key::Policy(_) => BTreeSet::new(),
        }
    }

    /// The hosts whose specs may be others because a workload's placement is not what it was: in a large fleet most change on
    /// a few of their hosts. Asked after the change. Where workloads are linked, those of the others count along.
    pub fn hosts_moved(&self, id: &WorkloadId, before: Option<&PlaceRecord>) -> BTreeSet<HostId> {
        let sets_before = before.map_or(&[][..], |place| &place.sets);
        let sets_after = self.places.get(id).map_or(&[][..], |place| &place.sets);
        let calls = sets_before.iter().chain(sets_after).any(|set| !set.calls.is_empty());
        if calls || self.is_linked(id) || self.callers(id).next().is_some() {
            let all_before = sets_before.iter().flat_map(|set| set.hosts.keys().cloned());
            let called = sets_before.iter().flat_map(|set| &set.calls);
            let others = called.flat_map(|call| self.hosts_of(&call.workload));
            let mut hosts: BTreeSet<HostId> = all_before.chain(others).collect();
            hosts.extend(self.hosts_touched(&Key::Place(id.clone())));
            return hosts;
        }
        let mut hosts = BTreeSet::new();
        for set in sets_before {
            match sets_after.iter().find(|other| other.generation == set.generation) {
                Some(other) if set.is_alike(other) => moved(&set.hosts, &other.hosts, &mut hosts),
                other => {
                    let all = set
                        .hosts
                        .keys()
                        .chain(other.into_iter().flat_map(|other| other.hosts.keys()));
                    hosts.extend(all.cloned());
                }
            }
        }
        let is_new = |set: &&PlaceSet| !sets_before.iter().any(|other| other.generation == set.generation);
        let new = sets_after.iter().filter(is_new);
        hosts.extend(new.flat_map(|set| set.hosts.keys().cloned()));
        hosts
    }

    /// The hosts that a workload is placed on.
    pub fn hosts_of(&self, id: &WorkloadId) -> impl Iterator<Item = HostId> {
        let sets = self.places.get(id).into_iter().flat_map(|place| &place.sets);
        sets.flat_map(|set| set.hosts.keys().cloned())
    }
}

/// The hosts on which counts differ. Both are ordered by host, and gone through side by side.
fn moved(before: &BTreeMap<HostId, u32>, after: &BTreeMap<HostId, u32>, hosts: &mut BTreeSet<HostId>) {
    let mut after = after.iter().peekable();
    for (host, count) in before {
        while let Some((new, _)) = after.next_if(|(other, _)| *other < host) {
            hosts.insert(new.clone());
        }
        let same = after.next_if(|(other, _)| *other == host);
        if same.is_none_or(|(_, now)| now != count) {
            hosts.insert(host.clone());
        }
    }
    hosts.extend(after.map(|(host, _)| host.clone()));
}
