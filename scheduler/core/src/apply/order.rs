//! The order in which workloads of one change are taken: what is embedded comes before those who embed it.

use super::group::Stated;
use heddle_protocol::id::{ObjectName, WorkloadId};
use heddle_protocol::manifest::Target;
use std::collections::{BTreeMap, BTreeSet};

/// Workloads, each after those of them that it embeds. Of a circle, which is refused elsewhere, the order is any.
pub(super) fn embedded_first<'a>(stated: impl Iterator<Item = (&'a WorkloadId, &'a Stated)>) -> Vec<WorkloadId> {
    let embeds: BTreeMap<&WorkloadId, Vec<WorkloadId>> = stated.map(|(id, each)| (id, embedded(id, each))).collect();
    let mut order = Vec::with_capacity(embeds.len());
    let mut begun: BTreeSet<&WorkloadId> = BTreeSet::new();
    for start in embeds.keys() {
        // A stack of its own: a chain may be as long as a change has documents.
        let mut stack = vec![(*start, 0)];
        if !begun.insert(start) {
            continue;
        }
        while let Some((id, next)) = stack.last_mut() {
            let below = embeds.get(id).and_then(|all| all.get(*next));
            *next += 1;
            match below.map(|below| embeds.get_key_value(below)) {
                Some(Some((below, _))) if begun.insert(below) => stack.push((below, 0)),
                Some(_) => {}
                None => {
                    order.push((*id).clone());
                    stack.pop();
                }
            }
        }
    }
    order
}

fn embedded(id: &WorkloadId, stated: &Stated) -> Vec<WorkloadId> {
    let links = stated.workload.spec.links.iter();
    let names = links.filter_map(|link| match link.to.target() {
        Some(Target::Workload(name, None)) => ObjectName::parse(name).ok(),
        _ => None,
    });
    names.map(|name| WorkloadId::new(id.namespace.clone(), name)).collect()
}
