//! A Rust compiler with the source of its own standard library, from Debian packages, for machines where rustup cannot
//! download a wasm target. In: the distribution's package archive. Out: a folder in the cache with the packages
//! unpacked. Nothing is installed and no rights are needed; the system's packages stay as they are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
pub(crate) use xtask::debian::libraries;
use xtask::process::say;
use xtask::{cache, debian};

/// Compiler, cargo, and the library source that matches the compiler exactly. Debian keeps this set current (for its
/// browsers) while its ordinary `rustc` stays as it was when the distribution came out.
const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The bindings crates ask for this one or newer.
const OLDEST: (u32, u32) = (1, 88);

const OTHERWISE: &str = "run `rustup target add wasm32-unknown-unknown` and try again";

/// The folder of the unpacked toolchain, fetched when it is not in the cache.
pub(crate) fn toolchain() -> Result<PathBuf> {
    let folder = cache::dir()?.join("debian-rust");
    cache::fill_once(&folder, fetch).with_context(|| {
        format!("failed to get a compiler for wasm from Debian packages; where rustup can download, {OTHERWISE}")
    })?;
    Ok(folder)
}

fn fetch(folder: &Path) -> Result<()> {
    if !debian::has_packages() {
        bail!("this Rust toolchain has no standard library for wasm, and this system has no Debian packages");
    }
    say(
        "this Rust toolchain has no standard library for wasm: fetching a compiler from Debian packages (140 MB, once)",
    );
    debian::unpack(folder, &PACKAGES, |version| {
        if at_least(version, OLDEST) {
            return Ok(());
        }
        bail!(
            "the newest {} is {version}, and the guests need {}.{}",
            PACKAGES[0],
            OLDEST.0,
            OLDEST.1
        )
    })
}

fn at_least(version: &str, oldest: (u32, u32)) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= oldest,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_compiler_is_refused() {
        assert!(at_least("1.96.0+dfsg1-1~deb12u2", OLDEST));
        assert!(!at_least("1.85.0+dfsg3-1~deb12u3", OLDEST));
        assert!(!at_least("(none)", OLDEST));
    }
}
