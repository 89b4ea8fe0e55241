//! What is really in the store: a model of its own, made from every batch at the moment when it is stored.
//!
//! In: batches. Out: the newest values, and what every commit changed. It reads records by itself and uses none of the
//! scheduler's code, so that a mistake there does not hide itself.

use bytes::Bytes;
use heddle_protocol::digest::Digest;
use heddle_protocol::id::{HostId, RequestId, UnitId, Version, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::record::{AuditRecord, HostRecord, PlaceRecord, WorkloadRecord};
use heddle_scheduler::store::{Head, SetDigest, Stored};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// The units of one host: replicas and template.
pub type Units = BTreeMap<UnitId, (u32, Digest)>;

/// The model.
#[derive(Default)]
pub struct Truth {
    /// The newest head.
    pub head: Option<Head>,
    /// All live values.
    pub values: BTreeMap<String, Bytes>,
    /// Their digest.
    pub digest: SetDigest,
    /// Workloads.
    pub workloads: BTreeMap<WorkloadId, WorkloadRecord>,
    /// How often each workload was deleted.
    pub deletions: BTreeMap<WorkloadId, u32>,
    /// Placements.
    pub places: BTreeMap<WorkloadId, PlaceRecord>,
    /// Hosts.
    pub hosts: BTreeMap<HostId, HostRecord>,
    /// Every commit, by its number.
    pub commits: BTreeMap<u64, CommitSeen>,
    /// The commit that each request is in.
    pub requests: BTreeMap<RequestId, u64>,
    /// What each host was to run, and since which commit.
    pub units: BTreeMap<HostId, Vec<(u64, Units)>>,
    /// Values that the store lost and that were not written since, with when.
    pub lost: BTreeMap<String, u64>,
    /// When each scheduler was started, by its id.
    pub started: BTreeMap<String, Vec<u64>>,
    /// How long what a scheduler asked of the store may be on its way, in milliseconds.
    pub late_ms: u64,
    /// When the store last began to answer nobody, and until when: what it was asked meanwhile was carried out then.
    pub stall: (u64, u64),
    /// Batches that could not be read.
    pub unreadable: Vec<String>,
}

/// A commit.
#[derive(Debug, Clone)]
pub struct CommitSeen {
    /// Its place in the order of commits.
    pub version: Version,
    /// Who made it.
    pub leader: String,
    /// When it was stored, in milliseconds from the start.
    pub at: u64,
    /// What it changed.
    pub changes: Vec<Changed>,
    /// Its audit record; none in a take-over.
    pub audit: Option<AuditRecord>,
    /// Whether there is a record for its audit, whatever is in it.
    pub audited: bool,
}

/// A record that a commit changed.
#[derive(Debug, Clone)]
pub struct Changed {
    /// Its key.
    pub key: Key,
    /// What it was.
    pub before: Option<Bytes>,
    /// What it is.
    pub after: Option<Bytes>,
}

impl Changed {
    /// What it was, read.
    pub fn was<T: DeserializeOwned>(&self) -> Option<T> {
        self.before
            .as_ref()
            .and_then(|bytes| serde_json::from_slice(bytes).ok())
    }

    /// What it is, read.
    pub fn is<T: DeserializeOwned>(&self) -> Option<T> {
        self.after.as_ref().and_then(|bytes| serde_json::from_slice(bytes).ok())
    }
}

impl Truth {
    /// The newest commit.
    pub fn n(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.n)
    }

    /// Takes in a batch. Out: the commit that it is.
    pub fn take(&mut self, batch: &[Stored], now: u64) -> Option<CommitSeen> {
        let head: Head = batch
            .iter()
            .find(|stored| stored.key == "head")
            .and_then(|stored| serde_json::from_slice(stored.body.as_ref()?).ok())?;
        let audit_key = format!("audit.{}", head.n);
        let audit = batch.iter().find(|stored| stored.key == audit_key);
        let body = audit
            .and_then(|stored| stored.body.as_ref())
            .filter(|body| !body.is_empty());
        let record: Option<AuditRecord> = body.and_then(|body| serde_json::from_slice(body).ok());
        let mut changes = Vec::new();
        for stored in batch {
            let Some(key) = Key::parse(&stored.key) else {
                if let Some(("change" | "stage", _)) = stored.key.split_once('.') {
                    self.unreadable.push(format!("{} was staged", stored.key));
                }
                continue;
            };
            changes.push(self.put(key, &stored.key, stored.body.clone()));
        }
        let n = head.n;
        for request in record.iter().flat_map(|record| &record.requests) {
            self.requests.entry(request.request_id.clone()).or_insert(n);
        }
        let touched: BTreeSet<HostId> = changes.iter().flat_map(hosts_of).collect();
        for host in touched {
            let units = self.units_now(&host);
            let history = self.units.entry(host).or_default();
            if history.last().is_none_or(|(_, last)| *last != units) {
                history.push((n, units));
            }
        }
        let seen = CommitSeen {
            version: Version { epoch: head.epoch, n },
            leader: head.leader_id.clone(),
            at: now,
            changes,
            audit: record,
            audited: audit.is_some(),
        };
        self.head = Some(head);
        self.commits.insert(n, seen.clone());
        Some(seen)
    }

    /// Notes that the store answers nobody from `now` on, for `ms` at least.
    pub fn stalled(&mut self, now: u64, ms: u64) {
        let (_, until) = self.stall;
        match now > until {
            true => self.stall = (now, now + ms),
            false => self.stall.1 = until.max(now + ms),
        }
    }

    /// When what the store carried out at `at` was asked of it, at the earliest.
    pub fn sent_at_the_earliest(&self, at: u64) -> u64 {
        let late = at.saturating_sub(self.late_ms);
        let (since, until) = self.stall;
        match late <= until {
            true => late.min(since),
            false => late,
        }
    }

    fn put(&mut self, key: Key, name: &str, after: Option<Bytes>) -> Changed {
        self.lost.remove(name);
        let before = match &after {
            Some(value) => {
                self.digest.add(name, value);
                self.values.insert(name.to_owned(), value.clone())
            }
            None => self.values.remove(name),
        };
        if let Some(before) = &before {
            self.digest.remove(name, before);
        }
        let changed = Changed { key, before, after };
        match &changed.key {
            Key::Workload(id) => {
                *self.deletions.entry(id.clone()).or_default() += u32::from(changed.after.is_none());
                set(&mut self.workloads, id, changed.is());
            }
            Key::Place(id) => set(&mut self.places, id, changed.is()),
            Key::Host(id) => set(&mut self.hosts, id, changed.is()),
            _ => {}
        }
        changed
    }

    /// What a host is to run now.
    pub fn units_now(&self, host: &HostId) -> Units {
        let mut units = Units::new();
        for (workload, place) in &self.places {
            for set in &place.sets {
                if let Some(count) = set.hosts.get(host) {
                    let unit = UnitId {
                        workload: workload.clone(),
                        generation: set.generation,
                    };
                    units.insert(unit, (*count, set.template));
                }
            }
        }
        units
    }

    /// What a host was to run at a commit.
    pub fn units_at(&self, host: &HostId, n: u64) -> Units {
        let history = self.units.get(host).map_or(&[][..], Vec::as_slice);
        let newest = history.iter().rev().find(|(since, _)| *since <= n);
        newest.map(|(_, units)| units.clone()).unwrap_or_default()
    }
}

fn set<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key.clone(), value)),
        None => drop(map.remove(key)),
    }
}

fn hosts_of(changed: &Changed) -> Vec<HostId> {
    match &changed.key {
        Key::Place(_) => {
            let places = [changed.was::<PlaceRecord>(), changed.is::<PlaceRecord>()];
            let sets = places.into_iter().flatten().flat_map(|place| place.sets);
            sets.flat_map(|set| set.hosts.into_keys()).collect()
        }
        Key::Host(host) => vec![host.clone()],
        _ => Vec::new(),
    }
}
