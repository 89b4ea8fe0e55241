//! The core stays pure: nothing that waits, talks, runs guests or draws numbers is among its dependencies, and the lints
//! that refuse clocks and unordered maps are in force.

// In a test a broken expectation is its own message.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

/// Crates whose presence would mean that the core does something rather than decides it.
const IMPURE: &[&str] = &[
    "tokio",
    "async-nats",
    "futures",
    "hyper",
    "reqwest",
    "wasmtime",
    "mio",
    "socket2",
    "tracing",
];
/// Sources of chance. The signatures that protocol checks bring one along; the core itself has none.
const CHANCE: &[&str] = &["rand", "getrandom", "fastrand", "uuid"];

fn dependencies(depth: &[&str]) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--prefix",
            "none",
            "--edges",
            "normal",
            "--format",
            "{p}",
        ])
        .args(depth)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    let names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    assert!(
        names.iter().any(|name| name == "heddle-protocol"),
        "the tree was read: {names:?}"
    );
    names
}

#[test]
fn the_core_depends_on_nothing_that_waits_talks_or_draws() {
    let impure = dependencies(&[])
        .into_iter()
        .find(|name| IMPURE.contains(&name.as_str()));
    assert_eq!(impure, None);
    let chance = dependencies(&["--depth", "1"])
        .into_iter()
        .find(|name| CHANCE.contains(&name.as_str()));
    assert_eq!(chance, None);
}

#[test]
fn clocks_chance_and_unordered_maps_are_refused_by_lints() {
    let rules = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("clippy.toml")).unwrap();
    for refused in [
        "Instant::now",
        "SystemTime::now",
        "collections::HashMap",
        "collections::HashSet",
    ] {
        assert!(rules.contains(refused), "{refused}");
    }
}
