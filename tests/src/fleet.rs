//! A fleet in a box: NATS, a scheduler and agents as real processes, in a folder of their own.
//!
//! In: how many hosts, and what is unusual about it. Out: a [`Fleet`] whose hosts are ready, that ends with the value.
//! What tests ask of it is in [`ask`], what they look for in its store in [`stored`].

pub mod ask;
pub mod stored;

use crate::nats::Nats;
use crate::process::{Process, Recipe};
use crate::{binary, port};
use anyhow::{Context as _, Result};
use heddle_protocol::api::hosts::{HostState, MakeJoinToken};
use heddle_protocol::id::{HostId, Realm};
use heddle_protocol::sign::SigningKey;
use heddle_wire::client::{Client, ClientOptions};
use heddle_wire::connect::ConnectOptions;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// How long a fleet on a busy machine with two cores may take until all of its hosts are ready.
const READY_WITHIN: Duration = Duration::from_secs(40);
/// How long the client goes on asking a scheduler that does not answer: longer than one takes to start again.
const PATIENCE: Duration = Duration::from_secs(15);
/// The realm of every test fleet.
const REALM: &str = "local";

/// What is unusual about a fleet.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    hosts: usize,
    labels: BTreeMap<usize, Vec<String>>,
    dev: bool,
    memory: String,
    signer: Option<Arc<SigningKey>>,
    scheduler_flags: Vec<String>,
    agent_flags: Vec<String>,
    record: bool,
}

impl FleetOptions {
    /// So many hosts, `host-1` and so on, in development mode: hosts and people are trusted at first sight.
    pub fn hosts(hosts: usize) -> Self {
        Self {
            hosts,
            labels: BTreeMap::new(),
            dev: true,
            memory: "2Gi".to_owned(),
            signer: None,
            scheduler_flags: Vec::new(),
            agent_flags: Vec::new(),
            record: false,
        }
    }

    /// All traffic with NATS is recorded, in a folder of the fleet's: see [`Nats::tap`].
    pub fn recorded(mut self) -> Self {
        self.record = true;
        self
    }

    /// A label of one host, counted from 1: `zone=a`.
    pub fn label(mut self, host: usize, label: &str) -> Self {
        self.labels.entry(host).or_default().push(label.to_owned());
        self
    }

    /// As in production: hosts join with tokens, and NATS must be durable.
    pub fn strict(mut self) -> Self {
        self.dev = false;
        self
    }

    /// What each host has to give in memory, such as `64Gi`; 2 GiB unless said otherwise.
    pub fn memory(mut self, size: &str) -> Self {
        size.clone_into(&mut self.memory);
        self
    }

    /// The scheduler takes requests that this key signed, and no others; the helpers sign with it.
    pub fn signed_by(mut self, key: Arc<SigningKey>) -> Self {
        self.signer = Some(key);
        self
    }

    /// A flag of the scheduler.
    pub fn scheduler_flag(mut self, flag: impl Into<String>) -> Self {
        self.scheduler_flags.push(flag.into());
        self
    }

    /// A flag of every agent.
    pub fn agent_flag(mut self, flag: impl Into<String>) -> Self {
        self.agent_flags.push(flag.into());
        self
    }
}

/// An agent's process, and where it serves.
#[derive(Debug)]
pub struct Agent {
    /// The process.
    pub process: Process,
    /// Where its listener `web` is.
    pub web: SocketAddr,
    /// Where its health is.
    pub health: SocketAddr,
    /// Its folder.
    pub data: PathBuf,
}

/// A fleet that runs.
#[derive(Debug)]
pub struct Fleet {
    /// Processes end before their folder goes: fields are dropped in this order.
    agents: BTreeMap<HostId, Agent>,
    scheduler: Process,
    scheduler_health: SocketAddr,
    nats: Nats,
    client: Client,
    realm_key: SigningKey,
    agent_flags: Vec<String>,
    memory: String,
    folder: TempDir,
}

