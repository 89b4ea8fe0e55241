//! `heddle plan`: what an apply would do.

use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::source::{self, Images, Loaded, SourceArgs};
use crate::view;
use heddle_protocol::api::apply::Plan;

/// Flags of `plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Asks what an apply would do.
pub async fn run(args: PlanArgs, output: &Output) -> Result<(), Failure> {
    let mut loaded = super::apply::load(&args.source)?;
    let images = source::resolve_images(&mut loaded)?;
    let fleet = Fleet::connect(&args.fleet, &NamespaceArgs::default()).await?;
    show(&fleet, &loaded, &images, output).await
}

/// Shows what applying these documents would do. Their images are uploaded: the scheduler reads the imports of
/// components, and bytes that no workload names are intent of nobody.
pub async fn show(fleet: &Fleet, loaded: &[Loaded], images: &Images, output: &Output) -> Result<(), Failure> {
    source::upload(fleet, images).await?;
    let plan = Plan {
        documents: source::canonical(loaded),
    };
    let asked = fleet.ask_in(&source::namespace(loaded), &plan).await;
    let planned = asked.map_err(|failure| source::place(failure, loaded))?;
    output.value(&planned, view::applied::planned)
}
