//! What platforms lend: each kind of capability, what it takes to lend it, and which imports it meets.

use crate::host_spec::Feature;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something that a platform lends to the workloads on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum CapabilityOffer {
    /// A shared HTTP listener.
    Http {
        /// The address to listen on, `ip:port`; an agent's `--bind` overrides it.
        listen: String,
        /// Connections at the same time.
        max_connections: u32,
    },
    /// A key-value store in the agent's memory: gone when the agent is.
    KeyvalueMemory {
        /// Whether all namespaces see the same data.
        shared: bool,
    },
    /// A key-value store in a NATS bucket.
    KeyvalueNats {
        /// The bucket.
        bucket: String,
        /// The server, where it is another than the agent's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
        /// Whether all namespaces see the same data.
        shared: bool,
    },
    /// A key-value store in Redis.
    KeyvalueRedis {
        /// The server: `redis://host:port/db`, or `rediss://` for TLS. A password comes as secret `password`.
        url: String,
        /// What every key begins with.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        prefix: String,
        /// Whether all namespaces see the same data.
        shared: bool,
    },
    /// A blob store in a folder of the host.
    BlobstoreFilesystem {
        /// The folder, below the agent's data folder.
        path: String,
        /// The most that it may hold, in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quota_bytes: Option<u64>,
        /// Whether all namespaces see the same data.
        shared: bool,
    },
    /// A blob store in a NATS object store.
    BlobstoreNats {
        /// The object store's bucket.
        bucket: String,
        /// The server, where it is another than the agent's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
        /// The most that it may hold, in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quota_bytes: Option<u64>,
        /// Whether all namespaces see the same data.
        shared: bool,
    },
    /// Messaging over NATS: at most once.
    MessagingNats {
        /// The server, where it is another than the agent's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
        /// The subjects that guests may publish to and take from, with wildcards.
        subjects: Vec<String>,
    },
    /// Messaging over a JetStream stream: at least once, with retries and dead letters.
    MessagingJetstream {
        /// The stream.
        stream: String,
        /// The server, where it is another than the agent's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
        /// The subjects that guests may publish to and take from, with wildcards.
        subjects: Vec<String>,
        /// Where messages go that were given up: this subject, with the message's own subject behind it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dead_letters: Option<String>,
    },
    /// A Postgres database. A password comes as secret `password`.
    Postgres {
        /// The database: `postgres://user@host:port/database`.
        url: String,
        /// Connections at the same time, per host.
        max_connections: u32,
    },
    /// Configuration values, from the component's own `config`.
    Config {},
    /// Log lines, kept by the agent and asked for by `heddle logs`.
    Logging {},
    /// Secrets, from the component's own `secrets`.
    Secrets {},
    /// Functions that somebody serves over wRPC and NATS who need not be of this fleet.
    Wrpc {
        /// What its subjects begin with.
        prefix: String,
        /// The interfaces that it serves, with versions.
        interfaces: Vec<String>,
        /// Wall time of one call, in milliseconds.
        timeout_ms: u64,
    },
    /// What a crate of somebody's own lends, in agents that are built with it.
    Custom {
        /// The feature that such agents list, such as `acme-ledger@1.2.0`.
        feature: String,
        /// The interfaces that it meets, with versions.
        interfaces: Vec<String>,
        /// Whatever it is to be told.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        settings: BTreeMap<String, String>,
        /// Whether all namespaces see the same data.
        shared: bool,
    },
}

/// The interfaces of key-value stores.
const KEYVALUE: &[&str] = &[
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft",
];
/// The interfaces of blob stores.
const BLOBSTORE: &[&str] = &[
    "wasi:blobstore/blobstore@0.2.0-draft",
    "wasi:blobstore/container@0.2.0-draft",
    "wasi:blobstore/types@0.2.0-draft",
];
/// What messaging meets; its handler is an export.
const MESSAGING: &[&str] = &["wasmcloud:messaging/consumer@0.2.0", "wasmcloud:messaging/types@0.2.0"];
const SECRETS: &[&str] = &[
    "wasmcloud:secrets/store@0.1.0-draft",
    "wasmcloud:secrets/reveal@0.1.0-draft",
];
const POSTGRES: &[&str] = &[
    "wasmcloud:postgres/types@0.1.1-draft",
    "wasmcloud:postgres/query@0.1.1-draft",
];

