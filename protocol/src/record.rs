//! What is kept in the store, one type per key family: validated, numbered, immutable once written.

use crate::artifact::ArtifactInfo;
use crate::digest::Digest;
use crate::host_spec::{CapabilityOffer, Compile, Feature, SecretUse};
use crate::id::{CapabilityName, ComponentName, ConfigId, Generation, HostId, ObjectId, RequestId, WorkloadId};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub use crate::label::{LabelRule, Requirement, VersionRule};

/// `workload.<ns>.<name>`: what is meant, resolved: images are digests, imports are bound, configs are looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRecord {
    /// One more for each change.
    pub generation: Generation,
    /// The manifest as it was applied, in canonical JSON, its images as they were written.
    pub manifest: serde_json::Value,
    /// What each component's image was when it was applied.
    pub artifacts: BTreeMap<ComponentName, ArtifactInfo>,
    /// What planning needs of it.
    pub intent: Intent,
    /// The digest of its template.
    pub template: Digest,
    /// The configs that it uses: a change of one makes a new generation.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub configs: BTreeSet<ConfigId>,
    /// The SecretRefs that it uses: a change of one makes a new generation.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub secret_refs: BTreeSet<ObjectId>,
    /// The workloads whose components are embedded in it, with the generation that they were: a new one makes a new
    /// generation of this workload (D18).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub embeds: BTreeMap<WorkloadId, Generation>,
    /// The newest known version of each secret that names none, by [`SecretUse::id`] of the use without a version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_versions: BTreeMap<Digest, String>,
    /// Earlier generations, the newest first, for `heddle undo`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastGeneration>,
    /// When this generation was applied.
    pub applied_at: UnixMs,
}

/// An earlier generation of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastGeneration {
    /// Its number.
    pub generation: Generation,
    /// Its manifest.
    pub manifest: serde_json::Value,
    /// What its images were.
    pub artifacts: BTreeMap<ComponentName, ArtifactInfo>,
    /// When it was applied.
    pub applied_at: UnixMs,
}

/// What planning needs of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// The generation that its units carry: the last one that changed what a replica is. Changing only how many
    /// replicas there are, or which hosts may take them, leaves the replicas that run alone.
    pub unit_generation: Generation,
    /// How many replicas there should be.
    pub replicas: Replicas,
    /// What a host's labels must be, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Requirement>,
    /// How the replicas are spread, the most important first; none spreads evenly over hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<Spread>,
    /// The capabilities that it uses, for triggers or imports. A host must be lent all of them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub capabilities: BTreeSet<CapabilityName>,
    /// Memory that one replica takes from a host's capacity, in bytes.
    pub reserve_bytes: u64,
    /// Its HTTP triggers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpTrigger>,
    /// Its cron triggers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cron: Vec<CronTrigger>,
    /// The exports of other workloads that it calls over the network.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub calls: BTreeSet<RemoteExport>,
    /// What it serves over the network to callers that are not of this fleet.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub serves: BTreeSet<ServedExport>,
    /// Whether its replicas run to their end, and how often that must go well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobIntent>,
    /// Which features a host's agent must have.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<Feature>,
    /// What of `require` and `capabilities` it would not ask for if it did not embed these workloads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub embedded: BTreeMap<WorkloadId, EmbeddedNeed>,
    /// What else decides which of the hosts that fit take its replicas.
    #[serde(default, skip_serializing_if = "Rules::is_default")]
    pub rules: Rules,
}

