//! What is measured: a nats-server, a scheduler, a pretended fleet, and a client.

use super::Programs;
use crate::child::{Child, eventually, free_port, get};
use crate::options::FleetOptions;
use crate::{Fleet, child};
use anyhow::{Context as _, Result, ensure};
use heddle_protocol::api::Verb;
use heddle_protocol::api::hosts::Hosts;
use heddle_protocol::api::realm::{Info, RealmInfo};
use heddle_protocol::api::status::Wait;
use heddle_protocol::id::{Generation, Namespace, Realm, WorkloadId};
use heddle_protocol::record::WaitTarget;
use heddle_protocol::sign::SigningKey;
use heddle_wire::client::{Client, ClientOptions};
use heddle_wire::connect::ConnectOptions;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const REALM: &str = "fleet";
/// How long a server may take until it answers.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// How long the client goes on asking.
const PATIENCE: Duration = Duration::from_secs(120);
/// One look of a long wait, in milliseconds.
const WAIT_MS: u64 = 5_000;

/// Everything that takes part.
pub struct Bed {
    /// The hosts.
    pub fleet: Fleet,
    /// The client that asks.
    pub client: Client,
    /// The scheduler's process.
    pub scheduler: Child,
    /// The nats-server's process.
    pub nats: Child,
    scheduler_http: SocketAddr,
    nats_monitor: SocketAddr,
    /// Processes end before their folder goes: fields are dropped in this order.
    _folder: TempDir,
}

impl Bed {
    /// Starts all of it; no host has joined yet. `change` may change how the hosts behave.
    ///
    /// # Errors
    /// If something does not start.
    pub async fn start(
        hosts: usize,
        zones: usize,
        programs: &Programs,
        change: impl FnOnce(&mut FleetOptions),
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("heddle-fleet-sim-").tempdir()?;
        let path = folder.path();
        let (address, nats_monitor) = (free_port()?, free_port()?);
        let nats = start_nats(programs, path, address, nats_monitor)?;
        let nats_url = format!("nats://{address}");
        eventually(STARTS_WITHIN, "nats-server answers", async || {
            get(nats_monitor, "/healthz").await
        })
        .await?;
        let key = SigningKey::generate();
        write_private(&path.join("realm.nk"), &key.seed()?)?;
        let scheduler_http = free_port()?;
        let scheduler = start_scheduler(programs, path, &nats_url, nats_monitor, scheduler_http)?;
        let realm = Realm::parse(REALM)?;
        let client = Client::connect(ClientOptions {
            connect: ConnectOptions::new(&nats_url, "heddle-fleet-sim"),
            realm: realm.clone(),
            actor: "fleet-sim".to_owned(),
            signer: None,
            patience: PATIENCE,
        })
        .await?;
        let mut options = FleetOptions::new(&nats_url, realm, vec![key.public()], hosts);
        options.zones = zones;
        change(&mut options);
        let bed = Self {
            fleet: Fleet::new(options).await?,
            client,
            scheduler,
            nats,
            scheduler_http,
            nats_monitor,
            _folder: folder,
        };
        eventually(STARTS_WITHIN, "the scheduler leads", async || {
            get(scheduler_http, "/healthz").await
        })
        .await
        .map_err(|error| error.context(bed.tails()))?;
        Ok(bed)
    }

    /// Has hosts join, and waits until the scheduler counts all of them as ready.
    ///
    /// # Errors
    /// If they do not within `bound`.
    pub async fn join(&mut self, bound: Duration) -> Result<Duration> {
        let begun = Instant::now();
        self.fleet.start(0..self.fleet.hosts()).await?;
        let hosts = self.fleet.hosts();
        eventually(bound, "all hosts are ready", async || {
            let info = self.info().await?;
            ensure!(
                info.hosts_ready as usize == hosts,
                "{} of {hosts} are ready",
                info.hosts_ready
            );
            Ok(())
        })
        .await?;
        Ok(begun.elapsed())
    }

