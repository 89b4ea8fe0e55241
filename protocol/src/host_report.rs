//! All that one host says: who it is (hello), that it lives (heartbeat), and what it runs (report).

use crate::digest::Digest;
use crate::host_spec::Feature;
use crate::id::{BootId, CapabilityName, ComponentName, HostId, Realm, UnitId, Version};
use crate::time::UnixMs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An agent's introduction, signed by its host key. Sent at start, after every reconnect, and when the scheduler asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hello {
    /// The realm that it wants to serve.
    pub realm: Realm,
    /// The host.
    pub host: HostId,
    /// This start of the agent.
    pub boot_id: BootId,
    /// A one-use token, needed the first time a host joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_token: Option<String>,
    /// The host's labels.
    pub labels: BTreeMap<String, String>,
    /// What it has to give.
    pub capacity: Capacity,
    /// What it can do.
    pub features: BTreeSet<Feature>,
    /// What compiles and runs its components.
    pub engine: Engine,
    /// The public key to which this start's secrets are sealed, in base64 ([`crate::seal`]).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub seal_key: String,
    /// The agent's version.
    pub version: String,
    /// The addresses that its listeners are bound to, by capability (D20).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bound: BTreeMap<CapabilityName, String>,
    /// The spec that it holds, from before or from its cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
}

/// A spec that an agent has taken as what it should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// Its version.
    #[serde(flatten)]
    pub version: Version,
    /// The digest of its body.
    pub digest: Digest,
}

/// What a host has to give to workloads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capacity {
    /// Memory for instances, in bytes.
    pub memory_bytes: u64,
    /// Replicas.
    pub replica_slots: u32,
    /// The most memory that one instance may have, in bytes: a pool's slot size; none where instances are made on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_memory_bytes_max: Option<u64>,
    /// Processor time that replicas may reserve, in thousandths of a core; none sets no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Countable things that replicas may take, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u32>,
}

/// What compiles and runs components on a host. Compiled code fits only the same fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Engine {
    /// The version of wasmtime.
    pub wasmtime: String,
    /// The target, such as `x86_64-unknown-linux-gnu`.
    pub target: String,
    /// `pooling` or `on-demand`.
    pub allocator: String,
    /// A digest of everything that compiled code depends on, per engine (`p2`, `p3`).
    pub fingerprints: BTreeMap<String, String>,
    /// What somebody else needs to know to compile for it: settings by name, understood by `heddle-engine`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub profile: BTreeMap<String, String>,
    /// Whether it can compile by itself.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub compiles: bool,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            wasmtime: String::new(),
            target: String::new(),
            allocator: String::new(),
            fingerprints: BTreeMap::new(),
            profile: BTreeMap::new(),
            compiles: true,
        }
    }
}

fn yes() -> bool {
    true
}

/// The scheduler's answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum HelloAnswer {
    /// The host belongs to the realm.
    Welcome {
        /// The scheduler that answers.
        scheduler: String,
        /// Its epoch.
        epoch: u64,
    },
    /// The host is not admitted, or not with this key.
    Refused {
        /// Why.
        reason: String,
        /// The next thing to try.
        next: String,
    },
}

/// The regular sign of life. Small and unsigned: NATS permissions bind its subject to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// This start of the agent.
    pub boot_id: BootId,
    /// One more for each heartbeat of this start.
    pub seq: u64,
    /// The spec that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
    /// A digest of what actually runs (of the phases of all units).
    pub running_digest: Digest,
    /// One more for each status message sent.
    pub status_seq: u64,
    /// Whether the agent was told to stop and is waiting for its work to be taken over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Memory that the process uses, in bytes.
    pub rss_bytes: u64,
    /// Calls in flight.
    pub in_flight: u32,
}

/// What a host runs: everything, or what changed since the last status message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostReport {
    /// This start of the agent.
    pub boot_id: BootId,
    /// One more for each status message; a gap makes the scheduler ask for a full report.
    pub status_seq: u64,
    /// Whether `units` is everything that the host has.
    pub full: bool,
    /// The spec that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
    /// The units that changed, or all of them.
    pub units: Vec<UnitStatus>,
    /// The units that are gone since the last message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<UnitId>,
    /// The digest of what runs after this message.
    pub running_digest: Digest,
    /// The addresses that the listeners are bound to, by capability.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bound: BTreeMap<CapabilityName, String>,
    /// Capabilities that could not be lent, with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capability_errors: BTreeMap<CapabilityName, String>,
}

/// How one unit fares on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnitStatus {
    /// The unit.
    #[serde(flatten)]
    pub unit: UnitId,
    /// Its replicas there.
    pub count: u32,
    /// Where it is on its way.
    pub phase: UnitPhase,
    /// Why it is not ready, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Failed attempts to start it since it was last ready.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Of a job: its runs that ended well.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub completed: u32,
    /// Of a job: its runs that were given up. Of a service: how often it was begun again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Where a unit is on its way from the spec to serving and to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnitPhase {
    /// Its artifacts are being fetched.
    Fetching,
    /// Its artifacts are being compiled, or looked up among what was compiled before.
    Compiling,
    /// It is being prepared: linked, and its first instance tried.
    Starting,
    /// Its routes answer.
    Ready,
    /// It is no longer wanted, and its calls in flight are finishing.
    Draining,
    /// The last attempt to start it failed; it is tried again after a pause.
    Failed,
    /// This agent cannot run it, and says why; it is not tried again under this spec.
    Refused,
    /// A job whose runs have all ended, well or badly; it holds nothing any more but its result.
    Ended,
}

impl UnitPhase {
    /// The phase's name, as it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Compiling => "compiling",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Ended => "ended",
        }
    }
}

/// The answer to a pushed spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum SpecAnswer {
    /// It is now what the host should run (or already was).
    Accepted(Accepted),
    /// It is not taken, and what the host held before stays.
    Refused {
        /// Why.
        reason: SpecRefusal,
        /// What the host holds instead.
        accepted: Option<Accepted>,
    },
}

/// Why an agent does not take a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "rule", content = "detail")]
pub enum SpecRefusal {
    /// The envelope cannot be read.
    #[error("the spec cannot be read: {0}")]
    Unreadable(String),
    /// It is a delta from a spec that is not held: it has to come whole.
    #[error("{0}; it has to come whole")]
    NotKept(String),
    /// No trusted realm key signed it.
    #[error("no trusted realm key signed it: {0}")]
    Signature(String),
    /// It is for another realm.
    #[error("it is for realm {0}")]
    OtherRealm(String),
    /// It is for another host.
    #[error("it is for host {0}")]
    OtherHost(String),
    /// It is for an earlier start of this agent (D10).
    #[error("it is for boot {0}, not this one")]
    OtherBoot(String),
    /// The host holds a newer one.
    #[error("it has version {0}, and a newer or different one is held")]
    Older(String),
    /// The body does not have the digest that the spec names.
    #[error("its body does not have the digest that it names")]
    DigestMismatch,
}

/// What the scheduler asks a host to run now: one point of a cron trigger. The answer says how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fire {
    /// This start of the agent.
    pub boot_id: BootId,
    /// The unit.
    #[serde(flatten)]
    pub unit: UnitId,
    /// The component whose `wasi:cli/run` is called.
    pub component: ComponentName,
    /// The point in time that it is for, in milliseconds since 1970; the same one twice is run once.
    pub due: UnixMs,
}

/// What became of a [`Fire`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum FireAnswer {
    /// It runs. How it ends is in the workload's log.
    Begun,
    /// It was begun before.
    Known,
    /// It cannot run here now.
    Refused {
        /// Why.
        reason: String,
    },
}
