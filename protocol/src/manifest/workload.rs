//! What teams write: components that run together, what they are linked to, what calls them, how many there are.

use super::config::{ConfigSource, SecretSource};
use super::object::{ApiVersion, Metadata, is_false};
use super::placement::Placement;
use super::policy::{Disconnect, Health, Job, Rollout};
use super::quantity::{Cpu, Duration, Size};
use crate::defaults::{LIMIT_CONCURRENCY, LIMIT_MEMORY_BYTES, LIMIT_TIME_MS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Components that always run together as one replica, deployed onto platforms on a schedule of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Workload {
    /// The version of the manifest's shape.
    pub api_version: ApiVersion,
    /// Its name and namespace.
    pub metadata: Metadata,
    /// What should run.
    pub spec: WorkloadSpec,
}

/// What should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// The components of one replica.
    #[schemars(length(min = 1, max = 64))]
    pub components: Vec<Component>,
    /// What the composed group of one replica may use.
    #[serde(default, skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
    /// What one replica takes from its host's capacity.
    #[serde(default, skip_serializing_if = "Reserve::is_default")]
    pub reserve: Reserve,
    /// How instances serve calls.
    #[serde(default, skip_serializing_if = "Instances::is_default")]
    pub instances: Instances,
    /// What meets the imports of the components.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1_000))]
    pub links: Vec<Link>,
    /// What calls the workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1_000))]
    pub triggers: Vec<Trigger>,
    /// How many replicas run in the realm; 1 when none of `replicas`, `daemon` and `job` is written.
    #[serde(default, skip_serializing_if = "is_one_or_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub replicas: Option<u32>,
    /// One replica on every host that fits.
    #[serde(default, skip_serializing_if = "is_false")]
    pub daemon: bool,
    /// Run to completion instead of serving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
    /// Where replicas may and should run.
    #[serde(default, skip_serializing_if = "Placement::is_default")]
    pub placement: Placement,
    /// When a replica is ready for work, and when it is replaced.
    #[serde(default, skip_serializing_if = "Health::is_default")]
    pub health: Health,
    /// How a new generation takes the place of the old one.
    #[serde(default, skip_serializing_if = "Rollout::is_default")]
    pub rollout: Rollout,
    /// What happens to replicas on hosts that are not heard from.
    #[serde(default, skip_serializing_if = "Disconnect::is_default")]
    pub disconnect: Disconnect,
}

/// How many of a workload there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale<'a> {
    /// So many replicas in the realm.
    Replicas(u32),
    /// One replica on every host that fits.
    Daemon,
    /// Run to completion.
    Job(&'a Job),
}

impl WorkloadSpec {
    /// How many there should be.
    pub fn scale(&self) -> Scale<'_> {
        match &self.job {
            Some(job) => Scale::Job(job),
            None if self.daemon => Scale::Daemon,
            None => Scale::Replicas(self.replicas.unwrap_or(1)),
        }
    }

    /// What one replica takes from its host's memory: `reserve.memory`, or else `limits.memory`.
    pub fn reserved_memory(&self) -> Size {
        self.reserve.memory.unwrap_or(self.limits.memory)
    }
}

fn is_one_or_none(replicas: &Option<u32>) -> bool {
    replicas.is_none_or(|replicas| replicas == 1)
}

/// One component of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Component {
    /// Its name within the workload.
    pub name: String,
    /// Where it comes from: `oci://registry/path:tag` (pinned to its digest at apply), `file:path` (read by the CLI,
    /// relative to the manifest) or `sha256:<hex>` (an artifact that the fleet already has).
    pub image: String,
    /// Its config; later sources win over earlier ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub config: Vec<ConfigSource>,
    /// Its secrets, by the name it knows them by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretSource>,
}

/// What the composed group of one replica may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Limits {
    /// Memory of one instance.
    #[serde(skip_serializing_if = "is_default_memory")]
    #[schemars(extend("default" = Limits::default().memory.to_string()))]
    pub memory: Size,
    /// Wall time of one call.
    #[serde(skip_serializing_if = "is_default_time")]
    #[schemars(extend("default" = Limits::default().time.to_string()))]
    pub time: Duration,
    /// Processor time of one replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Calls in flight per replica; one more is answered with 503.
    #[serde(skip_serializing_if = "is_default_concurrency")]
    #[schemars(range(min = 1, max = 100_000), extend("default" = LIMIT_CONCURRENCY))]
    pub concurrency: u32,
    /// Addresses that the components may call, as `host:port`. None when left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1_000))]
    pub egress: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Size::from_bytes(LIMIT_MEMORY_BYTES),
            time: Duration::from_ms(LIMIT_TIME_MS),
            cpu: None,
            concurrency: LIMIT_CONCURRENCY,
            egress: Vec::new(),
        }
    }
}

