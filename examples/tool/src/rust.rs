//! Guests in Rust. In: a cargo workspace. Out: the core modules of its `cdylib` crates, built for
//! `wasm32-unknown-unknown`: the guest imports what its code uses and nothing ambient comes with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use xtask::process::{find_on_path, output, run};

use crate::debian;

const TARGET: &str = "wasm32-unknown-unknown";

/// Settings of the surrounding build that must not reach the guests' build: they would change what is built, or rebuild
/// the standard library on every other call.
const CLEARED: &[&str] = &[
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC",
    "RUSTDOC",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
    "LD_LIBRARY_PATH",
];

/// Which compiler builds the guests.
pub(crate) enum Route {
    /// The toolchain that runs us has a standard library for the target.
    Ordinary {
        /// What `rustc -vV` says: another compiler makes other components.
        version: String,
    },
    /// It has none, so the matching pair of compiler and library source comes from Debian packages.
    Debian,
}

impl Route {
    /// Looks whether the standard library is really there; a toolchain file may name targets that are not installed.
    pub(crate) fn find() -> Result<Self> {
        let folder = output(rustc().args(["--print", "target-libdir", "--target", TARGET]))?;
        let has_core = fs::read_dir(folder.trim()).is_ok_and(|entries| {
            entries
                .flatten()
                .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
        });
        if has_core {
            return Ok(Self::Ordinary {
                version: output(rustc().arg("-vV"))?,
            });
        }
        Ok(Self::Debian)
    }

    /// Text that differs when the components may.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Ordinary { version } => format!("rust {version}"),
            Self::Debian => "rust debian".to_owned(),
        }
    }

    fn cargo(&self) -> Result<Command> {
        match self {
            Self::Ordinary { .. } => Ok(cleared(xtask::process::cargo())),
            Self::Debian => {
                let toolchain = debian::toolchain()?;
                let mut cargo = cleared(Command::new(toolchain.join("usr/bin/cargo")));
                cargo
                    .env_remove("RUSTUP_TOOLCHAIN")
                    .env_remove("CARGO")
                    .env("RUSTC", toolchain.join("usr/bin/rustc"))
                    .env("RUSTDOC", toolchain.join("usr/bin/rustdoc"))
                    .env("LD_LIBRARY_PATH", debian::libraries(&toolchain))
                    // The library is built from source, which a stable compiler allows only when told so.
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", wasm_linker()?)
                    .args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"]);
                Ok(cargo)
            }
        }
    }
}

/// Builds the workspace and returns the modules of `names`, in that order.
pub(crate) fn build(route: &Route, workspace: &Path, target: &Path, names: &[&str]) -> Result<Vec<Vec<u8>>> {
    let mut cargo = route.cargo()?;
    cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--release", "--target", TARGET, "--target-dir"])
        .arg(target)
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"));
    run(&mut cargo)?;
    let folder = target.join(TARGET).join("release");
    names
        .iter()
        .map(|name| {
            let module = folder.join(format!("{}.wasm", name.replace('-', "_")));
            fs::read(&module).with_context(|| format!("failed to read the built module {}", module.display()))
        })
        .collect()
}

/// The compiler that cargo will use for the guests, where `RUSTC` is cleared.
fn rustc() -> Command {
    Command::new("rustc")
}

fn cleared(mut command: Command) -> Command {
    for name in CLEARED {
        command.env_remove(name);
    }
    command
}

/// The linker that rustup ships beside the compiler, else LLVM's from the system.
fn wasm_linker() -> Result<PathBuf> {
    let sysroot = output(rustc().args(["--print", "sysroot"]))?;
    let host = output(rustc().arg("-vV"))?;
    let host = host
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap_or_default();
    let shipped = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(host)
        .join("bin/rust-lld");
    if shipped.is_file() {
        return Ok(shipped);
    }
    ["wasm-ld", "wasm-ld-19", "wasm-ld-16", "wasm-ld-14"]
        .iter()
        .find_map(|name| find_on_path(name))
        .context("failed to find a linker for wasm: install Rust with rustup, or LLVM's (Debian: apt-get install lld)")
}