/// What decides, beside labels, spread and memory, which hosts take replicas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rules {
    /// Hosts that are better than others: of two that are equal by the spread rules, the one with the greater sum of
    /// weights takes a replica first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<Preference>,
    /// Workloads to keep away from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<Company>,
    /// Workloads to stay near to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<Company>,
    /// The most replicas of this workload on one host, all generations counted but those on their way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_host: Option<u32>,
    /// The taints that it puts up with.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tolerate: BTreeSet<Toleration>,
    /// Whether replicas share hosts evenly or fill one after the other.
    #[serde(skip_serializing_if = "is_default")]
    pub strategy: Strategy,
    /// Whether hosts that hold its images already come before emptier ones (before fuller ones, if it packs).
    #[serde(skip_serializing_if = "is_default")]
    pub prefer_image: bool,
    /// Those of higher priority are placed first, and may take the place of those of lower priority. 0 to 1,000.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: u32,
    /// What one replica takes from a host beside memory and its slot.
    #[serde(skip_serializing_if = "Taken::is_nothing")]
    pub takes: Taken,
}

impl Rules {
    /// Whether nothing in it differs from the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A wish for hosts with certain labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preference {
    /// What a better host's labels are, all of them.
    pub labels: Vec<Requirement>,
    /// How much better it is, 1 to 1,000.
    pub weight: u32,
}

/// A wish about where another workload's replicas are. Replicas of any generation count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Company {
    /// The other workload.
    pub workload: WorkloadId,
    /// The label whose values are compared; `host` means the host itself. A host without the label is near to nobody.
    pub by: String,
    /// How much it matters: with a weight (1 to 1,000) it is a wish like a preference, without one a condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// A taint that a workload puts up with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's name.
    pub taint: String,
    /// Its value; none puts up with any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Whether replicas share hosts evenly or fill one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// Evenly over the hosts that fit, the emptiest first.
    #[default]
    Spread,
    /// On as few hosts as can hold them, the fullest first.
    Pack,
}

/// What one replica takes from a host beside memory and its slot.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Taken {
    /// Processor time, in thousandths of a core.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_millis: u32,
    /// Countable things, by name, as the host's agent offers them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u32>,
}

impl Taken {
    /// Whether it takes nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What an embedded workload asks of the hosts of those who embed it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedNeed {
    /// The capabilities that it uses.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub capabilities: BTreeSet<CapabilityName>,
    /// What a host's labels must be for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Requirement>,
}

/// An export of a workload that another one calls over the network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteExport {
    /// The workload that is called.
    pub workload: WorkloadId,
    /// Which of its components.
    pub component: ComponentName,
    /// The interface as that component exports it, with version.
    pub interface: String,
}

/// An export that is served over the network under a prefix of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedExport {
    /// The component.
    pub component: ComponentName,
    /// The interface as it exports it, with version.
    pub interface: String,
    /// What the subjects begin with.
    pub prefix: String,
}

/// Points in time at which a component's `wasi:cli/run` is called once, in one replica.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CronTrigger {
    /// The component.
    pub component: ComponentName,
    /// Five fields: minute, hour, day of month, month, day of week.
    pub schedule: String,
    /// The time zone; UTC when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// What a job must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobIntent {
    /// Runs that must end well.
    pub completions: u32,
}

/// How many replicas a workload has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Replicas {
    /// So many in all.
    Count(u32),
    /// One on each host that it fits.
    Daemon,
}

/// Spreading by one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// The label; `host` means each host by itself.
    pub by: String,
    /// Each value's weight; empty gives all values the same. With weights, values that have none get no replica.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, u32>,
    /// The most by which two values that fit may differ, each divided by its weight; none sets no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_skew: Option<u32>,
    /// Whether a replica that would break the bound waits; otherwise the bound is only a wish.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hard: bool,
}

/// An HTTP trigger: which requests go to which component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpTrigger {
    /// The listener.
    pub capability: CapabilityName,
    /// The `Host` header, in lower case without port; none takes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path prefix.
    pub path: String,
    /// The methods, in upper case; empty takes all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<String>,
    /// The component that serves it.
    pub component: ComponentName,
}

