//! `cargo xtask guests`: the guest components, built from source by `heddle-guests` (a crate of its own, because the
//! component encoder takes longer to compile than everything here together). Out: the folder with the components.

use std::path::PathBuf;

use anyhow::Result;

use crate::process::{cargo, run};
use crate::workspace::Workspace;

/// Builds what has changed and returns the folder with the components.
///
/// # Errors
/// When the guest builder fails; it has said why on stderr.
pub fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let out = workspace.guests();
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["run", "--quiet", "--package", "heddle-guests", "--", "build", "--out"])
        .arg(&out);
    run(&mut command)?;
    Ok(out)
}
