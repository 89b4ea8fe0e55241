//! What is measured: the agent's own way of serving, and the two that it is held against.
//!
//! In: the guest `hello`. Out: servers on loopback ports, each with the requests that it is to answer.

use super::load::Target;
use anyhow::{Context, Result};
use bytes::Bytes;
use heddle_agent::engine::{CompiledComponent, EngineOptions, Engines};
use heddle_agent::http::{Listeners, RouteTable, route_table};
use heddle_agent::instance::{PrepareRequest, PreparedUnit, prepare};
use heddle_capability::{CapabilitySet, NoLogs};
use heddle_capability_http::Match;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{
    CapabilityOffer, Instances, Limits, Route, RouteTarget, Template, TemplateComponent, Wasi,
};
use heddle_protocol::id::{CapabilityName, ComponentName, Generation, UnitId, WorkloadId};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// The agent, a fresh instance for each request.
    Fresh,
    /// The agent, instances used again.
    Reuse,
    /// hyper with an answer of its own.
    Hyper,
    /// hyper and wasmtime-wasi-http as its documentation shows it, on the agent's own engine.
    Wasmtime,
    /// The agent with instances used again and one route, which takes everything.
    OneRoute,
    /// The same with many routes, asked in turn.
    ManyRoutes,
}

/// All of them, running.
pub(super) struct Subjects {
    agents: BTreeMap<&'static str, Agent>,
    hyper: SocketAddr,
    wasmtime: SocketAddr,
    routes: usize,
    _engines: Engines,
}

struct Agent {
    listeners: Listeners,
    address: SocketAddr,
    table: Arc<RouteTable>,
}

impl Subjects {
    /// Starts all servers within the runtime that calls this.
    pub(super) async fn start(routes: usize) -> Result<Self> {
        let engines = Engines::new(&EngineOptions::default())?;
        let wasm = guest()?;
        let compiled = engines.load_bytes(&wasm, Wasi::P2)?;
        let fresh = unit(&compiled, 1).await?;
        let reuse = unit(&compiled, u32::MAX).await?;
        let one = vec![route(None, "/")?];
        let many: Vec<Route> = (0..routes)
            .map(|i| route(Some(host(i)), &path(i)))
            .collect::<Result<_>>()?;
        let agents = BTreeMap::from([
            ("fresh", Agent::start(&one, &fresh)?),
            ("reuse", Agent::start(&one, &reuse)?),
            ("many", Agent::start(&many, &reuse)?),
        ]);
        let hyper = plain_hyper().await?;
        let wasmtime = bare_wasmtime(engines.engine(Wasi::P2), &wasm).await?;
        Ok(Self {
            agents,
            hyper,
            wasmtime,
            routes,
            _engines: engines,
        })
    }

    /// Where a subject listens, and what it is asked.
    pub(super) fn target(&self, subject: Subject) -> Target {
        let one = || Arc::new(vec![request("bench.example", "/")]);
        let many = || Arc::new((0..self.routes).map(|i| request(&host(i), &path(i))).collect());
        let (address, requests) = match subject {
            Subject::Fresh => (self.agents["fresh"].address, one()),
            Subject::Reuse => (self.agents["reuse"].address, one()),
            // The same requests as for many routes, so that only the table differs.
            Subject::OneRoute => (self.agents["reuse"].address, many()),
            Subject::ManyRoutes => (self.agents["many"].address, many()),
            Subject::Hyper => (self.hyper, one()),
            Subject::Wasmtime => (self.wasmtime, one()),
        };
        Target { address, requests }
    }

    /// Nanoseconds to find who serves a request: with one route, and with many.
    pub(super) fn lookup_ns(&self) -> [f64; 2] {
        let name = listener();
        let ask = |agent: &Agent, asked: &[(String, String)]| {
            let turns = 200_000;
            let mut found = 0_usize;
            let started = Instant::now();
            for turn in 0..turns {
                let (host, path) = &asked[(turn * 7_919) % asked.len()];
                let answer = agent.table.find(&name, std::hint::black_box(host), path, "GET");
                found += usize::from(matches!(answer, Match::Found(_)));
            }
            let took = started.elapsed();
            assert_eq!(found, turns, "every request that is asked has a route");
            took.as_nanos() as f64 / turns as f64
        };
        let many: Vec<_> = (0..self.routes).map(|i| (host(i), path(i))).collect();
        [
            ask(&self.agents["reuse"], &[("bench.example".into(), "/".into())]),
            ask(&self.agents["many"], &many),
        ]
    }

    /// Stops the agent's servers. The other two end with their runtime.
    pub(super) async fn stop(&self) {
        for agent in self.agents.values() {
            agent.listeners.drain().await;
        }
    }
}

impl Agent {
    fn start(routes: &[Route], unit: &Arc<PreparedUnit>) -> Result<Self> {
        let listeners = Listeners::new();
        let offer = CapabilityOffer::Http {
            listen: "127.0.0.1:0".into(),
            max_connections: 10_000,
        };
        let address = listeners.apply(&listener(), &offer, None)?;
        let table = Arc::new(route_table(routes, |_, _| Some(Arc::clone(unit))));
        listeners.set_routes(Arc::clone(&table));
        Ok(Self {
            listeners,
            address,
            table,
        })
    }
}

