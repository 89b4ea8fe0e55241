//! `cargo xtask bench`: a release build of the programs to measure and of the meter, then the meter. The benchmarks
//! themselves are in `heddle-bench`.

use std::convert::Infallible;
use std::process::Command;

use anyhow::Result;

use crate::process::become_command;
use crate::workspace::{Profile, Workspace};
use crate::{guests, nats};

/// Prepares, and becomes `heddle-bench` with all of `args`.
///
/// # Errors
/// When something cannot be fetched, built or started.
pub fn run(workspace: &Workspace, args: &[String]) -> Result<Infallible> {
    // A list of names needs nothing but the meter.
    let only_list = args.iter().any(|arg| arg == "--list");
    let programs: &[&str] = if only_list {
        &["heddle-bench"]
    } else {
        &["heddle-bench", "heddle"]
    };
    let built = workspace.build(Profile::Release, programs)?;
    let mut command = Command::new(&built[0]);
    command.current_dir(&workspace.root).args(args);
    if let Some(heddle) = built.get(1) {
        command
            .env("HEDDLE_NATS_SERVER", nats::ensure()?)
            .env("HEDDLE_GUESTS", guests::ensure(workspace)?)
            .env("HEDDLE_BIN", heddle);
    }
    become_command(&mut command)
}
