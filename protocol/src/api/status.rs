//! `status` and `wait`: how workloads fare.

use super::Verb;
use crate::host_report::UnitPhase;
use crate::id::{ComponentName, Generation, HostId, WorkloadId};
use crate::record::WaitTarget;
use crate::report::WaitingOn;
use crate::time::UnixMs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks how workloads fare, page by page.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Only these; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadId>,
    /// Only those of the subject's namespace.
    #[serde(default)]
    pub in_namespace: bool,
    /// Only those after this one: where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<WorkloadId>,
}

/// A page of statuses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Statuses {
    /// The commit that they are of.
    pub commit: u64,
    /// The statuses, ordered by workload.
    pub workloads: Vec<WorkloadStatus>,
    /// Whether more follow.
    pub more: bool,
}

/// How one workload fares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadStatus {
    /// The workload.
    pub workload: WorkloadId,
    /// The generation that this status speaks of: the newest.
    pub generation: Generation,
    /// In one word.
    pub state: WorkloadState,
    /// Replicas wanted; for a daemon, the hosts that it fits.
    pub desired: u32,
    /// Replicas placed, of this generation.
    pub placed: u32,
    /// Replicas ready, of this generation.
    pub ready: u32,
    /// Replicas ready, of earlier generations that still serve.
    pub ready_old: u32,
    /// Where they are. Of thousands, as many as one message holds.
    pub units: Vec<PlacedUnit>,
    /// What it waits for, if it is not ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingOn>,
    /// Where it can be reached. Of thousands, as many as one message holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// How far it is, if it is a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStatus>,
    /// Its cron triggers, and when each was due last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fired: Vec<FiredStatus>,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobStatus {
    /// Runs that must end well.
    pub completions: u32,
    /// Runs that did.
    pub completed: u32,
    /// Runs that were given up: one is enough for the job to have failed.
    pub failed: u32,
    /// Why the last one was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One cron trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FiredStatus {
    /// The component that is run.
    pub component: ComponentName,
    /// When.
    pub schedule: String,
    /// The time zone; UTC when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The newest point in time that it was fired for, or skipped because nobody could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_due: Option<UnixMs>,
}

/// How a workload fares, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadState {
    /// Every replica of the newest generation is ready, and nothing else runs.
    Ready,
    /// On its way, and nothing hinders it.
    Progressing,
    /// Something hinders it: see `waiting` and the units' reasons.
    Waiting,
    /// A job, and all its runs ended well.
    Completed,
    /// A job, and one of its runs was given up.
    Failed,
    /// It was deleted, and hosts are still stopping it.
    Deleting,
}

impl WorkloadState {
    /// The state in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Progressing => "progressing",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }
}

/// The replicas of one generation on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlacedUnit {
    /// The host.
    pub host: HostId,
    /// The generation.
    pub generation: Generation,
    /// Replicas.
    pub count: u32,
    /// What the host says of them; none if it has said nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<UnitPhase>,
    /// Why they are not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the host is silent: its word is then old.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_lost: bool,
}

/// Where a workload can be reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// The host.
    pub host: HostId,
    /// The URL, such as `http://127.0.0.1:8080/cart`.
    pub url: String,
    /// The `Host` header that the route answers to, if it does not answer to any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_header: Option<String>,
}

/// Waits until workloads run at a generation, or are gone. Answered as soon as all are, or at the end of the time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// What to wait for.
    pub targets: Vec<WaitTarget>,
    /// How long, in milliseconds; at most 10,000 at a time.
    pub timeout_ms: u64,
}

/// How far the waited-for workloads are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Waited {
    /// Whether all are there.
    pub done: bool,
    /// How many are there.
    pub reached: u32,
    /// Those that were replaced by a newer generation meanwhile, and count as there once that one runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<WorkloadId>,
    /// Some of those that are not there yet, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<WorkloadStatus>,
}

impl Verb for Status {
    const NAME: &'static str = "status";
    const WRITES: bool = false;
    type Answer = Statuses;
}

impl Verb for Wait {
    const NAME: &'static str = "wait";
    const WRITES: bool = false;
    type Answer = Waited;
}
