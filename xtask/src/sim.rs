//! `cargo xtask sim`: a release build of the simulator, then the simulator. What it does is in `heddle-sim`.

use std::convert::Infallible;

use anyhow::Result;

use crate::process::{become_command, cargo};
use crate::workspace::Workspace;

/// Becomes `heddle-sim` with all of `args`. The deliberate bugs are built in only where they are asked for.
///
/// # Errors
/// When it cannot be started.
pub fn run(workspace: &Workspace, args: &[String]) -> Result<Infallible> {
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["run", "--quiet", "--release", "--package", "heddle-sim"]);
    if args.iter().any(|arg| arg.starts_with("--mutant")) {
        command.args(["--features", "mutants"]);
    }
    become_command(command.arg("--").args(args))
}
