//! `heddle events`: what happened, as the leading scheduler remembers it.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::view;
use heddle_protocol::api::events::{EventList, Events};
use std::time::Duration;

/// How often `--watch` asks for more.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Flags of `events`.
#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    /// Only those about this object or host
    #[arg(long, value_name = "NAME")]
    about: Option<String>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 50)]
    last: u32,
    /// Go on with what happens, until interrupted
    #[arg(short, long)]
    watch: bool,
    /// Print JSON: one event a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Shows events.
pub async fn run(args: EventsArgs, output: &Output) -> Result<(), Failure> {
    let fleet = Fleet::connect(&args.fleet, &NamespaceArgs::default()).await?;
    let mut question = Events {
        after: 0,
        last: args.last,
        about: args.about,
    };
    let first = fleet.ask(&question).await?;
    show(&first, output)?;
    (question.after, question.last) = (first.next, 0);
    if args.watch {
        watch(&fleet, question, output).await
    } else {
        Ok(())
    }
}

async fn watch(fleet: &Fleet, mut question: Events, output: &Output) -> Result<(), Failure> {
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        match fleet.ask(&question).await {
            // A scheduler that started again counts from the start.
            Ok(list) if list.next < question.after => {
                output.say("note: the scheduler started again");
                question.after = 0;
            }
            Ok(list) => {
                if list.lost {
                    output.say("note: some events are no longer kept and are missing here");
                }
                show(&list, output)?;
                question.after = list.next;
            }
            Err(failure) if failure.exit == Exit::Unreachable => output.say(&failure.message),
            Err(failure) => return Err(failure),
        }
    }
}

fn show(list: &EventList, output: &Output) -> Result<(), Failure> {
    list.events
        .iter()
        .try_for_each(|event| output.item(event, view::events::event))
}
