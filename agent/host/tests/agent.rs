//! A whole agent, from its options to HTTP answers: in process, from a file, and cut off with nothing but its cache.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken expectation here is the message"
)]

mod support;

use heddle_agent::{AgentOptions, InProcess, SourceOptions, run};
use heddle_protocol::digest::Digest;
use heddle_protocol::envelope::{Kind, seal};
use heddle_protocol::host_report::UnitPhase;
use heddle_protocol::host_spec::{
    CapabilityOffer, Compile, Feature, HostSpec, HostSpecBody, Instances, Route, RouteTarget, Template,
    TemplateComponent, Unit, Wasi,
};
use heddle_protocol::id::{BootId, Generation, HostId, Realm, UnitId, Version, WorkloadId};
use heddle_protocol::sign::SigningKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use support::{SOON, component, guest, limits, name};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The guest `hello` under `/hello`, on a listener named `web`.
fn hello_body(listen: SocketAddr, wasm: &[u8], generation: u64) -> HostSpecBody {
    let template = Template {
        requires: BTreeSet::from([Feature::WASI_P2, Feature::HTTP]),
        components: vec![TemplateComponent {
            name: component(),
            artifact: Digest::of(wasm),
            artifact_bytes: wasm.len() as u64,
            wasi: Wasi::P2,
            config: BTreeMap::new(),
            bindings: BTreeMap::new(),
            secrets: BTreeMap::new(),
            parts: BTreeMap::new(),
            calls: BTreeMap::new(),
        }],
        limits: limits(),
        instances: Instances {
            reuse: 1,
            concurrency: 1,
        },
        run: None,
        consumes: Vec::new(),
    };
    let digest = Digest::of_json(&template).unwrap();
    let unit = UnitId {
        workload: WorkloadId::parse("hello").unwrap(),
        generation: Generation(generation),
    };
    let offer = CapabilityOffer::Http {
        listen: listen.to_string(),
        max_connections: 10,
    };
    HostSpecBody {
        templates: BTreeMap::from([(digest, Arc::new(template))]),
        units: vec![Unit {
            workload: unit.workload.clone(),
            generation: unit.generation,
            template: digest,
            count: 1,
        }],
        routes: vec![Route {
            capability: name("web"),
            host: None,
            path: "/hello".into(),
            methods: BTreeSet::new(),
            targets: vec![RouteTarget {
                unit,
                component: component(),
            }],
        }],
        capabilities: BTreeMap::from([(name("web"), offer)]),
        ..HostSpecBody::default()
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn options(data: &Path, source: SourceOptions) -> AgentOptions {
    let mut options = AgentOptions::new(
        Realm::parse("eu").unwrap(),
        HostId::parse("h-1").unwrap(),
        data.to_owned(),
        source,
    );
    // On demand, because many tests run at the same time.
    options.allocator = heddle_agent::engine::Allocator::OnDemand;
    options
}

struct Running {
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn start(options: AgentOptions) -> Running {
    let (shutdown, told) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let told = async move {
            let _ = told.await;
        };
        run(options, told).await.unwrap();
    });
    Running { shutdown, task }
}

impl Running {
    async fn stop(self) {
        let _ = self.shutdown.send(());
        tokio::time::timeout(SOON, self.task)
            .await
            .expect("the agent does not stop")
            .unwrap();
    }
}

/// The whole answer to a GET; none if nobody listens.
async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

async fn until_it_answers(address: SocketAddr, path: &str, wanted: &str) {
    let begun = Instant::now();
    loop {
        let answer = get(address, path).await;
        if answer.as_deref().is_some_and(|answer| answer.contains(wanted)) {
            return;
        }
        assert!(begun.elapsed() < SOON, "{path} never answers {wanted:?}: {answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_agent_serves_rolls_over_and_lets_go_of_everything() {
    let data = tempfile::tempdir().unwrap();
    let (source, handle) = InProcess::new();
    let (web, health) = (free_address(), free_address());
    let mut options = options(data.path(), SourceOptions::InProcess(source));
    options.http = Some(health);
    let agent = start(options);
    let wasm = guest("hello");
    handle.add_artifact(wasm.clone());
    handle.run(hello_body(web, &wasm, 1)).await.unwrap();
    until_it_answers(web, "/hello", "hello from heddle").await;
    assert!(get(web, "/other").await.unwrap().starts_with("HTTP/1.1 404"));
    let report = handle.report().await.unwrap();
    assert_eq!(report.units[0].phase, UnitPhase::Ready);
    assert_eq!(report.bound[&name("web")], web.to_string());

    let mut both = hello_body(web, &wasm, 2);
    let old = hello_body(web, &wasm, 1);
    both.units.insert(0, old.units[0].clone());
    both.routes[0].targets.push(old.routes[0].targets[0].clone());
    handle.run(both).await.unwrap();
    handle.run(hello_body(web, &wasm, 2)).await.unwrap();
    until_it_answers(web, "/hello", "hello from heddle").await;

    until_it_answers(health, "/metrics", "heddle_agent_units{phase=\"ready\"} 1").await;
    assert!(get(health, "/healthz").await.unwrap().starts_with("HTTP/1.1 200"));

    handle.run(HostSpecBody::default()).await.unwrap();
    let begun = Instant::now();
    while get(web, "/hello").await.is_some() {
        assert!(begun.elapsed() < SOON, "the listener stays open");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(handle.report().await.unwrap().units, []);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_scheduler_runs_what_a_file_says() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (web, wasm) = (free_address(), guest("hello"));
    std::fs::create_dir(folder.path().join("artifacts")).unwrap();
    let artifact = folder
        .path()
        .join(format!("artifacts/{}.wasm", Digest::of(&wasm).hex()));
    std::fs::write(artifact, &wasm).unwrap();
    let body = serde_json::to_vec(&hello_body(web, &wasm, 1)).unwrap();
    std::fs::write(folder.path().join("spec.json"), body).unwrap();
    let agent = start(options(data.path(), SourceOptions::File(folder.path().to_owned())));
    until_it_answers(web, "/hello", "hello from heddle").await;
    agent.stop().await;
    assert!(get(web, "/hello").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_cut_off_brings_its_work_back_from_its_cache() {
    let data = tempfile::tempdir().unwrap();
    let (web, wasm, realm_key) = (free_address(), guest("hello"), SigningKey::generate());
    // Nobody compiles for an agent that is cut off.
    let body = HostSpecBody {
        compile: Compile::Local,
        ..hello_body(web, &wasm, 1)
    };
    let spec = HostSpec {
        realm: Realm::parse("eu").unwrap(),
        host: HostId::parse("h-1").unwrap(),
        boot_id: BootId::new("an earlier start"),
        version: Version { epoch: 4, n: 2 },
        body_digest: body.digest().unwrap(),
        body,
        secrets: BTreeMap::new(),
    };
    let sealed = seal(Kind::Spec, &serde_json::to_vec(&spec).unwrap(), &realm_key).unwrap();
    std::fs::write(data.path().join("spec.json"), sealed).unwrap();
    std::fs::create_dir(data.path().join("artifacts")).unwrap();
    let artifact = data.path().join(format!("artifacts/{}.wasm", Digest::of(&wasm).hex()));
    std::fs::write(&artifact, &wasm).unwrap();
    // Nobody listens there.
    let url = format!("nats://{}", free_address());
    let cut_off = || {
        let mut options = options(
            data.path(),
            SourceOptions::Nats {
                url: url.clone(),
                credentials: None,
            },
        );
        options.realm_keys = vec![realm_key.public()];
        options
    };
    for _ in 0..2 {
        let agent = start(cut_off());
        until_it_answers(web, "/hello", "hello from heddle").await;
        // Told to stop while nobody is there to take over, it ends as soon as its calls have.
        agent.stop().await;
    }
    // The second start used the code that the first had compiled; a changed file is not trusted.
    let compiled: Vec<_> = std::fs::read_dir(data.path().join("compiled"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    let code = compiled
        .iter()
        .find(|path| path.extension().is_some_and(|e| e == "cwasm"))
        .unwrap();
    let mut bytes = std::fs::read(code).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(code, bytes).unwrap();
    let agent = start(cut_off());
    until_it_answers(web, "/hello", "hello from heddle").await;
    agent.stop().await;
    // With another realm's key the cache is worth nothing.
    let mut stranger = cut_off();
    stranger.realm_keys = vec![SigningKey::generate().public()];
    let health = free_address();
    stranger.http = Some(health);
    let agent = start(stranger);
    until_it_answers(health, "/healthz", "ok").await;
    assert!(
        get(health, "/metrics")
            .await
            .unwrap()
            .contains("heddle_agent_spec_epoch 0")
    );
    assert!(get(web, "/hello").await.is_none());
    agent.stop().await;
}
