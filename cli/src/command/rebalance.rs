//! `heddle rebalance`: moves replicas that are better elsewhere by now, so many and no more.

use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::view;
use heddle_protocol::api::rebalance::{BUDGET_MAX, Rebalance};

/// Flags of `rebalance`.
#[derive(Debug, clap::Args)]
pub struct RebalanceArgs {
    /// Workloads, by NAME or NAMESPACE/NAME; all of the namespace when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Workloads of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["names", "namespace"])]
    all_namespaces: bool,
    #[command(flatten)]
    namespace: NamespaceArgs,
    /// How many replicas may move
    #[arg(long, value_name = "REPLICAS", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(BUDGET_MAX)))]
    budget: u32,
    /// Only say which would move
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Moves, or says what would.
pub async fn run(args: RebalanceArgs, output: &Output) -> Result<(), Failure> {
    let fleet = Fleet::connect(&args.fleet, &args.namespace).await?;
    let workloads = args.names.iter().map(|name| fleet.workload(name));
    let workloads = workloads.collect::<Result<Vec<_>, _>>()?;
    let question = Rebalance {
        in_namespace: !args.all_namespaces && workloads.is_empty(),
        workloads,
        budget: args.budget,
        dry_run: args.dry_run,
    };
    let rebalanced = match args.dry_run {
        true => fleet.ask(&question).await?,
        false => fleet.change(&fleet.namespace, &question).await?,
    };
    output.value(&rebalanced, view::rebalance::draw)?;
    if output.json || rebalanced.moves.is_empty() {
        return Ok(());
    }
    output.say(match args.dry_run {
        true => "next: the same without --dry-run moves them",
        false => "each goes once the one that takes its place is ready; `heddle status` shows how far that is",
    });
    Ok(())
}
