//! Named values (`Config`) and named references to secrets (`SecretRef`), and how components and capabilities use them.

use super::object::{ApiVersion, Metadata, is_false};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Named values that several workloads may use. A change makes a new generation of every workload that uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// The version of the manifest's shape.
    pub api_version: ApiVersion,
    /// Its name and namespace.
    pub metadata: Metadata,
    /// The values by key. Every value is text: write numbers and booleans in quotes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub spec: BTreeMap<String, String>,
}

/// A named reference to a secret in a backend. The value of a secret is never part of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SecretRef {
    /// The version of the manifest's shape.
    pub api_version: ApiVersion,
    /// Its name and namespace.
    pub metadata: Metadata,
    /// Where the secret is.
    pub spec: SecretRefSpec,
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SecretRefSpec {
    /// The scheduler's name for the backend, such as `vault`.
    pub from: String,
    /// The secret's path in the backend.
    pub path: String,
    /// One field of a secret that has several, such as `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The version to use; the newest when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    pub version: Option<u32>,
    /// Whether an agent must not keep the sealed secret for a restart while it is cut off.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_cache: bool,
}

/// One source of a component's config: a Config by name, or values in place. Later sources win over earlier ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConfigSource {
    /// The name of a Config in the workload's namespace.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub config_ref: Option<String>,
    /// Values in place. Every value is text: write numbers and booleans in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<BTreeMap<String, String>>,
}

/// A secret as a component or capability uses it: a SecretRef by name, or the reference in place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SecretSource {
    /// The name of a SecretRef in the same namespace.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<String>,
    /// The scheduler's name for the backend, such as `vault`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The secret's path in the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// One field of a secret that has several, such as `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The version to use; the newest when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    pub version: Option<u32>,
    /// Whether an agent must not keep the sealed secret for a restart while it is cut off.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_cache: bool,
    /// What a newer version does where none is named: `restart` makes a new generation of the workload, `live` hands it
    /// to the components that run.
    #[serde(default, skip_serializing_if = "is_restart")]
    pub rotate: Rotate,
    /// An environment variable that also shows the secret to the component. Everything in the component can read it, so
    /// prefer the secrets interface. Only for components.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

/// What a newer version of a secret does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Rotate {
    /// A new generation of the workload rolls out.
    #[default]
    Restart,
    /// Components that run see it the next time they ask.
    Live,
}

fn is_restart(rotate: &Rotate) -> bool {
    *rotate == Rotate::Restart
}
