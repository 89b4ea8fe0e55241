//! Where replicas may and should run.

use crate::label::{self, VersionRuleError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Conditions on a host's labels, all of which must hold: `{ tier: { in: [edge, regional] } }`.
pub type Selector = BTreeMap<String, LabelRule>;

/// Conditions on one label, all of which must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LabelRule {
    /// The host has the label with one of these values.
    #[serde(rename = "in", default, skip_serializing_if = "Option::is_none")]
    pub in_values: Option<Vec<String>>,
    /// The host lacks the label or has it with another value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_in: Option<Vec<String>>,
    /// Whether the host has the label, with any value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
    /// The label's value is a number greater than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gt: Option<i64>,
    /// The label's value is a number less than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lt: Option<i64>,
    /// The label's value is a version that fits, such as `>=1.2, <2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl LabelRule {
    /// The conditions one by one, as planners ask them.
    ///
    /// # Errors
    /// If `version` is no requirement on versions; `validate` has found that before.
    pub fn rules(&self) -> Result<Vec<label::LabelRule>, VersionRuleError> {
        let values = |list: &Vec<String>| list.iter().cloned().collect();
        let version = self.version.as_deref().map(label::VersionRule::parse).transpose()?;
        let rules = [
            self.in_values.as_ref().map(|v| label::LabelRule::In(values(v))),
            self.not_in.as_ref().map(|v| label::LabelRule::NotIn(values(v))),
            self.exists.map(label::LabelRule::Exists),
            self.gt.map(label::LabelRule::Gt),
            self.lt.map(label::LabelRule::Lt),
            version.map(label::LabelRule::Version),
        ];
        Ok(rules.into_iter().flatten().collect())
    }

    /// Whether a host whose label has this value (or that lacks it) keeps the rule.
    pub fn holds(&self, value: Option<&str>) -> bool {
        self.rules()
            .is_ok_and(|rules| rules.iter().all(|rule| rule.allows(value)))
    }
}

/// Where replicas may and should run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Placement {
    /// Conditions on hosts, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Selector>,
    /// Hosts that are better than others. Among hosts that the spread rules find equal, the one with the greater sum of
    /// weights takes a replica first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub prefer: Vec<Preference>,
    /// Labels whose values share the replicas among them; the first comes first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<Spread>,
    /// Workloads to keep away from. Without a weight, neither joins the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub avoid: Vec<Company>,
    /// Workloads to stay near to. Without a weight, a replica waits until one of them is there. A workload near to itself
    /// keeps its replicas together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub near: Vec<Company>,
    /// The most replicas of this workload on one host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_per_host: Option<u32>,
    /// Taints of hosts that it puts up with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerate: Vec<Toleration>,
    /// Whether replicas fill hosts one after the other or share them evenly.
    #[serde(default, skip_serializing_if = "is_spread")]
    pub strategy: Strategy,
    /// Whether, of hosts that differ only in how full they are, those come first that hold its images already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prefer_image: bool,
    /// Workloads of higher priority are placed first, and may take the place of replicas of lower priority.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 1_000))]
    pub priority: u32,
}

impl Placement {
    /// Whether nothing in it differs from the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Hosts that are better than others, and by how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Preference {
    /// The labels that a better host has.
    pub label: BTreeMap<String, String>,
    /// How much better it is.
    #[schemars(range(min = 1, max = 1_000))]
    pub weight: u32,
}

/// How the values of a label share the replicas among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Spread {
    /// The label, such as `zone` or `region`.
    pub by: String,
    /// The share of each value. Hosts with another value get nothing. Even shares when left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "weights_schema")]
    pub weights: BTreeMap<String, u32>,
    /// The most by which two values may differ, among those that hosts that fit have. With `weights`, each count is
    /// divided by its weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_skew: Option<u32>,
    /// Whether a replica that would differ by more than `maxSkew` waits. `true` when left out; `false` makes the bound a
    /// wish. Only with `maxSkew`.
    #[serde(default, skip_serializing_if = "is_true_or_none")]
    #[schemars(extend("default" = true))]
    pub hard: Option<bool>,
}

fn is_true_or_none(hard: &Option<bool>) -> bool {
    hard.unwrap_or(true)
}

/// Bounds for weights: large enough for percentages, small enough that sums and products stay exact.
fn weights_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": { "type": "integer", "minimum": 0, "maximum": 1_000_000 },
    })
}

/// Another workload, to keep away from or to stay near to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Company {
    /// The other workload, in the same namespace. It may come later.
    pub workload: String,
    /// How far away, or how near: `host`, or a label such as `zone`.
    pub by: String,
    /// How much it matters, as a wish. A condition when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub weight: Option<u32>,
}

/// A taint of hosts that a workload puts up with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's name.
    pub taint: String,
    /// Its value; any when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Whether replicas fill hosts one after the other or share them evenly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// Evenly over the hosts that fit.
    #[default]
    Spread,
    /// As few hosts as can hold them.
    Pack,
}

fn is_spread(strategy: &Strategy) -> bool {
    *strategy == Strategy::Spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_rule_holds_only_if_all_its_conditions_do() {
        let rule = |text: &str| serde_json::from_str::<LabelRule>(text).unwrap();
        for (text, value, holds) in [
            (r#"{"in":["eu","us"]}"#, Some("eu"), true),
            (r#"{"in":["eu","us"]}"#, Some("ap"), false),
            (r#"{"in":["eu"]}"#, None, false),
            (r#"{"notIn":["eu"]}"#, None, true),
            (r#"{"notIn":["eu"]}"#, Some("eu"), false),
            (r#"{"exists":true}"#, Some(""), true),
            (r#"{"exists":false}"#, Some("x"), false),
            (r#"{"gt":4}"#, Some("5"), true),
            (r#"{"gt":4}"#, Some("four"), false),
            (r#"{"gt":4,"lt":6}"#, Some("6"), false),
            (r#"{"version":">=1.2, <2"}"#, Some("1.4.1"), true),
            (r#"{"version":">=1.2, <2","notIn":["1.4.1"]}"#, Some("1.4.1"), false),
            (r#"{"version":"not one"}"#, Some("1.4.1"), false),
        ] {
            assert_eq!(rule(text).holds(value), holds, "{text} for {value:?}");
        }
    }
}
