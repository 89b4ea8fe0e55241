//! `apply` and `plan`: take a manifest as intent, or say what taking it would do.

use super::Verb;
use super::step::Step;
use crate::id::Generation;
use crate::report::{PlacementChange, WaitingOn};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Takes documents as intent: all of them, in one commit, or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The documents in canonical JSON. A `file:` image was uploaded before and stands here as `sha256:…`.
    pub documents: Vec<serde_json::Value>,
    /// Refuses unless this does what a plan of the same documents at this commit said: if the plan is remembered, it must
    /// be the same one now; otherwise this must still be the newest commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

/// Says exactly what an apply would do, and does nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The documents, as for apply.
    pub documents: Vec<serde_json::Value>,
}

/// What an apply did, or would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// The commit that holds it; for a plan, the commit that it was worked out at.
    pub commit: u64,
    /// The objects, in the order of the documents, then those that changed because of them.
    pub objects: Vec<AppliedObject>,
    /// What starts and stops where. Of thousands the first; a note says so.
    pub changes: Vec<PlacementChange>,
    /// The same put together: what starts, stops, moves, is updated or makes room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// What would stay without a place, by workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Waiting>,
    /// Things that are allowed and worth knowing: an import that was bound by itself, say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A workload that waits, and on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// The workload.
    pub workload: crate::id::WorkloadId,
    /// On what.
    pub on: WaitingOn,
}

/// One object of an apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppliedObject {
    /// `Platform`, `Workload`, `Config`, `SecretRef`, `Policy` or `Quota`.
    pub kind: String,
    /// Its name; `namespace/name` for all but platforms.
    pub name: String,
    /// The generation that it has now.
    pub generation: Generation,
    /// What became of it.
    pub change: Change,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is new.
    Created,
    /// It has a new generation.
    Updated,
    /// It was so already.
    Unchanged,
    /// It is gone.
    Deleted,
}

impl Change {
    /// The change in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

impl Verb for Apply {
    const NAME: &'static str = "apply";
    const WRITES: bool = true;
    type Answer = Applied;
}

impl Verb for Plan {
    const NAME: &'static str = "plan";
    const WRITES: bool = false;
    type Answer = Applied;
}
