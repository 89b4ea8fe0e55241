//! `cargo xtask up`: everything `heddle up` needs, then `heddle up` itself with the example workloads. The fleet is the
//! CLI's doing; here it is only prepared.

use std::convert::Infallible;
use std::process::Command;

use anyhow::Result;

use crate::process::become_command;
use crate::workspace::{Profile, Workspace};
use crate::{guests, nats};

/// Prepares, and becomes `heddle up`. `--release` is taken here; every other argument is `heddle up`'s own.
///
/// # Errors
/// When something cannot be fetched, built or started.
pub fn run(workspace: &Workspace, args: &[String]) -> Result<Infallible> {
    let release = args.iter().any(|arg| arg == "--release");
    let profile = if release { Profile::Release } else { Profile::Dev };
    let nats_server = nats::ensure()?;
    let components = guests::ensure(workspace)?;
    let built = workspace.build(profile, &["heddle"])?;
    let mut command = Command::new(&built[0]);
    command
        .current_dir(&workspace.root)
        .env("HEDDLE_NATS_SERVER", nats_server)
        .env("HEDDLE_GUESTS", components)
        .arg("up")
        .arg("--example")
        .arg(workspace.root.join("examples").join("manifests").join("all.yaml"))
        .args(args.iter().filter(|arg| *arg != "--release"));
    become_command(&mut command)
}
