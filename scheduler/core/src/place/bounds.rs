//! What keeps one more replica off a host because of where replicas are: its own, and those of others.
//!
//! In: a workload and where it and the others are. Out: for each host the refusals that [`super::Need`] cannot know:
//! too many on the host, company to be avoided or lacking, and a bound on skew.

use super::filter::{HOST_LABEL, Need};
use super::fleet::HostView;
use super::index::{HostNo, Seat};
use super::room::Room;
use super::shape::Layout;
use super::tally::Tally;
use crate::desired::Labels;
use crate::world::World;
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::record::{Company, Intent};
use heddle_protocol::report::Rejection;
use heddle_protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What keeps one more replica off hosts because of where replicas are.
#[derive(Debug, Clone)]
pub struct Bounds<'a> {
    intent: &'a Intent,
    /// Replicas of the newest generation, by host.
    counts: BTreeMap<HostId, u32>,
    /// Values where others are that are kept away from, or keep away.
    apart: Vec<(WorkloadId, String, BTreeSet<String>)>,
    /// Values where others are that it stays near to.
    near: Vec<(WorkloadId, String, BTreeSet<String>)>,
    layout: Arc<Layout>,
    tally: Tally,
    least_on_host: BTreeMap<u32, u32>,
}

impl<'a> Bounds<'a> {
    /// What holds for a workload in a world at a time.
    pub fn of(world: &'a World, id: &'a WorkloadId, now: Mono) -> Option<Self> {
        let record = world.workloads.get(id)?;
        let mut room = Room::new(world, now);
        let template = world.templates.get(&record.template).map(Arc::as_ref);
        let need = Need {
            intent: &record.intent,
            template,
        };
        let layout = room.layout(&need);
        let sets = world.places.get(id).into_iter().flat_map(|place| &place.sets);
        let newest = sets.filter(|set| set.generation == record.intent.unit_generation);
        let hosts = newest.flat_map(|set| &set.hosts);
        let kept: Vec<(HostNo, u32)> = hosts.filter_map(|(host, n)| Some((room.find(host)?, *n))).collect();
        Some(Self::new(&room, layout, id, &record.intent, &kept))
    }

    pub(crate) fn new(
        room: &Room<'_>,
        layout: Arc<Layout>,
        id: &WorkloadId,
        intent: &'a Intent,
        kept: &[(HostNo, u32)],
    ) -> Self {
        let mut bounds = Self {
            intent,
            counts: BTreeMap::new(),
            apart: Vec::new(),
            near: Vec::new(),
            tally: Tally::new(layout.tree.clone()),
            least_on_host: BTreeMap::new(),
            layout,
        };
        for (host, count) in kept {
            if let Some(who) = room.who(*host) {
                bounds.counts.insert(who.id.clone(), *count);
            }
        }
        let hard = |c: &&Company| c.weight.is_none();
        for company in intent.rules.avoid.iter().filter(hard).filter(|c| c.workload != *id) {
            let values = values(room, &company.workload, &company.by);
            bounds
                .apart
                .push((company.workload.clone(), company.by.clone(), values));
        }
        for other in room.world.named_by(id).filter(|other| *other != id) {
            let Some(record) = room.world.workloads.get(other) else {
                continue;
            };
            for company in record
                .intent
                .rules
                .avoid
                .iter()
                .filter(hard)
                .filter(|c| c.workload == *id)
            {
                let values = values(room, other, &company.by);
                bounds.apart.push((other.clone(), company.by.clone(), values));
            }
        }
        for company in intent.rules.near.iter().filter(hard) {
            let values = values(room, &company.workload, &company.by);
            // Near to itself, the first replica is free to go anywhere.
            if company.workload != *id || !values.is_empty() {
                bounds.near.push((company.workload.clone(), company.by.clone(), values));
            }
        }
        bounds.count(room, kept);
        bounds
    }

