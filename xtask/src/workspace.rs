//! The clone that the commands work on. Out: its root and target folder, and programs built from it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process::{cargo, output, run, say};

/// Where the clone and its build output are.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub root: PathBuf,
    /// Cargo's target folder (`CARGO_TARGET_DIR` is honoured).
    pub target: PathBuf,
}

/// How a program is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build.
    Dev,
    /// Quick to run; every number that is reported comes from this one.
    Release,
}

impl Workspace {
    /// Finds the clone through cargo, starting at this crate's own manifest.
    ///
    /// # Errors
    /// When cargo cannot describe the workspace.
    pub fn find() -> Result<Self> {
        #[derive(Deserialize)]
        struct Metadata {
            workspace_root: PathBuf,
            target_directory: PathBuf,
        }
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let text = output(
            cargo()
                .args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"])
                .arg(&manifest),
        )?;
        let metadata: Metadata = serde_json::from_str(&text).context("failed to read what `cargo metadata` says")?;
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
        })
    }

    /// The folder with the built guest components.
    #[must_use]
    pub fn guests(&self) -> PathBuf {
        // Manifests of the examples name this folder relative to themselves, so it stays in the clone even when
        // CARGO_TARGET_DIR points elsewhere.
        self.root.join("target").join("guests")
    }

    /// Builds the programs `binaries` (each is a package's binary of the same name as given) and returns their paths.
    ///
    /// # Errors
    /// When cargo fails; it has said why on stderr.
    pub fn build(&self, profile: Profile, binaries: &[&str]) -> Result<Vec<PathBuf>> {
        say(format_args!("building {} ({})", binaries.join(" and "), profile.name()));
        let mut command = cargo();
        command.current_dir(&self.root).args(["build"]);
        if profile == Profile::Release {
            command.arg("--release");
        }
        for binary in binaries {
            command.args(["--package", binary, "--bin", binary]);
        }
        run(&mut command)?;
        Ok(binaries.iter().map(|binary| self.binary(profile, binary)).collect())
    }

    /// Builds everything there is, tests included, with one set of dependencies' features: cargo chooses those by what is
    /// built together, and what is built in two choices is compiled twice.
    ///
    /// # Errors
    /// When cargo fails; it has said why on stderr.
    pub fn build_all(&self) -> Result<()> {
        say("building everything, tests included (dev profile)");
        run(cargo()
            .current_dir(&self.root)
            .args(["build", "--workspace", "--all-targets"]))
    }

    /// Where cargo puts a program.
    pub fn binary(&self, profile: Profile, name: &str) -> PathBuf {
        self.target
            .join(profile.folder())
            .join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev profile",
            Self::Release => "release profile",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}