impl CapabilityOffer {
    /// What an agent must be able to do to lend this.
    pub fn feature(&self) -> Feature {
        match self {
            Self::Http { .. } => Feature::HTTP,
            Self::KeyvalueMemory { .. } => Feature::KEYVALUE_MEMORY,
            Self::KeyvalueNats { .. } => Feature::KEYVALUE_NATS,
            Self::KeyvalueRedis { .. } => Feature::KEYVALUE_REDIS,
            Self::BlobstoreFilesystem { .. } => Feature::BLOBSTORE_FILESYSTEM,
            Self::BlobstoreNats { .. } => Feature::BLOBSTORE_NATS,
            Self::MessagingNats { .. } => Feature::MESSAGING_NATS,
            Self::MessagingJetstream { .. } => Feature::MESSAGING_JETSTREAM,
            Self::Postgres { .. } => Feature::POSTGRES,
            Self::Config {} => Feature::CONFIG,
            Self::Logging {} => Feature::LOGGING,
            Self::Secrets {} => Feature::SECRETS,
            Self::Wrpc { .. } => Feature::WRPC,
            Self::Custom { feature, .. } => Feature::custom(feature.clone()),
        }
    }

    /// The interfaces that this capability meets, with versions.
    pub fn meets(&self) -> Vec<&str> {
        match self {
            // A listener meets no import: it calls exports.
            Self::Http { .. } => Vec::new(),
            Self::KeyvalueMemory { .. } | Self::KeyvalueNats { .. } | Self::KeyvalueRedis { .. } => KEYVALUE.to_vec(),
            Self::BlobstoreFilesystem { .. } | Self::BlobstoreNats { .. } => BLOBSTORE.to_vec(),
            Self::MessagingNats { .. } | Self::MessagingJetstream { .. } => MESSAGING.to_vec(),
            Self::Postgres { .. } => POSTGRES.to_vec(),
            Self::Config {} => vec!["wasi:config/store@0.2.0-rc.1"],
            Self::Logging {} => vec!["wasi:logging/logging@0.1.0-draft"],
            Self::Secrets {} => SECRETS.to_vec(),
            Self::Wrpc { interfaces, .. } | Self::Custom { interfaces, .. } => {
                interfaces.iter().map(String::as_str).collect()
            }
        }
    }

    /// Whether each namespace has data of its own in it (D19).
    pub fn is_scoped(&self) -> bool {
        match self {
            Self::KeyvalueMemory { shared }
            | Self::KeyvalueNats { shared, .. }
            | Self::KeyvalueRedis { shared, .. }
            | Self::BlobstoreFilesystem { shared, .. }
            | Self::BlobstoreNats { shared, .. }
            | Self::Custom { shared, .. } => !shared,
            // What holds no data of its own, or holds everybody's by its nature, needs no scope.
            Self::Http { .. }
            | Self::MessagingNats { .. }
            | Self::MessagingJetstream { .. }
            | Self::Postgres { .. }
            | Self::Config {}
            | Self::Logging {}
            | Self::Secrets {}
            | Self::Wrpc { .. } => false,
        }
    }

    /// Whether units that are bound to it open connections of their own to NATS.
    pub fn uses_nats(&self) -> bool {
        matches!(
            self,
            Self::KeyvalueNats { .. }
                | Self::BlobstoreNats { .. }
                | Self::MessagingNats { .. }
                | Self::MessagingJetstream { .. }
                | Self::Wrpc { .. }
        )
    }
}
