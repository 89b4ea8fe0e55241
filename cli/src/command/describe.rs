//! `heddle describe`: everything about one workload or host.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::view;
use heddle_protocol::api::hosts::{HostStatus, Hosts};
use heddle_protocol::api::objects::{ObjectKind, StoredObject};
use heddle_protocol::api::status::{Status, WorkloadStatus};
use heddle_protocol::id::HostId;
use serde::Serialize;

/// What can be described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// A workload
    #[value(alias = "workloads")]
    Workload,
    /// A host
    #[value(alias = "hosts")]
    Host,
}

/// Flags of `describe`.
#[derive(Debug, clap::Args)]
pub struct DescribeArgs {
    /// What kind of thing
    what: What,
    /// The workload, by NAME or NAMESPACE/NAME, or the host
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

/// A workload as it is meant and as it fares.
#[derive(Debug, Clone, Serialize)]
pub struct Described {
    /// As it was applied.
    pub object: StoredObject,
    /// How it fares; none if it was deleted between the two questions.
    pub status: Option<WorkloadStatus>,
}

/// Describes one thing.
pub async fn run(args: DescribeArgs, output: &Output) -> Result<(), Failure> {
    let fleet = Fleet::connect(&args.fleet, &args.namespace).await?;
    match args.what {
        What::Workload => output.value(&workload(&fleet, &args.name).await?, |described, style| {
            view::objects::describe(&described.object, described.status.as_ref(), style)
        }),
        What::Host => output.value(&host(&fleet, &args.name).await?, view::hosts::describe),
    }
}

async fn workload(fleet: &Fleet, name: &str) -> Result<Described, Failure> {
    let id = fleet.workload(name)?;
    let objects = super::get::one(fleet, ObjectKind::Workload, name).await?.objects;
    let statuses = fleet
        .statuses(Status {
            workloads: vec![id],
            ..Status::default()
        })
        .await?;
    let object = objects.into_iter().next().ok_or_else(|| not_found("workload", name))?;
    Ok(Described {
        object,
        status: statuses.workloads.into_iter().next(),
    })
}

/// One host by id, which must be there.
pub async fn host(fleet: &Fleet, id: &str) -> Result<HostStatus, Failure> {
    let host = HostId::parse(id).map_err(|error| Failure::new(Exit::Usage, error.to_string(), ""))?;
    let list = fleet
        .hosts(Hosts {
            host: Some(host),
            after: None,
        })
        .await?;
    list.hosts.into_iter().next().ok_or_else(|| not_found("host", id))
}

fn not_found(what: &str, name: &str) -> Failure {
    let next = if what == "host" {
        "list all with `heddle hosts`"
    } else {
        "list all with `heddle status -A`"
    };
    Failure::new(Exit::NotFound, format!("failed to find {what} {name}"), next)
}
