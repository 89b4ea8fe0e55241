//! `heddle apply`: manifests become the fleet's intent, in one change, and the command waits until they run.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::source::{self, Images, Loaded, SourceArgs};
use crate::view;
use crate::wait::{self, WaitArgs};
use heddle_protocol::api::apply::{Applied, Apply};

/// Flags of `apply`.
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Show what it would do, and do nothing: the same as `heddle plan`
    #[arg(long)]
    dry_run: bool,
    /// Do what `heddle plan` said at this commit, or refuse
    #[arg(long, value_name = "COMMIT")]
    at: Option<u64>,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Applies, and waits.
pub async fn run(args: ApplyArgs, output: &Output) -> Result<(), Failure> {
    let mut loaded = load(&args.source)?;
    let images = source::resolve_images(&mut loaded)?;
    let fleet = Fleet::connect(&args.fleet, &NamespaceArgs::default()).await?;
    if args.dry_run {
        return super::plan::show(&fleet, &loaded, &images, output).await;
    }
    let applied = submit(&fleet, &loaded, &images, args.at).await?;
    // People see what was committed before they wait; programs get one document at the end.
    if output.json {
        wait::applied(&fleet, &args.wait, &applied).await?;
        return output.value(&applied, view::applied::done);
    }
    output.value(&applied, view::applied::done)?;
    wait::applied(&fleet, &args.wait, &applied).await?;
    let done = if args.wait.wait { "all ready" } else { "not waited for" };
    output.say(format!(
        "{} at commit {}; {done}",
        view::applied::summary(&applied),
        applied.commit
    ));
    Ok(())
}

/// Reads what `-f` names; without it there is nothing to do.
pub fn load(args: &SourceArgs) -> Result<Vec<Loaded>, Failure> {
    if args.files.is_empty() {
        let next = "name a manifest with -f FILE, a folder with -f DIR, or stdin with -f -";
        return Err(Failure::new(
            Exit::Usage,
            "failed to find manifests: none was named",
            next,
        ));
    }
    source::load(&args.files)
}

/// Uploads the images that the fleet lacks and sends the documents: one change.
pub async fn submit(fleet: &Fleet, loaded: &[Loaded], images: &Images, at: Option<u64>) -> Result<Applied, Failure> {
    source::upload(fleet, images).await?;
    let apply = Apply {
        documents: source::canonical(loaded),
        at,
    };
    fleet
        .change(&source::namespace(loaded), &apply)
        .await
        .map_err(|failure| source::place(failure, loaded))
}
