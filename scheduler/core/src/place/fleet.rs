//! The hosts as a plan sees them: verdict, labels, offers, and what is free, which shrinks as the plan goes on.

use super::filter::{Need, Shape};
use crate::desired::{HostOffers, Labels, offers_of};
use crate::liveness::{HostLiveness, is_settling, judge, partitions};
use crate::observed::ObservedHost;
use crate::world::World;
use heddle_protocol::host_report::Capacity;
use heddle_protocol::host_spec::Feature;
use heddle_protocol::id::HostId;
use heddle_protocol::record::HostAdmin;
use heddle_protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// One host as a plan sees it.
#[derive(Debug, Clone)]
pub struct HostView<'a> {
    /// The host.
    pub id: &'a HostId,
    /// Whether it takes work, as an operator said.
    pub admin: HostAdmin,
    /// Whether it lives.
    pub liveness: HostLiveness,
    /// Whether its agent was told to stop.
    pub leaving: bool,
    /// What it said; none if it said nothing yet.
    pub observed: Option<&'a ObservedHost>,
    /// Its labels; none if it did not say hello yet.
    pub labels: Option<&'a Labels>,
    /// What it has to give.
    pub capacity: Capacity,
    /// What its agent can do.
    pub features: Option<&'a BTreeSet<Feature>>,
    /// What it is lent.
    pub offers: Rc<HostOffers>,
    /// Memory that placements take there, in bytes, this plan's included.
    pub used_bytes: u64,
    /// Replicas placed there, this plan's included.
    pub used_replicas: u32,
}

impl HostView<'_> {
    /// Whether its replicas should move away although they may still serve.
    pub fn is_emptied(&self) -> bool {
        self.admin == HostAdmin::Draining || self.leaving
    }

    /// Whether nothing can be said of its replicas now, because it is not heard or has not said yet what it runs: they
    /// are taken to be there, and are not touched.
    pub fn is_unheard(&self) -> bool {
        match self.liveness {
            HostLiveness::Alive => self.observed.is_none_or(|o| o.status_seq.is_none()),
            HostLiveness::NotSeen | HostLiveness::Partitioned { .. } => true,
            HostLiveness::Lost { .. } => false,
        }
    }
}

/// All admitted hosts, ordered by id.
#[derive(Clone)]
pub struct Fleet<'a> {
    hosts: Vec<HostView<'a>>,
    settling: bool,
    partitions: BTreeMap<String, BTreeSet<HostId>>,
    fits: BTreeMap<Shape<'a>, Rc<Vec<usize>>>,
}

impl<'a> Fleet<'a> {
    /// The hosts of a world at a time.
    pub fn new(world: &'a World, now: Mono) -> Self {
        let mut verdicts = judge(world, now);
        let partitions = partitions(&verdicts);
        let mut offers_by_labels: BTreeMap<&Labels, Rc<HostOffers>> = BTreeMap::new();
        let unknown = Rc::new(HostOffers::default());
        let hosts = world.hosts.iter().map(|(id, record)| {
            let observed = world.observed.get(id).map(Arc::as_ref);
            let hello = observed.and_then(|o| o.hello.as_deref());
            let offers = match hello {
                Some(hello) => offers_by_labels
                    .entry(&hello.labels)
                    .or_insert_with(|| Rc::new(offers_of(&hello.labels, &world.platforms)))
                    .clone(),
                None => unknown.clone(),
            };
            let (used_bytes, used_replicas) = world.usage(id);
            HostView {
                id,
                admin: record.admin,
                liveness: verdicts.remove(id).unwrap_or(HostLiveness::NotSeen),
                leaving: observed.is_some_and(|o| o.leaving),
                observed,
                labels: hello.map(|h| &h.labels),
                capacity: hello.map(|h| h.capacity.clone()).unwrap_or_default(),
                features: hello.map(|h| &h.features),
                offers,
                used_bytes,
                used_replicas,
            }
        });
        Self {
            hosts: hosts.collect(),
            settling: is_settling(world, now),
            partitions,
            fits: BTreeMap::new(),
        }
    }

    /// All hosts, ordered by id.
    pub fn hosts(&self) -> &[HostView<'a>] {
        &self.hosts
    }

    /// A host by its place in [`Fleet::hosts`].
    pub(crate) fn host(&self, index: usize) -> Option<&HostView<'a>> {
        self.hosts.get(index)
    }

    /// A host's place in [`Fleet::hosts`].
    pub(crate) fn find(&self, host: &HostId) -> Option<usize> {
        self.hosts.binary_search_by(|view| view.id.cmp(host)).ok()
    }

    /// A host by id; none if it is not admitted.
    pub fn get(&self, host: &HostId) -> Option<&HostView<'a>> {
        self.find(host).and_then(|index| self.hosts.get(index))
    }

    /// The hosts of each cut-off zone.
    pub fn partitions(&self) -> &BTreeMap<String, BTreeSet<HostId>> {
        &self.partitions
    }

    /// Counts replicas that this plan puts on a host.
    pub(crate) fn add(&mut self, index: usize, reserve_bytes: u64, count: u32) {
        if let Some(host) = self.hosts.get_mut(index) {
            host.used_bytes = host
                .used_bytes
                .saturating_add(reserve_bytes.saturating_mul(u64::from(count)));
            host.used_replicas = host.used_replicas.saturating_add(count);
        }
    }

    /// Counts replicas that this plan takes from a host.
    pub(crate) fn remove(&mut self, host: &HostId, reserve_bytes: u64, count: u32) {
        if let Some(host) = self.find(host).and_then(|index| self.hosts.get_mut(index)) {
            host.used_bytes = host
                .used_bytes
                .saturating_sub(reserve_bytes.saturating_mul(u64::from(count)));
            host.used_replicas = host.used_replicas.saturating_sub(count);
        }
    }

    /// Whether a host that may take such replicas is still expected to be heard. What is placed meanwhile would be
    /// crowded onto the first hosts that were, and would stay there.
    pub(crate) fn awaits_taker(&self, need: &Need<'a>) -> bool {
        let awaited = |host: &HostView<'a>| {
            host.liveness == HostLiveness::NotSeen && host.admin == HostAdmin::Open && !host.leaving && need.fits(host)
        };
        self.settling && self.hosts.iter().any(awaited)
    }

    /// The hosts that take new replicas of this shape as long as something is free there. Workloads that ask for the
    /// same share one answer.
    pub(crate) fn takers(&mut self, need: &Need<'a>) -> Rc<Vec<usize>> {
        let hosts = &self.hosts;
        let fits = self.fits.entry(need.shape()).or_insert_with(|| {
            let takes = |host: &HostView<'a>| need.refusal_by_state(host).is_none() && need.fits(host);
            Rc::new(
                hosts
                    .iter()
                    .enumerate()
                    .filter(|(_, host)| takes(host))
                    .map(|(index, _)| index)
                    .collect(),
            )
        });
        fits.clone()
    }
}