    /// Counts for bounds on skew.
    fn count(&mut self, room: &Room<'_>, kept: &[(HostNo, u32)]) {
        if self.layout.by_host || !self.intent.spread.iter().any(|rule| rule.hard) {
            return;
        }
        let mut members: BTreeMap<u32, u32> = BTreeMap::new();
        for number in self.layout.takers() {
            let size = room.index().class(*number).map_or(0, |class| class.members);
            if size > 0 {
                let leaf = self.layout.fit(*number).leaf;
                self.tally.open(leaf);
                *members.entry(leaf).or_default() += size;
            }
        }
        let mut least: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
        for (host, count) in kept {
            let Some(class) = room.seat(*host).and_then(Seat::class) else {
                continue;
            };
            let fit = self.layout.fit(class);
            self.tally.add(fit.leaf, *count);
            if fit.takes {
                let (hosts, fewest) = least.entry(fit.leaf).or_insert((0, u32::MAX));
                (*hosts, *fewest) = (*hosts + 1, (*fewest).min(*count));
            }
        }
        for (leaf, (hosts, fewest)) in least {
            let all = members.get(&leaf).copied().unwrap_or(0);
            self.least_on_host.insert(leaf, if hosts < all { 0 } else { fewest });
        }
    }

    /// Whether these reasons are the same for all hosts of a class.
    pub(crate) fn is_by_class(&self) -> bool {
        let mut company = self.apart.iter().chain(&self.near);
        let mut rules = self.intent.spread.iter();
        let by_host =
            company.any(|(_, by, _)| by == HOST_LABEL) || rules.any(|rule| rule.hard && rule.by == HOST_LABEL);
        !by_host && self.intent.rules.max_per_host.is_none()
    }

    /// Every such reason why a host would not take one more replica.
    pub fn refusals(&self, host: &HostView<'_>) -> Vec<Rejection> {
        self.refusals_of(host.id, host.labels)
    }

    pub(crate) fn refusals_of(&self, host: &HostId, labels: Option<&Labels>) -> Vec<Rejection> {
        let Some(labels) = labels else { return Vec::new() };
        let value_of = |label: &str| match label {
            HOST_LABEL => Some(host.as_str()),
            label => labels.get(label).map(String::as_str),
        };
        let mut all = Vec::new();
        let count = self.counts.get(host).copied().unwrap_or(0);
        if let Some(most) = self.intent.rules.max_per_host.filter(|most| count >= *most) {
            all.push(Rejection::PerHost { most });
        }
        for (workload, by, values) in &self.apart {
            if let Some(value) = value_of(by).filter(|value| values.contains(*value)) {
                all.push(Rejection::Avoid {
                    workload: workload.clone(),
                    by: by.clone(),
                    value: value.to_owned(),
                });
            }
        }
        for (workload, by, values) in &self.near {
            let value = value_of(by);
            if value.is_none_or(|value| !values.contains(value)) {
                all.push(Rejection::Near {
                    workload: workload.clone(),
                    by: by.clone(),
                    value: value.map(str::to_owned),
                });
            }
        }
        all.extend(self.skew(&value_of, count));
        all
    }

    fn skew<'v>(&self, value_of: &impl Fn(&str) -> Option<&'v str>, count: u32) -> Vec<Rejection> {
        let mut all = Vec::new();
        if self.layout.by_host {
            return all;
        }
        let mut at = Some(0_u32);
        for rule in &self.intent.spread {
            let value = value_of(&rule.by).unwrap_or("");
            let refused = |most: u32| Rejection::Skew {
                by: rule.by.clone(),
                value: value.to_owned(),
                most,
            };
            let bound = rule.max_skew.filter(|_| rule.hard);
            if rule.by == HOST_LABEL {
                let least = at.and_then(|leaf| self.least_on_host.get(&leaf)).copied().unwrap_or(0);
                all.extend(
                    bound
                        .filter(|most| count + 1 > least.saturating_add(*most))
                        .map(refused),
                );
                break;
            }
            let parent = at;
            at = parent.and_then(|parent| self.tally.tree().child(parent, value));
            if let (Some(parent), Some(node), Some(most)) = (parent, at, bound) {
                let least = self.tally.least(parent as usize, rule);
                if !self.tally.has_leeway(node as usize, rule, least) {
                    all.push(refused(most));
                }
            }
        }
        all
    }
}

/// The values of a label where a workload is.
fn values(room: &Room<'_>, id: &WorkloadId, by: &str) -> BTreeSet<String> {
    let hosts = room.whereabouts(id);
    let value = |host: &HostNo| match by {
        HOST_LABEL => Some(room.who(*host)?.id.to_string()),
        by => room.class_of(*host)?.key.label(by).map(str::to_owned),
    };
    hosts.keys().filter_map(value).collect()
}
