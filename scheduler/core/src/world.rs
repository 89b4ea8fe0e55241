//! Everything that the scheduler knows: the committed records, and what hosts said since it started.
//!
//! In: committed writes ([`World::apply_write`]) and facts ([`World::apply`], in `fact.rs`). Out: plain values to decide
//! from. Records are read through `Deref`, so that nobody changes one without the index beside them. A clone shares
//! every record, and serves to try a decision out.

mod placed;
mod said;

use crate::liveness::{HostLiveness, Listening, LivenessOptions};
use crate::observed::{ObservedHost, Watch};
use crate::place::Need;
use crate::place::asked::{asks_of, asks_of_platform};
use crate::place::class::Mood;
use crate::place::index::{FleetIndex, HostNo, Known};
use crate::place::residents::Residents;
use crate::place::shape::{Layout, Shape};
use crate::plan::PlanReport;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::Template;
use heddle_protocol::id::{CapabilityName, ConfigId, HostId, ObjectId, PlatformName, UnitId, Version, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::record::{
    ConfigRecord, HostRecord, HttpTrigger, PlaceRecord, PlatformRecord, PolicyRecord, QuotaRecord, Replicas,
    SecretRefRecord, WorkloadRecord,
};
use heddle_protocol::report::WaitingOn;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

pub use said::{HostWord, LookedAt, OddUnit, Premises};

/// The committed records, by key family. The long lists are shared by copies until one of them changes: a change is tried
/// out on a copy, and most change one record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Records {
    /// The newest commit that is taken in.
    pub head: Version,
    /// What is meant.
    pub workloads: Arc<BTreeMap<WorkloadId, Arc<WorkloadRecord>>>,
    /// What hosts are lent.
    pub platforms: BTreeMap<PlatformName, Arc<PlatformRecord>>,
    /// Named values.
    pub configs: BTreeMap<ConfigId, Arc<ConfigRecord>>,
    /// Named references to secrets.
    pub secret_refs: BTreeMap<ObjectId, Arc<SecretRefRecord>>,
    /// What namespaces ask of images.
    pub namespace_policies: BTreeMap<ObjectId, Arc<PolicyRecord>>,
    /// How much namespaces may have.
    pub quotas: BTreeMap<ObjectId, Arc<QuotaRecord>>,
    /// Where replicas are.
    pub places: Arc<BTreeMap<WorkloadId, Arc<PlaceRecord>>>,
    /// What replicas run.
    pub templates: Arc<BTreeMap<Digest, Arc<Template>>>,
    /// Which hosts were admitted.
    pub hosts: Arc<BTreeMap<HostId, Arc<HostRecord>>>,
    /// Join tokens and the like, by name.
    pub policies: BTreeMap<String, Arc<serde_json::Value>>,
}

/// What is known: the records, and what hosts said since this scheduler started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// The committed records.
    pub records: Records,
    /// What each host said since this scheduler started; in memory only.
    pub observed: Arc<BTreeMap<HostId, Arc<ObservedHost>>>,
    /// Since when this scheduler may judge hosts by their silence.
    pub watch: Watch,
}

impl Deref for Seen {
    type Target = Records;
    fn deref(&self) -> &Records {
        &self.records
    }
}

/// Everything that the scheduler knows. What is in it is read freely, and changed only by records and facts.
#[derive(Debug, Clone, Default)]
pub struct World {
    seen: Seen,
    index: Index,
}

impl Deref for World {
    type Target = Seen;
    fn deref(&self) -> &Seen {
        &self.seen
    }
}

/// A stored record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The key is of no known family.
    #[error("failed to read record {0:?}: no key family of that form is known; a newer scheduler may have written it")]
    UnknownKey(String),
    /// The value is not that family's JSON.
    #[error("failed to read record {key}: {source}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A template's bytes do not have the digest that its key names.
    #[error("failed to read record {key}: its bytes have digest {found}")]
    Digest {
        /// The key.
        key: String,
        /// The bytes' digest.
        found: Digest,
    },
}

/// Which workloads a change may place differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dirty {
    /// Only these, and those that lack a place (which every plan looks at).
    Only(BTreeSet<WorkloadId>),
    /// Any.
    All,
}

