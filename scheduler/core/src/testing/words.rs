//! A workload's manifest of some words, as the story language has them: `replicas=4 spread=zone avoid=batch:host`.

// Tests call this: a broken expectation is their message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::workload_yaml;

/// A workload's manifest of `key=value` words.
pub(super) fn manifest_of(name: &str, options: &[&str]) -> String {
    let mut fields: Vec<String> = Vec::new();
    let (mut placement, mut reserve, mut resources) = (Placement::default(), Vec::new(), Vec::new());
    let mut trigger = Vec::new();
    for option in options {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "replicas" => fields.push(format!("replicas: {value}")),
            "daemon" => fields.push("daemon: true".to_owned()),
            "image" => fields.push(format!("image: {value}")),
            "reserve" => reserve.push(format!("memory: {value}")),
            "cpu" => reserve.push(format!("cpu: {value}")),
            "resource" => resources.push(pair(value)),
            "reuse" => fields.push(format!("instances: {{ reuse: {value} }}")),
            "concurrency" => fields.push(format!("instances: {{ concurrency: {value} }}")),
            "none" => fields.push("triggers: []".to_owned()),
            "path" => trigger.push(format!("path: {value}")),
            "capability" => trigger.push(format!("capability: {value}")),
            "method" => trigger.push(format!("methods: [{value}]")),
            _ => assert!(placement.take(key, value), "`{option}` is no option of a workload"),
        }
    }
    if !trigger.is_empty() {
        if !trigger.iter().any(|t| t.starts_with("capability")) {
            trigger.push("capability: web".to_owned());
        }
        fields.push(format!("triggers: [{{ http: {{ {} }} }}]", trigger.join(", ")));
    }
    if !resources.is_empty() {
        reserve.push(format!("resources: {{ {} }}", resources.join(", ")));
    }
    if !reserve.is_empty() {
        fields.push(format!("reserve: {{ {} }}", reserve.join(", ")));
    }
    fields.extend(placement.field());
    workload_yaml(name, &fields.join("\n"))
}

/// `name:count` as `name: count`.
fn pair(text: &str) -> String {
    let (name, count) = text.rsplit_once(':').expect("name:count");
    format!("{name}: {count}")
}

/// The words that rules of placement are made of.
#[derive(Default)]
struct Placement {
    require: Vec<String>,
    prefer: Vec<String>,
    spread: Vec<String>,
    avoid: Vec<String>,
    near: Vec<String>,
    tolerate: Vec<String>,
    plain: Vec<String>,
}

impl Placement {
    fn take(&mut self, key: &str, value: &str) -> bool {
        match key {
            "spread" => self.spread.push(format!("{{ by: {value} }}")),
            "skew" => {
                let (label, most) = value.split_once(':').expect("skew=label:most");
                let soft = most.strip_suffix('?');
                let hard = if soft.is_some() { ", hard: false" } else { "" };
                let most = soft.unwrap_or(most);
                self.spread.push(format!("{{ by: {label}, maxSkew: {most}{hard} }}"));
            }
            "weights" => {
                let (label, weights) = value.split_once(':').expect("weights=label:value=1,value=2");
                let weights = weights.replace('=', ": ").replace(',', ", ");
                self.spread.push(format!("{{ by: {label}, weights: {{ {weights} }} }}"));
            }
            "require" => {
                let (label, values) = value.split_once(':').expect("require=label:value,value");
                self.require.push(format!("{{ {label}: {{ in: [{values}] }} }}"));
            }
            "version" => {
                let (label, rule) = value.split_once(':').expect("version=label:rule");
                self.require.push(format!("{{ {label}: {{ version: \"{rule}\" }} }}"));
            }
            "above" => {
                let (label, bound) = value.split_once(':').expect("above=label:bound");
                self.require.push(format!("{{ {label}: {{ gt: {bound} }} }}"));
            }
            "prefer" => {
                let parts: Vec<&str> = value.split(':').collect();
                let [label, value, weight] = parts.as_slice() else {
                    panic!("prefer=label:value:weight")
                };
                self.prefer
                    .push(format!("{{ label: {{ {label}: {value} }}, weight: {weight} }}"));
            }
            "avoid" => self.avoid.push(company(value)),
            "near" => self.near.push(company(value)),
            "tolerate" => self.tolerate.push(match value.split_once(':') {
                Some((taint, value)) => format!("{{ taint: {taint}, value: {value} }}"),
                None => format!("{{ taint: {value} }}"),
            }),
            "perhost" => self.plain.push(format!("maxPerHost: {value}")),
            "strategy" | "priority" | "preferImage" => self.plain.push(format!("{key}: {value}")),
            _ => return false,
        }
        true
    }

    fn field(self) -> Option<String> {
        let lists = [
            ("require", self.require),
            ("prefer", self.prefer),
            ("spread", self.spread),
            ("avoid", self.avoid),
            ("near", self.near),
            ("tolerate", self.tolerate),
        ];
        let lists = lists.into_iter().filter(|(_, items)| !items.is_empty());
        let lists = lists.map(|(name, items)| format!("{name}: [{}]", items.join(", ")));
        let all: Vec<String> = lists.chain(self.plain).collect();
        (!all.is_empty()).then(|| format!("placement: {{ {} }}", all.join(", ")))
    }
}

/// `workload:label` or `workload:label:weight`.
fn company(text: &str) -> String {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [workload, by] => format!("{{ workload: {workload}, by: {by} }}"),
        [workload, by, weight] => format!("{{ workload: {workload}, by: {by}, weight: {weight} }}"),
        _ => panic!("workload:label or workload:label:weight"),
    }
}
