//! `heddle logs`: what a workload's components wrote, fetched from the hosts that run it.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::view;
use heddle_protocol::api::logs::{LogLines, Logs};
use heddle_protocol::defaults::LOG_LINES_KEPT;
use heddle_protocol::id::HostId;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often `--follow` asks for more.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Flags of `logs`.
#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    /// The workload, by NAME or NAMESPACE/NAME
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    namespace: NamespaceArgs,
    /// Go on with new lines, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// The newest so many lines of each host
    #[arg(long, value_name = "N", default_value_t = 100)]
    tail: u32,
    /// Print JSON: one line of the log a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Shows log lines.
pub async fn run(args: LogsArgs, output: &Output) -> Result<(), Failure> {
    let fleet = Fleet::connect(&args.fleet, &args.namespace).await?;
    let workload = fleet.workload(&args.name)?;
    let namespace = workload.namespace.clone();
    let mut question = Logs {
        workload,
        tail: args.tail,
        after: Default::default(),
    };
    let mut told = BTreeSet::new();
    let first = fleet.ask_in(&namespace, &question).await?;
    show(&first, &mut question, &mut told, output)?;
    question.tail = u32::try_from(LOG_LINES_KEPT).unwrap_or(u32::MAX);
    if !args.follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        match fleet.ask_in(&namespace, &question).await {
            Ok(lines) => show(&lines, &mut question, &mut told, output)?,
            Err(failure) if failure.exit == Exit::Unreachable => output.say(&failure.message),
            Err(failure) => return Err(failure),
        }
    }
}

/// Prints lines, notes how far each host was read, and says once which hosts are silent.
fn show(lines: &LogLines, question: &mut Logs, told: &mut BTreeSet<HostId>, output: &Output) -> Result<(), Failure> {
    for line in &lines.lines {
        let seen = question.after.entry(line.host.clone()).or_default();
        *seen = (*seen).max(line.seq);
        output.item(line, view::events::log_line)?;
    }
    for host in &lines.silent {
        if told.insert(host.clone()) {
            output.say(format!("note: host {host} did not answer; its lines are missing"));
        }
    }
    told.retain(|host| lines.silent.contains(host));
    Ok(())
}
