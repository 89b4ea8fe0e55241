//! How a pretended fleet behaves.

use crate::delay::StartDelay;
use heddle_protocol::host_report::Capacity;
use heddle_protocol::host_spec::Feature;
use heddle_protocol::id::Realm;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How a pretended fleet behaves.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// The URL of NATS.
    pub nats: String,
    /// The realm to join.
    pub realm: Realm,
    /// The public keys whose specs are taken.
    pub realm_keys: Vec<String>,
    /// How many hosts there are.
    pub hosts: usize,
    /// What their names begin with; a number follows.
    pub prefix: String,
    /// Zones, named `zone-0` and so on, that the hosts are dealt to in turn; 0 is no label.
    pub zones: usize,
    /// Labels that every host has.
    pub labels: BTreeMap<String, String>,
    /// What each host has to give.
    pub capacity: Capacity,
    /// What each host can do.
    pub features: BTreeSet<Feature>,
    /// How often a host says that it lives. Each begins at another point of the period.
    pub heartbeat: Duration,
    /// How long units take to start.
    pub delay: StartDelay,
    /// The time over which the hosts join, and say hello after a restart.
    pub spread: Duration,
    /// Tasks that the hosts are dealt to, each with a connection to send on.
    pub shards: usize,
    /// Decides delays and points in time.
    pub seed: u64,
}

impl FleetOptions {
    /// So many hosts in a realm, with everything else as agents have it.
    pub fn new(nats: impl Into<String>, realm: Realm, realm_keys: Vec<String>, hosts: usize) -> Self {
        Self {
            nats: nats.into(),
            realm,
            realm_keys,
            hosts,
            prefix: "sim".to_owned(),
            zones: 1,
            labels: BTreeMap::new(),
            capacity: Capacity {
                memory_bytes: 1 << 40,
                replica_slots: 10_000,
                ..Capacity::default()
            },
            features: features(),
            heartbeat: Duration::from_millis(heddle_protocol::defaults::HEARTBEAT_MS),
            delay: StartDelay::default(),
            spread: Duration::ZERO,
            shards: 2,
            seed: 1,
        }
    }

    /// The name of a host, by its number.
    pub(crate) fn host_name(&self, n: usize) -> String {
        format!("{}-{n:05}", self.prefix)
    }
}

/// What an agent with everything that comes with it can do.
fn features() -> BTreeSet<Feature> {
    BTreeSet::from([
        Feature::WASI_P2,
        Feature::WASI_P3,
        Feature::HTTP,
        Feature::KEYVALUE_MEMORY,
        Feature::CONFIG,
        Feature::LOGGING,
        Feature::SECRETS,
        Feature::RUN,
        Feature::SPEC_DELTA,
    ])
}
