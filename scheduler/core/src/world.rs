//! Everything that the scheduler knows: the committed records, and what hosts said since it started.
//!
//! In: committed writes ([`World::apply_write`]) and facts ([`World::apply`], in `fact.rs`). Out: plain values to decide
//! from. Records are read through `Deref`, so that nobody changes one without the index beside them. A clone shares
//! every record, and serves to try a decision out.

use crate::liveness::LivenessOptions;
use crate::observed::{ObservedHost, Watch};
use crate::plan::PlanReport;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::Template;
use heddle_protocol::id::{CapabilityName, ConfigId, HostId, ObjectId, PlatformName, Version, WorkloadId};
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

/// The committed records, by key family.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Records {
    /// The newest commit that is taken in.
    pub head: Version,
    /// What is meant.
    pub workloads: BTreeMap<WorkloadId, Arc<WorkloadRecord>>,
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
    pub places: BTreeMap<WorkloadId, Arc<PlaceRecord>>,
    /// What replicas run.
    pub templates: BTreeMap<Digest, Arc<Template>>,
    /// Which hosts were admitted.
    pub hosts: BTreeMap<HostId, Arc<HostRecord>>,
    /// Join tokens and the like, by name.
    pub policies: BTreeMap<String, Arc<serde_json::Value>>,
}

/// Everything that the scheduler knows.
#[derive(Debug, Clone, Default)]
pub struct World {
    records: Records,
    index: Index,
    /// What each host said since this scheduler started; in memory only.
    pub observed: BTreeMap<HostId, Arc<ObservedHost>>,
    /// Since when this scheduler may judge hosts by their silence.
    pub watch: Watch,
}

impl Deref for World {
    type Target = Records;
    fn deref(&self) -> &Records {
        &self.records
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

/// What the placements on one host take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostLoad {
    /// Memory, in bytes.
    pub reserved_bytes: u64,
    /// Replicas.
    pub replicas: u32,
    /// The workloads, with any generation.
    pub workloads: BTreeSet<WorkloadId>,
}

/// A route without its methods.
pub(crate) type RouteKey = (CapabilityName, Option<String>, String);

/// Sums over the records, kept beside them so that work is in proportion to what changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Index {
    loads: BTreeMap<HostId, Arc<HostLoad>>,
    routes: BTreeMap<RouteKey, BTreeSet<WorkloadId>>,
    /// By workload, those that call it over the network: by what is meant, or by what replicas of theirs still do.
    callers: BTreeMap<WorkloadId, BTreeSet<WorkloadId>>,
    /// Workloads that have fewer replicas placed than are wanted, and all daemons.
    short: BTreeSet<WorkloadId>,
    /// Workloads for which the last plan found no place.
    waiting: BTreeSet<WorkloadId>,
}

impl World {
    /// An empty world that judges silence by these numbers.
    pub fn new(liveness: LivenessOptions) -> Self {
        let watch = Watch {
            options: liveness,
            ..Watch::default()
        };
        Self {
            watch,
            ..Self::default()
        }
    }

