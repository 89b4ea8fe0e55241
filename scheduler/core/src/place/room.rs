//! The fleet while it is planned: what is free shrinks and grows as the plan goes on, and nothing of it is kept.
//!
//! In: the world and the time. Out: for each host its class, its seat and what is known of its replicas; for each need
//! its layout. It is a copy of the world's index that shares all that the plan does not touch.

use super::capacity::Take;
use super::class::{Class, Mood};
use super::filter::Need;
use super::index::{FleetIndex, HostNo, Seat, Who};
use super::shape::{Layout, Shape};
use crate::liveness::{is_settling, judge, partitions};
use crate::observed::ObservedHost;
use crate::world::World;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::Template;
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Hosts that come first because they hold an image: each is looked at by itself.
const HOLDERS_MAX: usize = 256;

/// The fleet while it is planned.
pub(crate) struct Room<'a> {
    pub(crate) world: &'a World,
    index: FleetIndex,
    settling: bool,
    /// Hosts on which the verdict is not the one that was told last: nobody said yet that their workloads are concerned.
    judged_anew: Vec<HostNo>,
    /// The zone of each host that counts as cut off.
    cut_off: BTreeMap<HostId, String>,
    layouts: BTreeMap<Arc<Shape>, Arc<Layout>>,
    /// Hosts that hold images, by these.
    holders: BTreeMap<BTreeSet<Digest>, Arc<BTreeSet<HostNo>>>,
    /// Where workloads are that keep away from others, are kept away from, or are near: as far as this plan decided.
    whereabouts: BTreeMap<WorkloadId, BTreeMap<HostNo, u32>>,
    /// What this plan put on hosts, if workloads differ in priority.
    came: BTreeMap<HostNo, Vec<&'a WorkloadId>>,
}

impl<'a> Room<'a> {
    /// The fleet of a world at a time.
    pub(crate) fn new(world: &'a World, now: Mono) -> Self {
        let mut index = world.fleet().clone();
        let known = &world.watch.announced;
        let fresh = (!known.hold_at(now)).then(|| judge(world, now));
        let verdicts = fresh.as_ref().unwrap_or(known);
        let mut judged_anew = Vec::new();
        for (host, _, after) in fresh.iter().flat_map(|fresh| known.changes(fresh)) {
            index.set_mood(&host, Mood::from(&after), &world.platforms);
            judged_anew.extend(index.number(&host));
        }
        let zones = match verdicts.is_grave() {
            true => partitions(verdicts),
            false => BTreeMap::new(),
        };
        let hosts = |(zone, hosts): (String, BTreeSet<HostId>)| {
            hosts
                .into_iter()
                .map(move |host| (host, zone.clone()))
                .collect::<Vec<_>>()
        };
        Self {
            world,
            index,
            settling: is_settling(world, now),
            judged_anew,
            cut_off: zones.into_iter().flat_map(hosts).collect(),
            layouts: BTreeMap::new(),
            holders: BTreeMap::new(),
            whereabouts: BTreeMap::new(),
            came: BTreeMap::new(),
        }
    }

    /// Hosts on which the verdict is not the one that was told last.
    pub(crate) fn judged_anew(&self) -> impl Iterator<Item = HostNo> {
        self.judged_anew.iter().copied()
    }

    /// The hosts by number.
    pub(crate) fn index(&self) -> &FleetIndex {
        &self.index
    }

    /// An admitted host by id.
    pub(crate) fn find(&self, host: &HostId) -> Option<HostNo> {
        let number = self.index.number(host)?;
        self.index.seat(number)?.class()?;
        Some(number)
    }

    /// What is free on a host.
    pub(crate) fn seat(&self, host: HostNo) -> Option<&Seat> {
        self.index.seat(host)
    }

    /// Who a host is.
    pub(crate) fn who(&self, host: HostNo) -> Option<&Who> {
        self.index.who(host)
    }

    /// A host's class.
    pub(crate) fn class_of(&self, host: HostNo) -> Option<&Class> {
        self.index.class_of(host)
    }

