//! `heddle explain`: why a workload is where it is, or why it is not.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::view;
use heddle_protocol::api::explain::{Explain, Explanation};
use heddle_protocol::api::replay::Replay;
use heddle_protocol::id::WorkloadId;

/// Flags of `explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The workload, by NAME or NAMESPACE/NAME
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    namespace: NamespaceArgs,
    /// As of the decision of a past commit, as `heddle audit` lists it
    #[arg(long, value_name = "COMMIT")]
    at: Option<u64>,
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
    let explanation = match args.at {
        None => fleet.ask_in(&workload.namespace.clone(), &Explain { workload }).await?,
        Some(commit) => as_of(&fleet, commit, workload).await?,
    };
    output.value(&explanation, view::explain::draw)
}

/// What the planner knew when it made a past decision.
async fn as_of(fleet: &Fleet, commit: u64, workload: WorkloadId) -> Result<Explanation, Failure> {
    let question = Replay {
        commit,
        explain: Some(workload.clone()),
    };
    fleet.ask(&question).await?.explanation.ok_or_else(|| {
        Failure::new(
            Exit::NotFound,
            format!("failed to find workload {workload} as of commit {commit}"),
            "`heddle audit` lists commits, and which of them changed it",
        )
    })
}
