//! All that one host should run: complete, resolved, nothing left to decide.
//!
//! The scheduler derives one [`HostSpecBody`] per host from its plan, numbers it, signs it and pushes it whole. The
//! agent runs exactly that.

use crate::digest::Digest;
use crate::id::{BootId, CapabilityName, ComponentName, Generation, HostId, Realm, UnitId, Version, WorkloadId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub use crate::offer::CapabilityOffer;

/// What an agent must be able to do to run a unit (D11), by name, with the version of the interface where it speaks one.
/// Hellos list what an agent has. A name that this program does not know is only a feature that no agent has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Feature(Cow<'static, str>);

impl Feature {
    /// Runs components of WASI 0.2.
    pub const WASI_P2: Self = Self::known("wasi-p2");
    /// Runs components of WASI 0.3.
    pub const WASI_P3: Self = Self::known("wasi-p3");
    /// Serves HTTP triggers.
    pub const HTTP: Self = Self::known("http");
    /// Lends key-value stores in memory.
    pub const KEYVALUE_MEMORY: Self = Self::known("keyvalue-memory@0.2.0-draft");
    /// Lends key-value stores in NATS buckets.
    pub const KEYVALUE_NATS: Self = Self::known("keyvalue-nats@0.2.0-draft");
    /// Lends key-value stores in Redis.
    pub const KEYVALUE_REDIS: Self = Self::known("keyvalue-redis@0.2.0-draft");
    /// Lends blob stores in folders of the host.
    pub const BLOBSTORE_FILESYSTEM: Self = Self::known("blobstore-filesystem@0.2.0-draft");
    /// Lends blob stores in NATS object stores.
    pub const BLOBSTORE_NATS: Self = Self::known("blobstore-nats@0.2.0-draft");
    /// Lends messaging over NATS, at most once.
    pub const MESSAGING_NATS: Self = Self::known("messaging-nats@0.2.0");
    /// Lends messaging over JetStream, at least once.
    pub const MESSAGING_JETSTREAM: Self = Self::known("messaging-jetstream@0.2.0");
    /// Lends configuration values.
    pub const CONFIG: Self = Self::known("config@0.2.0-rc.1");
    /// Takes log lines.
    pub const LOGGING: Self = Self::known("logging@0.1.0-draft");
    /// Hands secrets to components.
    pub const SECRETS: Self = Self::known("secrets@0.1.0-draft");
    /// Lends Postgres databases.
    pub const POSTGRES: Self = Self::known("postgres@0.1.1-draft");
    /// Calls and serves links that cross hosts.
    pub const WRPC: Self = Self::known("wrpc@0.0.1");
    /// Runs `wasi:cli/run`: services, jobs and cron triggers.
    pub const RUN: Self = Self::known("run");
    /// Takes specs as deltas from the one before ([`crate::delta`]).
    pub const SPEC_DELTA: Self = Self::known("spec-delta");

    const fn known(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// A feature of somebody's own, such as `acme-ledger@1.2.0`.
    pub fn custom(name: impl Into<String>) -> Self {
        Self(Cow::Owned(name.into()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
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
    /// The secrets that the body names, each sealed to this start of this agent ([`crate::seal`]), by [`SecretUse::id`].
    /// They are outside the body's digest: sealing the same value twice gives different bytes. One that is missing could
    /// not be had; an agent that holds it keeps what it has, another one waits with what needs it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<Digest, SealedSecret>,
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
    /// The secrets that a capability itself needs, by the name it knows them by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capability_secrets: BTreeMap<CapabilityName, BTreeMap<String, SecretUse>>,
    /// What units here serve to callers on any host, because a link says `via: wrpc`; ordered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serves: Vec<Serve>,
    /// The generations of other workloads that units here may call, the newest first. A call goes to the first of them
    /// that somebody serves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub callees: BTreeMap<WorkloadId, Vec<Generation>>,
    /// The newest version of each secret that is renewed while its users run, by [`SecretUse::id`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_versions: BTreeMap<Digest, String>,
    /// The secret that holds the credentials with which a workload's own traffic goes to NATS, where the scheduler gives
    /// such out. Traffic of a workload never uses the agent's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<WorkloadId, SecretUse>,
    /// Who compiles.
    #[serde(default, skip_serializing_if = "Compile::is_default")]
    pub compile: Compile,
}

/// Who turns a component into native code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compile {
    /// The scheduler, once for each engine of the fleet; the code is signed. An agent that cannot have it so waits.
    #[default]
    Precompiled,
    /// Every agent for itself.
    Local,
}

impl Compile {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An export that a unit serves over the network. Its subjects are those of [`crate::subject::rpc_prefix`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Serve {
    /// The unit.
    #[serde(flatten)]
    pub unit: UnitId,
    /// Which of its components.
    pub component: ComponentName,
    /// The exported interface, with version.
    pub interface: String,
    /// A prefix of its own, for callers that are not of this fleet; none is the unit's own prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
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
    /// What its replicas run by themselves, if they do not only answer calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// The messages that it takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumes: Vec<Consume>,
}

/// What a replica runs by itself: the `wasi:cli/run` of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case", deny_unknown_fields)]
pub enum Run {
    /// For as long as the unit is wanted: begun again after a growing pause whenever it ends.
    Service {
        /// The component.
        component: ComponentName,
    },
    /// Once per replica, to its end.
    Job {
        /// The component.
        component: ComponentName,
        /// Failed runs after which it is given up, at least 1.
        attempts: u32,
        /// Wall time of all attempts of one replica together, in milliseconds; none is without end.
        deadline_ms: Option<u64>,
    },
}

/// Messages that a component takes: its `wasmcloud:messaging/handler` is called with each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consume {
    /// The messaging capability.
    pub capability: CapabilityName,
    /// The component.
    pub component: ComponentName,
    /// The subject, with NATS's wildcards.
    pub subject: String,
    /// Messages in work at the same time, per replica.
    pub max_in_flight: u32,
    /// Deliveries of one message before it is given up (JetStream only).
    pub attempts: u32,
}

/// One component of a template: what its instances are made of. Where a workload's components call each other on one
/// host, the bytes are several components composed into one, and `parts` are the others.
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
    /// Its secrets, by the name it knows them by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretUse>,
    /// What is composed into it besides itself, by name: `pricing` for a component of this workload, `tax/rates` for one
    /// that is embedded from workload `tax`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, Part>,
    /// Which capability meets each import that is not WASI itself, by the name of the import.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bindings: BTreeMap<String, Binding>,
    /// The imports that are calls over the network, by the name of the import.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calls: BTreeMap<String, Call>,
}

/// A component that is composed into another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its configuration, resolved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Its secrets, by the name it knows them by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretUse>,
}

/// An import that is a call over the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The interface, with version, where the import has another name (in a composed component).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The part that imports it; none is the component itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Who answers.
    pub to: Callee,
    /// The instance that the callee serves it under, with the version that it exports.
    pub instance: String,
    /// Wall time of one call with all its attempts, in milliseconds.
    pub timeout_ms: u64,
    /// Whether a call may be made again when its outcome is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
    /// Calls in flight per replica; one more fails at once.
    pub max_in_flight: u32,
}

/// Who answers a call over the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Callee {
    /// The replicas of a workload, on any host: the generations that [`HostSpecBody::callees`] lists.
    Workload(WorkloadId),
    /// Whoever serves wRPC under this prefix of subjects, and need not be of this fleet.
    Prefix(String),
}

/// A secret, by where it is. Its value is never in a spec's body, a record or a manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretUse {
    /// Who uses it: the backend is asked in this workload's name. Platforms use theirs in nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadId>,
    /// The scheduler's name for the backend.
    pub from: String,
    /// The secret's path in the backend.
    pub path: String,
    /// One field of a secret that has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The version, as the backend names it; none where a newer one comes to its users while they run
    /// ([`HostSpecBody::secret_versions`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether an agent must not keep the sealed secret for a restart while it is cut off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_cache: bool,
    /// The environment variable that also shows it to the component, because the manifest says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

impl SecretUse {
    /// What it is known by: a digest over everything that decides its value.
    pub fn id(&self) -> Digest {
        let workload = self.workload.as_ref().map(ToString::to_string).unwrap_or_default();
        let (field, version) = (self.field.as_deref(), self.version.as_deref());
        let text = [
            workload.as_str(),
            &self.from,
            &self.path,
            field.unwrap_or("\0none"),
            version.unwrap_or("\0live"),
        ];
        // Each part with its length, so that no two lists of parts make one text.
        let joined: String = text.iter().map(|part| format!("{}:{part}", part.len())).collect();
        Digest::of(joined.as_bytes())
    }
}

/// A secret's value, sealed to one start of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SealedSecret {
    /// The version that it is, as the backend names it.
    pub version: String,
    /// The sealed bytes, in base64.
    pub sealed: String,
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

/// What meets one import on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The capability, by its name on the platform. `config` and `logging` are always offered under these names.
    pub capability: CapabilityName,
    /// Whose data the component sees: its namespace, or empty where the platform shares one store between all (D19).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// The interface, with version, where the import has another name (in a composed component).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The part that imports it; none is the component itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
}