pub(crate) fn guest() -> Result<Vec<u8>> {
    let folder = std::env::var_os("HEDDLE_GUESTS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/guests"),
        PathBuf::from,
    );
    let file = folder.join("hello.wasm");
    std::fs::read(&file)
        .with_context(|| format!("failed to read {}; build it with `cargo xtask guests`", file.display()))
}

async fn unit(compiled: &CompiledComponent, reuse: u32) -> Result<Arc<PreparedUnit>> {
    let component = TemplateComponent {
        name: component()?,
        artifact: Digest::of(b"hello"),
        artifact_bytes: 1,
        wasi: Wasi::P2,
        config: BTreeMap::new(),
        bindings: BTreeMap::new(),
        secrets: BTreeMap::new(),
        parts: BTreeMap::new(),
        calls: BTreeMap::new(),
    };
    let template = Template {
        requires: Default::default(),
        components: vec![component],
        limits: Limits {
            memory_bytes: 64 << 20,
            time_ms: 30_000,
            concurrency: 100,
            egress: Vec::new(),
            cpu_millis: None,
        },
        instances: Instances { reuse, concurrency: 1 },
        run: None,
        consumes: Vec::new(),
    };
    let request = PrepareRequest {
        unit: UnitId {
            workload: WorkloadId::parse("bench/hello")?,
            generation: Generation(u64::from(reuse)),
        },
        count: 10,
        template: Arc::new(template),
        components: BTreeMap::from([(self::component()?, compiled.clone())]),
        capabilities: Arc::new(CapabilitySet::builder().build()),
        links: heddle_agent::links::Links::default(),
        secrets: heddle_agent::secrets::SecretStore::default(),
        addresses: Arc::default(),
        logs: Arc::new(NoLogs),
    };
    Ok(prepare(request).await?)
}

fn component() -> Result<ComponentName> {
    Ok(ComponentName::parse("hello")?)
}

fn listener() -> CapabilityName {
    match CapabilityName::parse("web") {
        Ok(name) => name,
        Err(_) => unreachable!("it is a name"),
    }
}

fn route(host: Option<String>, path: &str) -> Result<Route> {
    let unit = UnitId {
        workload: WorkloadId::parse("bench/hello")?,
        generation: Generation(1),
    };
    let targets = vec![RouteTarget {
        unit,
        component: component()?,
    }];
    Ok(Route {
        capability: listener(),
        host,
        path: path.to_owned(),
        methods: Default::default(),
        targets,
    })
}

/// A tenth of the routes share each host.
fn host(i: usize) -> String {
    format!("shop-{}.bench.example", i / 10)
}

fn path(i: usize) -> String {
    format!("/team-{}/service-{i}/v1", i % 10)
}

fn request(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes()
}

async fn plain_hyper() -> Result<SocketAddr> {
    serve(|_request| async {
        let text = Bytes::from_static(b"hello from heddle, path=/\n");
        Ok::<_, std::convert::Infallible>(hyper::Response::new(Full::new(text)))
    })
    .await
}

/// The store of bare wasmtime.
struct Bare {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
}

impl WasiView for Bare {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Bare {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: Default::default(),
        }
    }
}

/// A fresh instance for each request, run in a task of its own, no limit, no route, no log.
async fn bare_wasmtime(engine: &Engine, wasm: &[u8]) -> Result<SocketAddr> {
    let mut linker = Linker::<Bare>::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    let pre = ProxyPre::new(linker.instantiate_pre(&Component::new(engine, wasm)?)?)?;
    serve(move |request| {
        let pre = pre.clone();
        async move { answer(&pre, request).await.map_err(std::io::Error::other) }
    })
    .await
}

async fn answer(pre: &ProxyPre<Bare>, request: hyper::Request<Incoming>) -> Result<hyper::Response<WasiBody>> {
    let bare = Bare {
        table: ResourceTable::new(),
        wasi: WasiCtx::builder().build(),
        http: WasiHttpCtx::new(),
    };
    let mut store = Store::new(pre.engine(), bare);
    // The engine interrupts by epochs; this guest is never near its end.
    store.set_epoch_deadline(1_000_000);
    let (sender, receiver) = oneshot::channel();
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
    let out = store.data_mut().http().new_response_outparam(sender)?;
    let pre = pre.clone();
    let task = tokio::spawn(async move {
        let proxy = pre.instantiate_async(&mut store).await?;
        proxy
            .wasi_http_incoming_handler()
            .call_handle(store, request, out)
            .await
    });
    match receiver.await {
        Ok(response) => Ok(response?),
        Err(_) => {
            task.await??;
            anyhow::bail!("the guest gave no answer")
        }
    }
}

/// Serves a loopback port with hyper.
async fn serve<S, F, B, E>(service: S) -> Result<SocketAddr>
where
    S: Fn(hyper::Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<hyper::Response<B>, E>> + Send + 'static,
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let service = hyper::service::service_fn(service);
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(address)
}
