//! `get`, `delete` and `undo`: the objects that people wrote.

use super::Verb;
use super::apply::Applied;
use crate::id::{Generation, WorkloadId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ObjectKind {
    /// Which hosts are lent what.
    Platform,
    /// Components to run.
    Workload,
    /// Named values.
    Config,
    /// A named reference to a secret.
    SecretRef,
    /// What a namespace asks of images.
    Policy,
    /// How much a namespace may have.
    Quota,
}

impl ObjectKind {
    /// The kind as manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "Platform",
            Self::Workload => "Workload",
            Self::Config => "Config",
            Self::SecretRef => "SecretRef",
            Self::Policy => "Policy",
            Self::Quota => "Quota",
        }
    }

    /// Several of the kind, as the command line names them.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Platform => "platforms",
            Self::Workload => "workloads",
            Self::Config => "configs",
            Self::SecretRef => "secretrefs",
            Self::Policy => "policies",
            Self::Quota => "quotas",
        }
    }
}

/// Names one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: ObjectKind,
    /// `name` for a platform, `namespace/name` for the others.
    pub name: String,
}

/// Lists objects of one kind, page by page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The kind.
    pub kind: ObjectKind,
    /// Only this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only those of the subject's namespace; otherwise of all namespaces.
    #[serde(default)]
    pub in_namespace: bool,
    /// Only those after this name: where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A page of objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Objects {
    /// The commit that they are of.
    pub commit: u64,
    /// The objects, ordered by name.
    pub objects: Vec<StoredObject>,
    /// Whether more follow.
    pub more: bool,
}

/// An object as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoredObject {
    /// Its name; `namespace/name` for all but platforms.
    pub name: String,
    /// Its generation.
    pub generation: Generation,
    /// When that generation was applied: milliseconds since 1970.
    pub applied_at: crate::time::UnixMs,
    /// The manifest, as it was applied.
    pub manifest: serde_json::Value,
    /// Of a workload, the generations that `undo` can go back to, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Generation>,
    /// Of a quota, what the namespace's workloads ask for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<QuotaUse>,
}

/// What the workloads of a namespace ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuotaUse {
    /// Workloads.
    pub workloads: u64,
    /// Replicas wanted.
    pub replicas: u64,
    /// Memory that those reserve, in bytes.
    pub memory_bytes: u64,
    /// Processor time that those reserve, in thousandths of a core.
    pub cpu_millis: u64,
    /// Countable things that those reserve, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u64>,
}

/// Deletes objects: all of them in one commit, or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The objects.
    pub objects: Vec<ObjectRef>,
    /// Whether an object that is not there is an error.
    #[serde(default)]
    pub ignore_missing: bool,
}

/// Takes a workload back to an earlier generation, as a new one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// The workload.
    pub workload: WorkloadId,
    /// The generation; none means the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Generation>,
}

impl Verb for Get {
    const NAME: &'static str = "get";
    const WRITES: bool = false;
    type Answer = Objects;
}

impl Verb for Delete {
    const NAME: &'static str = "delete";
    const WRITES: bool = true;
    type Answer = Applied;
}

impl Verb for Undo {
    const NAME: &'static str = "undo";
    const WRITES: bool = true;
    type Answer = Applied;
}
