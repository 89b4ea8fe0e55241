//! `info`, `backup` and `restore`: the realm as a whole.

use super::Verb;
use super::apply::Applied;
use crate::digest::Digest;
use crate::id::Realm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks who leads, and how the realm fares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Info {}

/// The realm as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RealmInfo {
    /// The realm.
    pub realm: Realm,
    /// The scheduler's version.
    pub version: String,
    /// The scheduler's id.
    pub scheduler: String,
    /// Its epoch.
    pub epoch: u64,
    /// The newest commit.
    pub commit: u64,
    /// The version of nats-server.
    pub nats_version: String,
    /// Hosts that live, and hosts in all.
    pub hosts_ready: u32,
    /// Hosts in all.
    pub hosts: u32,
    /// Workloads in all.
    pub workloads: u32,
    /// Anything that an operator should know: a store that syncs lazily, safe mode.
    pub warnings: Vec<String>,
}

/// Asks for a verified image of the state; it is the answer's attachment, from an offset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The image that was begun, if this asks for more of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// Where to start, in bytes.
    #[serde(default)]
    pub offset: u64,
}

/// Describes the attached bytes of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackupChunk {
    /// The whole image's digest.
    pub image: Digest,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The commit that it is of.
    pub commit: u64,
}

/// Makes the state what an image says: the attachment. One commit; hosts then change to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {}

impl Verb for Info {
    const NAME: &'static str = "info";
    const WRITES: bool = false;
    type Answer = RealmInfo;
}

impl Verb for Backup {
    const NAME: &'static str = "backup";
    const WRITES: bool = false;
    type Answer = BackupChunk;
}

impl Verb for Restore {
    const NAME: &'static str = "restore";
    const WRITES: bool = true;
    type Answer = Applied;
}