    /// Waits until every host holds the spec that it should hold.
    ///
    /// # Errors
    /// If one does not within `bound`.
    pub async fn specs_held(&self, bound: Duration) -> Result<()> {
        let mut after = None;
        loop {
            let ask = Hosts {
                host: None,
                after: after.clone(),
            };
            let last = eventually(bound, "hosts hold their specs", async || {
                let page = self.ask(&ask).await?;
                for host in &page.hosts {
                    let held = host.accepted.map(|accepted| accepted.digest);
                    ensure!(held.is_some() && held == host.wanted_digest, "{} does not", host.host);
                }
                Ok(page.hosts.last().filter(|_| page.more).map(|host| host.host.clone()))
            });
            after = last.await?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Asks in the default namespace.
    ///
    /// # Errors
    /// If it is refused, or nobody answers.
    pub async fn ask<V: Verb>(&self, body: &V) -> Result<V::Answer> {
        Ok(self.client.ask(&Namespace::fallback(), body, &[]).await?.0)
    }

    /// How the realm fares.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn info(&self) -> Result<RealmInfo> {
        self.ask(&Info {}).await
    }

    /// Waits until the scheduler says that workloads run.
    ///
    /// # Errors
    /// If they do not within `bound`.
    pub async fn wait(&self, names: &[String], bound: Duration) -> Result<()> {
        let target = |name: &String| {
            Ok(WaitTarget {
                workload: WorkloadId::parse(name)?,
                generation: Some(Generation(1)),
            })
        };
        let targets = names.iter().map(target).collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        loop {
            let wait = Wait {
                targets: targets.clone(),
                timeout_ms: WAIT_MS,
            };
            let waited = self.ask(&wait).await?;
            if waited.done {
                return Ok(());
            }
            let first = waited.missing.first();
            ensure!(
                begun.elapsed() < bound,
                "waited {bound:?}; {} are missing, such as {first:#?}",
                waited.missing.len()
            );
        }
    }

    /// Waits until so many replicas are ready on hosts that live, none more is there, and returns how long it took.
    ///
    /// # Errors
    /// If they are not within `bound`.
    pub async fn replicas(&mut self, wanted: u64, bound: Duration) -> Result<Duration> {
        self.replicas_while(wanted, bound, |bed| {
            bed.scheduler.check()?;
            bed.nats.check()
        })
        .await
    }

    /// The same where nobody schedules.
    ///
    /// # Errors
    /// If that is not so within the bound.
    pub async fn replicas_alone(&mut self, wanted: u64, bound: Duration) -> Result<Duration> {
        self.replicas_while(wanted, bound, |bed| bed.nats.check()).await
    }

    async fn replicas_while(
        &mut self,
        wanted: u64,
        bound: Duration,
        lives: impl Fn(&mut Self) -> Result<()>,
    ) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            let total = self.fleet.ledger().total();
            if total.ready == wanted && total.running == wanted {
                return Ok(begun.elapsed());
            }
            ensure!(
                begun.elapsed() < bound,
                "waited {bound:?} for {wanted} replicas; now {total:?}"
            );
            lives(self)?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The scheduler's own numbers.
    ///
    /// # Errors
    /// If it does not tell them.
    pub async fn metrics(&self) -> Result<BTreeMap<String, u64>> {
        let text = get(self.scheduler_http, "/metrics").await?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let number = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.strip_prefix("heddle_scheduler_")?.to_owned(), value.parse().ok()?))
        };
        Ok(lines.filter_map(number).collect())
    }

    /// Messages and bytes that went into NATS, and bytes that came out.
    ///
    /// # Errors
    /// If nats-server does not tell them.
    pub async fn traffic(&self) -> Result<Traffic> {
        let told: serde_json::Value = serde_json::from_str(&get(self.nats_monitor, "/varz").await?)?;
        let number = |name: &str| {
            told[name]
                .as_u64()
                .with_context(|| format!("nats-server does not tell its {name}"))
        };
        Ok(Traffic {
            messages: number("in_msgs")?,
            bytes_in: number("in_bytes")?,
            bytes_out: number("out_bytes")?,
        })
    }

    /// The end of every log.
    pub fn tails(&self) -> String {
        format!("{}{}", self.nats.tail(), self.scheduler.tail())
    }
}

/// What went through a nats-server.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// Messages that clients sent.
    pub messages: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Bytes that clients were sent.
    pub bytes_out: u64,
}

fn start_nats(programs: &Programs, folder: &Path, address: SocketAddr, monitor: SocketAddr) -> Result<Child> {
    let config = folder.join("nats.conf");
    let store = serde_json::Value::from(folder.join("jetstream").to_string_lossy()).to_string();
    let text = format!(
        "server_name: \"heddle-fleet-sim\"\nlisten: \"{address}\"\nhttp: \"{monitor}\"\n\
         jetstream {{\n  store_dir: {store}\n  sync_interval: always\n}}\n"
    );
    std::fs::write(&config, text).with_context(|| format!("failed to write {}", config.display()))?;
    let args = ["--config".into(), config.into()];
    child::Child::start(
        &programs.heddle,
        "nats-server",
        &programs.nats_server,
        &args,
        &folder.join("nats.log"),
    )
}

fn start_scheduler(
    programs: &Programs,
    folder: &Path,
    nats: &str,
    monitor: SocketAddr,
    http: SocketAddr,
) -> Result<Child> {
    let mut args: Vec<OsString> = vec!["scheduler".into(), "--dev".into()];
    let mut pair = |flag: &str, value: OsString| args.extend([flag.into(), value]);
    pair("--realm", REALM.into());
    pair("--nats", nats.into());
    pair("--nats-monitor", format!("http://{monitor}").into());
    pair("--realm-key", folder.join("realm.nk").into());
    pair("--data", folder.join("scheduler").into());
    pair("--http", http.to_string().into());
    let log = folder.join("scheduler.log");
    Child::start(&programs.heddle, "scheduler", &programs.heddle, &args, &log)
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
