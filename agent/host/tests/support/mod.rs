//! A host in a box for the tests of serving: engines, units of real guests behind a real listener, and a client.
//!
//! In: a guest's name and what the unit may use. Out: answers, as `status code: text`.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in a test a broken expectation is the message"
)]

use heddle_agent::engine::{Allocator, CompiledComponent, EngineOptions, Engines};
use heddle_agent::http::{ERROR_HEADER, Listeners, route_table};
use heddle_agent::instance::{PrepareError, PrepareRequest, PreparedUnit, prepare};
use heddle_agent::secrets::SecretStore;
use heddle_capability::{AddressPolicy, CapabilitySet, Lending, LogLines};
use heddle_capability_config::Config;
use heddle_capability_keyvalue::KeyvalueMemory;
use heddle_capability_logging::Logging;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{
    Binding, CapabilityOffer, Instances, Limits, Route, RouteTarget, Template, TemplateComponent, Wasi,
};
use heddle_protocol::id::{CapabilityName, ComponentName, Generation, UnitId, WorkloadId};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a fact may take to come about, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(20);

/// The bytes of a guest that `cargo xtask guests` built.
pub fn guest(name: &str) -> Vec<u8> {
    let folder = std::env::var_os("HEDDLE_GUESTS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/guests"),
        PathBuf::from,
    );
    let file = folder.join(format!("{name}.wasm"));
    std::fs::read(&file).unwrap_or_else(|error| {
        panic!(
            "failed to read {}: {error}; build the guests with `cargo xtask guests`",
            file.display()
        )
    })
}

/// A pool that is small, because many tests run at the same time.
pub fn engine_options() -> EngineOptions {
    EngineOptions {
        allocator: Allocator::Pooling,
        instances: 50,
        ..EngineOptions::default()
    }
}

pub fn limits() -> Limits {
    Limits {
        memory_bytes: 64 << 20,
        time_ms: 20_000,
        concurrency: 100,
        egress: Vec::new(),
        cpu_millis: None,
    }
}

/// What one unit is made of.
pub struct UnitPlan {
    pub workload: &'static str,
    pub generation: u64,
    pub guest: &'static str,
    pub wasi: Wasi,
    pub count: u32,
    pub limits: Limits,
    pub instances: Instances,
    pub bindings: Vec<(&'static str, &'static str)>,
    pub config: BTreeMap<String, String>,
}

/// One replica of the probe in the namespace `shop`, with a key-value store.
pub fn probe() -> UnitPlan {
    UnitPlan {
        workload: "shop/probe",
        generation: 1,
        guest: "probe-v1",
        wasi: Wasi::P2,
        count: 1,
        limits: limits(),
        instances: Instances {
            reuse: 1,
            concurrency: 1,
        },
        bindings: vec![
            ("wasi:keyvalue/store@0.2.0-draft", "sessions"),
            ("wasi:keyvalue/atomics@0.2.0-draft", "sessions"),
        ],
        config: BTreeMap::new(),
    }
}

/// One replica of a guest that needs nothing but HTTP.
pub fn plain(guest: &'static str, wasi: Wasi) -> UnitPlan {
    UnitPlan {
        workload: "shop/plain",
        guest,
        wasi,
        bindings: vec![],
        ..probe()
    }
}

pub fn component() -> ComponentName {
    ComponentName::parse("main").unwrap()
}

pub fn name(text: &str) -> CapabilityName {
    CapabilityName::parse(text).unwrap()
}

#[derive(Default)]
pub struct KeptLogs(Mutex<Vec<String>>);

impl LogLines for KeptLogs {
    fn line(&self, unit: &UnitId, _: &ComponentName, level: &str, text: &str) {
        self.0.lock().unwrap().push(format!("{unit} {level} {text}"));
    }
}

impl KeptLogs {
    pub fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    /// How often something was written, in however many lines.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// One host: engines, capabilities and a listener.
pub struct Host {
    pub engines: Engines,
    pub capabilities: Arc<CapabilitySet>,
    pub listeners: Listeners,
    pub logs: Arc<KeptLogs>,
    pub address: SocketAddr,
    /// Which addresses its guests may reach.
    pub addresses: Arc<AddressPolicy>,
    client: Client<HttpConnector, Full<bytes::Bytes>>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// `status text`, or `status code` where the host answered in the guest's place.
    pub fn line(&self) -> String {
        match self.headers.get(ERROR_HEADER) {
            Some(code) => format!("{} {}", self.status.as_u16(), code.to_str().unwrap()),
            None => format!("{} {}", self.status.as_u16(), self.text.trim_end()),
        }
    }
}

impl Host {
    pub fn new() -> Self {
        Self::with(&engine_options(), 1_000)
    }

