//! What all objects of a manifest have in common: a version, a kind, a name.

use super::config::{Config, SecretRef};
use super::platform::Platform;
use super::quota::Quota;
use super::trust::Policy;
use super::workload::Workload;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The version of the manifest's shape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only version so far.
    #[default]
    #[serde(rename = "heddle.dev/v1")]
    V1,
}

/// The name of an object that lives in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// The object's name: 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends. Unique by kind within
    /// the namespace.
    pub name: String,
    /// The namespace that the object lives in; `default` when left out.
    #[serde(default = "default_namespace", skip_serializing_if = "is_default_namespace")]
    #[schemars(extend("default" = DEFAULT_NAMESPACE))]
    pub namespace: String,
    /// Labels for people and programs. Heddle takes no decision from them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The name of a Platform, which lives in no namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PlatformMetadata {
    /// The platform's name: 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends. Unique in the realm.
    pub name: String,
    /// Labels for people and programs. Heddle takes no decision from them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

fn default_namespace() -> String {
    DEFAULT_NAMESPACE.to_owned()
}

fn is_default_namespace(namespace: &str) -> bool {
    namespace == DEFAULT_NAMESPACE
}

/// Whether a flag has its usual default, so that it can be left out of the canonical form.
pub(super) fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The kinds of object, in the order in which a change puts them in place: what others refer to comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// What hosts lend to workloads.
    Platform,
    /// Named values.
    Config,
    /// A named reference to a secret.
    SecretRef,
    /// What a namespace asks of images.
    Policy,
    /// How much a namespace may have.
    Quota,
    /// Components that run together as one replica.
    Workload,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 6] = [
        Kind::Platform,
        Kind::Config,
        Kind::SecretRef,
        Kind::Policy,
        Kind::Quota,
        Kind::Workload,
    ];

    /// The kind as it is written in a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Platform => "Platform",
            Kind::Config => "Config",
            Kind::SecretRef => "SecretRef",
            Kind::Policy => "Policy",
            Kind::Quota => "Quota",
            Kind::Workload => "Workload",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One object that a person wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Object {
    /// What hosts lend to workloads.
    Platform(Platform),
    /// Named values.
    Config(Config),
    /// A named reference to a secret.
    SecretRef(SecretRef),
    /// What a namespace asks of images.
    Policy(Policy),
    /// How much a namespace may have.
    Quota(Quota),
    /// Components that run together as one replica. Boxed: it is several times the size of the others.
    Workload(Box<Workload>),
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Object::Platform(_) => Kind::Platform,
            Object::Config(_) => Kind::Config,
            Object::SecretRef(_) => Kind::SecretRef,
            Object::Policy(_) => Kind::Policy,
            Object::Quota(_) => Kind::Quota,
            Object::Workload(_) => Kind::Workload,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Object::Platform(platform) => &platform.metadata.name,
            Object::Config(config) => &config.metadata.name,
            Object::SecretRef(secret) => &secret.metadata.name,
            Object::Policy(policy) => &policy.metadata.name,
            Object::Quota(quota) => &quota.metadata.name,
            Object::Workload(workload) => &workload.metadata.name,
        }
    }

    /// Its namespace; a platform has none.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Object::Platform(_) => None,
            Object::Config(config) => Some(&config.metadata.namespace),
            Object::SecretRef(secret) => Some(&secret.metadata.namespace),
            Object::Policy(policy) => Some(&policy.metadata.namespace),
            Object::Quota(quota) => Some(&quota.metadata.namespace),
            Object::Workload(workload) => Some(&workload.metadata.namespace),
        }
    }

    /// Its labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        match self {
            Object::Platform(platform) => &platform.metadata.labels,
            Object::Config(config) => &config.metadata.labels,
            Object::SecretRef(secret) => &secret.metadata.labels,
            Object::Policy(policy) => &policy.metadata.labels,
            Object::Quota(quota) => &quota.metadata.labels,
            Object::Workload(workload) => &workload.metadata.labels,
        }
    }
}

impl fmt::Display for Object {
    /// The object as messages name it: `Workload shop/cart`, `Platform edge`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace() {
            Some(namespace) => f.pad(&format!("{} {namespace}/{}", self.kind(), self.name())),
            None => f.pad(&format!("{} {}", self.kind(), self.name())),
        }
    }
}
