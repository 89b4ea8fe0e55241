//! `rebalance`: moves replicas that are better elsewhere by now, so many and no more.

use super::Verb;
use crate::id::{HostId, WorkloadId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most replicas that one request may move.
pub const BUDGET_MAX: u32 = 2_000;

/// Asks that replicas are moved to where they would be placed now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebalance {
    /// Only these workloads; all if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadId>,
    /// Only those of the request's namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_namespace: bool,
    /// How many replicas may move, at most [`BUDGET_MAX`].
    pub budget: u32,
    /// Only say which would.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What moves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rebalanced {
    /// The commit in which that was decided; of a dry run, the one that it was decided at.
    pub commit: u64,
    /// The replicas, one entry each, the first found first.
    pub moves: Vec<Move>,
    /// Workloads that were looked at.
    pub considered: u32,
    /// Workloads that were not, because they are not at rest: replicas of them start, go, or are not ready.
    pub restless: u32,
    /// Whether more may be to move: the budget is spent, or there were too many workloads to look at all.
    pub more: bool,
}

/// One replica that moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Move {
    /// Its workload.
    pub workload: WorkloadId,
    /// Where it is.
    pub from: HostId,
    /// Where another one takes its place.
    pub to: HostId,
    /// Why it is better there.
    pub because: Better,
}

/// The first wish by which a host is better than another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// The place in the spread has less of its share.
    Spread,
    /// The host has fewer replicas of the workload.
    FewerReplicas,
    /// The host is preferred.
    Preferred,
    /// The host holds the images, and the workload minds.
    HoldsImage,
    /// The host is clearly emptier.
    Emptier,
    /// The host has more replicas of the workload, and that packs.
    Together,
}

impl fmt::Display for Better {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spread => "its place in the spread has less of its share",
            Self::FewerReplicas => "it has fewer replicas of the workload",
            Self::Preferred => "it is more preferred",
            Self::HoldsImage => "it holds the image",
            Self::Emptier => "it is emptier",
            Self::Together => "it has more replicas of the workload, which packs",
        })
    }
}

impl Verb for Rebalance {
    const NAME: &'static str = "rebalance";
    const WRITES: bool = true;
    type Answer = Rebalanced;
}
