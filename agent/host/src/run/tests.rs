//! The control loop with a pretence of a runner: what it does, in which order, and what it says.

use super::control::{Control, Parts};
use super::runner::{Failure, Load, Runner};
use crate::artifact::ArtifactFiles;
use crate::cache::{self, SpecWriter};
use crate::compile::{NotCompiled, Wanted};
use crate::health::Health;
use crate::logs::LogSink;
use crate::options::{AgentOptions, SourceOptions};
use crate::report::Introduction;
use crate::secrets::{SecretIntake, SecretStore};
use crate::source::{InProcess, InProcessHandle, Started, Uplink};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use heddle_agent_core::{Fact, Identity, Machine, RunId};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::{Capacity, Engine, Fire, FireAnswer, HostReport, SpecAnswer, UnitPhase};
use heddle_protocol::host_spec::{
    CapabilityOffer, Compile, Feature, HostSpecBody, Instances, Limits, Route, RouteTarget, SecretUse, Template,
    TemplateComponent, Unit, Wasi,
};
use heddle_protocol::id::{BootId, CapabilityName, ComponentName, Generation, HostId, Realm, UnitId, WorkloadId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

/// Remembers what it was told; compiles what is on the disk, and lets a test hold a drain open.
#[derive(Default)]
struct Pretence {
    artifacts: Option<ArtifactFiles>,
    told: Mutex<Vec<String>>,
    held: Mutex<BTreeMap<RunId, UnitId>>,
    drain_gate: Option<Notify>,
    panics_once: Mutex<bool>,
}

impl Pretence {
    fn tell(&self, what: impl Into<String>) {
        self.told.lock().unwrap().push(what.into());
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

/// Shares one pretence between the loop and the test.
struct Shared(Arc<Pretence>);

#[async_trait]
impl Runner for Shared {
    fn set_capability(
        &self,
        name: &CapabilityName,
        _: &CapabilityOffer,
        _: &BTreeMap<String, SecretUse>,
    ) -> Result<Option<SocketAddr>, String> {
        self.0.tell(format!("lend {name}"));
        Ok(Some(SocketAddr::from(([127, 0, 0, 1], 80))))
    }
    fn remove_capability(&self, name: &CapabilityName) {
        self.0.tell(format!("take back {name}"));
    }
    async fn compile(&self, wanted: Wanted, _: &dyn Uplink) -> Result<(), NotCompiled> {
        if std::mem::take(&mut *self.0.panics_once.lock().unwrap()) {
            panic!("this is what the test wants");
        }
        if wanted.by == Compile::Precompiled {
            self.0.tell("have it compiled");
            return Ok(());
        }
        let artifacts = self.0.artifacts.as_ref();
        match artifacts.and_then(|artifacts| artifacts.read(&wanted.digest)) {
            Some(_) => Ok(()),
            None => Err(NotCompiled::Lost),
        }
    }
    fn forget_component(&self, _: Digest, _: Wasi) {}
    async fn prepare(&self, run: RunId, unit: UnitId, _: Arc<Template>, count: u32) -> Result<(), Failure> {
        self.0.tell(format!("prepare {unit} ×{count}"));
        self.0.held.lock().unwrap().insert(run, unit);
        Ok(())
    }
    fn resize(&self, run: RunId, count: u32) {
        let unit = self.0.held.lock().unwrap()[&run].clone();
        self.0.tell(format!("resize {unit} ×{count}"));
    }
    fn set_live(&self, spec: &Arc<HostSpecBody>, serving: &BTreeMap<UnitId, RunId>) {
        let held = self.0.held.lock().unwrap();
        let first = |route: &Route| {
            let run = route.targets.iter().find_map(|target| serving.get(&target.unit));
            format!(
                "{}={}",
                route.path,
                run.map_or("nobody".into(), |run| held[run].to_string())
            )
        };
        let table: Vec<String> = spec.routes.iter().map(first).collect();
        drop(held);
        self.0.tell(format!("route {}", table.join(" ")));
    }
    fn fire(&self, fire: &Fire) -> FireAnswer {
        self.0.tell(format!("fire {} for {}", fire.unit, fire.due.0));
        FireAnswer::Begun
    }
    fn report_to(&self, _: mpsc::Sender<Fact>) {}
    fn drain(&self, run: RunId) -> BoxFuture<'static, ()> {
        let pretence = Arc::clone(&self.0);
        if let Some(unit) = pretence.held.lock().unwrap().get(&run) {
            pretence.tell(format!("drain {unit}"));
        }
        Box::pin(async move {
            if let Some(gate) = &pretence.drain_gate {
                gate.notified().await;
            }
        })
    }
    fn drop_unit(&self, run: RunId) {
        let unit = self.0.held.lock().unwrap().remove(&run);
        if let Some(unit) = unit {
            self.0.tell(format!("drop {unit}"));
        }
    }
    fn load(&self) -> Load {
        Load::default()
    }
    async fn close(&self) {
        self.0.tell("close");
    }
}

struct Agent {
    pretence: Arc<Pretence>,
    handle: InProcessHandle,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    _data: tempfile::TempDir,
}

fn me() -> Identity {
    Identity {
        realm: Realm::parse("eu").unwrap(),
        host: HostId::parse("h-1").unwrap(),
        boot_id: BootId::new("boot"),
    }
}

fn agent(pretence: Pretence) -> Agent {
    let data = tempfile::tempdir().unwrap();
    let artifacts = ArtifactFiles::new(data.path());
    let pretence = Arc::new(Pretence {
        artifacts: Some(artifacts.clone()),
        ..pretence
    });
    let (source, handle) = InProcess::new();
    let machine = Machine {
        features: BTreeSet::from([Feature::WASI_P2]),
        instance_memory_bytes_max: None,
    };
    let options = AgentOptions::new(
        me().realm,
        me().host,
        data.path().to_owned(),
        SourceOptions::File(data.path().to_owned()),
    );
    let heartbeat = Duration::from_millis(20);
    let (capacity, engine) = (Capacity::default(), Engine::default());
    let Started { events, uplink } = source.start();
    let parts = Parts {
        introduction: Introduction::new(me(), &options, capacity, machine.features.clone(), engine, ""),
        me: me(),
        machine,
        runner: Arc::new(Shared(Arc::clone(&pretence))),
        uplink,
        artifacts,
        writer: SpecWriter::start(data.path()),
        logs: LogSink::new(me().host),
        secrets: SecretIntake::open(data.path(), &me(), SecretStore::default()).unwrap(),
        health: Arc::new(Health::new(&me(), heartbeat)),
        heartbeat,
        leaving_deadline: Duration::from_secs(30),
        data: data.path().to_owned(),
    };
    let (control, facts) = Control::new(parts);
    let (shutdown, told) = oneshot::channel::<()>();
    let task = tokio::spawn(control.run(events, facts, async move {
        let _ = told.await;
    }));
    Agent {
        pretence,
        handle,
        shutdown: Some(shutdown),
        task,
        _data: data,
    }
}

impl Agent {
    /// Asks for reports until one is as it should be.
    async fn until(&self, what: &str, holds: impl Fn(&HostReport) -> bool) -> HostReport {
        let mut last = None;
        for _ in 0..2_000 {
            let report = self.handle.report().await.unwrap();
            if holds(&report) {
                return report;
            }
            last = Some(report);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never {what}: {last:?}; told: {:?}", self.pretence.told());
    }

    async fn all_ready(&self, units: usize) -> HostReport {
        self.until("all ready", |r| {
            r.units.len() == units && r.units.iter().all(|u| u.phase == UnitPhase::Ready)
        })
        .await
    }

    async fn end(mut self) -> Vec<String> {
        let _ = self.shutdown.take().unwrap().send(());
        tokio::time::timeout(Duration::from_secs(15), self.task)
            .await
            .unwrap()
            .unwrap();
        self.pretence.told()
    }
}

fn body(artifact: Digest, bytes: u64, generations: &[(u64, u32)]) -> HostSpecBody {
    let component = ComponentName::parse("main").unwrap();
    // Lent by every agent without being told to, so that these tests need no listener.
    let web = CapabilityName::parse("config").unwrap();
    let template = Template {
        requires: BTreeSet::from([Feature::WASI_P2]),
        components: vec![TemplateComponent {
            name: component.clone(),
            artifact,
            artifact_bytes: bytes,
            wasi: Wasi::P2,
            config: BTreeMap::new(),
            bindings: BTreeMap::new(),
            secrets: BTreeMap::new(),
            parts: BTreeMap::new(),
            calls: BTreeMap::new(),
        }],
        limits: Limits {
            memory_bytes: 1,
            time_ms: 1,
            concurrency: 1,
            egress: Vec::new(),
            cpu_millis: None,
        },
        instances: Instances {
            reuse: 1,
            concurrency: 1,
        },
        run: None,
        consumes: Vec::new(),
    };
    let digest = Digest::of_json(&template).unwrap();
    let workload = WorkloadId::parse("web").unwrap();
    let mut spec = HostSpecBody {
        compile: Compile::Local,
        ..HostSpecBody::default()
    };
    spec.templates.insert(digest, Arc::new(template));
    let unit = |generation| UnitId {
        workload: workload.clone(),
        generation: Generation(generation),
    };
    for (generation, count) in generations {
        let generation = Generation(*generation);
        spec.units.push(Unit {
            workload: workload.clone(),
            generation,
            template: digest,
            count: *count,
        });
    }
    let newest_first = generations.iter().rev();
    let targets: Vec<RouteTarget> = newest_first
        .map(|(g, _)| RouteTarget {
            unit: unit(*g),
            component: component.clone(),
        })
        .collect();
    if !targets.is_empty() {
        spec.routes.push(Route {
            capability: web,
            host: None,
            path: "/".into(),
            methods: BTreeSet::new(),
            targets,
        });
    }
    spec
}

#[tokio::test]
async fn a_unit_is_fetched_and_serves_and_the_next_generation_takes_over_without_a_gap() {
    let agent = agent(Pretence::default());
    let artifact = agent.handle.add_artifact(Bytes::from_static(b"component"));
    let taken = agent.handle.run(body(artifact, 9, &[(1, 2)])).await.unwrap();
    assert!(matches!(taken, SpecAnswer::Accepted(_)));
    agent.all_ready(1).await;
    agent.handle.run(body(artifact, 9, &[(1, 2), (2, 2)])).await.unwrap();
    agent.all_ready(2).await;
    agent.handle.run(body(artifact, 9, &[(2, 3)])).await.unwrap();
    agent
        .until("the old one gone", |r| r.units.len() == 1 && r.units[0].count == 3)
        .await;
    let told = agent.end().await;
    let at = |what: &str| {
        told.iter()
            .position(|t| t == what)
            .unwrap_or_else(|| panic!("{what} not in {told:?}"))
    };
    assert!(at("route /=default/web@2") < at("drain default/web@1"));
    assert!(at("drain default/web@1") < at("drop default/web@1"));
    assert!(at("prepare default/web@1 ×2") < at("route /=default/web@1"));
    assert!(told.contains(&"resize default/web@2 ×3".to_owned()));
    assert_eq!(told.iter().filter(|t| t.starts_with("prepare")).count(), 2, "{told:?}");
    assert!(at("route /=default/web@2") < at("close"));
}

#[tokio::test]
async fn what_the_scheduler_compiles_is_not_fetched() {
    let agent = agent(Pretence::default());
    let artifact = Digest::of(b"nobody has this component");
    let body = HostSpecBody {
        compile: Compile::Precompiled,
        ..body(artifact, 9, &[(1, 1)])
    };
    agent.handle.run(body).await.unwrap();
    agent.all_ready(1).await;
    assert!(agent.end().await.contains(&"have it compiled".to_owned()));
}

#[tokio::test]
async fn heartbeats_go_on_and_name_the_accepted_spec() {
    let agent = agent(Pretence::default());
    let mut heartbeats = agent.handle.heartbeats();
    let artifact = agent.handle.add_artifact(Bytes::from_static(b"component"));
    let SpecAnswer::Accepted(accepted) = agent.handle.run(body(artifact, 9, &[(1, 1)])).await.unwrap() else {
        panic!("the spec is refused")
    };
    let report = agent.all_ready(1).await;
    let caught_up = heartbeats.wait_for(|h| {
        h.as_ref()
            .is_some_and(|h| h.accepted == Some(accepted) && h.running_digest == report.running_digest)
    });
    let first = tokio::time::timeout(Duration::from_secs(10), caught_up)
        .await
        .unwrap()
        .unwrap()
        .clone()
        .unwrap();
    let later = heartbeats.wait_for(|h| h.as_ref().is_some_and(|h| h.seq > first.seq + 2));
    tokio::time::timeout(Duration::from_secs(10), later)
        .await
        .unwrap()
        .unwrap();
    agent.end().await;
}

#[tokio::test]
async fn work_that_panics_is_a_failed_attempt_and_is_tried_again() {
    let agent = agent(Pretence {
        panics_once: Mutex::new(true),
        ..Pretence::default()
    });
    let artifact = agent.handle.add_artifact(Bytes::from_static(b"component"));
    agent.handle.run(body(artifact, 9, &[(1, 1)])).await.unwrap();
    agent
        .until("failed", |r| {
            r.units
                .first()
                .is_some_and(|u| u.phase == UnitPhase::Failed && u.attempts == 1)
        })
        .await;
    agent.all_ready(1).await;
    agent.end().await;
}

#[tokio::test]
async fn an_artifact_that_nobody_has_is_reported_with_the_reason() {
    let agent = agent(Pretence::default());
    agent
        .handle
        .run(body(Digest::of(b"component"), 9, &[(1, 1)]))
        .await
        .unwrap();
    let report = agent
        .until("failed", |r| {
            r.units.first().is_some_and(|u| u.phase == UnitPhase::Failed)
        })
        .await;
    let reason = report.units[0].reason.clone().unwrap();
    assert!(reason.contains("nobody added"), "{reason}");
    agent.handle.add_artifact(Bytes::from_static(b"component"));
    agent.all_ready(1).await;
    agent.end().await;
}

#[tokio::test]
async fn stopping_waits_for_calls_in_flight_after_the_listeners_have_closed() {
    let agent = agent(Pretence {
        drain_gate: Some(Notify::new()),
        ..Pretence::default()
    });
    let artifact = agent.handle.add_artifact(Bytes::from_static(b"component"));
    agent.handle.run(body(artifact, 9, &[(1, 1)])).await.unwrap();
    agent.all_ready(1).await;
    let pretence = Arc::clone(&agent.pretence);
    let ended = tokio::spawn(agent.end());
    while !pretence.told().contains(&"drain default/web@1".to_owned()) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!ended.is_finished());
    pretence.drain_gate.as_ref().unwrap().notify_one();
    let told = ended.await.unwrap();
    assert_eq!(told[told.len() - 2..], ["close", "drain default/web@1"]);
}

#[tokio::test]
async fn a_body_given_twice_is_one_version() {
    let agent = agent(Pretence::default());
    let one = agent.handle.run(HostSpecBody::default()).await.unwrap();
    assert_eq!(agent.handle.run(HostSpecBody::default()).await.unwrap(), one);
    let SpecAnswer::Accepted(one) = one else {
        panic!("refused")
    };
    assert_eq!(one.version.n, 1);
    agent.end().await;
}

#[tokio::test]
async fn what_the_owner_says_is_never_cached_as_if_it_were_signed() {
    let agent = agent(Pretence::default());
    agent.handle.run(HostSpecBody::default()).await.unwrap();
    assert!(cache::load_spec(agent._data.path(), &me(), &[]).is_none());
    agent.end().await;
}
