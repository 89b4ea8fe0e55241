//! `heddle version`: this program's version and, if one answers, the scheduler's.

use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use heddle_protocol::api::realm::{Info, RealmInfo};
use serde::Serialize;
use std::time::Duration;

/// How long the scheduler is asked: its version is nice to know.
const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// Flags of `version`.
#[derive(Debug, clap::Args)]
pub struct VersionArgs {
    /// Only this program's version
    #[arg(long)]
    client: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Debug, Clone, Serialize)]
struct Versions {
    client: String,
    /// What the scheduler says; none if none answers.
    server: Option<RealmInfo>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreachable: Option<String>,
}

/// Shows the versions. A fleet that does not answer is no failure.
pub async fn run(args: VersionArgs, output: &Output) -> Result<(), Failure> {
    let client = env!("CARGO_PKG_VERSION").to_owned();
    let (server, unreachable) = match args.client {
        true => (None, None),
        false => match ask(&args.fleet).await {
            Ok(info) => (Some(info), None),
            Err(failure) => (None, Some(failure.message)),
        },
    };
    output.value(
        &Versions {
            client,
            server,
            unreachable,
        },
        |versions, _| draw(versions),
    )
}

async fn ask(args: &FleetArgs) -> Result<RealmInfo, Failure> {
    let args = FleetArgs {
        patience: args.patience.min(PATIENCE_MAX),
        ..args.clone()
    };
    let fleet = Fleet::connect(&args, &NamespaceArgs::default()).await?;
    fleet.ask(&Info {}).await
}

fn draw(versions: &Versions) -> String {
    let mut text = format!("heddle     {}\n", versions.client);
    if let Some(info) = &versions.server {
        text.push_str(&format!(
            "scheduler  {} ({} of realm {}, epoch {}, commit {})\nnats       {}\nhosts      {} of {} ready\nworkloads  {}\n",
            info.version, info.scheduler, info.realm, info.epoch, info.commit, info.nats_version, info.hosts_ready,
            info.hosts, info.workloads
        ));
        for warning in &info.warnings {
            text.push_str(&format!("warning    {warning}\n"));
        }
    }
    if let Some(why) = &versions.unreachable {
        text.push_str(&format!("scheduler  none answers: {why}\n"));
    }
    text
}
