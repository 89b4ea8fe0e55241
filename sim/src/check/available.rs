//! NEW-BEFORE-OLD: where nothing breaks, a workload that once had all its replicas reachable never has fewer than both what
//! it had and what it wants, whatever is rolled out, moved or drained.

use crate::agent::Agent;
use crate::truth::Truth;
use heddle_protocol::id::WorkloadId;
use heddle_protocol::record::Replicas;
use std::collections::BTreeMap;

/// What each workload must not fall below.
#[derive(Debug, Default)]
pub struct Floors(BTreeMap<WorkloadId, u32>);

impl Floors {
    /// Looks at a world in which nothing is broken.
    pub fn check(&mut self, truth: &Truth, agents: &[Agent]) -> Option<String> {
        self.0.retain(|id, _| truth.workloads.contains_key(id));
        let mut reachable: BTreeMap<WorkloadId, u32> = BTreeMap::new();
        for (unit, count) in agents.iter().flat_map(Agent::served) {
            *reachable.entry(unit.workload).or_default() += count;
        }
        for (id, record) in &truth.workloads {
            let Replicas::Count(wanted) = record.intent.replicas else {
                self.0.remove(id);
                continue;
            };
            let has = reachable.get(id).copied().unwrap_or(0);
            let floor = self.0.entry(id.clone()).or_default();
            *floor = (*floor).min(wanted);
            if has < *floor {
                return Some(format!(
                    "{id} has {has} replicas that answer; it had {floor} and wants {wanted}"
                ));
            }
            *floor = has.min(wanted);
        }
        None
    }
}