impl Limits {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn is_default_memory(memory: &Size) -> bool {
    memory.as_bytes() == LIMIT_MEMORY_BYTES
}

fn is_default_time(time: &Duration) -> bool {
    time.as_ms() == LIMIT_TIME_MS
}

fn is_default_concurrency(concurrency: &u32) -> bool {
    *concurrency == LIMIT_CONCURRENCY
}

/// What one replica takes from its host's capacity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Reserve {
    /// Memory; `limits.memory` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Processor time; none when left out. Hosts that were not told how much they have take any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Countable things, as agents offer them with `--resource`: `{ acme.dev/gpu: 1 }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::quantity::counts_schema")]
    pub resources: BTreeMap<String, u32>,
}

impl Reserve {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How instances serve calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Instances {
    /// Calls that one instance serves, one after the other, before it is thrown away; 1 is a fresh instance per call.
    #[serde(skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 1_000_000_000), extend("default" = 1))]
    pub reuse: u32,
    /// Calls that one instance serves at the same time. More than 1 needs a component with the WASI 0.3 handler.
    #[serde(skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 100_000), extend("default" = 1))]
    pub concurrency: u32,
}

impl Default for Instances {
    fn default() -> Self {
        Self {
            reuse: 1,
            concurrency: 1,
        }
    }
}

impl Instances {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

/// What meets one import of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Link {
    /// The component that imports.
    pub from: String,
    /// The imported interface, such as `wasi:keyvalue/store` or `acme:tax/rates@1.0.0`.
    pub import: String,
    /// What meets it.
    pub to: LinkTarget,
    /// Time after which a call over the link has failed. Only with `to.via`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Whether a call may be repeated when its outcome is not known. Only with `to.via`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub idempotent: bool,
    /// Calls in flight over the link per replica. Only with `to.via`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_inflight: Option<u32>,
}

/// What meets an import: exactly one of `component`, `workload` and `capability`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LinkTarget {
    /// Another component of this workload; the two are composed into one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Another workload of the namespace: its component is embedded, with state of its own, or called with `via`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// A capability that the platform lends under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// Call the workload's own replicas over the network instead of embedding its component. Only with `workload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
}

/// A link's target, once it is known that there is exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Another component of this workload.
    Component(&'a str),
    /// Another workload, embedded or called over the network.
    Workload(&'a str, Option<Via>),
    /// A capability of the platform.
    Capability(&'a str),
}

impl LinkTarget {
    /// The target, if exactly one is written.
    pub fn target(&self) -> Option<Target<'_>> {
        match (&self.component, &self.workload, &self.capability) {
            (Some(component), None, None) => Some(Target::Component(component)),
            (None, Some(workload), None) => Some(Target::Workload(workload, self.via)),
            (None, None, Some(capability)) => Some(Target::Capability(capability)),
            _ => None,
        }
    }
}

/// How a link crosses hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Via {
    /// wRPC over NATS.
    Wrpc,
}

/// What calls the workload: exactly one of its kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Trigger {
    /// HTTP requests through a listener of the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTrigger>,
    /// Messages on a subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messaging: Option<MessagingTrigger>,
    /// Points in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronTrigger>,
    /// The start of a replica: a component runs for as long as the replica is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceTrigger>,
    /// Calls over wRPC by callers that are not of this fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrpc: Option<WrpcTrigger>,
}

/// The start of a replica: the component's `wasi:cli/run` is called, and again after a growing pause when it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceTrigger {
    /// The component that is run, where more than one exports `wasi:cli/run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
}

/// Calls over wRPC by callers that are not of this fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WrpcTrigger {
    /// The component that is called, where more than one exports the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The exported interface, such as `acme:fraud/score`.
    pub interface: String,
    /// What the subjects begin with.
    pub prefix: String,
}

/// HTTP requests through a listener of the platform. No two triggers may share a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpTrigger {
    /// The platform's name for the listener.
    pub capability: String,
    /// The component that is called, where more than one exports the handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The host that requests name; any host when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path, and everything below it. The longest path that fits a request wins.
    #[serde(default = "default_path", skip_serializing_if = "is_default_path")]
    #[schemars(extend("default" = "/"))]
    pub path: String,
    /// The methods; all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
}

fn default_path() -> String {
    "/".to_owned()
}

fn is_default_path(path: &str) -> bool {
    path == "/"
}

/// An HTTP method that a route can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)] // The names are HTTP's own.
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Patch,
    Options,
}

impl Method {
    /// Every method that a route can name.
    pub const ALL: [Method; 7] = [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Patch,
        Method::Options,
    ];

    /// The method as HTTP writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Patch => "PATCH",
            Method::Options => "OPTIONS",
        }
    }
}

/// Messages on a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MessagingTrigger {
    /// The platform's name for the messaging capability.
    pub capability: String,
    /// The component that is called, where more than one exports the handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The subject, with NATS's wildcards `*` and `>`.
    pub subject: String,
    /// Messages in work at once per replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_inflight: Option<u32>,
    /// Deliveries of one message before it is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub attempts: Option<u32>,
}

/// Points in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CronTrigger {
    /// Five fields: minute, hour, day of month, month, day of week.
    pub schedule: String,
    /// The component that is called, where more than one exports the handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The time zone of the schedule, such as `Europe/Berlin`; UTC when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}
