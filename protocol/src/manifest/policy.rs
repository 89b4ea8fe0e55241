//! How a workload is watched, renewed and kept while hosts are cut off.

use super::quantity::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a replica is ready for work, and when it is replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Health {
    /// What must answer before a replica gets work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Probe>,
    /// What must go on answering, or the replica is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Probe>,
}

impl Health {
    /// Whether nothing is asked.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A question put to a replica again and again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Probe {
    /// Ask with an HTTP request; any 2xx status is a good answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// Time from one question to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Bad answers in a row that count as a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub failures: Option<u32>,
}

/// An HTTP request as a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpProbe {
    /// The path to ask for.
    pub path: String,
}

/// How a new generation takes the place of the old one. Whatever is written here, a new replica is ready before the old
/// one that it replaces stops.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rollout {
    /// The kind of change-over.
    #[serde(default, skip_serializing_if = "is_rolling")]
    pub strategy: RolloutStrategy,
    /// Replicas beyond the wanted number while rolling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_surge: Option<u32>,
    /// Replicas below the wanted number while rolling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_unavailable: Option<u32>,
    /// Time that a new replica must have been ready before it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ready: Option<Duration>,
    /// Time without progress after which the change-over has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline: Option<Duration>,
    /// What happens when the change-over fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// Shares of the work for the new generation, one after the other. Takes the place of `strategy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

impl Rollout {
    /// Whether nothing in it differs from the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The kind of change-over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RolloutStrategy {
    /// A few replicas at a time, each new one ready before an old one stops.
    #[default]
    Rolling,
    /// All new replicas are ready before work moves to them at once.
    BlueGreen,
}

fn is_rolling(strategy: &RolloutStrategy) -> bool {
    *strategy == RolloutStrategy::Rolling
}

/// What happens when a change-over fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnFailure {
    /// The old generation is put back.
    Revert,
    /// The change-over stops where it is and waits for a person.
    Pause,
}

/// A change-over in growing shares of the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Canary {
    /// Percentages of the work for the new generation, rising to 100.
    #[schemars(schema_with = "steps_schema")]
    pub steps: Vec<u32>,
    /// Time between two steps.
    pub pause: Duration,
}

fn steps_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 100,
        "items": { "type": "integer", "minimum": 1, "maximum": 100 },
    })
}

/// What happens to replicas on hosts that are not heard from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Disconnect {
    /// Silence after which the host counts as lost for this workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_after: Option<Duration>,
    /// Whether lost replicas are replaced on other hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<bool>,
    /// Which replicas stay when a lost host comes back with its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<Reconcile>,
    /// Time without contact after which the host stops the workload by itself. Makes the workload a singleton: one
    /// replica, never two at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<Duration>,
}

impl Disconnect {
    /// Whether nothing in it differs from the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which replicas stay when a lost host comes back with its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Reconcile {
    /// The ones that replaced them.
    Newest,
    /// The ones that came back.
    Original,
}

/// A workload that runs to completion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Job {
    /// The component that is run, where more than one exports `wasi:cli/run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Successful runs that make the job complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub completions: Option<u32>,
    /// Attempts for each run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub attempts: Option<u32>,
    /// Time after which the job has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
}
