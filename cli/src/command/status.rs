//! `heddle status`: how workloads fare, once or again and again.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::view;
use heddle_protocol::api::status::{Status, Statuses};
use heddle_protocol::id::WorkloadId;
use std::time::Duration;

/// How often `--watch` looks again.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Flags of `status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Workloads, by NAME or NAMESPACE/NAME; all of the namespace when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Workloads of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["names", "namespace"])]
    all_namespaces: bool,
    #[command(flatten)]
    namespace: NamespaceArgs,
    /// Look again every second, until interrupted
    #[arg(short, long)]
    watch: bool,
    /// Print JSON; with --watch one line for each change
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Shows how workloads fare.
pub async fn run(args: StatusArgs, output: &Output) -> Result<(), Failure> {
    let fleet = Fleet::connect(&args.fleet, &args.namespace).await?;
    let workloads = args
        .names
        .iter()
        .map(|name| fleet.workload(name))
        .collect::<Result<Vec<_>, _>>()?;
    let in_namespace = !args.all_namespaces && workloads.is_empty();
    let question = Status {
        workloads,
        in_namespace,
        after: None,
    };
    if args.watch {
        return watch(&fleet, question, output).await;
    }
    let statuses = ask(&fleet, &question).await?;
    output.value(&statuses, view::status::table)?;
    if statuses.workloads.is_empty() && in_namespace && !output.json {
        output.say(format!("next: -A shows all namespaces; this is {}", fleet.namespace));
    }
    Ok(())
}

async fn ask(fleet: &Fleet, question: &Status) -> Result<Statuses, Failure> {
    let statuses = fleet.statuses(question.clone()).await?;
    let has = |id: &WorkloadId| statuses.workloads.iter().any(|status| status.workload == *id);
    match question.workloads.iter().find(|id| !has(id)) {
        Some(missing) => Err(Failure::new(
            Exit::NotFound,
            format!("failed to find workload {missing}"),
            "list all with `heddle status -A`",
        )),
        None => Ok(statuses),
    }
}

async fn watch(fleet: &Fleet, question: Status, output: &Output) -> Result<(), Failure> {
    let mut last = None;
    loop {
        match ask(fleet, &question).await {
            Ok(statuses) => show(&statuses, &mut last, output)?,
            // A scheduler that restarts is worth waiting for; everything else ends the watch.
            Err(failure) if failure.exit == Exit::Unreachable && last.is_some() => output.say(&failure.message),
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn show(statuses: &Statuses, last: &mut Option<Statuses>, output: &Output) -> Result<(), Failure> {
    let changed = last.as_ref().is_none_or(|last| last.workloads != statuses.workloads);
    if output.terminal && !output.json {
        // Home, then clear below: nothing flickers, and what was on the screen before stays in its history.
        output.text(&format!("\x1b[H\x1b[J{}", view::status::table(statuses, output.style)))?;
    } else if changed {
        output.item(statuses, view::status::table)?;
    }
    *last = Some(statuses.clone());
    Ok(())
}