impl Default for Dirty {
    fn default() -> Self {
        Self::none()
    }
}

impl Dirty {
    /// None.
    pub fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    /// One.
    pub fn one(workload: WorkloadId) -> Self {
        Self::Only(BTreeSet::from([workload]))
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Only(set) if set.is_empty())
    }

    /// These and those.
    pub fn join(&mut self, other: Dirty) {
        match (&mut *self, other) {
            (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
            (Self::Only(mine), Self::Only(theirs)) => mine.extend(theirs),
        }
    }
}

/// A route without its methods.
pub(crate) type RouteKey = (CapabilityName, Option<String>, String);

/// What follows from the records and facts, kept beside them so that work is in proportion to what changed.
#[derive(Debug, Clone, Default)]
struct Index {
    /// The hosts, and what is free on them.
    fleet: FleetIndex,
    /// When hosts were heard.
    listening: Listening,
    /// Which workloads are on which host.
    residents: Residents,
    routes: BTreeMap<RouteKey, BTreeSet<WorkloadId>>,
    /// By workload, those that call it over the network: by what is meant, or by what replicas of theirs still do.
    callers: BTreeMap<WorkloadId, BTreeSet<WorkloadId>>,
    /// By workload, those that keep away from it or near to it.
    named_by: BTreeMap<WorkloadId, BTreeSet<WorkloadId>>,
    /// How many workloads there are of each priority.
    priorities: BTreeMap<u32, usize>,
    /// Hosts that say that they hold units of a workload.
    reporting: Arc<BTreeMap<WorkloadId, u32>>,
    /// Workloads that have fewer replicas placed than are wanted.
    short: BTreeSet<WorkloadId>,
    /// All daemons: a change of the fleet may concern each of them.
    daemons: BTreeSet<WorkloadId>,
    /// The fleet's version that the last plan saw.
    planned: u64,
    /// Workloads for which the last plan found no place.
    waiting: BTreeSet<WorkloadId>,
    /// Workloads whose plan may depend on how their units fare.
    restless: BTreeSet<WorkloadId>,
    /// Workloads of which a commit under way changes what is meant or placed.
    under_way: BTreeSet<WorkloadId>,
    /// Workloads that embed or call others.
    linked: BTreeSet<WorkloadId>,
    /// Hosts of which something else may be known than when these were taken last, to be kept with a decision.
    news: Arc<BTreeSet<HostId>>,
}

impl World {
    /// An empty world that judges silence by these numbers.
    pub fn new(liveness: LivenessOptions) -> Self {
        let mut world = Self::default();
        world.seen.watch.options = liveness;
        world
    }

    /// Notes that everything up to a commit is taken in.
    pub fn set_head(&mut self, head: Version) {
        self.seen.records.head = head;
    }

    /// Takes in one committed write; no value is a deletion. Says which workloads it may place differently.
    ///
    /// # Errors
    /// If the key or the value cannot be read; the world is then unchanged.
    pub fn apply_write(&mut self, key: &str, value: Option<&[u8]>) -> Result<Dirty, RecordError> {
        let parsed = Key::parse(key).ok_or_else(|| RecordError::UnknownKey(key.chars().take(200).collect()))?;
        self.apply_record(&parsed, value)
    }

