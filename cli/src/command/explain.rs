//! `heddle explain`: why a workload is where it is, or why it is not.

use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::view;
use heddle_protocol::api::explain::Explain;

/// Flags of `explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The workload, by NAME or NAMESPACE/NAME
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    namespace: NamespaceArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Shows what the planner knew.
pub async fn run(args: ExplainArgs, output: &Output) -> Result<(), Failure> {
    let fleet = Fleet::connect(&args.fleet, &args.namespace).await?;
    let workload = fleet.workload(&args.name)?;
    let explanation = fleet.ask_in(&workload.namespace.clone(), &Explain { workload }).await?;
    output.value(&explanation, view::explain::draw)
}
