//! Where replicas may and should run.

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
}

impl LabelRule {
    /// Whether a host whose label has this value (or that lacks it) keeps the rule.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        self.in_values
            .as_ref()
            .is_none_or(|values| value.is_some_and(|value| values.iter().any(|v| v == value)))
            && self
                .not_in
                .as_ref()
                .is_none_or(|values| value.is_none_or(|value| values.iter().all(|v| v != value)))
            && self.exists.is_none_or(|exists| exists == value.is_some())
            && self
                .gt
                .is_none_or(|bound| number().is_some_and(|number| number > bound))
            && self
                .lt
                .is_none_or(|bound| number().is_some_and(|number| number < bound))
    }
}

/// Where replicas may and should run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Placement {
    /// Conditions on hosts, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Selector>,
    /// Hosts that are better than others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<Preference>,
    /// Labels whose values share the replicas among them; the first comes first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<Spread>,
    /// Workloads to keep away from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<Avoidance>,
    /// Whether replicas fill hosts one after the other or share them evenly.
    #[serde(default, skip_serializing_if = "is_spread")]
    pub strategy: Strategy,
    /// Workloads of higher priority are placed first.
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
    /// The most by which two values may differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_skew: Option<u32>,
}

/// Bounds for weights: large enough for percentages, small enough that sums and products stay exact.
fn weights_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": { "type": "integer", "minimum": 0, "maximum": 1_000_000 },
    })
}

/// A workload to keep away from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Avoidance {
    /// The other workload, in the same namespace.
    pub workload: String,
    /// How far away: `host`, or a label such as `zone`.
    pub by: String,
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
        ] {
            assert_eq!(rule(text).holds(value), holds, "{text} for {value:?}");
        }
    }
}