    /// The same, for a key that was taken apart already.
    ///
    /// # Errors
    /// If the value cannot be read; the world is then unchanged.
    pub fn apply_record(&mut self, key: &Key, value: Option<&[u8]>) -> Result<Dirty, RecordError> {
        match key {
            Key::Workload(id) => {
                let record = read::<WorkloadRecord>(key, value)?;
                self.set_workload(id, record);
                Ok(Dirty::one(id.clone()))
            }
            Key::Platform(name) => {
                let record = read::<PlatformRecord>(key, value)?;
                let now = record.as_deref().map(asks_of_platform).unwrap_or_default();
                let platforms = &mut self.seen.records.platforms;
                let old = platforms.get(name).cloned();
                let before = old.as_deref().map(asks_of_platform).unwrap_or_default();
                put(platforms, name, record.clone());
                self.index.fleet.set_asked(&before, &now, platforms);
                self.index.fleet.set_platforms(platforms);
                Ok(Dirty::All)
            }
            Key::Config(id) => {
                put(&mut self.seen.records.configs, id, read(key, value)?);
                Ok(Dirty::none())
            }
            Key::SecretRef(id) => {
                put(&mut self.seen.records.secret_refs, id, read(key, value)?);
                Ok(Dirty::none())
            }
            Key::NamespacePolicy(id) => {
                put(&mut self.seen.records.namespace_policies, id, read(key, value)?);
                Ok(Dirty::none())
            }
            Key::Quota(id) => {
                put(&mut self.seen.records.quotas, id, read(key, value)?);
                Ok(Dirty::none())
            }
            Key::Place(id) => {
                let record = read::<PlaceRecord>(key, value)?;
                self.set_place(id, record);
                Ok(Dirty::one(id.clone()))
            }
            Key::Template(digest) => {
                if let Some(found) = value.map(Digest::of).filter(|found| found != digest) {
                    return Err(RecordError::Digest {
                        key: key.to_string(),
                        found,
                    });
                }
                put(
                    Arc::make_mut(&mut self.seen.records.templates),
                    digest,
                    read(key, value)?,
                );
                Ok(Dirty::none())
            }
            Key::Host(host) => {
                let record = read(key, value)?;
                if record.is_none() {
                    // It must join again: what it said before counts no longer.
                    let said = Arc::make_mut(&mut self.seen.observed).remove(host);
                    for unit in said.iter().flat_map(|said| said.units.keys()) {
                        self.count_unit(unit, false);
                    }
                    self.seen.watch.announced.forget(host);
                } else if !self.hosts.contains_key(host) {
                    self.seen.watch.announced.doubt();
                }
                put(Arc::make_mut(&mut self.seen.records.hosts), host, record);
                self.refresh_host(host);
                Ok(Dirty::Only(self.workloads_on(host)))
            }
            Key::Policy(name) => {
                put(&mut self.seen.records.policies, name, read(key, value)?);
                Ok(Dirty::none())
            }
        }
    }

    /// Replaces, adds or removes a workload.
    pub(crate) fn set_workload(&mut self, id: &WorkloadId, record: Option<Arc<WorkloadRecord>>) {
        if let Some(before) = self.seen.records.workloads.get(id).cloned() {
            for trigger in &before.intent.http {
                let key = route_key(trigger);
                if let Some(owners) = self.index.routes.get_mut(&key) {
                    owners.remove(id);
                    if owners.is_empty() {
                        self.index.routes.remove(&key);
                    }
                }
            }
        }
        for trigger in record.iter().flat_map(|r| &r.intent.http) {
            self.index
                .routes
                .entry(route_key(trigger))
                .or_default()
                .insert(id.clone());
        }
        let before = self.seen.records.workloads.get(id).cloned();
        let before = before.as_ref().map(|r| asks_of(&r.intent)).unwrap_or_default();
        let now = record.as_ref().map(|r| asks_of(&r.intent)).unwrap_or_default();
        self.index.fleet.set_asked(&before, &now, &self.seen.records.platforms);
        let callees = self.callees(id);
        self.count_priority(id, false);
        self.refresh_names(id, record.as_deref());
        let daemon = record.as_ref().is_some_and(|r| r.intent.replicas == Replicas::Daemon);
        let linked = record
            .as_ref()
            .is_some_and(|r| !r.embeds.is_empty() || !r.intent.calls.is_empty());
        for (set, is_in) in [(&mut self.index.daemons, daemon), (&mut self.index.linked, linked)] {
            match is_in {
                true => set.insert(id.clone()),
                false => set.remove(id),
            };
        }
        put(Arc::make_mut(&mut self.seen.records.workloads), id, record);
        self.count_priority(id, true);
        self.refresh_callers(id, callees);
        self.refresh_short(id);
    }

    /// Counts a workload's priority in or out.
    fn count_priority(&mut self, id: &WorkloadId, is_in: bool) {
        let Some(priority) = self.workloads.get(id).map(|r| r.intent.rules.priority) else {
            return;
        };
        let count = self.index.priorities.entry(priority).or_default();
        match is_in {
            true => *count += 1,
            false => *count = count.saturating_sub(1),
        }
        if *count == 0 {
            self.index.priorities.remove(&priority);
        }
    }

