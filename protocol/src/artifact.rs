//! What the scheduler knows of an artifact: its bytes by digest, and what the component imports and exports.

use crate::digest::Digest;
use crate::host_spec::Wasi;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A component that was read and checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactInfo {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The interfaces that it imports, with versions, such as `wasi:keyvalue/store@0.2.0-draft`.
    pub imports: BTreeSet<String>,
    /// The interfaces that it exports.
    pub exports: BTreeSet<String>,
    /// Which WASI it is written for.
    pub wasi: Wasi,
    /// The fingerprints of the public keys with whose private half its image was found to be signed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub verified_by: BTreeSet<Digest>,
}

impl ArtifactInfo {
    /// Whether it can serve HTTP: it exports the 0.2 or the 0.3 handler.
    pub fn serves_http(&self) -> bool {
        self.exports.iter().any(|e| is_http_handler(e))
    }
}

/// Whether an interface is the HTTP handler of WASI 0.2 or 0.3.
pub fn is_http_handler(interface: &str) -> bool {
    interface.starts_with("wasi:http/incoming-handler@0.2.") || interface.starts_with("wasi:http/handler@0.3.")
}
