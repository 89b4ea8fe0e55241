//! An agent in this process, with an empty folder, and an image that it never saw.
//!
//! In: the bytes of a component. Out: an agent that is told what to run, and how long that took.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use heddle_agent::{AgentOptions, InProcess, InProcessHandle, SourceOptions};
use heddle_engine::EngineProfile;
use heddle_protocol::api::artifact::CompiledCode;
use heddle_protocol::digest::Digest;
use heddle_protocol::envelope::{self, Kind};
use heddle_protocol::host_report::{SpecAnswer, UnitPhase};
use heddle_protocol::host_spec::{
    CapabilityOffer, Compile, Feature, HostSpecBody, Instances, Limits, Route, RouteTarget, Template,
    TemplateComponent, Unit, Wasi,
};
use heddle_protocol::id::{CapabilityName, ComponentName, Generation, HostId, Realm, UnitId, WorkloadId};
use heddle_protocol::sign::SigningKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long anything may take before the benchmark fails.
const WITHIN: Duration = Duration::from_secs(300);
/// How often an answer is looked for.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// How often a report is asked for.
const REPORT_EVERY: Duration = Duration::from_millis(2);

/// A component, and its code as a scheduler signs it.
pub(super) struct Image {
    component: Bytes,
    code: Bytes,
    envelope: Bytes,
    fingerprint: String,
    realm: SigningKey,
}

impl Image {
    pub(super) fn new(wasm: &[u8]) -> Result<Self> {
        let (profile, realm) = (EngineProfile::of_this_machine(), SigningKey::generate());
        let code: Bytes = heddle_engine::compile(&profile, Wasi::P2, wasm)?.into();
        let fingerprint = profile.fingerprint(Wasi::P2);
        let described = CompiledCode {
            artifact: Digest::of(wasm),
            fingerprint: fingerprint.clone(),
            code: Digest::of(&code),
            bytes: code.len() as u64,
        };
        let payload = envelope::to_bytes("compiled code", &described)?;
        Ok(Self {
            component: Bytes::copy_from_slice(wasm),
            code,
            envelope: envelope::seal(Kind::Compiled, &payload, &realm)?.into(),
            fingerprint,
            realm,
        })
    }

    pub(super) fn component_bytes(&self) -> usize {
        self.component.len()
    }

    pub(super) fn code_bytes(&self) -> usize {
        self.code.len()
    }
}

/// An agent that runs.
pub(super) struct Agent {
    handle: InProcessHandle,
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<()>,
    _data: TempDir,
}

