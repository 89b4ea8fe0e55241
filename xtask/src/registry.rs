//! An OCI registry to test against. In: `HEDDLE_DOCKER_REGISTRY`, PATH, or Debian's packages. Out: the path of a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{find_on_path, output, say};
use crate::{cache, debian};

/// The path of a docker-registry: the one named, else the one on PATH, else one from Debian's packages in the cache. It
/// needs nothing but the system's own C library.
///
/// # Errors
/// When the server named by the variable does not start, or when none can be fetched.
pub fn ensure() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("HEDDLE_DOCKER_REGISTRY").filter(|v| !v.is_empty()) {
        let path = PathBuf::from(named);
        starts(&path).context("failed to use the docker-registry that HEDDLE_DOCKER_REGISTRY names")?;
        return Ok(path);
    }
    if let Some(found) = find_on_path("docker-registry") {
        return Ok(found);
    }
    let folder = cache::dir()?.join("debian-docker-registry");
    cache::fill_once(&folder, |folder| {
        say("fetching docker-registry (Debian package, 5 MB, once)");
        debian::unpack(folder, &["docker-registry"], |_| Ok(()))
    })
    .context("failed to fetch docker-registry; install it and try again (Debian: apt-get install docker-registry)")?;
    let path = folder.join("usr/bin/docker-registry");
    starts(&path).context("failed to use the fetched docker-registry")?;
    Ok(path)
}

fn starts(path: &Path) -> Result<()> {
    output(Command::new(path).arg("--version")).map(drop)
}
