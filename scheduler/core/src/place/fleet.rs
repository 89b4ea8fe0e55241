//! The hosts as people see them: verdict, labels, offers, and what is free. Planning itself uses [`super::room`].

use super::capacity::{Scarce, Used};
use super::index::{ClassNo, NO_CAPACITY, Seat};
use crate::desired::{HostOffers, Labels};
use crate::liveness::{HostLiveness, partitions, verdicts_at};
use crate::observed::ObservedHost;
use crate::world::World;
use heddle_protocol::host_report::Capacity;
use heddle_protocol::host_spec::Feature;
use heddle_protocol::id::HostId;
use heddle_protocol::record::{HostAdmin, Taint};
use heddle_protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is taken of a host on which nothing is.
static NONE_USED: Used = Used::NONE;

/// One host as a plan sees it.
#[derive(Debug, Clone)]
pub struct HostView<'a> {
    /// The host.
    pub id: &'a HostId,
    /// Whether it takes work, as an operator said.
    pub admin: HostAdmin,
    /// What keeps replicas away, by name.
    pub taints: &'a BTreeMap<String, Taint>,
    /// Whether it lives.
    pub liveness: HostLiveness,
    /// Whether its agent was told to stop.
    pub leaving: bool,
    /// Its class: all that decides whether a replica fits, but for what is free.
    pub(crate) class: Option<ClassNo>,
    /// What it said; none if it said nothing yet.
    pub observed: Option<&'a ObservedHost>,
    /// Its labels; none if it did not say hello yet.
    pub labels: Option<&'a Labels>,
    /// What it has to give.
    pub capacity: &'a Capacity,
    /// What its agent can do.
    pub features: Option<&'a BTreeSet<Feature>>,
    /// What it is lent.
    pub offers: Arc<HostOffers>,
    /// What of that replicas take most of, beside what is taken of it.
    pub(crate) scarce: Scarce,
    /// What placements take there.
    pub used: &'a Used,
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

    /// The value of a label, where `host` is the host itself.
    pub fn value(&self, label: &str) -> Option<&str> {
        match label {
            super::filter::HOST_LABEL => Some(self.id.as_str()),
            label => self.labels.and_then(|labels| labels.get(label)).map(String::as_str),
        }
    }
}

/// All admitted hosts, ordered by id.
#[derive(Clone)]
pub struct Fleet<'a> {
    hosts: Vec<HostView<'a>>,
    partitions: BTreeMap<String, BTreeSet<HostId>>,
}

impl<'a> Fleet<'a> {
    /// The hosts of a world at a time.
    pub fn new(world: &'a World, now: Mono) -> Self {
        let verdicts = verdicts_at(world, now);
        let index = world.fleet();
        // All are ordered by id, so they are gone through side by side: looking ten thousand names up takes longer than
        // all else.
        let mut said = world.observed.iter().peekable();
        let mut numbers = index.numbers().peekable();
        let hosts = world.hosts.iter().map(|(id, record)| {
            while said.next_if(|(other, _)| *other < id).is_some() {}
            let observed = said.next_if(|(other, _)| *other == id).map(|(_, o)| Arc::as_ref(o));
            let hello = observed.and_then(|o| o.hello.as_deref());
            while numbers.next_if(|(other, _)| *other < id).is_some() {}
            let number = numbers.next_if(|(other, _)| *other == id);
            let seat = number.and_then(|(_, number)| index.seat(number));
            let class = seat.and_then(Seat::class);
            let offers = class
                .and_then(|class| index.class(class))
                .map(|class| class.offers.clone());
            HostView {
                id,
                admin: record.admin,
                taints: &record.taints,
                liveness: verdicts.of(id),
                leaving: observed.is_some_and(|o| o.leaving),
                class,
                observed,
                labels: hello.map(|h| &h.labels),
                capacity: hello.map_or(&NO_CAPACITY, |h| &h.capacity),
                features: hello.map(|h| &h.features),
                offers: offers.unwrap_or_default(),
                scarce: seat.map_or_else(Scarce::default, |seat| seat.scarce),
                used: seat.map_or(&NONE_USED, |seat| &seat.used),
            }
        });
        Self {
            hosts: hosts.collect(),
            partitions: partitions(&verdicts),
        }
    }

    /// All hosts, ordered by id.
    pub fn hosts(&self) -> &[HostView<'a>] {
        &self.hosts
    }

    /// A host by id; none if it is not admitted.
    pub fn get(&self, host: &HostId) -> Option<&HostView<'a>> {
        let index = self.hosts.binary_search_by(|view| view.id.cmp(host)).ok()?;
        self.hosts.get(index)
    }

    /// Hosts by id, which are given in that order: one pass through all hosts, where looking each up would be many.
    pub(crate) fn each<'f, 'h, T: 'f>(
        &'f self,
        some: impl Iterator<Item = (&'h HostId, T)> + 'f,
    ) -> impl Iterator<Item = (&'h HostId, T, Option<&'f HostView<'a>>)> + 'f
    where
        'h: 'f,
    {
        let mut all = self.hosts.iter().peekable();
        some.map(move |(host, with)| {
            while all.next_if(|view| view.id < host).is_some() {}
            (host, with, all.next_if(|view| view.id == host))
        })
    }

    /// The hosts of each cut-off zone.
    pub fn partitions(&self) -> &BTreeMap<String, BTreeSet<HostId>> {
        &self.partitions
    }
}
