//! What operators write once: which hosts lend which named capabilities.

use super::config::SecretSource;
use super::object::{ApiVersion, PlatformMetadata, is_false};
use super::placement::Selector;
use super::quantity::{Duration, Size};
use crate::defaults::LISTENER_CONNECTIONS_MAX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a set of hosts lends to workloads. A host's offer is the union of the platforms that select it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Platform {
    /// The version of the manifest's shape.
    pub api_version: ApiVersion,
    /// Its name. Platforms live in no namespace.
    pub metadata: PlatformMetadata,
    /// What it lends, and where.
    #[serde(default, skip_serializing_if = "PlatformSpec::is_default")]
    pub spec: PlatformSpec,
}

/// What a platform lends, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PlatformSpec {
    /// The hosts that lend it, by their labels. Every host when left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: Selector,
    /// What is lent, by the name that workloads use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities: BTreeMap<String, Capability>,
    /// How these hosts come by native code.
    #[serde(default, skip_serializing_if = "Engines::is_default")]
    pub engines: Engines,
}

impl PlatformSpec {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One lent capability: exactly one of its kinds, and the secrets it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Capability {
    /// A listener for HTTP that workloads share by host, path and method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCapability>,
    /// A key-value store (`wasi:keyvalue`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyvalue: Option<KeyvalueCapability>,
    /// A blob store (`wasi:blobstore`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blobstore: Option<BlobstoreCapability>,
    /// Messaging (`wasi:messaging`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messaging: Option<MessagingCapability>,
    /// A Postgres database (`wasmcloud:postgres`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresCapability>,
    /// Functions that somebody serves over wRPC who need not be of this fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrpc: Option<WrpcCapability>,
    /// What a crate of your own lends, in agents that are built with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomCapability>,
    /// Each component's config (`wasi:config`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigCapability>,
    /// Log lines of components (`wasi:logging`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<LoggingCapability>,
    /// Secrets that the capability itself needs, by the name it knows them by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretSource>,
}

/// The kinds of capability that a platform can lend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CapabilityKind {
    /// A shared HTTP listener.
    Http,
    /// A key-value store.
    Keyvalue,
    /// A blob store.
    Blobstore,
    /// Messaging.
    Messaging,
    /// A Postgres database.
    Postgres,
    /// Functions served over wRPC.
    Wrpc,
    /// What a crate of somebody's own lends.
    Custom,
    /// Each component's config.
    Config,
    /// Log lines of components.
    Logging,
}

impl CapabilityKind {
    /// The kind as it is written in a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            CapabilityKind::Http => "http",
            CapabilityKind::Keyvalue => "keyvalue",
            CapabilityKind::Blobstore => "blobstore",
            CapabilityKind::Messaging => "messaging",
            CapabilityKind::Postgres => "postgres",
            CapabilityKind::Wrpc => "wrpc",
            CapabilityKind::Custom => "custom",
            CapabilityKind::Config => "config",
            CapabilityKind::Logging => "logging",
        }
    }
}

impl Capability {
    /// The kinds it was given; a valid capability has exactly one.
    pub fn kinds(&self) -> Vec<CapabilityKind> {
        let given = [
            (self.http.is_some(), CapabilityKind::Http),
            (self.keyvalue.is_some(), CapabilityKind::Keyvalue),
            (self.blobstore.is_some(), CapabilityKind::Blobstore),
            (self.messaging.is_some(), CapabilityKind::Messaging),
            (self.postgres.is_some(), CapabilityKind::Postgres),
            (self.wrpc.is_some(), CapabilityKind::Wrpc),
            (self.custom.is_some(), CapabilityKind::Custom),
            (self.config.is_some(), CapabilityKind::Config),
            (self.logging.is_some(), CapabilityKind::Logging),
        ];
        given
            .into_iter()
            .filter(|(given, _)| *given)
            .map(|(_, kind)| kind)
            .collect()
    }

    /// Its kind, if it has exactly one.
    pub fn kind(&self) -> Option<CapabilityKind> {
        match self.kinds().as_slice() {
            [kind] => Some(*kind),
            _ => None,
        }
    }
}

/// A listener for HTTP that workloads share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpCapability {
    /// The address to listen on, such as `127.0.0.1:8080` or `[::]:8080`. An agent may override it with `--bind`.
    pub listen: String,
    /// Connections that the listener holds at once.
    #[serde(default = "default_connections", skip_serializing_if = "is_default_connections")]
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = LISTENER_CONNECTIONS_MAX))]
    pub max_connections: u32,
}

fn default_connections() -> u32 {
    LISTENER_CONNECTIONS_MAX
}

