//! `heddle up`: a fleet on this machine in one command.
//!
//! It starts a nats-server of its own, a scheduler and some agents as children of this process, applies the examples,
//! checks that their URLs answer, and stays in the foreground until it is told to stop. Nothing outlives it but the data
//! folder, from which it goes on the next time.

mod check;
mod child;
mod data;
mod fleet;
mod nats;
mod port;

use crate::command::role::StopSignals;
use crate::context::{self, Context, Contexts};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::duration;
use crate::output::Output;
use crate::progress::Progress;
use crate::source::{self, Images, Loaded};
use crate::view;
use child::Family;
use fleet::Local;
use heddle_protocol::api::hosts::HostList;
use heddle_protocol::api::status::Statuses;
use heddle_protocol::id::Realm;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use child::{CHILD_VERB, become_child};

/// The context that a local fleet is known by.
const CONTEXT: &str = "local";

/// Flags of `up`.
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// How many agents
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) hosts: u16,
    /// Where everything is kept, so that the same fleet can be started again
    #[arg(long, value_name = "DIR", default_value = ".heddle")]
    pub(crate) data: PathBuf,
    /// The realm
    #[arg(long, value_name = "NAME", default_value = context::REALM_FALLBACK, value_parser = Realm::parse)]
    pub(crate) realm: Realm,
    /// Apply these manifests, and check that their URLs answer; may be given several times
    #[arg(long = "example", value_name = "FILE")]
    pub(crate) examples: Vec<PathBuf>,
    /// Stop everything once the examples answer
    #[arg(long)]
    pub(crate) once: bool,
    /// Use this NATS instead of starting one
    #[arg(long, value_name = "URL")]
    pub(crate) nats: Option<String>,
    /// The monitoring address of that NATS, from which its sync mode is read
    #[arg(long, value_name = "URL", requires = "nats")]
    pub(crate) nats_monitor: Option<String>,
    /// Take it that this NATS keeps what it acknowledges
    #[arg(long, requires = "nats")]
    pub(crate) assume_durable: bool,
    /// For development: trust hosts and people at first sight, and take a NATS that syncs lazily
    #[arg(long)]
    pub(crate) dev: bool,
    /// How long starting, and then the examples, may take
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// What the scheduler and the agents log: a level, or levels by module
    #[arg(long = "log", value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
    /// Print JSON: one line once everything answers
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is known once everything answers.
#[derive(Debug, Clone, Serialize)]
struct Ready {
    ok: bool,
    /// From the start of the command until every host was ready.
    ready_ms: u64,
    /// From sending the examples until each of their URLs had answered; none without examples.
    apply_to_serving_ms: Option<u64>,
    hosts: u32,
    workloads: u32,
    urls: Vec<String>,
}

/// Starts a fleet, and stops it again.
pub async fn run(args: UpArgs, output: &Output) -> Result<(), Failure> {
    let mut signals = StopSignals::new()?;
    let mut examples = source::load(&args.examples)?;
    let images = source::resolve_images(&mut examples)?;
    let data = data::Data::open(&args.data)?;
    let mut family = Family::new();
    let done = tokio::select! {
        done = bring_up(&args, &data, (&examples, &images), &mut family, output) => done,
        () = signals.recv() => Ok(()),
    };
    if !family.is_empty() {
        output.say("stopping the fleet");
        family.stop(&mut signals).await;
    }
    done
}

/// Everything between the first child and the order to stop.
async fn bring_up(
    args: &UpArgs,
    data: &data::Data,
    (examples, images): (&[Loaded], &Images),
    family: &mut Family,
    output: &Output,
) -> Result<(), Failure> {
    let started = Instant::now();
    let mut progress = Progress::start();
    progress.update("starting NATS");
    let nats = nats::start(args, data, family).await?;
    let mut local = Local::start(args, data, nats, examples, family, &mut progress).await?;
    local.hosts_ready(family, &mut progress).await?;
    let ready_ms = ms(started.elapsed());
    let serving = match examples.is_empty() {
        true => None,
        false => Some(local.serve(examples, images, family, &mut progress).await?),
    };
    progress.clear();
    let (hosts, statuses) = local.look().await?;
    let ready = Ready {
        ok: true,
        ready_ms,
        apply_to_serving_ms: serving.as_ref().map(|serving| ms(serving.took)),
        hosts: args.hosts.into(),
        workloads: u32::try_from(statuses.workloads.len()).unwrap_or(u32::MAX),
        urls: serving.map(|serving| serving.urls).unwrap_or_default(),
    };
    output.item(&ready, |ready, style| draw(ready, &hosts, &statuses, style))?;
    if args.once {
        return Ok(());
    }
    if let Err(failure) = keep_context(args, &local, output) {
        // The fleet runs all the same, and can be named with --nats and --key.
        output.say(format!("note: {}; this fleet is {}", failure.message, local.nats_url()));
    }
    output.say(format!(
        "logs are in {}; Ctrl-C stops the fleet, and `heddle up --data {}` starts it again",
        data.logs().display(),
        args.data.display()
    ));
    family.watch(output).await
}

/// A local fleet is found under the name `local`. It becomes the fleet that is meant only where none is: nobody should
/// find their commands going elsewhere because they tried something.
fn keep_context(args: &UpArgs, local: &Local, output: &Output) -> Result<(), Failure> {
    let path = context::file(&context::process_env)?;
    let mut contexts = Contexts::load(&path)?;
    let context = Context {
        nats: Some(local.nats_url().to_owned()),
        realm: Some(args.realm.clone()),
        key: local.operator_key(),
        ..Context::default()
    };
    contexts.contexts.insert(CONTEXT.to_owned(), context);
    let current = contexts.current.get_or_insert_with(|| CONTEXT.to_owned()).clone();
    contexts.save(&path)?;
    match current == CONTEXT {
        true => output.say("try `heddle status`, `heddle hosts` or `heddle logs NAME` in another terminal"),
        false => output.say(format!("the context {current} is in use; `heddle --context {CONTEXT}` or `heddle context use {CONTEXT}` means this fleet")),
    }
    Ok(())
}

fn draw(ready: &Ready, hosts: &HostList, statuses: &Statuses, style: view::Style) -> String {
    let mut text = view::hosts::table(hosts, style);
    text.push('\n');
    text.push_str(&view::status::table(statuses, style));
    text.push('\n');
    text.push_str(&format!(
        "{} ready after {} ms",
        view::count(u64::from(ready.hosts), "host"),
        ready.ready_ms
    ));
    if let Some(serving) = ready.apply_to_serving_ms {
        let urls = view::count(ready.urls.len() as u64, "URL");
        text.push_str(&format!("; {urls} answered {serving} ms after the apply"));
    }
    text.push('\n');
    text
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A part of the fleet that could not be started.
fn start_failure(what: &str, why: impl std::fmt::Display, next: impl Into<String>) -> Failure {
    Failure::new(Exit::Failed, format!("failed to start {what}: {why}"), next)
}
