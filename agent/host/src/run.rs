//! One agent, from start to end: opens what it needs, brings back what it ran before, and then loops.
//!
//! In: options, and a future that ends when the agent should stop. Out: nothing, or why it could not start. The loop
//! itself is in `control`; it never waits for a fetch, a compile or a guest.

mod command;
mod control;
mod execute;
mod fired;
mod leave;
mod live;
mod runner;
mod service;
#[cfg(test)]
mod tests;
mod wasm;

use crate::artifact::ArtifactFiles;
use crate::cache::compiled::CompiledFiles;
use crate::cache::{self, SpecWriter};
use crate::compile::Compiler;
use crate::engine::{EngineError, EngineOptions, Engines};
use crate::health::{self, Health};
use crate::identity::{self, KeyError};
use crate::links::Links;
use crate::logs::LogSink;
use crate::options::{AgentOptions, SourceOptions};
use crate::report::Introduction;
use crate::run::control::{Control, Parts};
pub(crate) use crate::run::runner::{Failure, Runner};
pub(crate) use crate::run::wasm::whole;
use crate::run::wasm::{WasmParts, WasmRunner};
use crate::secrets::{SecretIntake, SecretStore};
use crate::source::{self, Started};
use heddle_agent_core::{Identity, Machine};
use heddle_capability::{AddressPolicy, Capability, CapabilitySet, CapabilitySetBuilder, Lending};
use heddle_protocol::host_report::Capacity;
use heddle_wire::connect::ConnectError;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The data folder cannot be used.
    #[error("failed to use data folder {path}: {source}; choose a folder that the agent may write with --data")]
    Data {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another agent runs from the data folder: the two would overwrite each other's spec.
    #[error(
        "failed to use data folder {path}: another agent runs from it; stop that one, or choose another folder with \
         --data"
    )]
    DataInUse {
        /// The folder.
        path: PathBuf,
    },
    /// There is no host key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No spec could ever be trusted.
    #[error("failed to start: no realm key is named, so no spec could be trusted; give --realm-public-key")]
    NoRealmKey,
    /// NATS cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No engine can be made.
    #[error("failed to start the engines: {0}; try --allocator on-demand")]
    Engine(#[from] EngineError),
    /// The address of `/metrics` cannot be bound.
    #[error("failed to serve metrics on {address}: {source}; choose another address with --http")]
    Http {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// An agent that is about to run, with the capabilities that it is built with.
pub struct Agent {
    options: AgentOptions,
    capabilities: CapabilitySetBuilder,
}

impl Agent {
    /// An agent with the capabilities that come with it: configuration, logging, secrets, and key-value stores in memory.
    pub fn builder(options: AgentOptions) -> Self {
        let capabilities = CapabilitySet::builder()
            .capability(heddle_capability_config::Config)
            .capability(heddle_capability_logging::Logging)
            .capability(heddle_capability_secrets::Secrets)
            .capability(heddle_capability_messaging::MessagingNats)
            .capability(heddle_capability_messaging::MessagingJetstream)
            .capability(heddle_capability_postgres::Postgres)
            .capability(heddle_capability_keyvalue::KeyvalueMemory::default())
            .capability(heddle_capability_keyvalue_nats::KeyvalueNats)
            .capability(heddle_capability_keyvalue_redis::KeyvalueRedis)
            .capability(heddle_capability_blobstore::BlobstoreFilesystem::default())
            .capability(heddle_capability_blobstore::BlobstoreNats);
        Self { options, capabilities }
    }

    /// Adds a capability; it replaces one for the same feature.
    pub fn capability(mut self, capability: impl Capability) -> Self {
        self.capabilities = self.capabilities.capability(capability);
        self
    }

    /// Runs until `shutdown` ends, and then until its work is taken over or its time is up.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let options = self.options;
        crate::files::private_folder(&options.data).map_err(|source| AgentError::Data {
            path: options.data.clone(),
            source,
        })?;
        // Held until the agent ends, however it ends.
        let _lock = lock_data(&options.data)?;
        if options.realm_keys.is_empty() && matches!(options.source, SourceOptions::Nats { .. }) {
            return Err(AgentError::NoRealmKey);
        }
        let key = Arc::new(identity::host_key(&options.data)?);
        let me = Identity {
            realm: options.realm.clone(),
            host: options.host.clone(),
            boot_id: identity::new_boot_id(),
        };
        let memory_bytes = options.memory_bytes.unwrap_or_else(identity::default_memory_bytes);
        let logs = LogSink::new(me.host.clone());
        let artifacts = ArtifactFiles::new(&options.data);
        let secrets = SecretStore::default();
        let intake = SecretIntake::open(&options.data, &me, secrets.clone()).map_err(|source| AgentError::Data {
            path: options.data.clone(),
            source,
        })?;
        let runner = {
            let compiled = CompiledFiles::open(&options.data).map_err(|source| AgentError::Data {
                path: options.data.clone(),
                source,
            })?;
            let engines = EngineOptions {
                allocator: options.allocator,
                memory_bytes,
                ..EngineOptions::default()
            };
            let engines = Engines::new(&engines)?;
            let capabilities = Arc::new(self.capabilities.build());
            let bind = options.bind.clone();
            let own = own_servers(&options.source).await;
            let addresses = Arc::new(AddressPolicy::new(options.egress_allow.clone(), own));
            let lending = Lending {
                secrets: BTreeMap::new(),
                nats_url: match &options.source {
                    SourceOptions::Nats { url, .. } => Some(url.clone()),
                    SourceOptions::File(_) | SourceOptions::InProcess(_) => None,
                },
                data: options.data.clone(),
            };
            let links = Links::new(options.realm.clone(), lending.nats_url.clone(), secrets.clone());
            let realm_keys = options.realm_keys.clone();
            let compiler = Compiler::new(engines.clone(), artifacts.clone(), compiled, realm_keys);
            Arc::new(WasmRunner::new(WasmParts {
                engines,
                capabilities,
                bind,
                compiler,
                logs: logs.clone(),
                secrets: secrets.clone(),
                addresses,
                links,
                lending,
            }))
        };
        let capacity = Capacity {
            memory_bytes,
            replica_slots: options.replica_slots,
            instance_memory_bytes_max: runner.instance_memory_bytes_max(),
            cpu_millis: options.cpu_millis,
            resources: options.resources.clone(),
        };
        let machine = Machine {
            features: runner.features(),
            instance_memory_bytes_max: capacity.instance_memory_bytes_max,
        };
        let introduction = Introduction::new(
            me.clone(),
            &options,
            capacity,
            machine.features.clone(),
            runner.engine(),
            intake.seal_key(),
        );
        let health = Arc::new(Health::new(&me, options.heartbeat));
        if let Some(address) = options.http {
            health::serve(address, Arc::clone(&health), Arc::clone(&runner) as Arc<dyn Runner>)
                .await
                .map_err(|source| AgentError::Http { address, source })?;
        }
        let cached = match &options.source {
            SourceOptions::Nats { .. } => cache::load_spec(&options.data, &me, &options.realm_keys),
            SourceOptions::File(_) | SourceOptions::InProcess(_) => None,
        };
        let Started { events, uplink } = match options.source {
            SourceOptions::Nats { url, credentials } => {
                source::start_nats(&url, credentials, &me, key, options.realm_keys).await?
            }
            SourceOptions::File(path) => source::start_file(&path, options.realm_keys),
            SourceOptions::InProcess(source) => source.start(),
        };
        tracing::info!(host = %me.host, realm = %me.realm, boot = %me.boot_id, "agent started");
        let parts = Parts {
            me,
            machine,
            introduction,
            runner,
            uplink,
            artifacts,
            writer: SpecWriter::start(&options.data),
            logs,
            secrets: intake,
            health,
            heartbeat: options.heartbeat,
            leaving_deadline: options.leaving_deadline,
            data: options.data,
        };
        let (mut control, facts) = Control::new(parts);
        if let Some((read, accepted)) = cached {
            tracing::info!(version = %accepted.version, units = read.spec.body.units.len(), "bringing back the last spec");
            control.restore(read.spec.body, accepted);
        }
        control.run(events, facts, shutdown).await;
        Ok(())
    }
}

/// Runs an agent with the capabilities that come with it.
pub async fn run(options: AgentOptions, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    Agent::builder(options).run(shutdown).await
}

/// Where the fleet's NATS is, as far as it can be found out: guests must not reach it.
async fn own_servers(source: &SourceOptions) -> Vec<SocketAddr> {
    let SourceOptions::Nats { url, .. } = source else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for server in url.split(',') {
        let address = server.trim().rsplit_once("://").map_or(server.trim(), |(_, rest)| rest);
        let address = address
            .rsplit_once('@')
            .map_or(address, |(_, rest)| rest)
            .trim_end_matches('/');
        let address = match address.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => address.to_owned(),
            _ => format!("{address}:4222"),
        };
        // A name that cannot be resolved now leads nowhere for guests either, until the agent starts again.
        if let Ok(addresses) = tokio::net::lookup_host(address).await {
            found.extend(addresses);
        }
    }
    found
}

/// Takes the data folder for this process alone.
fn lock_data(folder: &std::path::Path) -> Result<std::fs::File, AgentError> {
    let path = folder.to_path_buf();
    let file = std::fs::File::create(folder.join("lock"));
    let file = file.map_err(|source| AgentError::Data {
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(AgentError::DataInUse { path }),
        Err(std::fs::TryLockError::Error(source)) => Err(AgentError::Data { path, source }),
    }
}