impl Fleet {
    /// Starts a fleet, and waits until its hosts are ready.
    pub async fn start(options: &FleetOptions) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("heddle-fleet-")
            .tempdir()
            .context("failed to make a folder")?;
        let path = folder.path();
        let mut nats = Nats::start(&path.join("nats"), &path.join("nats.log")).await?;
        if options.record {
            nats.record(&path.join("tap")).await?;
        }
        let realm_key = SigningKey::generate();
        write_private(&path.join("realm.nk"), &realm_key.seed()?)?;
        let scheduler_health = port::free()?;
        let scheduler = Process::start(scheduler_recipe(options, path, &nats, scheduler_health)?)?;
        let connected = connect(&nats.url(), options.signer.clone()).await;
        let mut fleet = Self {
            agents: BTreeMap::new(),
            scheduler,
            scheduler_health,
            nats,
            client: connected?,
            realm_key,
            agent_flags: options.agent_flags.clone(),
            memory: options.memory.clone(),
            folder,
        };
        let started = fleet.start_agents(options).await;
        match started {
            Ok(()) => Ok(fleet),
            Err(error) => Err(error.context(fleet.tails())),
        }
    }

    async fn start_agents(&mut self, options: &FleetOptions) -> Result<()> {
        self.info().await.context("failed to start the scheduler")?;
        for n in 1..=options.hosts {
            let token = match options.dev {
                true => None,
                false => Some(self.ask(&MakeJoinToken { valid_ms: 60_000 }).await?.token),
            };
            let labels = options.labels.get(&n).map_or(&[][..], Vec::as_slice);
            self.add_agent(&format!("host-{n}"), labels, token.as_deref())?;
        }
        for n in 1..=options.hosts {
            self.host_in_state(&format!("host-{n}"), HostState::Ready, READY_WITHIN)
                .await?;
        }
        Ok(())
    }

    /// Starts the agent of a new host, and does not wait for it.
    pub fn add_agent(&mut self, host: &str, labels: &[String], token: Option<&str>) -> Result<()> {
        self.add_agent_of(binary::heddle()?, host, labels, token)
    }

    /// The same with an agent that is another program; it takes what `heddle` takes.
    pub fn add_agent_of(&mut self, program: PathBuf, host: &str, labels: &[String], token: Option<&str>) -> Result<()> {
        let id = HostId::parse(host)?;
        let (web, health) = (port::free()?, port::free()?);
        let data = self.folder.path().join(host);
        let mut recipe = Recipe {
            name: host.to_owned(),
            program,
            args: vec!["agent".into()],
            env: Vec::new(),
            log: self.folder.path().join(format!("{host}.log")),
        };
        recipe
            .pair("--realm", REALM)
            .pair("--nats", self.nats.url())
            .pair("--id", host)
            .pair("--data", &data);
        recipe
            .pair("--realm-public-key", self.realm_key.public())
            .pair("--memory", &self.memory);
        recipe
            .pair("--bind", format!("web={web}"))
            .pair("--http", health.to_string());
        for label in labels {
            recipe.pair("--label", label);
        }
        if let Some(token) = token {
            recipe.env.push(("HEDDLE_JOIN_TOKEN".to_owned(), token.to_owned()));
        }
        recipe.args.extend(self.agent_flags.iter().map(Into::into));
        let process = Process::start(recipe)?;
        self.agents.insert(
            id,
            Agent {
                process,
                web,
                health,
                data,
            },
        );
        Ok(())
    }

    /// The nats-server.
    pub fn nats(&mut self) -> &mut Nats {
        &mut self.nats
    }

    /// The scheduler.
    pub fn scheduler(&mut self) -> &mut Process {
        &mut self.scheduler
    }

    /// The agent of a host.
    pub fn agent(&mut self, host: &str) -> Result<&mut Agent> {
        let found = self.agents.iter_mut().find(|(id, _)| id.as_str() == host);
        found
            .map(|(_, agent)| agent)
            .with_context(|| format!("there is no host {host}"))
    }

    /// Where a host serves HTTP.
    pub fn web(&self, host: &str) -> Result<SocketAddr> {
        let found = self.agents.iter().find(|(id, _)| id.as_str() == host);
        found
            .map(|(_, agent)| agent.web)
            .with_context(|| format!("there is no host {host}"))
    }

    /// Where all hosts serve HTTP.
    pub fn webs(&self) -> Vec<SocketAddr> {
        self.agents.values().map(|agent| agent.web).collect()
    }

    /// Where each role tells how it fares.
    pub fn health(&self) -> Vec<(String, SocketAddr)> {
        let agents = self.agents.iter().map(|(id, agent)| (id.to_string(), agent.health));
        agents
            .chain([("scheduler".to_owned(), self.scheduler_health)])
            .collect()
    }

    /// The key that signs specs.
    pub fn realm_key(&self) -> &SigningKey {
        &self.realm_key
    }

    /// The client that the helpers ask with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A client that signs with another key, or not at all.
    pub async fn client_signed_by(&self, signer: Option<Arc<SigningKey>>) -> Result<Client> {
        connect(&self.nats.url(), signer).await
    }

    /// A folder that is the test's own until the fleet ends.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The realm.
    pub fn realm(&self) -> Result<Realm> {
        Ok(Realm::parse(REALM)?)
    }

    /// Where NATS is, for programs that connect themselves.
    pub fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// The end of every log.
    pub fn tails(&self) -> String {
        let agents: String = self.agents.values().map(|agent| agent.process.tail()).collect();
        format!("{agents}{}{}", self.nats.tail(), self.scheduler.tail())
    }

    /// Keeps the folder with logs and data, for looking at it, and says where it is.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }
}

fn scheduler_recipe(options: &FleetOptions, folder: &Path, nats: &Nats, health: SocketAddr) -> Result<Recipe> {
    let mut recipe = Recipe {
        name: "scheduler".to_owned(),
        program: binary::heddle()?,
        args: vec!["scheduler".into()],
        env: Vec::new(),
        log: folder.join("scheduler.log"),
    };
    recipe
        .pair("--realm", REALM)
        .pair("--nats", nats.url())
        .pair("--nats-monitor", nats.monitor_url());
    recipe
        .pair("--realm-key", folder.join("realm.nk"))
        .pair("--data", folder.join("scheduler"));
    recipe.pair("--http", health.to_string());
    if options.dev {
        recipe.args.push("--dev".into());
    }
    if let Some(key) = &options.signer {
        recipe.args.push("--require-signed".into());
        recipe.pair("--trusted-key", key.public());
    }
    recipe.args.extend(options.scheduler_flags.iter().map(Into::into));
    Ok(recipe)
}

async fn connect(url: &str, signer: Option<Arc<SigningKey>>) -> Result<Client> {
    let options = ClientOptions {
        connect: ConnectOptions::new(url, "heddle tests"),
        realm: Realm::parse(REALM)?,
        actor: "tests".to_owned(),
        signer,
        patience: PATIENCE,
    };
    Ok(Client::connect(options).await?)
}

/// Writes a secret that its owner alone can read.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("failed to write {}", path.display()))
}