impl Binding {
    /// A capability, as a component by itself is bound to it.
    pub fn new(capability: CapabilityName, scope: impl Into<String>) -> Self {
        Self {
            capability,
            scope: scope.into(),
            interface: None,
            part: None,
        }
    }
}

impl TemplateComponent {
    /// A component that is composed of nothing else and bound to nothing.
    pub fn new(name: ComponentName, artifact: Digest, artifact_bytes: u64, wasi: Wasi) -> Self {
        Self {
            name,
            artifact,
            artifact_bytes,
            wasi,
            config: BTreeMap::new(),
            secrets: BTreeMap::new(),
            parts: BTreeMap::new(),
            bindings: BTreeMap::new(),
            calls: BTreeMap::new(),
        }
    }
}

impl Limits {
    /// Memory of one instance in bytes, wall time of one call in milliseconds, and calls in flight per replica.
    pub fn new(memory_bytes: u64, time_ms: u64, concurrency: u32) -> Self {
        Self {
            memory_bytes,
            time_ms,
            concurrency,
            egress: Vec::new(),
            cpu_millis: None,
        }
    }
}

/// What one instance may use. Enforced by the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub memory_bytes: u64,
    /// Wall time of one call, in milliseconds.
    pub time_ms: u64,
    /// Calls in flight per replica.
    pub concurrency: u32,
    /// Addresses that the components may call, as `host:port`, with `*.` before a host for all hosts below it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<String>,
    /// Processor time of one replica, in thousandths of a core; none is as much as there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
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
