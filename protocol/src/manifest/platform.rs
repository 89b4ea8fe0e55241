//! What operators write once: which hosts lend which named capabilities.

use super::config::SecretSource;
use super::object::{ApiVersion, PlatformMetadata, is_false};
use super::placement::Selector;
use super::quantity::Size;
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
}

/// A blob store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BlobstoreCapability {
    /// In a folder of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<FilesystemBlobstore>,
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

/// Messaging.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MessagingCapability {
    /// Through a JetStream stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jetstream: Option<JetstreamMessaging>,
}

/// Messaging through a JetStream stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct JetstreamMessaging {
    /// The stream's name.
    pub stream: String,
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
    /// Who compiles components.
    #[serde(default, skip_serializing_if = "is_local")]
    pub compile: Compile,
}

impl Engines {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Who compiles components to native code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Compile {
    /// Every agent compiles for itself.
    #[default]
    Local,
    /// The scheduler compiles once for each engine of the fleet.
    Precompiled,
}

fn is_local(compile: &Compile) -> bool {
    *compile == Compile::Local
}