    pub fn with(options: &EngineOptions, max_connections: u32) -> Self {
        let capabilities = CapabilitySet::builder()
            .capability(Config)
            .capability(Logging)
            .capability(KeyvalueMemory::default())
            .build();
        capabilities.lend_defaults().unwrap();
        capabilities
            .apply(
                &name("sessions"),
                &CapabilityOffer::KeyvalueMemory { shared: false },
                &Lending::default(),
            )
            .unwrap();
        let listeners = Listeners::new();
        let offer = CapabilityOffer::Http {
            listen: "127.0.0.1:0".into(),
            max_connections,
        };
        let address = listeners.apply(&name("web"), &offer, None).unwrap();
        Self {
            engines: Engines::new(options).unwrap(),
            capabilities: Arc::new(capabilities),
            listeners,
            logs: Arc::default(),
            address,
            addresses: Arc::default(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    pub fn compiled(&self, guest_name: &str, wasi: Wasi) -> CompiledComponent {
        self.engines.load_bytes(&guest(guest_name), wasi).unwrap()
    }

    pub async fn try_prepare(&self, plan: &UnitPlan) -> Result<Arc<PreparedUnit>, PrepareError> {
        let compiled = self.compiled(plan.guest, plan.wasi);
        let scope = unit_id(plan).workload.namespace.to_string();
        let binding = |capability: &str| Binding {
            capability: name(capability),
            scope: scope.clone(),
            interface: None,
            part: None,
        };
        let bindings = plan
            .bindings
            .iter()
            .map(|(import, by)| ((*import).to_owned(), binding(by)))
            .collect();
        let component = TemplateComponent {
            config: plan.config.clone(),
            bindings,
            ..TemplateComponent::new(component(), Digest::of(b"a guest"), 1, plan.wasi)
        };
        self.try_prepare_component(plan, compiled, component).await
    }

    /// Prepares a unit of that one component, whatever it was made of.
    pub async fn try_prepare_component(
        &self,
        plan: &UnitPlan,
        compiled: CompiledComponent,
        component: TemplateComponent,
    ) -> Result<Arc<PreparedUnit>, PrepareError> {
        let name = component.name.clone();
        let template = Template {
            requires: Default::default(),
            components: vec![component],
            limits: plan.limits.clone(),
            instances: plan.instances,
            run: None,
            consumes: Vec::new(),
        };
        prepare(PrepareRequest {
            unit: unit_id(plan),
            count: plan.count,
            template: Arc::new(template),
            components: BTreeMap::from([(name, compiled)]),
            capabilities: Arc::clone(&self.capabilities),
            links: heddle_agent::links::Links::default(),
            secrets: SecretStore::default(),
            addresses: Arc::clone(&self.addresses),
            logs: Arc::clone(&self.logs) as _,
        })
        .await
    }

    pub async fn prepare(&self, plan: &UnitPlan) -> Arc<PreparedUnit> {
        self.try_prepare(plan).await.unwrap()
    }

    /// Prepares a unit and routes everything to it.
    pub async fn serve(&self, plan: &UnitPlan) -> Arc<PreparedUnit> {
        let unit = self.prepare(plan).await;
        self.route(&[("/", &unit)]);
        unit
    }

    /// Routes paths to units.
    pub fn route(&self, paths: &[(&str, &Arc<PreparedUnit>)]) {
        let routes: Vec<Route> = paths.iter().map(|(path, unit)| route(path, unit.id())).collect();
        let units: BTreeMap<UnitId, &Arc<PreparedUnit>> =
            paths.iter().map(|(_, unit)| (unit.id().clone(), *unit)).collect();
        let table = route_table(&routes, |unit, _| units.get(unit).map(|unit| Arc::clone(unit)));
        self.listeners.set_routes(Arc::new(table));
    }

    pub async fn send(&self, request: Request<Full<bytes::Bytes>>) -> Answer {
        let response = self.client.request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer {
            status: head.status,
            headers: head.headers,
            text,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        let uri = format!("http://{}{path}", self.address);
        self.send(Request::get(uri).body(Full::default()).unwrap()).await
    }

    pub async fn line(&self, path: &str) -> String {
        self.get(path).await.line()
    }
}

pub fn unit_id(plan: &UnitPlan) -> UnitId {
    UnitId {
        workload: WorkloadId::parse(plan.workload).unwrap(),
        generation: Generation(plan.generation),
    }
}

pub fn route(path: &str, unit: &UnitId) -> Route {
    Route {
        capability: name("web"),
        host: None,
        path: path.into(),
        methods: Default::default(),
        targets: vec![RouteTarget {
            unit: unit.clone(),
            component: component(),
        }],
    }
}

/// Waits for a fact.
pub async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !fact() {
        assert!(Instant::now() < end, "{what} did not come about in {SOON:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
