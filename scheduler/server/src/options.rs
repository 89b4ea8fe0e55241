//! Everything that a scheduler is told when it starts. The CLI fills this in; nothing else reads flags.

use crate::compile::CompileOptions;
use heddle_protocol::defaults;
use heddle_protocol::id::Realm;
use heddle_wire::connect::ConnectOptions;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How a scheduler runs.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// The realm that it schedules.
    pub realm: Realm,
    /// This scheduler's id, as it stands in `head` and in logs.
    pub id: String,
    /// Where NATS is.
    pub connect: ConnectOptions,
    /// The monitoring address of nats-server, for reading its sync mode.
    pub nats_monitor: Option<String>,
    /// A file with the seed of the realm key, which signs every spec.
    pub realm_key: PathBuf,
    /// A folder for verified images.
    pub data: PathBuf,
    /// For development: a store that syncs lazily is taken, and hosts and people are trusted at first sight.
    pub dev: bool,
    /// Takes it that the store keeps what it acknowledged, although its sync mode cannot be read.
    pub assume_durable: bool,
    /// Copies of the stream, when it has to be made.
    pub replicas: usize,
    /// Where `/healthz` and `/metrics` are served, if anywhere.
    pub http: Option<SocketAddr>,
    /// Refuses requests that none of `trusted_keys` signed.
    pub require_signed: bool,
    /// Public keys of people and programs that may ask.
    pub trusted_keys: Vec<String>,
    /// Registry logins, in the format of docker's `config.json`.
    pub registry_config: Option<PathBuf>,
    /// Registries that are spoken to without TLS.
    pub registry_plain_http: Vec<String>,
    /// Silence after which a host counts as lost, in milliseconds.
    pub host_lost_after_ms: u64,
    /// How components are compiled for the fleet.
    pub compile: CompileOptions,
    /// A file that names the backends of secrets.
    pub secrets_config: Option<PathBuf>,
    /// How often backends are asked for newer versions of secrets, in milliseconds.
    pub secrets_poll_ms: u64,
    /// A file with the seed of the account that signs the NATS credentials of workloads.
    pub workload_signing_key: Option<PathBuf>,
    /// The account's public key, where that seed is one of its signing keys.
    pub workload_account: Option<String>,
}

impl SchedulerOptions {
    /// Options for a realm, a NATS URL and a realm key, with everything else as usual.
    pub fn new(realm: Realm, nats_url: impl Into<String>, realm_key: PathBuf, data: PathBuf) -> Self {
        Self {
            connect: ConnectOptions::new(nats_url, format!("heddle-scheduler-{realm}")),
            realm,
            id: "scheduler-1".to_owned(),
            nats_monitor: None,
            realm_key,
            data,
            dev: false,
            assume_durable: false,
            replicas: 1,
            http: None,
            require_signed: false,
            trusted_keys: Vec::new(),
            registry_config: None,
            registry_plain_http: Vec::new(),
            host_lost_after_ms: defaults::HOST_LOST_AFTER_MS,
            compile: CompileOptions::default(),
            secrets_config: None,
            secrets_poll_ms: defaults::SECRET_POLL_MS,
            workload_signing_key: None,
            workload_account: None,
        }
    }
}
