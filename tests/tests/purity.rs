//! Who may lean on whom. The cores and the protocol decide and describe; what waits, speaks or rolls dice is not theirs.
//!
//! In: what `cargo metadata` says of the workspace. Only what a build really links is looked at: not the tests'
//! dependencies.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What a pure crate may not reach, however indirectly.
const IMPURE: &[&str] = &[
    "tokio",
    "async-nats",
    "wasmtime",
    "wasmtime-wasi",
    "hyper",
    "reqwest",
    "heddle-wire",
    "heddle-scheduler",
    "heddle-agent",
];
/// What it may not name itself. (The keys of `nkeys` bring their own randomness, which only their maker calls.)
const CHANCE: &[&str] = &["rand", "getrandom", "fastrand"];
const PURE: &[&str] = &["heddle-protocol", "heddle-scheduler-core", "heddle-agent-core"];

/// The dependencies of each package, by name.
struct Graph {
    direct: BTreeMap<String, BTreeSet<String>>,
}

fn graph() -> Graph {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let said = Command::new(cargo)
        // Without a platform it would ask for crates of systems that this one never downloads.
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform"])
        .arg(this_platform())
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let metadata: Value = serde_json::from_slice(&said.stdout).unwrap();
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let mut direct: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let linked = node["deps"].as_array().unwrap().iter().filter(|dependency| {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            kinds.iter().any(|kind| kind["kind"].is_null())
        });
        let of = direct
            .entry(names[node["id"].as_str().unwrap()].to_owned())
            .or_default();
        of.extend(linked.map(|dependency| names[dependency["pkg"].as_str().unwrap()].to_owned()));
    }
    Graph { direct }
}

fn this_platform() -> String {
    let said = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc names its host").to_owned()
}

impl Graph {
    fn of(&self, package: &str) -> &BTreeSet<String> {
        self.direct
            .get(package)
            .unwrap_or_else(|| panic!("there is no package {package}"))
    }

    fn reach(&self, package: &str) -> BTreeSet<&str> {
        let (mut seen, mut next) = (BTreeSet::new(), vec![package]);
        while let Some(package) = next.pop() {
            for dependency in self.of(package) {
                if seen.insert(dependency.as_str()) {
                    next.push(dependency);
                }
            }
        }
        seen
    }
}

#[test]
fn the_cores_and_the_protocol_know_nothing_of_the_network_of_wasm_and_of_chance() {
    let graph = graph();
    for package in PURE {
        let reached = graph.reach(package);
        for impure in IMPURE {
            assert!(!reached.contains(impure), "{package} leans on {impure}");
        }
        for chance in CHANCE {
            assert!(!graph.of(package).contains(*chance), "{package} names {chance}");
        }
    }
}

#[test]
fn the_scheduler_and_the_agent_know_nothing_of_each_other() {
    let graph = graph();
    for scheduler in ["heddle-scheduler", "heddle-scheduler-core"] {
        let agents = graph
            .reach(scheduler)
            .into_iter()
            .filter(|name| name.starts_with("heddle-agent"));
        assert_eq!(
            agents.collect::<Vec<_>>(),
            Vec::<&str>::new(),
            "{scheduler} leans on the agent"
        );
    }
    for agent in ["heddle-agent", "heddle-agent-core", "heddle-capability"] {
        let schedulers = graph
            .reach(agent)
            .into_iter()
            .filter(|name| name.starts_with("heddle-scheduler"));
        assert_eq!(
            schedulers.collect::<Vec<_>>(),
            Vec::<&str>::new(),
            "{agent} leans on the scheduler"
        );
    }
}

#[test]
fn the_protocol_leans_on_nothing_of_ours_and_the_cores_only_on_the_protocol() {
    let graph = graph();
    for package in PURE {
        let ours: Vec<&String> = graph
            .of(package)
            .iter()
            .filter(|name| name.starts_with("heddle-"))
            .collect();
        let allowed: &[&str] = if *package == "heddle-protocol" {
            &[]
        } else {
            &["heddle-protocol"]
        };
        assert!(
            ours.iter().all(|name| allowed.contains(&name.as_str())),
            "{package} leans on {ours:?}"
        );
    }
}

#[test]
fn the_scheduler_and_everything_to_work_on_it_builds_without_wasmtime() {
    let graph = graph();
    for package in ["heddle-scheduler", "heddle-wire", "heddle-tests"] {
        assert!(
            !graph.reach(package).contains("wasmtime"),
            "{package} leans on wasmtime"
        );
    }
}
