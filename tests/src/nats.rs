//! A nats-server of a test's own: JetStream that syncs each write, and ports that it takes back when it starts again.

use crate::process::{Process, Recipe};
use crate::tap::Tap;
use crate::until::eventually;
use crate::{binary, http, port};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// A server reads its streams before it greets.
const GREETS_WITHIN: Duration = Duration::from_secs(20);
/// What the server lets streams reserve. Without it that is a share of what the disk has free at its start, and a machine
/// with a full disk has no room for what a realm reserves and hardly uses.
const FILE_STORE_MAX: &str = "32GB";

/// A nats-server.
#[derive(Debug)]
pub struct Nats {
    process: Process,
    client: SocketAddr,
    monitor: SocketAddr,
    tap: Option<Tap>,
}

impl Nats {
    /// Starts a server that keeps its data in `folder`, and waits until it greets.
    pub async fn start(folder: &Path, log: &Path) -> Result<Self> {
        let (client, monitor) = (port::free()?, port::free()?);
        let config = folder.join("nats.conf");
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        std::fs::write(&config, configuration(client, monitor, folder))
            .with_context(|| format!("failed to write {}", config.display()))?;
        let process = Process::start(Recipe {
            name: "nats-server".to_owned(),
            program: binary::nats_server()?,
            args: vec!["--config".into(), config.into()],
            env: Vec::new(),
            log: log.to_owned(),
        })?;
        let nats = Self {
            process,
            client,
            monitor,
            tap: None,
        };
        nats.greeted().await?;
        Ok(nats)
    }

    /// Has everything recorded, from now on, that goes through [`Nats::url`].
    pub async fn record(&mut self, folder: &Path) -> Result<()> {
        self.tap = Some(Tap::start(self.client, folder).await?);
        Ok(())
    }

    /// What was recorded.
    pub fn tap(&self) -> Option<&Tap> {
        self.tap.as_ref()
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        let address = self.tap.as_ref().map_or(self.client, Tap::address);
        format!("nats://{address}")
    }

    /// Where it tells about itself.
    pub fn monitor_url(&self) -> String {
        format!("http://{}", self.monitor)
    }

    /// What it tells about itself under a path such as `/varz`.
    pub async fn tell(&self, path: &str) -> Result<Value> {
        let answer = http::get(self.monitor, path, None).await?;
        ensure!(answer.status == 200, "nats-server answers {} on {path}", answer.status);
        serde_json::from_slice(&answer.body).with_context(|| format!("failed to read {path} of nats-server"))
    }

    /// The process, for faults.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills it: what it acknowledged is on disk, its connections break.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again on the same data and ports.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process.start_again()?;
        self.greeted().await
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.process.tail()
    }

    async fn greeted(&self) -> Result<()> {
        eventually(GREETS_WITHIN, "nats-server greets", async || {
            let greeting = async {
                let mut stream = tokio::net::TcpStream::connect(self.client).await?;
                let mut start = [0; 5];
                stream.read_exact(&mut start).await?;
                Ok::<_, std::io::Error>(start)
            };
            let start = tokio::time::timeout(Duration::from_secs(1), greeting)
                .await
                .context("no greeting")??;
            ensure!(&start == b"INFO ", "something else answers on its port");
            Ok(())
        })
        .await
    }
}

fn configuration(client: SocketAddr, monitor: SocketAddr, folder: &Path) -> String {
    let store = Value::from(folder.join("jetstream").to_string_lossy()).to_string();
    format!(
        "server_name: \"heddle-test\"\nlisten: \"{client}\"\nhttp: \"{monitor}\"\n\
         jetstream {{\n  store_dir: {store}\n  max_file_store: {FILE_STORE_MAX}\n  sync_interval: always\n}}\n"
    )
}
