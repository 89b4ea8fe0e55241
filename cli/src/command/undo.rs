//! `heddle undo`: a workload goes back to an earlier generation, as a new one.

use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::view;
use crate::wait::{self, WaitArgs};
use heddle_protocol::api::objects::Undo;
use heddle_protocol::id::Generation;

/// Flags of `undo`.
#[derive(Debug, clap::Args)]
pub struct UndoArgs {
    /// The workload, by NAME or NAMESPACE/NAME
    #[arg(value_name = "NAME")]
    name: String,
    /// The generation to go back to; the one before when left out
    #[arg(long, value_name = "GENERATION")]
    to: Option<u64>,
    #[command(flatten)]
    namespace: NamespaceArgs,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Goes back, and waits.
pub async fn run(args: UndoArgs, output: &Output) -> Result<(), Failure> {
    let fleet = Fleet::connect(&args.fleet, &args.namespace).await?;
    let workload = fleet.workload(&args.name)?;
    let namespace = workload.namespace.clone();
    let applied = fleet
        .change(
            &namespace,
            &Undo {
                workload,
                to: args.to.map(Generation),
            },
        )
        .await?;
    if output.json {
        wait::applied(&fleet, &args.wait, &applied).await?;
        return output.value(&applied, view::applied::done);
    }
    output.value(&applied, view::applied::done)?;
    wait::applied(&fleet, &args.wait, &applied).await
}
