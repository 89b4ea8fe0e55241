//! What a plan does, as people speak of it: replicas start, stop, move, are updated, or make room.
//!
//! The same as its placement changes, put together: a replica fewer here and one more there is one that moves.

use crate::id::{Generation, HostId, WorkloadId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Replicas of one workload with which one thing happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What happens.
    pub action: Action,
    /// The workload.
    pub workload: WorkloadId,
    /// The generation of the replicas, once it has happened.
    pub generation: Generation,
    /// How many.
    pub count: u32,
    /// The host that they leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<HostId>,
    /// The host that they come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<HostId>,
    /// Of an update, the generation whose place they take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Generation>,
    /// Of replicas that make room, for whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_for: Option<WorkloadId>,
}

/// What happens with replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// New ones start.
    Start,
    /// They stop.
    Stop,
    /// They stop on one host, and as many start on another.
    Move,
    /// Those of a newer generation take the place of older ones, which stop once the new ones are ready.
    Update,
    /// They make room for a workload of higher priority.
    Preempt,
}

impl Action {
    /// Every action, in the order in which people are told.
    pub const ALL: [Action; 5] = [Self::Start, Self::Stop, Self::Move, Self::Update, Self::Preempt];

    /// The action in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Move => "move",
            Self::Update => "update",
            Self::Preempt => "preempt",
        }
    }
}

impl fmt::Display for Step {
    /// `+ shop/cart@2 ×3 on host-b`, `> shop/cart@2 ×1 from host-a to host-b`, `~ shop/cart@2→3 ×2 on host-b`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.action {
            Action::Start => '+',
            Action::Stop => '-',
            Action::Move => '>',
            Action::Update => '~',
            Action::Preempt => '!',
        };
        write!(f, "{sign} {}@", self.workload)?;
        if let Some(before) = self.before {
            write!(f, "{before}→")?;
        }
        write!(f, "{} ×{}", self.generation, self.count)?;
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if from == to => write!(f, " on {to}")?,
            (Some(from), Some(to)) => write!(f, " from {from} to {to}")?,
            (Some(host), None) | (None, Some(host)) => write!(f, " on {host}")?,
            (None, None) => {}
        }
        match &self.room_for {
            Some(workload) => write!(f, ", to make room for {workload}"),
            None => Ok(()),
        }
    }
}
