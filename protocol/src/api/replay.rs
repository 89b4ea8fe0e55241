//! `replay`: makes a past decision again from what was kept of it, and compares.

use super::Verb;
use super::explain::Explanation;
use crate::id::WorkloadId;
use crate::report::{PlacementChange, WaitingOn};
use crate::time::UnixMs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for the decision of a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The commit.
    pub commit: u64,
    /// A workload to explain as of then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<WorkloadId>,
}

/// A decision that was made again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Replayed {
    /// The commit.
    pub commit: u64,
    /// Its epoch.
    pub epoch: u64,
    /// The wall clock when it was decided.
    pub at: UnixMs,
    /// The version of the code that decided it.
    pub planner: String,
    /// The version of the code that decided it now.
    pub planner_now: String,
    /// Whether the same comes out.
    pub same: bool,
    /// The workloads that are placed differently now; at most 100.
    pub different: Vec<WorkloadId>,
    /// The records that were asked for, by key; at most 1,000.
    pub asked: Vec<String>,
    /// What started and stopped where; at most 1,000.
    pub changes: Vec<PlacementChange>,
    /// What waited, and for what; at most 100.
    pub waiting: Vec<Waited>,
    /// Whether any of these lists is longer than what is shown.
    pub more: bool,
    /// The workload that was to be explained, once the decision was carried out; none if there was nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// What a workload waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Waited {
    /// The workload.
    pub workload: WorkloadId,
    /// For what.
    pub on: WaitingOn,
}

impl Verb for Replay {
    const NAME: &'static str = "replay";
    const WRITES: bool = false;
    type Answer = Replayed;
}
