//! How much a namespace may have (`Quota`).

use super::object::{ApiVersion, Metadata};
use super::quantity::{Cpu, Size};
use crate::record::QuotaLimits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How much a namespace may have. A namespace has at most one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Quota {
    /// The version of the manifest's shape.
    pub api_version: ApiVersion,
    /// Its name, and the namespace that it is about.
    pub metadata: Metadata,
    /// How much.
    pub spec: QuotaSpec,
}

/// How much a namespace may have; what is left out has no bound. A change that would take more is refused; what is there
/// already stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct QuotaSpec {
    /// Workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub workloads: Option<u64>,
    /// Replicas that its workloads want, together. A daemon counts as its hosts, a job as its completions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub replicas: Option<u64>,
    /// Memory that those replicas reserve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Processor time that those replicas reserve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Countable things that those replicas reserve, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "allowed_schema")]
    pub resources: BTreeMap<String, u64>,
}

/// How many of each countable thing; none at all can be allowed too.
fn allowed_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": { "type": "integer", "minimum": 0, "maximum": 1_000_000_000 },
    })
}

impl QuotaSpec {
    /// The same as it is kept and compared.
    pub fn limits(&self) -> QuotaLimits {
        QuotaLimits {
            workloads: self.workloads,
            replicas: self.replicas,
            memory_bytes: self.memory.map(Size::as_bytes),
            cpu_millis: self.cpu.map(Cpu::as_millicores),
            resources: self.resources.clone(),
        }
    }
}
