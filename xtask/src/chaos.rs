//! `cargo xtask chaos`: builds the programs to hurt and the one that hurts them, then becomes it. The faults and the
//! checks are in `heddle-chaos`.

use std::convert::Infallible;
use std::process::Command;

use anyhow::Result;

use crate::process::become_command;
use crate::workspace::{Profile, Workspace};
use crate::{guests, nats};

/// Prepares, and becomes `heddle-chaos`. `--release` is taken here; every other argument is `heddle-chaos`'s own.
///
/// # Errors
/// When something cannot be fetched, built or started.
pub fn run(workspace: &Workspace, args: &[String]) -> Result<Infallible> {
    let release = args.iter().any(|arg| arg == "--release");
    let profile = if release { Profile::Release } else { Profile::Dev };
    let nats_server = nats::ensure()?;
    let components = guests::ensure(workspace)?;
    let built = workspace.build(profile, &["heddle-chaos", "heddle"])?;
    let mut command = Command::new(&built[0]);
    command
        .current_dir(&workspace.root)
        .env("HEDDLE_NATS_SERVER", nats_server)
        .env("HEDDLE_GUESTS", components)
        .env("HEDDLE_BIN", &built[1])
        .args(args.iter().filter(|arg| *arg != "--release"));
    become_command(&mut command)
}
