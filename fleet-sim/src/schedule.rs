//! A scheduler as a process of its own, without the rest of `heddle`: what is measured when no `heddle` is at hand.
//!
//! It takes the flags of `heddle scheduler` that a measurement needs, under the same names, and runs the very same code.

use anyhow::Result;
use heddle_protocol::id::Realm;
use heddle_scheduler::SchedulerOptions;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Flags of the scheduler.
#[derive(Debug, clap::Args)]
pub struct ScheduleArgs {
    /// The realm that it schedules
    #[arg(long)]
    realm: String,
    /// The URL of NATS
    #[arg(long)]
    nats: String,
    /// The monitoring address of nats-server
    #[arg(long)]
    nats_monitor: Option<String>,
    /// A file with the seed of the realm key
    #[arg(long)]
    realm_key: PathBuf,
    /// A folder for verified images of the state
    #[arg(long)]
    data: PathBuf,
    /// Trust hosts and people at first sight
    #[arg(long)]
    dev: bool,
    /// Where /healthz and /metrics are served
    #[arg(long)]
    http: Option<SocketAddr>,
}

/// Schedules until it is told to stop.
///
/// # Errors
/// If it cannot start, or another scheduler takes over.
pub async fn run(args: ScheduleArgs) -> Result<()> {
    let mut options = SchedulerOptions::new(Realm::parse(&args.realm)?, args.nats, args.realm_key, args.data);
    options.nats_monitor = args.nats_monitor;
    options.dev = args.dev;
    options.http = args.http;
    let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    heddle_scheduler::run(options, async move {
        stop.recv().await;
    })
    .await
}
