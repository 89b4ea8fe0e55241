//! `artifact-has`, `artifact-put` and `artifact-get`: the bytes of components.

use super::Verb;
use crate::artifact::ArtifactInfo;
use crate::digest::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Asks which artifacts the store lacks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactHas {
    /// The artifacts.
    pub digests: BTreeSet<Digest>,
}

/// Which are lacking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactsMissing {
    /// These.
    pub missing: BTreeSet<Digest>,
}

/// Stores an artifact: the attachment's bytes, under their digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactPut {
    /// The digest that the bytes must have.
    pub digest: Digest,
}

/// What an agent asks on its own artifact subject, and anybody with `artifact-get`: bytes of an artifact. The answer's
/// attachment holds them: at most [`crate::defaults::CHUNK_BYTES`] from the offset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactGet {
    /// The artifact.
    pub digest: Digest,
    /// Where to start, in bytes.
    pub offset: u64,
}

/// What an agent asks on its own artifact subject: which native code an artifact has for an engine. The scheduler compiles
/// it if nobody did before; the answer's attachment is an envelope of kind `compiled` ([`CompiledCode`]), signed by the
/// realm key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompiledGet {
    /// The artifact.
    pub artifact: Digest,
    /// The engine's fingerprint, as the agent's hello gave it.
    pub fingerprint: String,
}

/// The answer to [`CompiledGet`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum CompiledAnswer {
    /// The attachment is the signed envelope.
    Signed,
    /// It is being compiled; ask again in a moment.
    UnderWay,
    /// The scheduler cannot compile for this engine. The agent may compile for itself.
    Unsupported {
        /// Why.
        reason: String,
    },
}

/// The native code of an artifact for one engine, as the realm key signs it. Its bytes are an artifact themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CompiledCode {
    /// The artifact.
    pub artifact: Digest,
    /// The engine's fingerprint.
    pub fingerprint: String,
    /// The digest of the code.
    pub code: Digest,
    /// The code's size, in bytes.
    pub bytes: u64,
}

/// Describes the attached bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactChunk {
    /// The artifact's whole size, in bytes.
    pub bytes: u64,
    /// Where the attached bytes start.
    pub offset: u64,
}

impl Verb for ArtifactHas {
    const NAME: &'static str = "artifact-has";
    const WRITES: bool = false;
    type Answer = ArtifactsMissing;
}

impl Verb for ArtifactPut {
    const NAME: &'static str = "artifact-put";
    const WRITES: bool = true;
    type Answer = ArtifactInfo;
}

impl Verb for ArtifactGet {
    const NAME: &'static str = "artifact-get";
    const WRITES: bool = false;
    type Answer = ArtifactChunk;
}