/// `platform.<name>`: which hosts are lent what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformRecord {
    /// One more for each change.
    pub generation: Generation,
    /// The manifest as it was applied, in canonical JSON.
    pub manifest: serde_json::Value,
    /// Which hosts, by their labels; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Requirement>,
    /// What they are lent, by name.
    pub offers: BTreeMap<CapabilityName, CapabilityOffer>,
    /// The secrets that the capabilities themselves need.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<CapabilityName, BTreeMap<String, SecretUse>>,
    /// Who compiles on these hosts; none leaves it to the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile: Option<Compile>,
    /// When this generation was applied.
    pub applied_at: UnixMs,
}

/// `config.<ns>.<name>`: named values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigRecord {
    /// One more for each change.
    pub generation: Generation,
    /// The manifest as it was applied, in canonical JSON.
    pub manifest: serde_json::Value,
    /// The values.
    pub values: BTreeMap<String, String>,
    /// When this generation was applied.
    pub applied_at: UnixMs,
}

/// `place.<ns>.<workload>`: where its replicas are (D2). The newest generation comes first; an older one stays until
/// the newest is ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaceRecord {
    /// One set per generation.
    pub sets: Vec<PlaceSet>,
    /// How far a job is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobProgress>,
    /// The newest point in time that each cron trigger was fired for, by its place among the triggers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fired: BTreeMap<u32, UnixMs>,
}

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobProgress {
    /// The generation that it is about.
    pub generation: Generation,
    /// Runs that ended well.
    pub completed: u32,
    /// Runs that were given up; one is enough for the job to have failed.
    pub failed: u32,
    /// Why the last one was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The replicas of one generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaceSet {
    /// The generation that its units carry ([`Intent::unit_generation`]).
    pub generation: Generation,
    /// Its template.
    pub template: Digest,
    /// Memory that one of its replicas takes, in bytes.
    pub reserve_bytes: u64,
    /// What else one of its replicas takes.
    #[serde(default, skip_serializing_if = "Taken::is_nothing")]
    pub takes: Taken,
    /// Its HTTP triggers: the routes live as long as the replicas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpTrigger>,
    /// What its replicas serve and call over the network: the subjects live as long as the replicas.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub serves: BTreeSet<ServedExport>,
    /// The workloads that its replicas call over the network.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub calls: BTreeSet<RemoteExport>,
    /// How many on which host; never 0.
    pub hosts: BTreeMap<HostId, u32>,
    /// How many of those are moved away because they are better elsewhere: they go once enough others are ready, or stay
    /// after all if those find no place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub moving: BTreeMap<HostId, u32>,
}

/// `secret.<ns>.<name>`: a named reference to a secret. The value is nowhere in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRefRecord {
    /// One more for each change.
    pub generation: Generation,
    /// The manifest as it was applied, in canonical JSON.
    pub manifest: serde_json::Value,
    /// When this generation was applied.
    pub applied_at: UnixMs,
}

/// `nspolicy.<ns>.<name>`: what a namespace asks of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRecord {
    /// One more for each change.
    pub generation: Generation,
    /// The manifest as it was applied, in canonical JSON.
    pub manifest: serde_json::Value,
    /// The fingerprints of the keys, any one of which an image must be signed with.
    pub keys: BTreeSet<Digest>,
    /// When this generation was applied.
    pub applied_at: UnixMs,
}

/// `quota.<ns>.<name>`: how much a namespace may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaRecord {
    /// One more for each change.
    pub generation: Generation,
    /// The manifest as it was applied, in canonical JSON.
    pub manifest: serde_json::Value,
    /// How much.
    pub allowed: QuotaLimits,
    /// When this generation was applied.
    pub applied_at: UnixMs,
}

/// How much a namespace may have; what is not named has no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QuotaLimits {
    /// Workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workloads: Option<u64>,
    /// Replicas wanted of all workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
    /// Memory that those reserve, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processor time that those reserve, in thousandths of a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Countable things that those reserve, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u64>,
}

/// `host.<id>`: a host that was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostRecord {
    /// The public key that its hellos must be signed with (D16).
    pub public_key: String,
    /// Whether it takes new work.
    pub admin: HostAdmin,
    /// What keeps replicas away that do not put up with it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taints: BTreeMap<String, Taint>,
    /// When it joined.
    pub joined_at: UnixMs,
}

