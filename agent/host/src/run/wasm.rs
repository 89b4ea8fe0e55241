//! Runs components with wasmtime: holds compiled components and prepared units, and puts routes before them.

use crate::compile::{Compiler, NotCompiled, Wanted};
use crate::engine::{CompiledComponent, Engines};
use crate::http::{Listeners, route_table};
use crate::instance::{self, PrepareError, PrepareRequest, PreparedUnit};
use crate::links::Links;
use crate::logs::LogSink;
use crate::run::live::Live;
use crate::run::runner::{Failure, Load, Runner};
use crate::secrets::SecretStore;
use crate::source::Uplink;
use async_trait::async_trait;
use futures::future::BoxFuture;
use heddle_agent_core::{Fact, RunId};
use heddle_capability::{AddressPolicy, CapabilitySet, Lending};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::{Engine, Fire, FireAnswer};
use heddle_protocol::host_spec::{CapabilityOffer, Feature, HostSpecBody, SecretUse, Template, Wasi};
use heddle_protocol::id::{CapabilityName, UnitId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// The capabilities that are lent under these names without being told to.
const ALWAYS: [(&str, CapabilityOffer); 3] = [
    ("config", CapabilityOffer::Config {}),
    ("logging", CapabilityOffer::Logging {}),
    ("secrets", CapabilityOffer::Secrets {}),
];

pub(crate) struct WasmRunner {
    engines: Engines,
    capabilities: Arc<CapabilitySet>,
    listeners: Listeners,
    bind: BTreeMap<CapabilityName, SocketAddr>,
    compiler: Compiler,
    logs: LogSink,
    components: Mutex<BTreeMap<(Digest, Wasi), CompiledComponent>>,
    units: Mutex<BTreeMap<RunId, Arc<PreparedUnit>>>,
    live: Live,
    links: Links,
    secrets: SecretStore,
    addresses: Arc<AddressPolicy>,
    /// What every capability is given, but for its secrets.
    lending: Lending,
    /// Calls of units that are gone.
    past_calls: AtomicU64,
    past_failed_calls: AtomicU64,
}

/// What a runner is made of.
pub(crate) struct WasmParts {
    pub(crate) engines: Engines,
    pub(crate) capabilities: Arc<CapabilitySet>,
    pub(crate) bind: BTreeMap<CapabilityName, SocketAddr>,
    pub(crate) compiler: Compiler,
    pub(crate) logs: LogSink,
    pub(crate) secrets: SecretStore,
    pub(crate) addresses: Arc<AddressPolicy>,
    pub(crate) links: Links,
    pub(crate) lending: Lending,
}

impl WasmRunner {
    pub(crate) fn new(parts: WasmParts) -> Self {
        let WasmParts {
            engines,
            capabilities,
            bind,
            compiler,
            logs,
            secrets,
            addresses,
            links,
            lending,
        } = parts;
        for (name, offer) in always() {
            if let Err(e) = capabilities.apply(&name, &offer, &lending) {
                tracing::warn!(capability = %name, error = %e, "the agent is built without this capability");
            }
        }
        Self {
            engines,
            capabilities,
            listeners: Listeners::new(),
            bind,
            compiler,
            logs,
            components: Mutex::default(),
            units: Mutex::default(),
            live: Live::default(),
            links,
            secrets,
            addresses,
            lending,
            past_calls: AtomicU64::new(0),
            past_failed_calls: AtomicU64::new(0),
        }
    }

    /// What this agent can do.
    pub(crate) fn features(&self) -> BTreeSet<Feature> {
        let own = [
            Feature::WASI_P2,
            Feature::WASI_P3,
            Feature::HTTP,
            Feature::RUN,
            Feature::SPEC_DELTA,
        ];
        let links = self.links.has_network().then_some(Feature::WRPC);
        self.capabilities
            .features()
            .into_iter()
            .chain(own)
            .chain(links)
            .collect()
    }

    /// What compiles and runs components here.
    pub(crate) fn engine(&self) -> Engine {
        let fingerprint = |wasi| self.engines.fingerprint(wasi);
        Engine {
            wasmtime: heddle_engine::WASMTIME.to_owned(),
            target: self.engines.profile().target().to_owned(),
            allocator: self.engines.allocator().to_string(),
            fingerprints: [("p2", Wasi::P2), ("p3", Wasi::P3)]
                .map(|(k, w)| (k.to_owned(), fingerprint(w)))
                .into(),
            profile: self.engines.profile().settings(),
            compiles: heddle_engine::COMPILES,
        }
    }

    /// The most memory that one instance may have, in bytes.
    pub(crate) fn instance_memory_bytes_max(&self) -> Option<u64> {
        self.engines.instance_memory_max()
    }

    fn components(&self) -> MutexGuard<'_, BTreeMap<(Digest, Wasi), CompiledComponent>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn units(&self) -> MutexGuard<'_, BTreeMap<RunId, Arc<PreparedUnit>>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Runner for WasmRunner {
    fn set_capability(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        secrets: &BTreeMap<String, SecretUse>,
    ) -> Result<Option<SocketAddr>, String> {
        match offer {
            CapabilityOffer::Http { .. } => {
                let bound = self.listeners.apply(name, offer, self.bind.get(name).copied());
                bound.map(Some).map_err(|e| whole(&e))
            }
            // A prefix to call under, which is in the calls themselves.
            CapabilityOffer::Wrpc { .. } => Ok(None),
            _ => {
                let lending = Lending {
                    secrets: self.secrets.lent(name, secrets),
                    ..self.lending.clone()
                };
                let applied = self.capabilities.apply(name, offer, &lending);
                applied.map(|()| None).map_err(|e| whole(&e))
            }
        }
    }

    fn remove_capability(&self, name: &CapabilityName) {
        self.listeners.remove(name);
        match always().find(|(always, _)| always == name) {
            Some((_, offer)) => drop(self.capabilities.apply(name, &offer, &self.lending)),
            None => self.capabilities.remove(name),
        }
    }

    async fn compile(&self, wanted: Wanted, uplink: &dyn Uplink) -> Result<(), NotCompiled> {
        let component = self.compiler.component(wanted, uplink).await?;
        self.components().insert((wanted.digest, wanted.wasi), component);
        Ok(())
    }

    fn forget_component(&self, digest: Digest, wasi: Wasi) {
        self.components().remove(&(digest, wasi));
    }

    async fn prepare(&self, run: RunId, unit: UnitId, template: Arc<Template>, count: u32) -> Result<(), Failure> {
        let components = {
            let held = self.components();
            let find = |c: &heddle_protocol::host_spec::TemplateComponent| {
                Some((c.name.clone(), held.get(&(c.artifact, c.wasi))?.clone()))
            };
            template.components.iter().filter_map(find).collect()
        };
        let request = PrepareRequest {
            unit,
            count,
            template,
            components,
            capabilities: Arc::clone(&self.capabilities),
            links: self.links.clone(),
            secrets: self.secrets.clone(),
            addresses: Arc::clone(&self.addresses),
            logs: Arc::new(self.logs.clone()),
        };
        match instance::prepare(request).await {
            Ok(prepared) => {
                self.units().insert(run, prepared);
                Ok(())
            }
            Err(e) => {
                // What is missing stays missing; what did not start may start when there is more room.
                let for_good = matches!(
                    e,
                    PrepareError::Link { .. } | PrepareError::Call { .. } | PrepareError::OtherWasi { .. }
                );
                Err(Failure {
                    reason: whole(&e),
                    for_good,
                    lacks_secret: matches!(e, PrepareError::SecretMissing { .. }),
                })
            }
        }
    }

    fn resize(&self, run: RunId, count: u32) {
        if let Some(unit) = self.units().get(&run) {
            unit.set_count(count);
        }
    }

    fn set_live(&self, spec: &Arc<HostSpecBody>, serving: &BTreeMap<UnitId, RunId>) {
        let live: BTreeMap<RunId, Arc<PreparedUnit>> = {
            let units = self.units();
            let find = |run: &RunId| Some((*run, Arc::clone(units.get(run)?)));
            serving.values().filter_map(find).collect()
        };
        let table = route_table(&spec.routes, |unit, _| live.get(serving.get(unit)?).cloned());
        self.listeners.set_routes(Arc::new(table));
        self.links.set_live(spec, serving.keys(), |serve| {
            live.get(serving.get(&serve.unit)?)?.callable(&serve.component)
        });
        self.live.set(&live, &self.capabilities);
    }

    fn fire(&self, fire: &Fire) -> FireAnswer {
        self.live.fire(fire)
    }

    fn report_to(&self, facts: mpsc::Sender<Fact>) {
        self.live.report_to(facts);
    }

    fn drain(&self, run: RunId) -> BoxFuture<'static, ()> {
        let unit = self.units().get(&run).cloned();
        if let Some(unit) = &unit {
            unit.begin_drain();
        }
        Box::pin(async move {
            if let Some(unit) = unit {
                unit.drained().await;
            }
        })
    }

    fn drop_unit(&self, run: RunId) {
        let unit = self.units().remove(&run);
        if let Some(unit) = unit {
            self.past_calls.fetch_add(unit.calls(), Ordering::Relaxed);
            self.past_failed_calls.fetch_add(unit.failed_calls(), Ordering::Relaxed);
        }
    }

    fn load(&self) -> Load {
        let units = self.units();
        Load {
            in_flight: units.values().map(|unit| unit.in_flight()).sum(),
            calls: units.values().map(|unit| unit.calls()).sum::<u64>() + self.past_calls.load(Ordering::Relaxed),
            failed_calls: units.values().map(|unit| unit.failed_calls()).sum::<u64>()
                + self.past_failed_calls.load(Ordering::Relaxed),
            connections: self.listeners.connections(),
            instance_memory_bytes: self.engines.memory_used_bytes(),
        }
    }

    async fn close(&self) {
        tokio::join!(self.listeners.drain(), self.links.close());
    }
}

fn always() -> impl Iterator<Item = (CapabilityName, CapabilityOffer)> {
    ALWAYS
        .into_iter()
        .filter_map(|(name, offer)| Some((CapabilityName::parse(name).ok()?, offer)))
}

/// An error with all its causes, in one line.
pub(crate) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
