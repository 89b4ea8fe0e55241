//! What changes between two placements of a workload, for people and for golden files.

use heddle_protocol::id::{Generation, HostId, WorkloadId};
use heddle_protocol::record::PlaceRecord;
use heddle_protocol::report::PlacementChange;
use std::collections::BTreeMap;

/// Every generation and host whose number of replicas differs, newest generation first.
pub fn placement_changes(
    workload: &WorkloadId,
    before: Option<&PlaceRecord>,
    after: Option<&PlaceRecord>,
) -> Vec<PlacementChange> {
    let mut counts: BTreeMap<(Generation, HostId), (u32, u32)> = BTreeMap::new();
    for (generation, host, count) in units(before) {
        counts.entry((generation, host.clone())).or_default().0 += count;
    }
    for (generation, host, count) in units(after) {
        counts.entry((generation, host.clone())).or_default().1 += count;
    }
    let mut changes: Vec<PlacementChange> = counts
        .into_iter()
        .filter(|(_, (before, after))| before != after)
        .map(|((generation, host), (before, after))| PlacementChange {
            workload: workload.clone(),
            generation,
            host,
            before,
            after,
        })
        .collect();
    changes.sort_by(|a, b| b.generation.cmp(&a.generation).then_with(|| a.host.cmp(&b.host)));
    changes
}

fn units(place: Option<&PlaceRecord>) -> impl Iterator<Item = (Generation, &HostId, u32)> {
    let sets = place.into_iter().flat_map(|p| &p.sets);
    sets.flat_map(|set| set.hosts.iter().map(|(host, count)| (set.generation, host, *count)))
}
