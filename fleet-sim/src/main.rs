//! `heddle-fleet-sim`: a pretended fleet on a NATS server, until it is interrupted; or the benchmark of one.
//!
//! Exits with 0 when it did what it was asked, 1 when it could not, 2 when the command line is wrong.

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use heddle_fleet_sim::bench::{self, Programs};
use heddle_fleet_sim::delay::StartDelay;
use heddle_fleet_sim::{Fleet, FleetOptions, child, schedule};
use heddle_protocol::id::Realm;
use serde_json::json;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// Thousands of pretended agents in one process.
#[derive(Debug, Parser)]
#[command(name = "heddle-fleet-sim", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a realm with many hosts, until interrupted
    Run(RunArgs),
    /// Measure a scheduler against a large fleet, with a NATS server and a scheduler of its own
    Bench(BenchArgs),
    /// Be a scheduler
    #[command(hide = true)]
    Scheduler(schedule::ScheduleArgs),
    /// Be tied to the parent process, then become another program
    #[command(hide = true, name = child::VERB)]
    BecomeChild(BecomeChildArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The URL of NATS
    #[arg(long, value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    nats: String,
    /// The realm to join; its scheduler must trust hosts at first sight (`--dev`)
    #[arg(long, value_name = "NAME", default_value = "local")]
    realm: String,
    /// The public key of the realm, whose specs are taken
    #[arg(long, value_name = "KEY")]
    realm_public_key: String,
    /// How many hosts
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    hosts: usize,
    /// Zones that the hosts are dealt to
    #[arg(long, value_name = "N", default_value_t = 1)]
    zones: usize,
    /// Labels of every host, as `name=value`, separated by commas
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    labels: Vec<String>,
    /// How often a host says that it lives, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = heddle_protocol::defaults::HEARTBEAT_MS)]
    heartbeat_ms: u64,
    /// How long a unit takes to start, in milliseconds: one number, or `from-to`
    #[arg(long, value_name = "MS", default_value = "0", value_parser = range)]
    start_delay_ms: (u64, u64),
    /// How long an image takes that a host does not have: one number, or `from-to`
    #[arg(long, value_name = "MS", default_value = "0", value_parser = range)]
    pull_delay_ms: (u64, u64),
    /// The time over which the hosts join, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    spread_ms: u64,
    /// Hosts that end without a word, `--kill-after-ms` after the start
    #[arg(long, value_name = "N", default_value_t = 0)]
    kill: usize,
    /// When they do, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    kill_after_ms: u64,
    /// Decides delays and points in time
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// End after so many seconds
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct BenchArgs {
    /// A shortened form: it shows that the benchmark works, and its figures mean little
    #[arg(long)]
    quick: bool,
    /// Hosts, in place of the usual number
    #[arg(long, value_name = "N")]
    hosts: Option<usize>,
    /// Workloads of the large apply
    #[arg(long, value_name = "N")]
    workloads: Option<usize>,
    /// Replicas of each
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
    /// Workloads of one replica
    #[arg(long, value_name = "N")]
    singles: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(trailing_var_arg = true, disable_help_flag = true)]
struct BecomeChildArgs {
    parent: String,
    program: PathBuf,
    #[arg(allow_hyphen_values = true)]
    args: Vec<OsString>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if let Command::BecomeChild(args) = &cli.command {
        return Err(child::become_child(&args.parent, &args.program, &args.args));
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("HEDDLE_LOG");
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "info,async_nats=warn".into()))
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let printed = match cli.command {
        Command::Run(args) => runtime.block_on(run(args))?,
        Command::Bench(args) => runtime.block_on(bench(args))?,
        Command::Scheduler(args) => {
            runtime.block_on(schedule::run(args))?;
            String::new()
        }
        Command::BecomeChild(_) => String::new(),
    };
    std::io::stdout()
        .lock()
        .write_all(printed.as_bytes())
        .context("failed to print")
}

async fn run(args: RunArgs) -> Result<String> {
    let mut options = FleetOptions::new(
        args.nats,
        Realm::parse(&args.realm)?,
        vec![args.realm_public_key],
        args.hosts,
    );
    options.zones = args.zones;
    for label in &args.labels {
        let (name, value) = label
            .split_once('=')
            .with_context(|| format!("label {label:?} has no value"))?;
        options.labels.insert(name.to_owned(), value.to_owned());
    }
    options.heartbeat = Duration::from_millis(args.heartbeat_ms.max(1));
    options.delay = StartDelay {
        start_ms: args.start_delay_ms,
        pull_ms: args.pull_delay_ms,
        ..StartDelay::default()
    };
    options.spread = Duration::from_millis(args.spread_ms);
    options.seed = args.seed;
    let fleet = Fleet::new(options).await?;
    fleet.start(0..args.hosts).await?;
    let kill = async {
        tokio::time::sleep(Duration::from_millis(args.kill_after_ms)).await;
        fleet.kill(0..args.kill.min(args.hosts)).await?;
        std::future::pending::<Result<()>>().await
    };
    let end = async {
        match args.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        killed = kill => killed?,
        () = end => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    let (counted, total) = (fleet.counted(), fleet.ledger().total());
    let starts = json!({"starts": total.starts, "running": total.running, "ready": total.ready});
    Ok(match args.json {
        true => format!("{}\n", json!({"counted": counted, "replicas": starts})),
        false => format!("{counted:#?}\n{total:#?}\n"),
    })
}

async fn bench(args: BenchArgs) -> Result<String> {
    let mut size = bench::Size::of(args.quick);
    size.hosts = args.hosts.unwrap_or(size.hosts);
    size.workloads = args.workloads.unwrap_or(size.workloads);
    size.replicas = args.replicas.unwrap_or(size.replicas);
    size.singles = args.singles.unwrap_or(size.singles);
    let figures = bench::run(&size, &Programs::find()?).await?;
    let (params, metrics) = (figures.params, figures.metrics);
    Ok(match args.json {
        true => format!("{}\n", json!({"bench": "fleet", "params": params, "metrics": metrics})),
        false => format!("{params:#}\n{metrics:#}\n"),
    })
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let number = |text: &str| text.parse::<u64>().map_err(|e| e.to_string());
    match text.split_once('-') {
        Some((from, to)) => Ok((number(from)?, number(to)?)),
        None => number(text).map(|at| (at, at)),
    }
}
