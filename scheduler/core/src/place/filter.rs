//! Which hosts may take a replica. Each refusal is data: the first one decides, all of them are told when asked.

use super::capacity;
use super::class::{Class, Mood};
use super::fleet::HostView;
use crate::desired::{HostOffers, Labels};
use heddle_protocol::host_spec::{Feature, Template};
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::label::HOST_NAME_LABEL;
use heddle_protocol::record::{EmbeddedNeed, HostAdmin, Intent, Spread, Taint, TaintEffect};
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

/// All of a host that decides whether a workload fits, but for what is free there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits<'a> {
    /// The host; none if a whole class is looked at.
    pub(crate) host: Option<&'a HostId>,
    /// Its labels; none if it did not say hello yet.
    pub(crate) labels: Option<&'a Labels>,
    /// What its agent can do.
    pub(crate) features: Option<&'a BTreeSet<Feature>>,
    /// What it is lent.
    pub(crate) offers: &'a HostOffers,
    /// The most memory that one instance may have.
    pub(crate) instance_memory_bytes_max: Option<u64>,
    /// What keeps replicas away.
    pub(crate) taints: &'a BTreeMap<String, Taint>,
    /// What an operator said.
    pub(crate) admin: HostAdmin,
    /// Whether its agent was told to stop.
    pub(crate) leaving: bool,
    /// Whether it lives.
    pub(crate) mood: Mood,
}

impl<'a> From<&'a Class> for Traits<'a> {
    fn from(class: &'a Class) -> Self {
        let key = &class.key;
        Self {
            host: None,
            labels: key.labels.as_ref(),
            features: key.features.as_ref(),
            offers: &class.offers,
            instance_memory_bytes_max: key.instance_memory_bytes_max,
            taints: &key.taints,
            admin: key.admin(),
            leaving: key.leaving,
            mood: key.mood,
        }
    }
}

impl<'a> From<&'a HostView<'_>> for Traits<'a> {
    fn from(host: &'a HostView<'_>) -> Self {
        Self {
            host: Some(host.id),
            labels: host.labels,
            features: host.features,
            offers: &host.offers,
            instance_memory_bytes_max: host.capacity.instance_memory_bytes_max,
            taints: host.taints,
            admin: host.admin,
            leaving: host.leaving,
            mood: Mood::from(&host.liveness),
        }
    }
}

impl<'a> Need<'a> {
    /// Whether a host could run this workload, whatever is free there and whether or not it takes new work.
    pub(crate) fn fits(&self, host: &HostView<'_>) -> bool {
        self.fits_traits(&Traits::from(host))
    }

    /// The same, for a class.
    pub(crate) fn fits_traits(&self, traits: &Traits<'_>) -> bool {
        let evicted = self
            .taints_of(traits)
            .any(|(_, taint)| taint.effect == TaintEffect::Evict);
        !evicted && self.fit_refusals(traits, true).is_empty()
    }

    /// Whether a host that fits takes new replicas, as far as it is not a matter of what is free.
    pub(crate) fn takes_new(&self, host: &HostView<'_>) -> bool {
        host.labels.is_some() && self.takes_traits(&Traits::from(host))
    }

    /// Whether hosts that fit take new replicas, as far as it is not a matter of what is free.
    pub(crate) fn takes_traits(&self, traits: &Traits<'_>) -> bool {
        state_refusals(traits).is_empty() && self.taints_of(traits).next().is_none()
    }

    /// Whether a class is open to a daemon that fits it, whether or not its hosts are heard.
    pub(crate) fn takes_daemon(&self, class: &Class) -> bool {
        let open = class.key.admin() == HostAdmin::Open && class.offers.conflict.is_none();
        open && self.taints_of(&Traits::from(class)).next().is_none()
    }

    /// Whether it puts up with all taints of a host.
    pub(crate) fn tolerates(&self, host: &HostView<'_>) -> bool {
        self.taints_of(&Traits::from(host)).next().is_none()
    }

    /// Every reason why a host would not take one more replica by itself, the one that decides first. What depends on
    /// where other replicas are is told by [`super::Bounds`].
    pub fn refusals(&self, host: &HostView<'_>) -> Vec<Rejection> {
        let mut all = self.lasting_refusals(&Traits::from(host));
        // Of a host that was never heard nothing else is known.
        if host.labels.is_some() {
            all.extend(capacity::refusals(host, self.intent));
        }
        all
    }

    /// Whether the lasting reasons are the same for all hosts of a class.
    pub(crate) fn is_by_class(&self) -> bool {
        weighted(self.intent).all(|spread| spread.by != HOST_LABEL)
    }

