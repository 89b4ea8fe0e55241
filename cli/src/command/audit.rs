//! `heddle audit`: how past commits came to be.

use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::view;
use heddle_protocol::api::audit::Audit;

/// Flags of `audit`.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// Everything about this commit
    #[arg(value_name = "COMMIT", conflicts_with = "last")]
    commit: Option<u64>,
    /// List so many of the newest commits
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    last: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Shows audit records.
pub async fn run(args: AuditArgs, output: &Output) -> Result<(), Failure> {
    let fleet = Fleet::connect(&args.fleet, &NamespaceArgs::default()).await?;
    let question = Audit {
        commit: args.commit,
        last: args.commit.is_none().then_some(args.last),
    };
    let list = fleet.ask(&question).await?;
    match args.commit {
        Some(_) => output.value(&list, view::audit::describe),
        None => output.value(&list, view::audit::table),
    }
}
