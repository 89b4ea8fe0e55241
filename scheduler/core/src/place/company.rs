//! Where a workload may go because of where others are: kept apart, or near.
//!
//! In: the rules of a workload and of those that name it, and where they all are. Out: hosts and values of labels that
//! are closed, those that alone are open, and how much the others are preferred. What a workload keeps away from keeps
//! away from it too: otherwise the one that comes second would undo what the first asked for.

use super::class::ClassKey;
use super::filter::HOST_LABEL;
use super::index::HostNo;
use super::room::Room;
use heddle_protocol::id::WorkloadId;
use heddle_protocol::record::{Company, Intent};
use std::collections::{BTreeMap, BTreeSet};

/// Values of one label.
type Values = BTreeSet<String>;

/// Where a workload may go because of where others are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// Hosts that are closed.
    closed_hosts: BTreeSet<HostNo>,
    /// Values that are closed, by label.
    closed: BTreeMap<String, Values>,
    /// The only hosts that are open, if it is a matter of hosts.
    open_hosts: Option<BTreeSet<HostNo>>,
    /// The only values that are open, by label.
    open: Vec<(String, Values)>,
    /// How much hosts are preferred.
    host_weights: BTreeMap<HostNo, i64>,
    /// How much values are preferred, by label.
    weights: Vec<(String, Values, i64)>,
}

impl Surroundings {
    /// What the others' places come to.
    pub(crate) fn of(room: &Room<'_>, id: &WorkloadId, intent: &Intent) -> Self {
        let mut all = Self::default();
        for company in intent.rules.avoid.iter().filter(|c| c.workload != *id) {
            let places = room.whereabouts(&company.workload);
            match company.weight {
                None => all.close(room, &company.by, places.keys()),
                Some(weight) => all.weigh(room, &company.by, places.keys(), -i64::from(weight)),
            }
        }
        for other in room.world.named_by(id).filter(|other| *other != id) {
            let Some(record) = room.world.workloads.get(other) else {
                continue;
            };
            let hard = |c: &&Company| c.workload == *id && c.weight.is_none();
            for company in record.intent.rules.avoid.iter().filter(hard) {
                all.close(room, &company.by, room.whereabouts(other).keys());
            }
        }
        for company in &intent.rules.near {
            let places = room.whereabouts(&company.workload);
            match company.weight {
                // Near to itself, the first replica is free to go anywhere.
                None if company.workload == *id && places.is_empty() => {}
                None => all.open_only(room, &company.by, places.keys()),
                Some(weight) => all.weigh(room, &company.by, places.keys(), i64::from(weight)),
            }
        }
        all
    }

    fn close<'h>(&mut self, room: &Room<'_>, by: &str, hosts: impl Iterator<Item = &'h HostNo>) {
        match by {
            HOST_LABEL => self.closed_hosts.extend(hosts),
            by => self
                .closed
                .entry(by.to_owned())
                .or_default()
                .extend(values(room, by, hosts)),
        }
    }

    fn open_only<'h>(&mut self, room: &Room<'_>, by: &str, hosts: impl Iterator<Item = &'h HostNo>) {
        match by {
            HOST_LABEL => {
                let these: BTreeSet<HostNo> = hosts.copied().collect();
                self.open_hosts = Some(match self.open_hosts.take() {
                    Some(those) => those.intersection(&these).copied().collect(),
                    None => these,
                });
            }
            by => self.open.push((by.to_owned(), values(room, by, hosts))),
        }
    }

    fn weigh<'h>(&mut self, room: &Room<'_>, by: &str, hosts: impl Iterator<Item = &'h HostNo>, weight: i64) {
        match by {
            HOST_LABEL => {
                for host in hosts {
                    *self.host_weights.entry(*host).or_default() += weight;
                }
            }
            by => self.weights.push((by.to_owned(), values(room, by, hosts), weight)),
        }
    }

    /// Whether a class is open.
    pub(crate) fn opens_class(&self, key: &ClassKey) -> bool {
        let is_in = |label: &str, values: &Values| key.label(label).is_some_and(|value| values.contains(value));
        !self.closed.iter().any(|(label, values)| is_in(label, values))
            && self.open.iter().all(|(label, values)| is_in(label, values))
    }

    /// Whether a host of an open class is open.
    pub(crate) fn opens_host(&self, host: HostNo) -> bool {
        !self.closed_hosts.contains(&host) && self.open_hosts.as_ref().is_none_or(|open| open.contains(&host))
    }

    /// The only hosts that are open, if it is a matter of hosts.
    pub(crate) fn open_hosts(&self) -> Option<&BTreeSet<HostNo>> {
        self.open_hosts.as_ref()
    }

    /// The hosts of which there is something to say, each by itself.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = HostNo> {
        let weighed = self.host_weights.keys().chain(self.open_hosts.iter().flatten());
        weighed.chain(&self.closed_hosts).copied()
    }

    /// How much the hosts of a class are preferred.
    pub(crate) fn weight_of_class(&self, key: &ClassKey) -> i64 {
        let is_in = |label: &str, values: &Values| key.label(label).is_some_and(|value| values.contains(value));
        let weights = self.weights.iter().filter(|(label, values, _)| is_in(label, values));
        weights.map(|(_, _, weight)| weight).sum()
    }

    /// How much a host is preferred beside its class.
    pub(crate) fn weight_of_host(&self, host: HostNo) -> i64 {
        self.host_weights.get(&host).copied().unwrap_or(0)
    }
}

/// The values that hosts have of a label.
fn values<'h>(room: &Room<'_>, by: &str, hosts: impl Iterator<Item = &'h HostNo>) -> Values {
    let value = |host: &HostNo| room.class_of(*host)?.key.label(by).map(str::to_owned);
    hosts.filter_map(value).collect()
}
