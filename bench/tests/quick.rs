//! Each benchmark in its short form: it measures, and prints what it promises. Speed is not judged here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use serde_json::Value;
use std::process::Command;

/// Runs a benchmark and returns its one JSON object.
fn quick(name: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_heddle-bench"))
        .args([name, "--quick", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "stdout holds more than one line: {text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["bench"], name);
    for field in ["cores", "cpu", "mem_gib", "load1", "fsync_ms"] {
        assert!(!value["machine"][field].is_null(), "the machine's {field} is missing");
    }
    assert!(value["commit"].as_str().is_some_and(|commit| !commit.is_empty()));
    assert!(value["params"].is_object());
    value
}

/// Fails unless a metric is there and above zero: a number, or percentiles.
fn above_zero(value: &Value, metrics: &[&str]) {
    for name in metrics {
        let metric = &value["metrics"][name];
        let number = metric.as_f64().or_else(|| metric["p50"].as_f64());
        assert!(number.is_some_and(|number| number > 0.0), "{name} is {metric}");
        if metric.is_object() {
            for part in ["p50", "p99", "max", "n"] {
                assert!(
                    metric[part].as_f64().is_some_and(|number| number > 0.0),
                    "{name} lacks {part}: {metric}"
                );
            }
        }
    }
}

#[test]
fn the_deploy_benchmark_prints_its_metrics() {
    let names = [
        "apply_to_running_ms",
        "batch_100_ms",
        "batch_1000_ms",
        "commits_per_apply",
        "nats_messages_per_workload",
    ];
    above_zero(&quick("deploy"), &names);
}

#[test]
fn the_failover_benchmark_prints_its_metrics() {
    above_zero(&quick("failover"), &["kill_to_serving_ms", "sigterm_to_serving_ms"]);
}

#[test]
fn the_hostile_benchmark_prints_its_metrics() {
    let value = quick("hostile");
    let attacks = value["params"]["attacks"].as_array().unwrap();
    assert!(attacks.len() >= 10, "{attacks:?}");
    for attack in attacks.iter().filter_map(Value::as_str) {
        let names = ["alone_p99_us", "p99_us", "p99_ratio", "contained_ms"].map(|name| format!("{attack}_{name}"));
        above_zero(&value, &names.each_ref().map(String::as_str));
    }
    above_zero(
        &value,
        &["worst_p99_ratio", "worst_p99_ratio_of_rounds_p50", "nothing_p99_ratio"],
    );
}

#[test]
fn the_fleet_benchmark_prints_its_metrics_and_moves_nothing_of_a_zone_that_is_cut_off() {
    let value = quick("fleet");
    let names = [
        "million_replicas_s",
        "singles_10000_s",
        "single_apply_loaded_ms",
        "lose_1000_hosts_s",
        "rss_mib",
        "messages_per_placement",
        "bytes_per_placement",
        "decisions_per_record",
        "restart_storm_s",
    ];
    above_zero(&value, &names);
    // An idle fleet may take no measurable time of so short a look.
    assert!(value["metrics"]["idle_cpu_cores"].is_number());
    assert_eq!(value["metrics"]["cut_off_replicas_moved"], 0);
}

#[test]
fn the_http_benchmark_prints_its_metrics() {
    let names = [
        "rps_fresh_c1",
        "rps_fresh_c16",
        "rps_reuse_c1",
        "rps_reuse_c16",
        "rps_hyper_c16",
        "rps_wasmtime_c16",
        "fresh_to_wasmtime_ratio",
        "p99_us_1_route",
        "p99_us_10000_routes",
    ];
    above_zero(&quick("http"), &names);
}

#[test]
fn the_links_benchmark_prints_its_metrics() {
    let value = quick("links");
    let kinds = ["u32", "str16", "str1k", "bytes1k", "bytes64k"];
    for way in ["composed", "typed", "dynamic"] {
        let names = kinds.map(|kind| format!("{way}_{kind}_ns"));
        above_zero(&value, &names.each_ref().map(String::as_str));
    }
    let names = [
        "bare_u32_ns",
        "composed_to_bare_ratio",
        "composed_to_bare_bytes64k_ratio",
        "stoppable_bytes64k_ns",
        "composed_to_stoppable_bytes64k_ratio",
        "wrpc_u32_us",
        "wrpc_bytes64k_us",
        "wrpc_component_u32_us",
        "nats_request_us",
        "wrpc_to_nats_ratio",
    ];
    above_zero(&value, &names);
}

#[test]
fn the_coldstart_benchmark_prints_its_metrics() {
    let names = [
        "compile_ms",
        "precompiled_ms",
        "warm_ms",
        "hundred_same_image_ms",
        "thousand_same_image_ms",
        "listener_p99_us_100",
        "listener_p99_us_10000",
        "listener_p99_growth_ratio",
    ];
    let value = quick("coldstart");
    above_zero(&value, &names);
    // Pages come and go, so a few workloads may weigh nothing.
    for workloads in ["100", "1000", "10000"] {
        let name = format!("rss_kib_per_idle_workload_{workloads}");
        assert!(value["metrics"][&name].is_number(), "{name} is missing");
    }
}

#[test]
fn the_placement_benchmark_prints_its_metrics() {
    let names = [
        "per_s_1k_hosts_1000_each",
        "per_s_1k_hosts_10_each",
        "per_s_10k_hosts_1000_each",
        "per_s_10k_hosts_10_each",
        "singles_per_s_10k_hosts",
        "per_s_100k_hosts_1000_each",
        "anti_affinity_ratio",
        "decide_us",
    ];
    let value = quick("placement");
    above_zero(&value, &names);
    // In the short form these may be nothing, or less.
    for name in ["fleet_size_exponent", "bytes_per_instance"] {
        assert!(value["metrics"][name].is_number(), "{name} is missing");
    }
}

#[test]
fn all_benchmarks_are_listed() {
    let output = Command::new(env!("CARGO_BIN_EXE_heddle-bench"))
        .arg("--list")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for name in [
        "coldstart",
        "deploy",
        "failover",
        "fleet",
        "hostile",
        "http",
        "links",
        "placement",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(name)),
            "{name} is not listed:\n{text}"
        );
    }
}

#[test]
fn parts_that_a_benchmark_does_not_have_are_refused_with_those_it_has() {
    for (bench, part, says) in [
        ("hostile", "spinn", "it has spin, memory"),
        ("links", "spin", "`links` is measured whole"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_heddle-bench"))
            .args([bench, "--only", part])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(says), "{said}");
    }
}