    /// Whether workloads differ in priority.
    pub(crate) fn has_priorities(&self) -> bool {
        self.index.priorities.len() > 1
    }

    /// The lowest priority of any workload.
    pub(crate) fn least_priority(&self) -> u32 {
        self.index.priorities.keys().next().copied().unwrap_or(0)
    }

    /// Whether any workload has a lower priority.
    pub(crate) fn has_below(&self, priority: u32) -> bool {
        self.least_priority() < priority
    }

    /// Keeps what was worked out for a workload's shape, so that the next plan need not.
    fn remember_shape(&mut self, id: &WorkloadId) {
        let Some(record) = self.seen.records.workloads.get(id) else {
            return;
        };
        let template = self.seen.records.templates.get(&record.template).map(Arc::as_ref);
        let need = Need {
            intent: &record.intent,
            template,
        };
        let shape = Shape::of(&need);
        let fleet = &mut self.index.fleet;
        let known = fleet.layout(&shape).cloned();
        if known.as_ref().is_some_and(|layout| layout.is_whole(fleet)) {
            return;
        }
        let layout = match known {
            Some(known) => {
                let mut layout = Layout::clone(&known);
                layout.extend(&need, fleet);
                layout
            }
            None => Layout::new(&need, fleet),
        };
        fleet.remember(Arc::new(shape), Arc::new(layout));
    }

    fn refresh_names(&mut self, id: &WorkloadId, after: Option<&WorkloadRecord>) {
        let before = self.seen.records.workloads.get(id).cloned();
        for company in before
            .iter()
            .flat_map(|r| r.intent.rules.avoid.iter().chain(&r.intent.rules.near))
        {
            if let Some(names) = self.index.named_by.get_mut(&company.workload) {
                names.remove(id);
                if names.is_empty() {
                    self.index.named_by.remove(&company.workload);
                }
            }
        }
        for company in after
            .iter()
            .flat_map(|r| r.intent.rules.avoid.iter().chain(&r.intent.rules.near))
        {
            let names = self.index.named_by.entry(company.workload.clone()).or_default();
            names.insert(id.clone());
        }
    }

    /// The workloads that keep away from one or near to it.
    pub(crate) fn named_by(&self, id: &WorkloadId) -> impl Iterator<Item = &WorkloadId> {
        self.index.named_by.get(id).into_iter().flatten()
    }

    /// The hosts, and what is free on them.
    pub(crate) fn fleet(&self) -> &FleetIndex {
        &self.index.fleet
    }

    /// When hosts were heard.
    pub(crate) fn listening(&self) -> &Listening {
        &self.index.listening
    }

    /// Whether any host says that it holds units of a workload.
    pub(crate) fn is_reported(&self, id: &WorkloadId) -> bool {
        self.index.reporting.contains_key(id)
    }

    pub(crate) fn watch_mut(&mut self) -> &mut Watch {
        &mut self.seen.watch
    }

    /// What a host said, to be changed; [`World::refresh_host`] follows.
    pub(crate) fn observed_mut(&mut self, host: &HostId) -> Option<&mut ObservedHost> {
        Arc::make_mut(&mut self.seen.observed).get_mut(host).map(Arc::make_mut)
    }

    /// The same, for a host that may speak for the first time.
    pub(crate) fn observed_entry(&mut self, host: &HostId) -> &mut ObservedHost {
        Arc::make_mut(Arc::make_mut(&mut self.seen.observed).entry(host.clone()).or_default())
    }

    /// Takes what is known of a host now into the index.
    pub(crate) fn refresh_host(&mut self, host: &HostId) {
        let record = self.seen.records.hosts.get(host);
        let observed = self.seen.observed.get(host).map(Arc::as_ref);
        self.index.listening.set(host, record.is_some(), observed);
        let known = Known {
            record,
            hello: observed.and_then(|o| o.hello.as_ref()),
            leaving: observed.is_some_and(|o| o.leaving),
            reported: observed.is_some_and(|o| o.status_seq.is_some()),
        };
        if self.index.fleet.set_host(host, known, &self.seen.records.platforms) {
            Arc::make_mut(&mut self.index.news).insert(host.clone());
        }
    }