impl Agent {
    /// Starts an agent with nothing to run but a listener.
    pub(super) async fn start(image: &Image) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let address = heddle_tests::port::free()?;
        let (source, handle) = InProcess::new();
        let (realm, host) = (Realm::parse("bench")?, HostId::parse("bench-1")?);
        let mut options = AgentOptions::new(realm, host, data.path().to_owned(), SourceOptions::InProcess(source));
        options.realm_keys = vec![image.realm.public()];
        let artifact = handle.add_artifact(image.component.clone());
        handle.add_artifact(image.code.clone());
        handle.add_compiled(artifact, &image.fingerprint, image.envelope.clone());
        let (shutdown, told) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let ended = heddle_agent::run(options, async move {
                let _ = told.await;
            });
            if let Err(error) = ended.await {
                eprintln!("coldstart: an agent ended: {error}");
            }
        });
        let agent = Self {
            handle,
            address,
            shutdown,
            task,
            _data: data,
        };
        agent.take(body(image, Compile::Precompiled, address, 0..0)?).await?;
        agent
            .until(LOOK_EVERY, async || TcpStream::connect(address).await.is_ok())
            .await?;
        Ok(agent)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has it run so many workloads, and returns how long it took until the last of them answered.
    pub(super) async fn serve(&self, image: &Image, by: Compile, workloads: usize) -> Result<Duration> {
        let body = body(image, by, self.address, 0..workloads)?;
        let started = Instant::now();
        self.take(body).await?;
        let request = request(workloads - 1);
        self.until(LOOK_EVERY, async || {
            answers(self.address, &request).await.unwrap_or(false)
        })
        .await?;
        Ok(started.elapsed())
    }

    /// Has it run so many workloads, and returns how long it took until all were ready.
    pub(super) async fn hold(&self, image: &Image, workloads: usize) -> Result<Duration> {
        let body = body(image, Compile::Precompiled, self.address, 0..workloads)?;
        let started = Instant::now();
        self.take(body).await?;
        let last = request(workloads - 1);
        // Routes are switched in steps, so that the last one answers says little; a report says all.
        self.until(REPORT_EVERY, async || {
            answers(self.address, &last).await.unwrap_or(false) && self.all_ready(workloads).await
        })
        .await?;
        Ok(started.elapsed())
    }

    async fn all_ready(&self, workloads: usize) -> bool {
        let Some(report) = self.handle.report().await else {
            return false;
        };
        // A report of very many units comes in several messages, of which this is the first.
        let ready = report
            .units
            .iter()
            .filter(|unit| unit.phase == UnitPhase::Ready)
            .count();
        ready == report.units.len() && ready >= workloads.min(1_000)
    }

    /// Waits until every one of so many workloads answers.
    pub(super) async fn all_answer(&self, workloads: usize) -> Result<()> {
        for workload in 0..workloads {
            let request = request(workload);
            self.until(REPORT_EVERY, async || {
                answers(self.address, &request).await.unwrap_or(false)
            })
            .await?;
        }
        Ok(())
    }

    async fn take(&self, body: HostSpecBody) -> Result<()> {
        match self.handle.run(body).await.context("the agent is gone")? {
            SpecAnswer::Accepted(_) => Ok(()),
            SpecAnswer::Refused { reason, .. } => bail!("the agent refuses the spec: {reason}"),
        }
    }

    async fn until(&self, every: Duration, fact: impl AsyncFn() -> bool) -> Result<()> {
        let started = Instant::now();
        while !fact().await {
            ensure!(
                started.elapsed() < WITHIN,
                "the agent did not get ready within {WITHIN:?}"
            );
            tokio::time::sleep(every).await;
        }
        Ok(())
    }

    /// Ends it.
    pub(super) async fn stop(self) {
        let _ = self.shutdown.send(());
        let _ = self.task.await;
    }
}

/// A request to one of the workloads.
pub(super) fn request(workload: usize) -> Vec<u8> {
    format!("GET /workload-{workload} HTTP/1.1\r\nhost: bench.example\r\n\r\n").into_bytes()
}

/// Whether a request is answered with success.
async fn answers(address: SocketAddr, request: &[u8]) -> Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(request).await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    Ok(head.ends_with(b" 200"))
}

fn body(image: &Image, by: Compile, listen: SocketAddr, workloads: std::ops::Range<usize>) -> Result<HostSpecBody> {
    let (web, main) = (CapabilityName::parse("web")?, ComponentName::parse("main")?);
    let template = template(image, &main);
    let digest = Digest::of_json(&template)?;
    let mut body = HostSpecBody {
        compile: by,
        ..HostSpecBody::default()
    };
    body.templates.insert(digest, Arc::new(template));
    let offer = CapabilityOffer::Http {
        listen: listen.to_string(),
        max_connections: 10_000,
    };
    body.capabilities.insert(web.clone(), offer);
    for i in workloads {
        let unit = UnitId {
            workload: WorkloadId::parse(&format!("bench/workload-{i}"))?,
            generation: Generation(1),
        };
        body.units.push(Unit {
            workload: unit.workload.clone(),
            generation: unit.generation,
            template: digest,
            count: 1,
        });
        body.routes.push(Route {
            capability: web.clone(),
            host: None,
            path: format!("/workload-{i}"),
            methods: BTreeSet::new(),
            targets: vec![RouteTarget {
                unit,
                component: main.clone(),
            }],
        });
    }
    Ok(body)
}

fn template(image: &Image, component: &ComponentName) -> Template {
    Template {
        requires: BTreeSet::from([Feature::WASI_P2, Feature::HTTP]),
        components: vec![TemplateComponent {
            name: component.clone(),
            artifact: Digest::of(&image.component),
            artifact_bytes: image.component.len() as u64,
            wasi: Wasi::P2,
            config: BTreeMap::new(),
            bindings: BTreeMap::new(),
            secrets: BTreeMap::new(),
            parts: BTreeMap::new(),
            calls: BTreeMap::new(),
        }],
        limits: Limits {
            memory_bytes: 64 << 20,
            time_ms: 30_000,
            concurrency: 100,
            egress: Vec::new(),
            cpu_millis: None,
        },
        instances: Instances {
            reuse: 1,
            concurrency: 1,
        },
        run: None,
        consumes: Vec::new(),
    }
}
