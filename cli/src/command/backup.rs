//! `heddle backup`: a verified image of the realm's state, in a file.

use crate::context::write_private;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::progress::Progress;
use heddle_protocol::api::realm::Backup;
use heddle_protocol::defaults::CHUNKED_BYTES_MAX;
use heddle_protocol::digest::Digest;
use serde::Serialize;
use std::path::PathBuf;

/// Flags of `backup`.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// The file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Debug, Clone, Serialize)]
struct Saved {
    file: PathBuf,
    image: Digest,
    bytes: u64,
    commit: u64,
}

/// Fetches the image piece by piece, checks its digest, and writes the file whole or not at all.
pub async fn run(args: BackupArgs, output: &Output) -> Result<(), Failure> {
    let fleet = Fleet::connect(&args.fleet, &NamespaceArgs::default()).await?;
    let mut progress = Progress::start();
    let (first, part) = fleet.ask_with(&Backup::default(), &[]).await?;
    if first.bytes > CHUNKED_BYTES_MAX {
        let message = format!(
            "failed to take a backup of {} bytes: at most {CHUNKED_BYTES_MAX} can be restored",
            first.bytes
        );
        return Err(Failure::new(
            Exit::Refused,
            message,
            "delete what is no longer needed, and try again",
        ));
    }
    let mut bytes = part.to_vec();
    while (bytes.len() as u64) < first.bytes {
        progress.update(&format!(
            "saving the image: {} of {} KiB",
            bytes.len() >> 10,
            first.bytes >> 10
        ));
        let more = Backup {
            image: Some(first.image),
            offset: bytes.len() as u64,
        };
        let (_, part) = fleet.ask_with(&more, &[]).await?;
        if part.is_empty() {
            return Err(broken("the scheduler sent nothing more"));
        }
        bytes.extend_from_slice(&part);
    }
    if Digest::of(&bytes) != first.image {
        return Err(broken("its bytes do not have the digest that the scheduler named"));
    }
    progress.clear();
    write_private(&args.file, &bytes).map_err(|error| Failure::file("write backup", &args.file, &error))?;
    let saved = Saved {
        file: args.file,
        image: first.image,
        bytes: bytes.len() as u64,
        commit: first.commit,
    };
    output.value(&saved, |saved, _| {
        format!(
            "saved commit {} to {} ({} bytes, {})\n",
            saved.commit,
            saved.file.display(),
            saved.bytes,
            saved.image
        )
    })
}

fn broken(why: &str) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("failed to fetch the image: {why}"),
        "run the command again",
    )
}
