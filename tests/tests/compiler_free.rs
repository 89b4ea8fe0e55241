//! An agent can be built without a compiler: what it links then is asked of cargo.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::process::Command;

/// The packages that an agent links, with these flags.
fn links(flags: &[&str]) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let said = Command::new(cargo)
        .args([
            "tree",
            "--locked",
            "--package",
            "heddle-agent",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--format", "{p}"])
        .args(flags)
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8(said.stdout).unwrap();
    text.lines()
        .map(|line| line.split(' ').next().unwrap_or("").to_owned())
        .collect()
}

fn compilers(packages: &[String]) -> Vec<&String> {
    let is_compiler = |name: &&String| name.contains("cranelift") || name.contains("winch");
    // Cranelift's bit sets, lists and trees are used everywhere in wasmtime, and compile nothing.
    let is_container =
        |name: &&String| ["cranelift-bforest", "cranelift-bitset", "cranelift-entity"].contains(&name.as_str());
    packages
        .iter()
        .filter(is_compiler)
        .filter(|name| !is_container(name))
        .collect()
}

#[test]
fn an_agent_without_its_compiler_links_none() {
    let without = links(&["--no-default-features"]);
    assert!(
        without.iter().any(|name| name == "wasmtime"),
        "it cannot run components at all"
    );
    assert_eq!(compilers(&without), Vec::<&String>::new());
    // The search finds compilers where they are.
    assert!(!compilers(&links(&[])).is_empty());
}