    /// Notes that everything up to a commit is taken in.
    pub fn set_head(&mut self, head: Version) {
        self.records.head = head;
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
                put(&mut self.records.platforms, name, read(key, value)?);
                Ok(Dirty::All)
            }
            Key::Config(id) => {
                put(&mut self.records.configs, id, read(key, value)?);
                Ok(Dirty::none())
            }
            Key::SecretRef(id) => {
                put(&mut self.records.secret_refs, id, read(key, value)?);
                Ok(Dirty::none())
            }
            Key::NamespacePolicy(id) => {
                put(&mut self.records.namespace_policies, id, read(key, value)?);
                Ok(Dirty::none())
            }
            Key::Quota(id) => {
                put(&mut self.records.quotas, id, read(key, value)?);
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
                put(&mut self.records.templates, digest, read(key, value)?);
                Ok(Dirty::none())
            }
            Key::Host(host) => {
                let record = read(key, value)?;
                if record.is_none() {
                    // It must join again: what it said before counts no longer.
                    self.observed.remove(host);
                    self.watch.announced.remove(host);
                }
                put(&mut self.records.hosts, host, record);
                Ok(Dirty::Only(self.workloads_on(host)))
            }
            Key::Policy(name) => {
                put(&mut self.records.policies, name, read(key, value)?);
                Ok(Dirty::none())
            }
        }
    }

    /// Replaces, adds or removes a workload.
    pub(crate) fn set_workload(&mut self, id: &WorkloadId, record: Option<Arc<WorkloadRecord>>) {
        if let Some(before) = self.records.workloads.get(id).cloned() {
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
        let callees = self.callees(id);
        put(&mut self.records.workloads, id, record);
        self.refresh_callers(id, callees);
        self.refresh_short(id);
    }

    /// Replaces, adds or removes a placement.
    pub(crate) fn set_place(&mut self, id: &WorkloadId, record: Option<Arc<PlaceRecord>>) {
        if let Some(before) = self.records.places.get(id).cloned() {
            for (host, reserve, count) in on_hosts(&before) {
                let load = Arc::make_mut(self.index.loads.entry(host.clone()).or_default());
                load.reserved_bytes = load
                    .reserved_bytes
                    .saturating_sub(reserve.saturating_mul(u64::from(count)));
                load.replicas = load.replicas.saturating_sub(count);
                load.workloads.remove(id);
                if load.workloads.is_empty() {
                    self.index.loads.remove(host);
                }
            }
        }
        for (host, reserve, count) in record.iter().flat_map(|r| on_hosts(r)) {
            let load = Arc::make_mut(self.index.loads.entry(host.clone()).or_default());
            load.reserved_bytes = load
                .reserved_bytes
                .saturating_add(reserve.saturating_mul(u64::from(count)));
            load.replicas = load.replicas.saturating_add(count);
            load.workloads.insert(id.clone());
        }
        let callees = self.callees(id);
        put(&mut self.records.places, id, record);
        self.refresh_callers(id, callees);
        self.refresh_short(id);
    }

    /// The workloads that one calls over the network.
    fn callees(&self, id: &WorkloadId) -> BTreeSet<WorkloadId> {
        let meant = self.records.workloads.get(id).into_iter().flat_map(|r| &r.intent.calls);
        let sets = self.records.places.get(id).into_iter().flat_map(|p| &p.sets);
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

    /// The workloads that call one over the network.
    pub fn callers(&self, id: &WorkloadId) -> impl Iterator<Item = &WorkloadId> {
        self.index.callers.get(id).into_iter().flatten()
    }

    /// The hosts whose specs may be others because of a record's change. Asked before the change and after it.
    pub fn hosts_touched(&self, key: &Key) -> BTreeSet<HostId> {
        match key {
            Key::Host(host) => BTreeSet::from([host.clone()]),
            Key::Platform(_) => self.records.hosts.keys().cloned().collect(),
            // Its own, of which routes, subjects and versions of secrets are part; its callers', who are told where it
            // is; and its callees', who are told what to serve.
            Key::Workload(id) | Key::Place(id) => {
                let callees = self.callees(id);
                let all = self.callers(id).chain(&callees).chain([id]);
                all.flat_map(|id| self.hosts_of(id)).collect()
            }
            Key::Config(_)
            | Key::SecretRef(_)
            | Key::NamespacePolicy(_)
            | Key::Quota(_)
            | Key::Template(_)
            | Key::Policy(_) => BTreeSet::new(),
        }
    }

    /// The hosts that a workload is placed on.
    pub fn hosts_of(&self, id: &WorkloadId) -> impl Iterator<Item = HostId> {
        let sets = self.records.places.get(id).into_iter().flat_map(|place| &place.sets);
        sets.flat_map(|set| set.hosts.keys().cloned())
    }

    fn refresh_short(&mut self, id: &WorkloadId) {
        let short = match self.records.workloads.get(id) {
            None => self.records.places.contains_key(id),
            Some(record) => match record.intent.replicas {
                Replicas::Daemon => true,
                Replicas::Count(_) => {
                    let place = self.records.places.get(id).map(Arc::as_ref);
                    let placed = place.map(|p| p.count_of(record.intent.unit_generation));
                    placed.unwrap_or(0) < crate::plan::job::wanted(&record.intent, place)
                }
            },
        };
        if short {
            self.index.short.insert(id.clone());
        } else {
            self.index.short.remove(id);
        }
    }

    /// What the placements on a host take.
    pub fn load(&self, host: &HostId) -> HostLoad {
        self.index
            .loads
            .get(host)
            .map(|load| HostLoad::clone(load))
            .unwrap_or_default()
    }

    /// Memory (in bytes) and replicas that the placements on a host take.
    pub fn usage(&self, host: &HostId) -> (u64, u32) {
        self.index
            .loads
            .get(host)
            .map_or((0, 0), |load| (load.reserved_bytes, load.replicas))
    }

    /// The workloads that have replicas on a host.
    pub fn workloads_on(&self, host: &HostId) -> BTreeSet<WorkloadId> {
        self.index
            .loads
            .get(host)
            .map(|load| load.workloads.clone())
            .unwrap_or_default()
    }

    /// Workloads that any change of the fleet may concern: those that lack a place, and daemons.
    pub(crate) fn seeking(&self) -> impl Iterator<Item = &WorkloadId> {
        self.index.short.iter().chain(&self.index.waiting)
    }

    /// Remembers what the plan that was carried out last found no place for, so that the next one looks at it, whatever
    /// is dirty. Every plan looks at all that waited before, so its report is the whole list.
    pub fn note_plan(&mut self, report: &PlanReport) {
        let lacks = |on: &WaitingOn| matches!(on, WaitingOn::Hosts { .. });
        let waiting = report.workloads.iter().filter(|(_, w)| w.waiting.iter().any(lacks));
        self.index.waiting = waiting.map(|(id, _)| id.clone()).collect();
    }

    /// The workloads that have a trigger of this listener, host and path.
    pub(crate) fn route_owners(&self, trigger: &HttpTrigger) -> impl Iterator<Item = &WorkloadId> {
        self.index.routes.get(&route_key(trigger)).into_iter().flatten()
    }
}

fn route_key(trigger: &HttpTrigger) -> RouteKey {
    (trigger.capability.clone(), trigger.host.clone(), trigger.path.clone())
}

fn on_hosts(place: &PlaceRecord) -> impl Iterator<Item = (&HostId, u64, u32)> {
    place
        .sets
        .iter()
        .flat_map(|set| set.hosts.iter().map(|(host, count)| (host, set.reserve_bytes, *count)))
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
