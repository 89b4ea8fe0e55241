//! What a decision needs to know that only work on bytes, or a backend of secrets, can tell.
//!
//! In: outcomes of such work, by what was asked. Out: what is still to be found out. The core never waits: it says what it
//! needs, the shell finds it out, and the decision is made again with it. Outcomes never change, so they can be kept.

use heddle_protocol::api::ApiError;
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::SecretUse;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Work on artifacts whose outcome a decision rests on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactTask {
    /// Make one component of several.
    Compose(Composition),
    /// Find out whether a call over the network fits: the same functions, and only values that can travel.
    CheckCall(CallCheck),
}

/// Several components that become one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Composition {
    /// The part whose exports the whole has.
    pub entry: String,
    /// The components, by their names in the whole.
    pub parts: BTreeMap<String, PartSource>,
    /// Which import of which part is met by which export of which other.
    pub links: Vec<PartLink>,
}

/// One component of a composition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartSource {
    /// Its bytes.
    pub artifact: Digest,
    /// The names that its imports have in the whole, where they are others.
    pub rename: BTreeMap<String, String>,
}

/// An import of one part that an export of another meets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartLink {
    /// The part that imports.
    pub from: String,
    /// The interface that it imports.
    pub import: String,
    /// The part that exports.
    pub to: String,
    /// The interface that it exports: the same one, in a version that fits.
    pub export: String,
}

/// A call over the network, before anybody makes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallCheck {
    /// The component that calls.
    pub caller: Digest,
    /// The interface that it imports.
    pub import: String,
    /// The component that answers; none where that is not of this fleet, and only what travels can be checked.
    pub callee: Option<Digest>,
    /// The interface that it exports.
    pub export: String,
}

impl ArtifactTask {
    /// What the task and its outcome are known by.
    pub fn digest(&self) -> Result<Digest, serde_json::Error> {
        Digest::of_json(self)
    }
}

/// What a backend says of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretAnswer {
    /// It is there, and this is its version: the asked one, or the newest.
    Version(String),
    /// There is no such secret, or this workload may not have it.
    Refused(String),
    /// The backend cannot be asked.
    Unreachable(String),
}

/// What was found out.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The outcome of each task, by its digest: the composed component (the caller's own for a check), or why not.
    pub tasks: BTreeMap<Digest, Result<ArtifactInfo, String>>,
    /// What backends said, by [`SecretUse::id`] of the use as it is written: without a version if none is named.
    pub secrets: BTreeMap<Digest, SecretAnswer>,
}

/// What is still to be found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needed {
    /// Work on artifacts.
    pub tasks: Vec<ArtifactTask>,
    /// Secrets to ask for.
    pub secrets: Vec<SecretUse>,
}

impl Needed {
    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.secrets.is_empty()
    }
}

/// Why there is no decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Undecided {
    /// The change is refused.
    Refused(ApiError),
    /// Something must be found out first.
    Needs(Needed),
}

impl From<ApiError> for Undecided {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}
