//! What changes between two placements of a workload, for people and for golden files.

use heddle_protocol::id::{Generation, WorkloadId};
use heddle_protocol::record::{PlaceRecord, PlaceSet};
use heddle_protocol::report::PlacementChange;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Every generation and host whose number of replicas differs, newest generation first.
pub fn placement_changes(
    workload: &WorkloadId,
    before: Option<&PlaceRecord>,
    after: Option<&PlaceRecord>,
) -> Vec<PlacementChange> {
    let generations: BTreeSet<Generation> = sets(before).chain(sets(after)).map(|set| set.generation).collect();
    let none = BTreeMap::new();
    let mut changes = Vec::new();
    for generation in generations.into_iter().rev() {
        let of = |place| {
            sets(place)
                .find(|set| set.generation == generation)
                .map_or(&none, |set| &set.hosts)
        };
        let (before, after) = (of(before), of(after));
        if before == after {
            continue;
        }
        changes.reserve(before.len().max(after.len()));
        let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
        // Both are ordered by host, so they are gone through side by side.
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let was = if order.is_le() { before.next() } else { None };
            let is = if order.is_ge() { after.next() } else { None };
            let (was_count, is_count) = (was.map_or(0, |(_, n)| *n), is.map_or(0, |(_, n)| *n));
            let Some((host, _)) = was.or(is).filter(|_| was_count != is_count) else {
                continue;
            };
            changes.push(PlacementChange {
                workload: workload.clone(),
                generation,
                host: host.clone(),
                before: was_count,
                after: is_count,
                preempted_by: None,
            });
        }
    }
    changes
}

fn sets(place: Option<&PlaceRecord>) -> impl Iterator<Item = &PlaceSet> {
    place.into_iter().flat_map(|place| &place.sets)
}
