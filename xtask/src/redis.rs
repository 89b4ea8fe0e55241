//! A Redis to test against. In: `HEDDLE_REDIS_SERVER`, PATH, or Debian's packages. Out: the path of a server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{find_on_path, make_executable, output, say};
use crate::{cache, debian};

/// The server is a link into the second package.
const PACKAGES: [&str; 2] = ["redis-server", "redis-tools"];

/// The path of a redis-server: the one named, else the one on PATH, else one from Debian's packages in the cache.
///
/// # Errors
/// When the server named by the variable does not start, or when none can be fetched.
pub fn ensure() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("HEDDLE_REDIS_SERVER").filter(|v| !v.is_empty()) {
        let path = PathBuf::from(named);
        starts(&path).context("failed to use the redis-server that HEDDLE_REDIS_SERVER names")?;
        return Ok(path);
    }
    if let Some(found) = find_on_path("redis-server") {
        return Ok(found);
    }
    let folder = cache::dir()?.join("debian-redis");
    cache::fill_once(&folder, |folder| {
        say("fetching redis-server (Debian package, 5 MB, once)");
        debian::unpack(folder, &PACKAGES, |_| Ok(()))
    })
    .context("failed to fetch redis-server; install it and try again (Debian: apt-get install redis-server)")?;
    let path = starter(&folder)?;
    starts(&path).context("failed to use the fetched redis-server")?;
    Ok(path)
}

/// A script that starts the server with its libraries. It turns into the server, so its process id is the server's.
fn starter(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("redis-server");
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let script = format!(
        "#!/bin/sh\nexport LD_LIBRARY_PATH={}\nexec {} \"$@\"\n",
        quoted(&debian::libraries(folder).to_string_lossy()),
        quoted(&folder.join("usr/bin/redis-server").to_string_lossy())
    );
    if fs::read_to_string(&path).ok().as_deref() != Some(script.as_str()) {
        let new = folder.join(format!(".redis-server.{}", std::process::id()));
        fs::write(&new, script).with_context(|| format!("failed to write {}", new.display()))?;
        make_executable(&new)?;
        fs::rename(&new, &path).with_context(|| format!("failed to rename {} to its place", new.display()))?;
    }
    Ok(path)
}

fn starts(path: &Path) -> Result<()> {
    output(Command::new(path).arg("--version")).map(drop)
}
