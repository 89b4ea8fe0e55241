//! How an agent is started: plain values, made by the command line or by whoever embeds an agent.

use crate::engine::Allocator;
use crate::source::InProcess;
use heddle_protocol::defaults::{HEARTBEAT_MS, HOST_REPLICA_SLOTS, LEAVING_DEADLINE_MS};
use heddle_protocol::id::{CapabilityName, HostId, Realm};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that an agent is told at start.
#[derive(Debug)]
pub struct AgentOptions {
    /// The realm that it serves.
    pub realm: Realm,
    /// Its host's id.
    pub host: HostId,
    /// Where it keeps its key and its caches. Only the key matters; the caches may be deleted at any time.
    pub data: PathBuf,
    /// Where specs come from.
    pub source: SourceOptions,
    /// The public keys whose specs it runs.
    pub realm_keys: Vec<String>,
    /// A one-use token, needed the first time that this host joins its realm.
    pub join_token: Option<String>,
    /// The host's labels, beside those that the agent adds itself.
    pub labels: BTreeMap<String, String>,
    /// Addresses that replace those of the platform's listeners, by capability (D20).
    pub bind: BTreeMap<CapabilityName, SocketAddr>,
    /// Memory for instances, in bytes; none takes three quarters of the machine's.
    pub memory_bytes: Option<u64>,
    /// Replicas that the host takes.
    pub replica_slots: u32,
    /// Processor time that replicas may reserve, in thousandths of a core; none sets no bound.
    pub cpu_millis: Option<u32>,
    /// Countable things that replicas may take, by name.
    pub resources: BTreeMap<String, u32>,
    /// How instances are made. Where a pool cannot be reserved, they are made on demand.
    pub allocator: Allocator,
    /// Networks that guests may reach although they are the host itself or its link; never the fleet's own servers.
    pub egress_allow: Vec<IpNet>,
    /// Where `/metrics` and `/healthz` are served; none serves them nowhere.
    pub http: Option<SocketAddr>,
    /// How often it says that it lives.
    pub heartbeat: Duration,
    /// How long it goes on serving after it was told to stop, if its work is not taken over earlier.
    pub leaving_deadline: Duration,
}

/// Where specs come from.
#[derive(Debug)]
pub enum SourceOptions {
    /// The scheduler, over NATS.
    Nats {
        /// Server URLs, separated by commas.
        url: String,
        /// A NATS credentials file.
        credentials: Option<PathBuf>,
    },
    /// A file, or a folder that holds `spec.json`. It is read again when it changes; artifacts lie beside it as
    /// `artifacts/<hex>.wasm`.
    File(PathBuf),
    /// The process that this agent is part of.
    InProcess(InProcess),
}

impl AgentOptions {
    /// Options with everything as usual but what must be named.
    pub fn new(realm: Realm, host: HostId, data: PathBuf, source: SourceOptions) -> Self {
        Self {
            realm,
            host,
            data,
            source,
            realm_keys: Vec::new(),
            join_token: None,
            labels: BTreeMap::new(),
            bind: BTreeMap::new(),
            memory_bytes: None,
            replica_slots: HOST_REPLICA_SLOTS,
            cpu_millis: None,
            resources: BTreeMap::new(),
            allocator: Allocator::Pooling,
            egress_allow: Vec::new(),
            http: None,
            heartbeat: Duration::from_millis(HEARTBEAT_MS),
            leaving_deadline: Duration::from_millis(LEAVING_DEADLINE_MS),
        }
    }
}
