//! Which hosts may take a replica. Each refusal is data: the first one decides, all of them are told when asked.

use super::capacity;
use super::fleet::HostView;
use crate::liveness::HostLiveness;
use heddle_protocol::host_spec::{Feature, Template};
use heddle_protocol::id::{CapabilityName, HostId, WorkloadId};
use heddle_protocol::record::{EmbeddedNeed, HostAdmin, Intent, Requirement, Spread};
use heddle_protocol::report::{Rejection, RejectionCount};
use std::collections::{BTreeMap, BTreeSet};

/// The label by which each host is a value of its own.
pub const HOST_LABEL: &str = "host";

/// What a workload asks of a host.
#[derive(Debug, Clone, Copy)]
pub struct Need<'a> {
    /// What is meant.
    pub intent: &'a Intent,
    /// What a replica runs; none if the record names a template that is not there, which no commit leaves behind.
    pub template: Option<&'a Template>,
}

/// What of a need decides whether a host fits, whatever is free there. Equal shapes fit the same hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape<'a> {
    require: &'a [Requirement],
    weights: Vec<(&'a str, &'a BTreeMap<String, u32>)>,
    capabilities: &'a BTreeSet<CapabilityName>,
    features: (&'a BTreeSet<Feature>, Option<&'a BTreeSet<Feature>>),
    memory_bytes: u64,
}

impl<'a> Need<'a> {
    /// What decides whether a host fits.
    pub(crate) fn shape(&self) -> Shape<'a> {
        Shape {
            require: &self.intent.require,
            weights: weighted(self.intent).map(|s| (s.by.as_str(), &s.weights)).collect(),
            capabilities: &self.intent.capabilities,
            features: (&self.intent.features, self.template.map(|t| &t.requires)),
            memory_bytes: self.template.map_or(0, |t| t.limits.memory_bytes),
        }
    }

    /// Why a host takes nothing new at all, if so.
    pub(crate) fn refusal_by_state(&self, host: &HostView<'_>) -> Option<Rejection> {
        state_refusals(host).into_iter().next()
    }

    /// Whether a host could run this workload, whatever is free there and whether or not it takes new work.
    pub(crate) fn fits(&self, host: &HostView<'_>) -> bool {
        self.fit_refusals(host, true).is_empty()
    }

    /// Every reason why a host would not take one more replica, the one that decides first.
    pub fn refusals(&self, host: &HostView<'_>) -> Vec<Rejection> {
        let mut all = state_refusals(host);
        all.extend(self.fit_refusals(host, false));
        // Of a host that was never heard nothing else is known.
        if host.labels.is_some() {
            all.extend(capacity::refusals(host, self.intent.reserve_bytes));
        }
        all
    }

    /// The embedded workload that asks for something that the workload itself does not.
    fn embedded(&self, asks: impl Fn(&EmbeddedNeed) -> bool) -> Option<WorkloadId> {
        let mut embedded = self.intent.embedded.iter();
        embedded.find(|(_, need)| asks(need)).map(|(id, _)| id.clone())
    }

    fn fit_refusals(&self, host: &HostView<'_>, first_only: bool) -> Vec<Rejection> {
        let Some(labels) = host.labels else { return Vec::new() };
        let mut all = Vec::new();
        let value_of = |label: &str| match label {
            HOST_LABEL => Some(host.id.as_str()),
            label => labels.get(label).map(String::as_str),
        };
        for requirement in &self.intent.require {
            let value = labels.get(&requirement.label).map(String::as_str);
            if !requirement.rule.allows(value) {
                all.push(Rejection::Label {
                    label: requirement.label.clone(),
                    wanted: requirement.rule.in_words(),
                    found: value.map(str::to_owned),
                    embedded: self.embedded(|need| need.require.contains(requirement)),
                });
            }
            if first_only && !all.is_empty() {
                return all;
            }
        }
        for spread in weighted(self.intent) {
            let value = value_of(&spread.by);
            if value.is_none_or(|v| spread.weights.get(v).copied().unwrap_or(0) == 0) {
                let shares: Vec<&str> = spread
                    .weights
                    .iter()
                    .filter(|(_, w)| **w > 0)
                    .map(|(v, _)| v.as_str())
                    .collect();
                let wanted = format!("one of {}, which have a weight", shares.join(", "));
                all.push(Rejection::Label {
                    label: spread.by.clone(),
                    wanted,
                    found: value.map(str::to_owned),
                    embedded: None,
                });
            }
        }
        for capability in &self.intent.capabilities {
            if !host.offers.offers.contains_key(capability) {
                all.push(Rejection::CapabilityMissing {
                    capability: capability.clone(),
                    embedded: self.embedded(|need| need.capabilities.contains(capability)),
                });
            }
        }
        if let Some(features) = host.features {
            let of_template = self.template.into_iter().flat_map(|t| &t.requires);
            let wanted = of_template.chain(&self.intent.features);
            let lacking: BTreeSet<String> = wanted
                .filter(|f| !features.contains(f))
                .map(ToString::to_string)
                .collect();
            if !lacking.is_empty() {
                all.push(Rejection::FeatureMissing { features: lacking });
            }
        }
        let Some(template) = self.template else { return all };
        let wanted_bytes = template.limits.memory_bytes;
        if let Some(max_bytes) = host
            .capacity
            .instance_memory_bytes_max
            .filter(|max| *max < wanted_bytes)
        {
            all.push(Rejection::InstanceMemory {
                wanted_bytes,
                max_bytes,
            });
        }
        all
    }
}

