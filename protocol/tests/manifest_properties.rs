//! What holds for every manifest, not only for those that somebody thought of: reading never panics, the canonical form
//! is read back as the same object, and spelling a default out changes nothing.

#![allow(clippy::unwrap_used, clippy::panic)] // A broken expectation is the message of a test.

use heddle_protocol::manifest::{Object, load, parse, unsupported};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?"
}

fn duration() -> impl Strategy<Value = String> {
    (1u32..3_600, select(vec!["ms", "s"])).prop_map(|(n, unit)| format!("{n}{unit}"))
}

fn selector() -> impl Strategy<Value = Value> {
    let rule = prop_oneof![
        btree_map(select(vec!["in", "notIn"]), vec("[a-z]{1,4}", 1..2), 1..3).prop_map(|rule| json!(rule)),
        any::<bool>().prop_map(|exists| json!({ "exists": exists })),
        any::<i32>().prop_map(|n| json!({ "gt": n })),
    ];
    btree_map("[a-z]{1,5}(/[a-z]{1,3})?", rule, 1..3).prop_map(|selector| json!(selector))
}

/// An object without the keys whose value is null: the way to leave a field out.
fn without_nulls(object: Value) -> Value {
    match object {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// A workload of the right shape; whether its parts make sense together is left to chance.
fn workload() -> impl Strategy<Value = Value> {
    let limits = (of(1u64..1 << 32), of(duration()), of(1u32..100_000), of(1u32..64_000)).prop_map(
        |(memory, time, calls, cpu)| {
            let cpu = cpu.map(|cpu| format!("{cpu}m"));
            json!({ "memory": memory, "time": time, "concurrency": calls, "cpu": cpu })
        },
    );
    let config = vec(
        prop_oneof![
            name().prop_map(|name| json!({ "ref": name })),
            btree_map("[a-z.]{1,6}", any::<String>(), 0..3).prop_map(|values| json!({ "values": values })),
        ],
        0..3,
    );
    let to = prop_oneof![
        name().prop_map(|name| json!({ "capability": name })),
        name().prop_map(|name| json!({ "component": name })),
        (name(), any::<bool>()).prop_map(|(name, via)| json!({ "workload": name, "via": via.then_some("wrpc") })),
    ];
    let link = (name(), to, of(duration()), any::<bool>()).prop_map(|(from, to, timeout, idempotent)| {
        json!({ "from": from, "import": "a:b/c@1.2.3", "to": to, "timeout": timeout, "idempotent": idempotent })
    });
    let methods = of(vec(
        select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
        0..4,
    ));
    let trigger = (name(), of(name()), of(name()), of(select(vec!["/", "/a", "/a/b"])), methods).prop_map(
        |(capability, component, host, path, methods)| {
            json!({ "http": { "capability": capability, "component": component, "host": host, "path": path, "methods": methods } })
        },
    );
    let spread = (name(), of(btree_map(name(), 0u32..10, 0..3)), of(1u32..5))
        .prop_map(|(by, weights, skew)| json!({ "by": by, "weights": weights, "maxSkew": skew }));
    let placement = (vec(selector(), 0..3), vec(spread, 0..3), of(select(vec!["pack", "spread"])), of(0u32..1_000)).prop_map(
        |(require, spread, strategy, priority)| {
            json!({ "require": require, "spread": spread, "strategy": strategy, "priority": priority })
        },
    );
    let head = (name(), of(name()), btree_map("[a-z]{1,4}", "[a-z0-9]{0,4}", 0..3));
    let scale = (of(0u32..1_000_000), of(any::<bool>()), of(1u32..50), of(1u32..50));
    let policy = (
        of(0u32..9),
        of(select(vec!["revert", "pause"])),
        of(duration()),
        of(duration()),
    );
    (
        head,
        vec((name(), config), 1..4),
        of(limits),
        vec(link, 0..4),
        vec(trigger, 0..4),
        scale,
        of(placement),
        policy,
    )
        .prop_map(
            |((name, namespace, labels), components, limits, links, triggers, scale, placement, policy)| {
                let components: Vec<Value> = components
                    .into_iter()
                    .map(|(name, config)| json!({ "name": name, "image": "file:a b.wasm", "config": config }))
                    .collect();
                let (replicas, daemon, reuse, concurrency) = scale;
                let (surge, on_failure, min_ready, stop_after) = policy;
                without_nulls(json!({
                    "apiVersion": "heddle.dev/v1",
                    "kind": "Workload",
                    "metadata": { "name": name, "namespace": namespace, "labels": labels },
                    "spec": {
                        "components": components, "limits": limits, "links": links, "triggers": triggers,
                        "replicas": replicas, "daemon": daemon, "placement": placement,
                        "instances": { "reuse": reuse, "concurrency": concurrency },
                        "rollout": { "maxSurge": surge, "onFailure": on_failure, "minReady": min_ready },
                        "disconnect": { "stopAfter": stop_after },
                    },
                }))
            },
        )
}

/// The same value with the keys of every mapping in the opposite order.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .rev()
            .map(|(key, value)| (key.clone(), reversed(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(reversed).collect(),
        other => other.clone(),
    }
}

fn read_one(text: &str) -> Object {
    let mut documents = parse(text, "one").unwrap_or_else(|problems| panic!("{text}\n{}", problems[0]));
    assert_eq!(documents.len(), 1);
    documents.remove(0).object
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_canonical_form_is_read_back_as_the_same_object(value in workload()) {
        let canonical = read_one(&value.to_string()).canonical();
        // A default that was spelled out is left out, so it is the second reading that must be the same as the third.
        let object = read_one(&canonical);
        prop_assert_eq!(&object.canonical(), &canonical);
        prop_assert_eq!(&read_one(&object.canonical()), &object);
        let typed: Object = serde_json::from_str(&canonical).unwrap();
        prop_assert_eq!(&typed, &object);
    }

    #[test]
    fn the_order_of_keys_and_the_layout_change_nothing(value in workload()) {
        let canonical = read_one(&value.to_string()).canonical();
        prop_assert_eq!(&read_one(&reversed(&value).to_string()).canonical(), &canonical);
        prop_assert_eq!(&read_one(&format!("{value:#}")).canonical(), &canonical);
    }

    #[test]
    fn defaults_that_are_spelled_out_change_nothing(value in workload()) {
        let canonical = read_one(&value.to_string()).canonical();
        let mut spelled = value.clone();
        spelled["metadata"].as_object_mut().unwrap().entry("namespace").or_insert(json!("default"));
        let spec = spelled["spec"].as_object_mut().unwrap();
        for (field, default) in [
            ("replicas", json!(1)),
            ("daemon", json!(false)),
            ("limits", json!({ "memory": "64Mi", "time": "30000ms", "concurrency": 100, "egress": [] })),
            ("reserve", json!({})),
            ("placement", json!({ "strategy": "spread", "priority": 0, "require": [] })),
            ("health", json!({})),
        ] {
            spec.entry(field).or_insert(default);
        }
        prop_assert_eq!(&read_one(&spelled.to_string()).canonical(), &canonical);
    }

    #[test]
    fn meaning_is_checked_without_panics_and_with_places(value in workload()) {
        let text = format!("{value:#}");
        for problem in load(text.as_bytes(), "any").err().unwrap_or_default() {
            prop_assert!(problem.line > 0, "{}", problem);
        }
        for document in parse(&text, "any").unwrap() {
            for problem in unsupported(&document) {
                prop_assert!(problem.line > 0, "{}", problem);
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,200}") {
        let _ = load(text.as_bytes(), "any");
    }

    #[test]
    fn any_yaml_like_text_is_read_or_refused(text in "[-?:,\\[\\]{}#&*!|>'\"%@` \n\ta1.~\\\\<=]{0,60}") {
        let _ = load(text.as_bytes(), "any");
    }

    #[test]
    fn a_damaged_manifest_is_read_or_refused(at in any::<prop::sample::Index>(), bytes in vec(any::<u8>(), 0..4), cut in 0usize..8) {
        let mut text = include_bytes!("manifests/good/full.yaml").to_vec();
        let at = at.index(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, bytes);
        let _ = load(&text, "any");
    }
}