/// What keeps replicas away from a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    /// Its value; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// What it does to those that do not put up with it.
    pub effect: TaintEffect,
}

impl Taint {
    /// The taint as refusals name it: `name` or `name=value`.
    pub fn named(&self, name: &str) -> String {
        match self.value.as_str() {
            "" => name.to_owned(),
            value => format!("{name}={value}"),
        }
    }
}

impl TaintEffect {
    /// The effect as the command line writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoNew => "no-new",
            Self::Evict => "evict",
        }
    }
}

impl Toleration {
    /// Whether it puts up with a taint.
    pub fn tolerates(&self, name: &str, taint: &Taint) -> bool {
        self.taint == name && self.value.as_ref().is_none_or(|value| *value == taint.value)
    }
}

/// What a taint does to replicas that do not put up with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaintEffect {
    /// New ones do not come.
    NoNew,
    /// New ones do not come, and those that are there move away.
    Evict,
}

/// What an operator said of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostAdmin {
    /// Takes work.
    #[default]
    Open,
    /// Keeps what it has and takes nothing new.
    Cordoned,
    /// Takes nothing new, and what it has moves away.
    Draining,
}

/// `policy.join-<digest>`: a one-use token that admits one host. Only its digest is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenRecord {
    /// When it was made.
    pub made_at: UnixMs,
    /// After this it admits nobody.
    pub valid_until: UnixMs,
}

/// `audit.<n>`: how commit n came to be (D6). The store adds the id of the batch that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// The commit's number.
    pub n: u64,
    /// The epoch that it was made in.
    pub epoch: u64,
    /// The wall clock when it was decided.
    pub at: UnixMs,
    /// The version of the deciding code.
    pub planner: String,
    /// The requests that it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<AuditedRequest>,
    /// What was learned since the commit before, in words: hosts lost or back, units ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<String>,
    /// The records that changed.
    pub changes: Vec<AuditedChange>,
}

/// A request that a commit answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditedRequest {
    /// Its id.
    pub request_id: RequestId,
    /// Who asked.
    pub actor: String,
    /// What for.
    pub verb: String,
    /// The digest of its body: the id used again with another body is refused.
    pub body_digest: Digest,
    /// The answer: asked again, it is given again.
    pub result: serde_json::Value,
}

/// A record that a commit changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditedChange {
    /// Its key.
    pub key: String,
    /// The digest of what it was; none if it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
    /// The digest of what it is now; none if it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Digest>,
}

impl PlaceSet {
    /// Whether two say the same of their replicas, wherever those are.
    pub fn is_alike(&self, other: &Self) -> bool {
        let Self {
            generation,
            template,
            reserve_bytes,
            takes,
            http,
            serves,
            calls,
            hosts: _,
            moving: _,
        } = self;
        (generation, template, reserve_bytes) == (&other.generation, &other.template, &other.reserve_bytes)
            && (takes, http, serves, calls) == (&other.takes, &other.http, &other.serves, &other.calls)
    }
}

impl PlaceRecord {
    /// Replicas of all generations on a host.
    pub fn on_host(&self, host: &HostId) -> u32 {
        self.sets.iter().filter_map(|s| s.hosts.get(host)).sum()
    }

    /// Replicas of one generation on all hosts.
    pub fn count_of(&self, generation: Generation) -> u32 {
        self.sets
            .iter()
            .filter(|s| s.generation == generation)
            .flat_map(|s| s.hosts.values())
            .sum()
    }
}

/// The digest under which a join token is kept: a name fit for [`crate::key::Key::Policy`].
pub fn join_token_policy(token: &str) -> String {
    format!("join-{}", &Digest::of(token.as_bytes()).hex()[..40])
}

/// A workload and the generation that a client waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitTarget {
    /// The workload.
    pub workload: WorkloadId,
    /// The generation that must run; none means that nothing of the workload may be left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}