    /// Takes a verdict on a host into the index.
    pub(crate) fn set_mood(&mut self, host: &HostId, verdict: &HostLiveness) {
        let platforms = &self.seen.records.platforms;
        self.index.fleet.set_mood(host, Mood::from(verdict), platforms);
    }

    /// Counts a unit that a host says it holds now, or holds no more.
    pub(crate) fn count_unit(&mut self, unit: &UnitId, holds: bool) {
        let reporting = Arc::make_mut(&mut self.index.reporting);
        if holds {
            *reporting.entry(unit.workload.clone()).or_default() += 1;
        } else if let Some(count) = reporting.get_mut(&unit.workload) {
            *count -= 1;
            if *count == 0 {
                reporting.remove(&unit.workload);
            }
        }
    }

    /// The workloads that one calls over the network.
    pub(crate) fn callees(&self, id: &WorkloadId) -> BTreeSet<WorkloadId> {
        let meant = self
            .seen
            .records
            .workloads
            .get(id)
            .into_iter()
            .flat_map(|r| &r.intent.calls);
        let sets = self.seen.records.places.get(id).into_iter().flat_map(|p| &p.sets);
        let placed = sets.flat_map(|set| &set.calls);
        meant.chain(placed).map(|call| call.workload.clone()).collect()
    }

    fn refresh_callers(&mut self, id: &WorkloadId, before: BTreeSet<WorkloadId>) {
        let after = self.callees(id);
        for gone in before.difference(&after) {
            if let Some(callers) = self.index.callers.get_mut(gone) {
                callers.remove(id);
                if callers.is_empty() {
                    self.index.callers.remove(gone);
                }
            }
        }
        for new in after.difference(&before) {
            self.index.callers.entry(new.clone()).or_default().insert(id.clone());
        }
    }

    /// Whether a workload embeds or calls others.
    pub(crate) fn is_linked(&self, id: &WorkloadId) -> bool {
        self.index.linked.contains(id)
    }

    /// The workloads that embed or call others, with their records.
    pub(crate) fn linked(&self) -> impl Iterator<Item = (&WorkloadId, &WorkloadRecord)> {
        let linked = self.index.linked.iter();
        linked.filter_map(|id| Some((id, self.workloads.get(id)?.as_ref())))
    }

    /// The workloads that call one over the network.
    pub fn callers(&self, id: &WorkloadId) -> impl Iterator<Item = &WorkloadId> {
        self.index.callers.get(id).into_iter().flatten()
    }

    fn refresh_short(&mut self, id: &WorkloadId) {
        let short = match self.seen.records.workloads.get(id) {
            None => self.seen.records.places.contains_key(id),
            Some(record) => match record.intent.replicas {
                Replicas::Daemon => !self.seen.records.places.contains_key(id),
                Replicas::Count(_) => {
                    let place = self.seen.records.places.get(id).map(Arc::as_ref);
                    let placed = place.map(|p| p.count_of(record.intent.unit_generation));
                    placed.unwrap_or(0) < crate::plan::job::wanted(&record.intent, place)
                }
            },
        };
        let restless = short || self.goes_by_units(id);
        for (set, is_in) in [(&mut self.index.short, short), (&mut self.index.restless, restless)] {
            match is_in {
                true => set.insert(id.clone()),
                false => set.remove(id),
            };
        }
    }

    /// Whether the next plan of a workload that lacks no place may look at how its units fare: it is a job, or there are
    /// replicas that go once others are ready.
    fn goes_by_units(&self, id: &WorkloadId) -> bool {
        let (Some(record), Some(place)) = (self.workloads.get(id), self.places.get(id)) else {
            return false;
        };
        let newest = record.intent.unit_generation;
        let surplus = match record.intent.replicas {
            Replicas::Count(wanted) => place.count_of(newest) > wanted,
            Replicas::Daemon => false,
        };
        record.intent.job.is_some() || surplus || place.sets.iter().any(|set| set.generation != newest)
    }

