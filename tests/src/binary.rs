//! Where the programs and guests under test are.
//!
//! In: what `cargo xtask test` and `cargo xtask bench` say in the environment, or the build folder that this program
//! stands in. Out: a path that exists, or what to do about it.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest nats-server that Heddle works with.
const NATS_VERSION_MIN: (u32, u32) = (2, 15);
/// What builds and fetches all of it.
const NEXT: &str = "run `cargo xtask test`, which builds and fetches what the tests need and says where it is";

/// The binary `heddle`.
pub fn heddle() -> Result<PathBuf> {
    if let Some(named) = named("HEDDLE_BIN") {
        return existing(named, "HEDDLE_BIN");
    }
    // A test stands in target/<profile>/deps, a program in target/<profile>.
    let here = std::env::current_exe().context("failed to find this program")?;
    let folder = here.parent().unwrap_or(Path::new("."));
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    existing(folder.join("heddle"), "the build folder")
}

/// A program of the examples, which is built into the same folder as `heddle`.
pub fn example(name: &str) -> Result<PathBuf> {
    existing(heddle()?.with_file_name(name), "the folder of `heddle`")
}

/// A nats-server that is new enough.
pub fn nats_server() -> Result<PathBuf> {
    let on_path = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join("nats-server"))
            .find(|file| file.is_file())
    };
    let Some(program) = named("HEDDLE_NATS_SERVER").or_else(on_path) else {
        bail!("failed to find nats-server in HEDDLE_NATS_SERVER or on PATH; {NEXT}");
    };
    let said = Command::new(&program).arg("--version").output();
    let said = said.with_context(|| format!("failed to start {}; {NEXT}", program.display()))?;
    let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    match version(&said) {
        Some(found) if found >= NATS_VERSION_MIN => Ok(program),
        _ => bail!(
            "failed to use {}: it says {said:?}, at least 2.15 is needed; {NEXT}",
            program.display()
        ),
    }
}

/// An OpenBao.
pub fn bao() -> Result<PathBuf> {
    let on_path = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join("bao"))
            .find(|file| file.is_file())
    };
    match named("HEDDLE_BAO").or_else(on_path) {
        Some(program) => existing(program, "HEDDLE_BAO or PATH"),
        None => bail!("failed to find bao in HEDDLE_BAO or on PATH; {NEXT}"),
    }
}

/// A redis-server.
pub fn redis_server() -> Result<PathBuf> {
    let on_path = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join("redis-server"))
            .find(|file| file.is_file())
    };
    match named("HEDDLE_REDIS_SERVER").or_else(on_path) {
        Some(program) => existing(program, "HEDDLE_REDIS_SERVER or PATH"),
        None => bail!("failed to find redis-server in HEDDLE_REDIS_SERVER or on PATH; {NEXT}"),
    }
}

/// A docker-registry.
pub fn docker_registry() -> Result<PathBuf> {
    let on_path = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join("docker-registry"))
            .find(|file| file.is_file())
    };
    match named("HEDDLE_DOCKER_REGISTRY").or_else(on_path) {
        Some(program) => existing(program, "HEDDLE_DOCKER_REGISTRY or PATH"),
        None => bail!("failed to find docker-registry in HEDDLE_DOCKER_REGISTRY or on PATH; {NEXT}"),
    }
}

/// The folder of the built guests.
pub fn guests() -> Result<PathBuf> {
    if let Some(named) = named("HEDDLE_GUESTS") {
        return existing(named, "HEDDLE_GUESTS");
    }
    let clone = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    existing(clone.join("target/guests"), "the build folder")
}

/// The bytes of one guest, such as `hello.wasm`.
pub fn guest(file: &str) -> Result<Vec<u8>> {
    let path = guests()?.join(file);
    std::fs::read(&path).with_context(|| format!("failed to read guest {}; {NEXT}", path.display()))
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn existing(path: PathBuf, from: &str) -> Result<PathBuf> {
    if !path.exists() {
        bail!("failed to find {} (from {from}); {NEXT}", path.display());
    }
    Ok(path)
}

/// Reads `nats-server: v2.15.1`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut parts = said.rsplit_once('v')?.1.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("nats-server: v2.15.1"), Some((2, 15)));
        assert!(version("nats-server: v2.9.10") < Some(NATS_VERSION_MIN));
        assert_eq!(version("nonsense"), None);
    }
}
