//! `cargo xtask deny`: licences, banned crates and sources of every dependency, as `deny.toml` says. cargo-deny comes
//! from PATH, else it is compiled once into the cache. The advisory database is left out: it is not a package.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cache;
use crate::process::{cargo, find_on_path, run, say};
use crate::workspace::Workspace;

/// Pinned, because a new major version may ask for another shape of `deny.toml`.
const VERSION: &str = "0.20.2";

/// Runs the checks.
///
/// # Errors
/// When a dependency breaks a rule (cargo-deny has said which), or when cargo-deny cannot be had.
pub fn check(workspace: &Workspace) -> Result<()> {
    let program = ensure()?;
    run(Command::new(program)
        .current_dir(&workspace.root)
        .args(["check", "bans", "licenses", "sources"]))
}

fn ensure() -> Result<PathBuf> {
    let name = format!("cargo-deny{}", std::env::consts::EXE_SUFFIX);
    if let Some(found) = find_on_path(&name) {
        return Ok(found);
    }
    let folder = cache::dir()?.join(format!("cargo-deny-{VERSION}"));
    let program = folder.join("bin").join(&name);
    if !program.is_file() {
        say(format_args!(
            "compiling cargo-deny {VERSION} into the cache (minutes, once)"
        ));
        run(cargo()
            .args([
                "install",
                "--quiet",
                "--locked",
                "--version",
                VERSION,
                "cargo-deny",
                "--root",
            ])
            .arg(&folder))?;
    }
    Ok(program)
}