fn weighted(intent: &Intent) -> impl Iterator<Item = &Spread> {
    intent.spread.iter().filter(|s| !s.weights.is_empty())
}

/// Why a host takes nothing new, whatever it is.
fn state_refusals(host: &HostView<'_>) -> Vec<Rejection> {
    let mut all = Vec::new();
    match host.liveness {
        HostLiveness::Alive => {}
        HostLiveness::NotSeen => all.push(Rejection::NotSeen),
        HostLiveness::Lost { .. } | HostLiveness::Partitioned { .. } => all.push(Rejection::Lost),
    }
    match host.admin {
        HostAdmin::Open => {}
        HostAdmin::Cordoned => all.push(Rejection::Cordoned),
        HostAdmin::Draining => all.push(Rejection::Draining),
    }
    if host.leaving {
        all.push(Rejection::Leaving);
    }
    if let Some(clash) = &host.offers.conflict {
        all.push(Rejection::PlatformConflict {
            what: clash.what.clone(),
        });
    }
    all
}

/// Counts hosts by the reason that decides, the commonest first. Of refusals that differ only in numbers the one that
/// is nearest to fitting stands for all.
pub fn count_refusals(refusals: impl Iterator<Item = (HostId, Rejection)>) -> Vec<RejectionCount> {
    let mut groups: BTreeMap<Rejection, RejectionCount> = BTreeMap::new();
    for (host, rejection) in refusals {
        let group = without_numbers(&rejection);
        match groups.get_mut(&group) {
            Some(count) => {
                count.hosts += 1;
                if nearer(&rejection, &count.rejection) {
                    (count.rejection, count.example) = (rejection, host);
                }
            }
            None => {
                groups.insert(
                    group,
                    RejectionCount {
                        rejection,
                        hosts: 1,
                        example: host,
                    },
                );
            }
        }
    }
    let mut counts: Vec<RejectionCount> = groups.into_values().collect();
    counts.sort_by(|a, b| b.hosts.cmp(&a.hosts).then_with(|| a.rejection.cmp(&b.rejection)));
    counts
}

fn without_numbers(rejection: &Rejection) -> Rejection {
    match rejection {
        Rejection::Memory { needed_bytes, .. } => Rejection::Memory {
            needed_bytes: *needed_bytes,
            free_bytes: 0,
        },
        Rejection::InstanceMemory { wanted_bytes, .. } => Rejection::InstanceMemory {
            wanted_bytes: *wanted_bytes,
            max_bytes: 0,
        },
        Rejection::Slots { .. } => Rejection::Slots { slots: 0 },
        other => other.clone(),
    }
}

fn nearer(a: &Rejection, b: &Rejection) -> bool {
    match (a, b) {
        (Rejection::Memory { free_bytes: a, .. }, Rejection::Memory { free_bytes: b, .. }) => a > b,
        (Rejection::InstanceMemory { max_bytes: a, .. }, Rejection::InstanceMemory { max_bytes: b, .. }) => a > b,
        (Rejection::Slots { slots: a }, Rejection::Slots { slots: b }) => a > b,
        _ => false,
    }
}