    /// What a host said.
    pub(crate) fn observed(&self, host: HostNo) -> Option<&'a ObservedHost> {
        let who = self.index.who(host)?;
        self.world.observed.get(&who.id).map(Arc::as_ref)
    }

    /// What is known of the replicas on a host.
    pub(crate) fn standing(&self, host: HostNo) -> Standing {
        let mood = self.class_of(host).map(|class| class.key.mood);
        let reported = self.index.who(host).is_some_and(|who| who.reported);
        match mood {
            Some(Mood::Lost) => Standing::Lost,
            Some(Mood::Alive) if reported => Standing::Heard,
            _ => Standing::Unheard,
        }
    }

    /// Whether a host's replicas should move away although they may still serve.
    pub(crate) fn is_emptied(&self, host: HostNo) -> bool {
        self.class_of(host).is_some_and(|class| class.key.is_emptied())
    }

    /// The zones that count as cut off, with those of some hosts that are in them.
    pub(crate) fn cut_off<'h>(&self, hosts: impl Iterator<Item = &'h HostId>) -> BTreeMap<String, BTreeSet<HostId>> {
        let mut zones: BTreeMap<String, BTreeSet<HostId>> = BTreeMap::new();
        if self.cut_off.is_empty() {
            return zones;
        }
        for host in hosts {
            if let Some(zone) = self.cut_off.get(host) {
                zones.entry(zone.clone()).or_default().insert(host.clone());
            }
        }
        zones
    }

    /// Counts replicas that this plan puts on a host.
    pub(crate) fn add(&mut self, host: HostNo, id: &'a WorkloadId, take: Take<'_>, count: u32) {
        self.add_all(&[(host, count)], id, take);
    }

    /// Counts replicas that this plan puts on hosts.
    pub(crate) fn add_all(&mut self, hosts: &[(HostNo, u32)], id: &'a WorkloadId, take: Take<'_>) {
        self.index.add_all(hosts, take);
        if self.world.has_priorities() {
            for (host, _) in hosts {
                self.came.entry(*host).or_default().push(id);
            }
        }
    }

    /// The workloads of which this plan put replicas on a host, if workloads differ in priority.
    pub(crate) fn came_to(&self, host: HostNo) -> impl Iterator<Item = &'a WorkloadId> {
        self.came.get(&host).into_iter().flatten().copied()
    }

    /// Counts replicas that this plan takes from a host.
    pub(crate) fn remove(&mut self, host: HostNo, take: Take<'_>, count: u32) {
        self.index.remove(host, take, count);
    }

    /// What was worked out for a need's shape.
    pub(crate) fn layout(&mut self, need: &Need<'_>) -> Arc<Layout> {
        let shape = Shape::of(need);
        if let Some(known) = self.layouts.get(&shape) {
            return known.clone();
        }
        let layout = match self.index.layout(&shape) {
            Some(known) if known.is_whole(&self.index) => known.clone(),
            Some(known) => {
                let mut layout = Layout::clone(known);
                layout.extend(need, &self.index);
                Arc::new(layout)
            }
            None => Arc::new(Layout::new(need, &self.index)),
        };
        self.layouts.insert(Arc::new(shape), layout.clone());
        layout
    }

    /// The emptiest of the hosts that hold a template's images.
    pub(crate) fn holders(&mut self, template: &Template) -> Arc<BTreeSet<HostNo>> {
        let images = images_of(template);
        if let Some(known) = self.holders.get(&images) {
            return known.clone();
        }
        let found = Arc::new(holders(self.world, &images));
        self.holders.insert(images, found.clone());
        found
    }

    /// Whether a host is one that fits.
    pub(crate) fn fits(&self, layout: &Layout, host: HostNo) -> bool {
        let named = || {
            self.who(host)
                .is_some_and(|who| layout.named.as_ref().is_none_or(|n| n.contains(&who.id)))
        };
        let class = self.seat(host).and_then(Seat::class);
        let known = self.class_of(host).is_some_and(|class| class.key.labels.is_some());
        // Of a host that never said hello nothing is known that speaks against it.
        class.is_some_and(|class| layout.fit(class).fits) && (!known || named())
    }

    /// Whether hosts that may take such replicas are still expected to be heard. What is placed meanwhile would be
    /// crowded onto the first hosts that were, and would stay there.
    pub(crate) fn awaits_taker(&self, layout: &Layout) -> bool {
        self.settling && layout.awaits(&self.index)
    }

    /// Where a workload's replicas are, of any generation.
    pub(crate) fn whereabouts(&self, id: &WorkloadId) -> BTreeMap<HostNo, u32> {
        if let Some(known) = self.whereabouts.get(id) {
            return known.clone();
        }
        let sets = self.world.places.get(id).into_iter().flat_map(|place| &place.sets);
        let hosts = sets.flat_map(|set| &set.hosts);
        let mut all = BTreeMap::new();
        for (host, count) in hosts.filter_map(|(host, count)| Some((self.find(host)?, *count))) {
            *all.entry(host).or_default() += count;
        }
        all
    }

    /// Notes where a workload's replicas are now.
    pub(crate) fn set_whereabouts(&mut self, id: &WorkloadId, hosts: BTreeMap<HostNo, u32>) {
        self.whereabouts.insert(id.clone(), hosts);
    }
}

/// The emptiest of the hosts on which units are placed that have all of some images. As they were before any plan, so that it
/// does not matter who asks first.
pub(crate) fn holders(world: &World, images: &BTreeSet<Digest>) -> BTreeSet<HostNo> {
    let templates = world.templates.iter();
    let having = templates.filter(|(_, other)| images.is_subset(&images_of(other)));
    let having: BTreeSet<&Digest> = having.map(|(digest, _)| digest).collect();
    let sets = world.places.values().flat_map(|place| &place.sets);
    let hosts = sets
        .filter(|set| having.contains(&set.template))
        .flat_map(|set| set.hosts.keys());
    let fleet = world.fleet();
    let seat = |host: HostNo| Some((fleet.seat(host)?.fullness, fleet.seat(host)?.rank, host));
    let hosts = hosts.filter_map(|host| seat(fleet.number(host)?));
    let hosts: BTreeSet<_> = hosts.collect();
    hosts.into_iter().map(|(.., host)| host).take(HOLDERS_MAX).collect()
}

/// What an agent fetches for a template.
pub(crate) fn images_of(template: &Template) -> BTreeSet<Digest> {
    template.components.iter().map(|component| component.artifact).collect()
}

/// What is known of the replicas on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It is heard, and said what it runs.
    Heard,
    /// Nothing is known of it now.
    Unheard,
    /// It is lost.
    Lost,
}
