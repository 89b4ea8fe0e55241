//! All that one host should run: complete, resolved, nothing left to decide.
//!
//! The scheduler derives one [`HostSpecBody`] per host from its plan, numbers it, signs it and pushes it whole. The
//! agent runs exactly that.

use crate::digest::Digest;
use crate::id::{BootId, CapabilityName, ComponentName, Generation, HostId, Realm, UnitId, Version, WorkloadId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What an agent must be able to do to run a unit (D11). Hellos list what an agent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Runs components of WASI 0.2.
    WasiP2,
    /// Runs components of WASI 0.3.
    WasiP3,
    /// Serves HTTP triggers.
    Http,
    /// Lends key-value stores in memory.
    KeyvalueMemory,
    /// Lends configuration values.
    Config,
    /// Takes log lines.
    Logging,
    /// Anything that this program does not know: an agent that sees it in `requires` refuses the unit.
    #[serde(other)]
    Unknown,
}

/// A whole spec for one host, as it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostSpec {
    /// The realm whose key signed it.
    pub realm: Realm,
    /// The host that it is for.
    pub host: HostId,
    /// The agent start that it is for.
    pub boot_id: BootId,
    /// The commit at which its body last changed, or at which it was signed again.
    #[serde(flatten)]
    pub version: Version,
    /// The digest of the body: what heartbeats echo as `accepted_digest`.
    pub body_digest: Digest,
    /// What to run.
    pub body: HostSpecBody,
}

/// What one host should run. Equal bodies have equal digests, whoever made them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostSpecBody {
    /// The templates that the units name, by digest.
    pub templates: BTreeMap<Digest, Arc<Template>>,
    /// The units, ordered by workload and generation.
    pub units: Vec<Unit>,
    /// The HTTP routes, ordered by capability, host and path.
    pub routes: Vec<Route>,
    /// What the platforms lend on this host, by name.
    pub capabilities: BTreeMap<CapabilityName, CapabilityOffer>,
}

impl HostSpecBody {
    /// The body's digest.
    pub fn digest(&self) -> Result<Digest, serde_json::Error> {
        Digest::of_json(self)
    }
}

/// One generation of one workload on one host, with the number of replicas that the host stands in for (D1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// The workload.
    pub workload: WorkloadId,
    /// Its generation.
    pub generation: Generation,
    /// The digest of its template.
    pub template: Digest,
    /// Replicas on this host: it admits `count × limits.concurrency` calls.
    pub count: u32,
}

impl Unit {
    /// The unit's id.
    pub fn id(&self) -> UnitId {
        UnitId {
            workload: self.workload.clone(),
            generation: self.generation,
        }
    }
}

/// How one workload is run: resolved, immutable, shared by every host and by workloads that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// What an agent must be able to do.
    pub requires: BTreeSet<Feature>,
    /// The components, ordered by name.
    pub components: Vec<TemplateComponent>,
    /// What one instance may use.
    pub limits: Limits,
    /// How instances are used again.
    pub instances: Instances,
}

/// One component of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateComponent {
    /// Its name in the workload.
    pub name: ComponentName,
    /// The bytes to run.
    pub artifact: Digest,
    /// The artifact's size, in bytes.
    pub artifact_bytes: u64,
    /// Which WASI it is written for, and so which engine runs it.
    pub wasi: Wasi,
    /// Its configuration, resolved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Which capability meets each import that is not WASI itself, by interface with version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bindings: BTreeMap<String, Binding>,
}

/// The WASI that a component is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Wasi {
    /// WASI 0.2: synchronous; runs on the engine without concurrency support.
    P2,
    /// WASI 0.3: asynchronous.
    P3,
}

/// What meets one import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The capability, by its name on the platform. `config` and `logging` are always offered under these names.
    pub capability: CapabilityName,
    /// Whose data the component sees: its namespace, or empty where the platform shares one store between all (D19).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
}

/// What one instance may use. Enforced by the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub memory_bytes: u64,
    /// Wall time of one call, in milliseconds.
    pub time_ms: u64,
    /// Calls in flight per replica.
    pub concurrency: u32,
}

/// How instances are used again (D24).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instances {
    /// Calls that one instance serves before it is thrown away; 1 is a fresh instance for each call.
    pub reuse: u32,
    /// Calls that one instance serves at the same time; above 1 only for WASI 0.3 handlers.
    pub concurrency: u32,
}

/// A route from a listener to the units that serve it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The HTTP capability whose listener it is on.
    pub capability: CapabilityName,
    /// The `Host` header that it answers to, without port, in lower case; none answers to any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path prefix, matched by whole segments: `/a` takes `/a` and `/a/b`, not `/ab`.
    pub path: String,
    /// The methods, in upper case and order; empty means all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<String>,
    /// Who serves it: the first of these that is ready. The newest generation comes first, so the old one serves until
    /// the new one can.
    pub targets: Vec<RouteTarget>,
}

/// One unit that can serve a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTarget {
    /// The unit.
    #[serde(flatten)]
    pub unit: UnitId,
    /// Which of its components.
    pub component: ComponentName,
}

/// Something that a platform lends to the workloads on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum CapabilityOffer {
    /// A shared HTTP listener.
    Http {
        /// The address to listen on, `ip:port`; an agent's `--bind` overrides it.
        listen: String,
        /// Connections at the same time.
        max_connections: u32,
    },
    /// A key-value store in the agent's memory: gone when the agent is.
    KeyvalueMemory {
        /// Whether all namespaces see the same data.
        shared: bool,
    },
    /// Configuration values, from the component's own `config`.
    Config {},
    /// Log lines, kept by the agent and asked for by `heddle logs`.
    Logging {},
}

impl CapabilityOffer {
    /// What an agent must be able to do to lend this.
    pub fn feature(&self) -> Feature {
        match self {
            Self::Http { .. } => Feature::Http,
            Self::KeyvalueMemory { .. } => Feature::KeyvalueMemory,
            Self::Config {} => Feature::Config,
            Self::Logging {} => Feature::Logging,
        }
    }

    /// The WIT packages and interfaces that this capability meets, as prefixes of an import's name.
    pub fn meets(&self) -> &'static [&'static str] {
        match self {
            // A listener meets no import: it calls exports.
            Self::Http { .. } => &[],
            Self::KeyvalueMemory { .. } => &[
                "wasi:keyvalue/store@0.2.0-draft",
                "wasi:keyvalue/atomics@0.2.0-draft",
                "wasi:keyvalue/batch@0.2.0-draft",
            ],
            Self::Config {} => &["wasi:config/store@0.2.0-rc.1"],
            Self::Logging {} => &["wasi:logging/logging@0.1.0-draft"],
        }
    }
}