fn is_default_connections(connections: &u32) -> bool {
    *connections == LISTENER_CONNECTIONS_MAX
}

/// A key-value store: exactly one of its backends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KeyvalueCapability {
    /// In the agent's memory: for caches and for trying things out; gone when the agent stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryKeyvalue>,
    /// In a NATS key-value bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsKeyvalue>,
    /// In Redis. A password is the secret `password` of the capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisKeyvalue>,
    /// Whether all namespaces see the same data. Otherwise each namespace has its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared: bool,
}

/// Key-value data in the agent's memory. It has nothing to configure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MemoryKeyvalue {}

/// Key-value data in a NATS bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NatsKeyvalue {
    /// The bucket's name.
    pub bucket: String,
    /// The server, where it is another than the fleet's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Key-value data in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RedisKeyvalue {
    /// The server: `redis://host:port/database`, or `rediss://` for TLS; without a password.
    pub url: String,
    /// What every key begins with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// A blob store: exactly one of its backends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BlobstoreCapability {
    /// In a folder of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<FilesystemBlobstore>,
    /// In a NATS object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsBlobstore>,
    /// Whether all namespaces see the same data. Otherwise each namespace has its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared: bool,
}

/// Blobs in a NATS object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NatsBlobstore {
    /// The object store's bucket.
    pub bucket: String,
    /// The server, where it is another than the fleet's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The most it may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Size>,
}

/// Blobs in a folder of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FilesystemBlobstore {
    /// The folder, relative to the agent's data folder.
    pub path: String,
    /// The most it may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Size>,
}

/// Messaging: exactly one of its backends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MessagingCapability {
    /// Over NATS alone: at most once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsMessaging>,
    /// Through a JetStream stream: at least once, with retries and dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jetstream: Option<JetstreamMessaging>,
}

/// Messaging over NATS alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NatsMessaging {
    /// The server, where it is another than the fleet's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The subjects that components may publish to and take from, with NATS's wildcards.
    #[schemars(length(min = 1, max = 100))]
    pub subjects: Vec<String>,
}

/// Messaging through a JetStream stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct JetstreamMessaging {
    /// The stream's name.
    pub stream: String,
    /// The server, where it is another than the fleet's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The subjects that components may publish to and take from, with NATS's wildcards; the stream takes them in. All
    /// below the stream's name in lower case when left out: `orders.>` for `ORDERS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub subjects: Vec<String>,
    /// Where messages go that were given up: this subject, with the message's own subject behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<String>,
}

impl JetstreamMessaging {
    /// The subjects that components may publish to and take from.
    pub fn lent_subjects(&self) -> Vec<String> {
        match self.subjects.is_empty() {
            true => vec![format!("{}.>", self.stream.to_ascii_lowercase())],
            false => self.subjects.clone(),
        }
    }
}

/// A Postgres database. A password is the secret `password` of the capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PostgresCapability {
    /// The database: `postgres://user@host:port/database`, without a password.
    pub url: String,
    /// Connections that one host opens at most.
    #[serde(default = "default_pool", skip_serializing_if = "is_default_pool")]
    #[schemars(range(min = 1, max = 1_000), extend("default" = 8))]
    pub max_connections: u32,
}

fn default_pool() -> u32 {
    8
}

fn is_default_pool(connections: &u32) -> bool {
    *connections == default_pool()
}

/// Functions that somebody serves over wRPC and NATS who need not be of this fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WrpcCapability {
    /// What its subjects begin with.
    pub prefix: String,
    /// The interfaces that it serves, with versions.
    #[schemars(length(min = 1, max = 100))]
    pub interfaces: Vec<String>,
    /// Wall time of one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// What a crate of your own lends, in agents that are built with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CustomCapability {
    /// The feature that such agents list, such as `acme-ledger@1.2.0`.
    pub feature: String,
    /// The interfaces that it meets, with versions.
    #[schemars(length(min = 1, max = 100))]
    pub interfaces: Vec<String>,
    /// Whatever it is to be told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Whether all namespaces see the same data. Otherwise each namespace has its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared: bool,
}

/// Each component's config. It has nothing to configure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConfigCapability {}

/// Log lines of components. It has nothing to configure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LoggingCapability {}

/// How hosts come by native code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Engines {
    /// Who compiles components; the scheduler when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile: Option<Compile>,
}

impl Engines {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Who compiles components to native code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Compile {
    /// Every agent compiles for itself.
    Local,
    /// The scheduler compiles once for each engine of the fleet, and signs the code.
    Precompiled,
}
