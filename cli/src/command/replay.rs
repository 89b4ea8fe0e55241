//! `heddle replay`: a past decision, made again.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::view;
use heddle_protocol::api::replay::Replay;

/// Flags of `replay`.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// The commit, as `heddle audit` lists it
    #[arg(value_name = "COMMIT")]
    commit: u64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Shows what was decided, and whether the same comes out now.
pub async fn run(args: ReplayArgs, output: &Output) -> Result<(), Failure> {
    let fleet = Fleet::connect(&args.fleet, &NamespaceArgs::default()).await?;
    let question = Replay {
        commit: args.commit,
        explain: None,
    };
    let replayed = fleet.ask(&question).await?;
    if replayed.same {
        return output.value(&replayed, view::replay::draw);
    }
    let failure = Failure::new(
        Exit::Failed,
        format!("commit {} is decided otherwise now", replayed.commit),
        match replayed.planner == replayed.planner_now {
            true => "the planner is the same: report this".to_owned(),
            false => format!(
                "it was decided by {}, and this scheduler has {}",
                replayed.planner, replayed.planner_now
            ),
        },
    );
    if output.json {
        return Err(failure.with_known(&replayed));
    }
    output.value(&replayed, view::replay::draw)?;
    Err(failure)
}