    /// Whether a plan may depend on how a workload's units fare. Most of the time none does: all is placed, nothing is to
    /// go, and a fleet that starts a million replicas says so a million times.
    pub(crate) fn is_restless(&self, id: &WorkloadId) -> bool {
        self.index.restless.contains(id) || self.index.under_way.contains(id)
    }

    /// Names the workloads of which a commit under way changes what is meant or placed. What is learned of them meanwhile may
    /// matter once it has landed, although it does not matter to what they are now.
    pub fn set_under_way(&mut self, workloads: BTreeSet<WorkloadId>) {
        self.index.under_way = workloads;
    }

    /// Memory (in bytes) and replicas that the placements on a host take.
    pub fn usage(&self, host: &HostId) -> (u64, u32) {
        let fleet = &self.index.fleet;
        let seat = fleet.number(host).and_then(|number| fleet.seat(number));
        seat.map_or((0, 0), |seat| (seat.used.bytes, seat.used.replicas))
    }

    /// The workloads that have replicas on a host.
    pub fn workloads_on(&self, host: &HostId) -> BTreeSet<WorkloadId> {
        let number = self.index.fleet.number(host);
        number
            .map(|number| self.residents_of(number).cloned().collect())
            .unwrap_or_default()
    }

    /// Those of them whose plan may depend on how their units fare.
    pub(crate) fn restless_on(&self, host: &HostId) -> BTreeSet<WorkloadId> {
        if self.index.restless.is_empty() && self.index.under_way.is_empty() {
            return BTreeSet::new();
        }
        let number = self.index.fleet.number(host);
        let residents = number.into_iter().flat_map(|number| self.residents_of(number));
        residents.filter(|id| self.is_restless(id)).cloned().collect()
    }

    /// The workloads that have replicas on a host by number, in no useful order, those with two generations twice.
    pub(crate) fn residents_of(&self, host: HostNo) -> impl Iterator<Item = &WorkloadId> {
        self.index.residents.on(host)
    }

    /// Workloads that any change of the fleet may concern: those that lack a place; and daemons, if the fleet is not the
    /// one that was planned last.
    pub(crate) fn seeking(&self, fleet_version: u64) -> impl Iterator<Item = &WorkloadId> {
        let daemons = self
            .index
            .daemons
            .iter()
            .filter(move |_| fleet_version != self.index.planned);
        self.index.short.iter().chain(&self.index.waiting).chain(daemons)
    }

    /// Remembers what the plan that was carried out last found no place for, so that the next one looks at it, whatever
    /// is dirty. Every plan looks at all that waited before, so its report is the whole list.
    pub fn note_plan(&mut self, report: &PlanReport) {
        let lacks = |on: &WaitingOn| matches!(on, WaitingOn::Hosts { .. });
        let waiting = report.workloads.iter().filter(|(_, w)| w.waiting.iter().any(lacks));
        self.index.waiting = waiting.map(|(id, _)| id.clone()).collect();
        self.index.planned = report.fleet_version;
        self.index.fleet.forget_asked(&self.seen.records.platforms);
    }

    /// Notes that the fleet is not surely the one that the last plan saw: that plan was made on a copy, in which a host that was
    /// forgotten and joined in one commit had said nothing yet.
    pub fn doubt_plan(&mut self) {
        self.index.planned = u64::MAX;
    }

    /// The workloads that have a trigger of this listener, host and path.
    pub(crate) fn route_owners(&self, trigger: &HttpTrigger) -> impl Iterator<Item = &WorkloadId> {
        self.index.routes.get(&route_key(trigger)).into_iter().flatten()
    }
}

fn route_key(trigger: &HttpTrigger) -> RouteKey {
    (trigger.capability.clone(), trigger.host.clone(), trigger.path.clone())
}

fn put<K: Ord + Clone, V>(map: &mut BTreeMap<K, Arc<V>>, key: &K, value: Option<Arc<V>>) {
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    };
}

fn read<T: DeserializeOwned>(key: &Key, value: Option<&[u8]>) -> Result<Option<Arc<T>>, RecordError> {
    let Some(bytes) = value else { return Ok(None) };
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(Some(Arc::new(value))),
        Err(source) => Err(RecordError::Value {
            key: key.to_string(),
            source,
        }),
    }
}