    /// Every reason but for what is free.
    pub(crate) fn lasting_refusals(&self, traits: &Traits<'_>) -> Vec<Rejection> {
        let mut all = state_refusals(traits);
        all.extend(self.taints_of(traits).map(|(name, taint)| Rejection::Taint {
            taint: match taint.value.as_str() {
                "" => name.clone(),
                value => format!("{name}={value}"),
            },
        }));
        all.extend(self.fit_refusals(traits, false));
        all
    }

    /// The taints that it does not put up with.
    fn taints_of<'t>(&'t self, traits: &Traits<'t>) -> impl Iterator<Item = (&'t String, &'t Taint)> {
        let tolerated = |(name, taint): &(&String, &Taint)| {
            let mut tolerations = self.intent.rules.tolerate.iter();
            tolerations.any(|t| t.taint == **name && t.value.as_ref().is_none_or(|value| *value == taint.value))
        };
        traits.taints.iter().filter(move |taint| !tolerated(taint))
    }

    /// The embedded workload that asks for something that the workload itself does not.
    fn embedded(&self, asks: impl Fn(&EmbeddedNeed) -> bool) -> Option<WorkloadId> {
        let mut embedded = self.intent.embedded.iter();
        embedded.find(|(_, need)| asks(need)).map(|(id, _)| id.clone())
    }

    fn fit_refusals(&self, host: &Traits<'_>, first_only: bool) -> Vec<Rejection> {
        let Some(labels) = host.labels else { return Vec::new() };
        let mut all = Vec::new();
        let value_of = |label: &str| match label {
            HOST_LABEL => host.host.map(HostId::as_str),
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
            // Whether a class fits says nothing yet of each of its hosts.
            if spread.by == HOST_LABEL && host.host.is_none() {
                continue;
            }
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
        if let Some(max_bytes) = host.instance_memory_bytes_max.filter(|max| *max < wanted_bytes) {
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
fn state_refusals(host: &Traits<'_>) -> Vec<Rejection> {
    let mut all = Vec::new();
    match host.mood {
        Mood::Alive => {}
        Mood::NotSeen => all.push(Rejection::NotSeen),
        Mood::Lost | Mood::CutOff => all.push(Rejection::Lost),
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
    count_grouped(refusals.map(|(host, rejection)| (host, rejection, 1)))
}

/// The same, for hosts of which several share a refusal and one stands for them.
pub(crate) fn count_grouped(refusals: impl Iterator<Item = (HostId, Rejection, u32)>) -> Vec<RejectionCount> {
    let mut groups: BTreeMap<Rejection, RejectionCount> = BTreeMap::new();
    for (host, rejection, hosts) in refusals {
        let group = without_numbers(&rejection);
        match groups.get_mut(&group) {
            Some(count) => {
                count.hosts += hosts;
                let same = rejection == count.rejection || is_of_name(&rejection);
                let first = same && host < count.example;
                if nearer(&rejection, &count.rejection) || first {
                    (count.rejection, count.example) = (rejection, host);
                }
            }
            None => {
                groups.insert(
                    group,
                    RejectionCount {
                        rejection,
                        hosts,
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
        Rejection::Cpu { needed_millis, .. } => Rejection::Cpu {
            needed_millis: *needed_millis,
            free_millis: 0,
        },
        Rejection::Resource { resource, needed, .. } => Rejection::Resource {
            resource: resource.clone(),
            needed: *needed,
            free: 0,
        },
        other => without_name(other.clone()),
    }
}

/// A refusal without the host's own name: each has another.
pub(crate) fn without_name(mut rejection: Rejection) -> Rejection {
    set_name(&mut rejection, None);
    rejection
}

/// Puts a host's name into a refusal that speaks of it.
pub(crate) fn set_name(rejection: &mut Rejection, name: Option<&String>) {
    if let Rejection::Label { label, found, .. } = rejection
        && label == HOST_NAME_LABEL
    {
        *found = name.cloned();
    }
}

fn is_of_name(rejection: &Rejection) -> bool {
    matches!(rejection, Rejection::Label { label, .. } if label == HOST_NAME_LABEL)
}

fn nearer(a: &Rejection, b: &Rejection) -> bool {
    match (a, b) {
        (Rejection::Memory { free_bytes: a, .. }, Rejection::Memory { free_bytes: b, .. }) => a > b,
        (Rejection::InstanceMemory { max_bytes: a, .. }, Rejection::InstanceMemory { max_bytes: b, .. }) => a > b,
        (Rejection::Slots { slots: a }, Rejection::Slots { slots: b }) => a > b,
        (Rejection::Cpu { free_millis: a, .. }, Rejection::Cpu { free_millis: b, .. }) => a > b,
        (Rejection::Resource { free: a, .. }, Rejection::Resource { free: b, .. }) => a > b,
        _ => false,
    }
}
