//! `heddle restore`: the realm's state becomes what a backup says.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::progress::Progress;
use crate::view;
use heddle_protocol::api::realm::{Info, Restore};
use heddle_protocol::defaults::CHUNKED_BYTES_MAX;
use std::path::PathBuf;

/// Flags of `restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// The file that `heddle backup` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Yes, everything that was changed since is to be lost
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Sends the image; hosts then change to it.
pub async fn run(args: RestoreArgs, output: &Output) -> Result<(), Failure> {
    let bytes = std::fs::read(&args.file).map_err(|error| Failure::file("read backup", &args.file, &error))?;
    if bytes.len() as u64 > CHUNKED_BYTES_MAX {
        let message = format!(
            "failed to send {}: it is larger than {} MiB",
            args.file.display(),
            CHUNKED_BYTES_MAX >> 20
        );
        return Err(Failure::new(
            Exit::Refused,
            message,
            "is it a file that `heddle backup` wrote?",
        ));
    }
    let fleet = Fleet::connect(&args.fleet, &NamespaceArgs::default()).await?;
    if !args.yes {
        let info = fleet.ask(&Info {}).await?;
        let message = format!(
            "failed to restore: realm {} at commit {} with {} would be replaced, and nobody said yes",
            info.realm,
            info.commit,
            view::count(u64::from(info.workloads), "workload")
        );
        return Err(Failure::new(
            Exit::Refused,
            message,
            "save it with `heddle backup FILE`, then add --yes",
        ));
    }
    let restoring = fleet.ask_with(&Restore {}, &bytes);
    let (applied, _) = Progress::during("restoring", restoring).await?;
    output.value(&applied, view::applied::done)
}
