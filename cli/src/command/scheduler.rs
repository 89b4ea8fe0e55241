//! `heddle scheduler`: the role that decides. This file only maps flags to options.

use super::role::{LogArgs, StopSignals, shutdown, start_log};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::duration;
use heddle_protocol::id::Realm;
use heddle_protocol::manifest::Size;
use heddle_scheduler::SchedulerOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Flags of `scheduler`.
#[derive(Debug, clap::Args)]
pub struct SchedulerArgs {
    /// The realm that it schedules
    #[arg(long, value_name = "NAME", env = "HEDDLE_REALM", value_parser = Realm::parse)]
    realm: Realm,
    /// This scheduler's id, as it stands in records and logs
    #[arg(long, value_name = "ID", default_value = "scheduler-1")]
    id: String,
    /// The URL of NATS
    #[arg(long, value_name = "URL", env = "HEDDLE_NATS")]
    nats: String,
    /// A NATS credentials file
    #[arg(long, value_name = "FILE", env = "HEDDLE_CREDS")]
    nats_creds: Option<PathBuf>,
    /// The monitoring address of nats-server, from which its sync mode is read
    #[arg(long, value_name = "URL")]
    nats_monitor: Option<String>,
    /// A file with the seed of the realm key, which signs every spec: `heddle key new` makes one
    #[arg(long, value_name = "FILE")]
    realm_key: PathBuf,
    /// A folder for verified images of the state
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// For development: trust hosts and people at first sight, and take a NATS that syncs lazily
    #[arg(long)]
    dev: bool,
    /// Take it that NATS keeps what it acknowledges, although its sync mode cannot be read
    #[arg(long)]
    assume_durable: bool,
    /// Copies of the stream, when it has to be made
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,
    /// Where /healthz and /metrics are served
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Refuse requests that no trusted key signed
    #[arg(long)]
    require_signed: bool,
    /// The public key of a person or program that may ask; may be given several times
    #[arg(long = "trusted-key", value_name = "KEY")]
    trusted_keys: Vec<String>,
    /// Registry logins, in the format of docker's config.json
    #[arg(long, value_name = "FILE")]
    registry_config: Option<PathBuf>,
    /// A registry that is spoken to without TLS; may be given several times
    #[arg(long = "registry-plain-http", value_name = "HOST")]
    registry_plain_http: Vec<String>,
    /// Silence after which a host counts as lost
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    host_lost_after: Duration,
    /// A JSON file that names the backends of secrets
    #[arg(long, value_name = "FILE")]
    secrets_config: Option<PathBuf>,
    /// How often backends are asked for newer versions of secrets that name none
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    secrets_poll: Duration,
    /// A file with the seed of a NATS account that signs credentials for the traffic of workloads
    #[arg(long, value_name = "FILE")]
    workload_signing_key: Option<PathBuf>,
    /// The account's public key, where that seed is one of its signing keys
    #[arg(long, value_name = "KEY", requires = "workload_signing_key")]
    workload_account: Option<String>,
    /// Processor time that compiling one component may take
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    compile_cpu: Duration,
    /// Memory that compiling one component may take
    #[arg(long, value_name = "SIZE", default_value = "4Gi")]
    compile_memory: Size,
    /// Components compiled at the same time; half as many as there are cores when left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    compile_workers: Option<u16>,
    #[command(flatten)]
    log: LogArgs,
}

impl SchedulerArgs {
    fn options(self) -> SchedulerOptions {
        let mut options = SchedulerOptions::new(self.realm, self.nats, self.realm_key, self.data);
        options.id = self.id;
        options.connect.credentials = self.nats_creds;
        options.nats_monitor = self.nats_monitor;
        options.dev = self.dev;
        options.assume_durable = self.assume_durable;
        options.replicas = self.replicas.into();
        options.http = self.http;
        options.require_signed = self.require_signed;
        options.trusted_keys = self.trusted_keys;
        options.registry_config = self.registry_config;
        options.registry_plain_http = self.registry_plain_http;
        // Limits of processor time are in whole seconds.
        options.compile.cpu_seconds = self.compile_cpu.as_secs().max(1);
        options.compile.memory_bytes = self.compile_memory.as_bytes();
        if let Some(workers) = self.compile_workers {
            options.compile.workers = workers.into();
        }
        options.host_lost_after_ms = u64::try_from(self.host_lost_after.as_millis()).unwrap_or(u64::MAX);
        options.secrets_config = self.secrets_config;
        options.secrets_poll_ms = u64::try_from(self.secrets_poll.as_millis()).unwrap_or(u64::MAX);
        options.workload_signing_key = self.workload_signing_key;
        options.workload_account = self.workload_account;
        options
    }
}

/// Schedules until it is told to stop.
pub async fn run(args: SchedulerArgs) -> Result<(), Failure> {
    start_log(&args.log)?;
    let signals = StopSignals::new()?;
    heddle_scheduler::run(args.options(), shutdown(signals))
        .await
        .map_err(|error| Failure::new(Exit::Failed, format!("{error:#}"), ""))
}
