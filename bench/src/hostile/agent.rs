//! The host under attack: an agent in a process of its own, that reads what to run from a file.
//!
//! In: where its guests may connect. Out: an agent that serves a neighbour and the attackers.

use anyhow::{Context as _, Result, ensure};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{
    CapabilityOffer, Feature, HostSpecBody, Instances, Limits, Route, RouteTarget, Template, TemplateComponent, Unit,
    Wasi,
};
use heddle_protocol::id::{CapabilityName, ComponentName, Generation, UnitId, WorkloadId};
use heddle_tests::process::{Process, Recipe};
use heddle_tests::{binary, http, port};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The time limit of an attacker's call.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(1);
/// The memory limit of an attacker.
pub(super) const MEMORY_LIMIT: u64 = 32 << 20;
/// The time limit of the neighbour's calls.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the agent may take to serve.
const WITHIN: Duration = Duration::from_secs(60);
/// How often it is asked whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A guest that no compiler makes.
const TABLE: &str = include_str!("../../../tests/guests/table.wat");

/// An agent that runs.
pub(super) struct Agent {
    address: SocketAddr,
    process: Process,
    _folder: TempDir,
}

impl Agent {
    /// Starts one whose guests may connect to `sink`.
    pub(super) async fn start(sink: SocketAddr) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = port::free()?;
        let mut body = HostSpecBody::default();
        let offer = CapabilityOffer::Http {
            listen: address.to_string(),
            max_connections: 10_000,
        };
        body.capabilities.insert(web()?, offer);
        let units = [
            (
                "neighbour",
                binary::guest("hello.wasm")?,
                Wasi::P2,
                limits(PATIENCE, 64 << 20),
            ),
            ("hostile", binary::guest("hostile.wasm")?, Wasi::P2, attacker(sink)),
            ("p3", binary::guest("p3-hostile.wasm")?, Wasi::P3, attacker(sink)),
            ("table", wat::parse_str(TABLE)?, Wasi::P2, attacker(sink)),
        ];
        for (name, wasm, wasi, limits) in units {
            add(&mut body, folder.path(), name, &wasm, wasi, limits)?;
        }
        let file = folder.path().join("spec.json");
        std::fs::write(&file, serde_json::to_vec(&body)?).context("failed to write what the agent runs")?;
        let mut recipe = Recipe {
            name: "agent".to_owned(),
            program: binary::heddle()?,
            args: vec!["agent".into()],
            env: Vec::new(),
            log: folder.path().join("agent.log"),
        };
        recipe
            .pair("--realm", "bench")
            .pair("--spec", &file)
            .pair("--data", folder.path().join("data"))
            .pair("--egress-allow", "127.0.0.0/8");
        let process = Process::start(recipe)?;
        let agent = Self {
            address,
            process,
            _folder: folder,
        };
        agent.all_answer().await.map_err(|error| error.context(agent.tail()))?;
        Ok(agent)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The end of its log.
    pub(super) fn tail(&self) -> String {
        self.process.tail()
    }

    async fn all_answer(&self) -> Result<()> {
        let started = Instant::now();
        for (path, status) in [("/neighbour", 200), ("/hostile/", 200), ("/p3/", 200), ("/table", 500)] {
            while http::get(self.address, path, None)
                .await
                .map_or(true, |answer| answer.status != status)
            {
                ensure!(started.elapsed() < WITHIN, "{path} was not served within {WITHIN:?}");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }
}

fn web() -> Result<CapabilityName> {
    Ok(CapabilityName::parse("web")?)
}

fn limits(time: Duration, memory_bytes: u64) -> Limits {
    Limits {
        memory_bytes,
        time_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        concurrency: 100,
        egress: Vec::new(),
        cpu_millis: None,
    }
}

/// What an attacker is given. It names what it must not reach, as a manifest could.
fn attacker(sink: SocketAddr) -> Limits {
    Limits {
        egress: vec![sink.to_string(), "169.254.169.254:80".to_owned()],
        ..limits(TIME_LIMIT, MEMORY_LIMIT)
    }
}

/// Adds a unit that serves `/name`, and puts its component where the agent finds it.
fn add(body: &mut HostSpecBody, folder: &Path, name: &str, wasm: &[u8], wasi: Wasi, limits: Limits) -> Result<()> {
    let (artifact, main) = (Digest::of(wasm), ComponentName::parse("main")?);
    let artifacts = folder.join("artifacts");
    std::fs::create_dir_all(&artifacts)?;
    std::fs::write(artifacts.join(format!("{}.wasm", artifact.hex())), wasm).context("failed to write a component")?;
    let version = match wasi {
        Wasi::P2 => Feature::WASI_P2,
        Wasi::P3 => Feature::WASI_P3,
    };
    let template = Template {
        requires: BTreeSet::from([version, Feature::HTTP]),
        components: vec![TemplateComponent::new(main.clone(), artifact, wasm.len() as u64, wasi)],
        limits,
        instances: Instances {
            reuse: 1,
            concurrency: 1,
        },
        run: None,
        consumes: Vec::new(),
    };
    let digest = Digest::of_json(&template)?;
    body.templates.insert(digest, Arc::new(template));
    let unit = UnitId {
        workload: WorkloadId::parse(&format!("bench/{name}"))?,
        generation: Generation(1),
    };
    body.units.push(Unit {
        workload: unit.workload.clone(),
        generation: unit.generation,
        template: digest,
        count: 1,
    });
    body.routes.push(Route {
        capability: web()?,
        host: None,
        path: format!("/{name}"),
        methods: BTreeSet::new(),
        targets: vec![RouteTarget { unit, component: main }],
    });
    Ok(())
}
