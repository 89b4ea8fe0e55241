//! `explain`: why a workload is where it is, or why it is not.

use super::Verb;
use super::status::WorkloadStatus;
use crate::id::{HostId, WorkloadId};
use crate::report::{Rejection, RejectionCount};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// The workload.
    pub workload: WorkloadId,
}

/// What the planner knew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The commit that it is of.
    pub commit: u64,
    /// How the workload fares.
    pub status: WorkloadStatus,
    /// How its replicas are spread, in words.
    pub spread: String,
    /// Why each host with replicas has them. Of thousands, as many as one message holds.
    pub chosen: Vec<Chosen>,
    /// Why the other hosts would not take one more, commonest reason first.
    pub refused: Vec<RejectionCount>,
    /// Refusing hosts with their reasons, at most 100.
    pub hosts: Vec<HostVerdict>,
    /// The smallest changes that would let a missing replica be placed, in words.
    pub would_help: Vec<String>,
}

/// Why a host has replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chosen {
    /// The host.
    pub host: HostId,
    /// Replicas there, of the newest generation.
    pub count: u32,
    /// Why there, in words.
    pub why: String,
}

/// One host and why it refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostVerdict {
    /// The host.
    pub host: HostId,
    /// Every failing check, the first that fails first.
    pub rejections: Vec<Rejection>,
}

impl Verb for Explain {
    const NAME: &'static str = "explain";
    const WRITES: bool = false;
    type Answer = Explanation;
}
