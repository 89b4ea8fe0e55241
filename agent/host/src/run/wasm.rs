//! Runs components with wasmtime: holds compiled components and prepared units, and puts routes before them.

use crate::artifact::ArtifactFiles;
use crate::cache::compiled::CompiledFiles;
use crate::engine::{CompiledComponent, EngineError, Engines};
use crate::http::{Listeners, route_table};
use crate::instance::{self, PrepareError, PrepareRequest, PreparedUnit};
use crate::logs::LogSink;
use crate::run::runner::{Compiled, Failure, Load, Runner};
use async_trait::async_trait;
use futures::future::BoxFuture;
use heddle_agent_core::RunId;
use heddle_capability::CapabilitySet;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::Engine;
use heddle_protocol::host_spec::{CapabilityOffer, Feature, Route, Template, Wasi};
use heddle_protocol::id::{CapabilityName, UnitId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The version of wasmtime that this agent is built with, as far as it is fixed by its dependencies.
const WASMTIME: &str = "48";
/// The capabilities that are lent under these names without being told to.
const ALWAYS: [(&str, CapabilityOffer); 2] = [
    ("config", CapabilityOffer::Config {}),
    ("logging", CapabilityOffer::Logging {}),
];

pub(crate) struct WasmRunner {
    engines: Engines,
    capabilities: Arc<CapabilitySet>,
    listeners: Listeners,
    bind: BTreeMap<CapabilityName, SocketAddr>,
    artifacts: ArtifactFiles,
    compiled: CompiledFiles,
    logs: LogSink,
    components: Mutex<BTreeMap<(Digest, Wasi), CompiledComponent>>,
    units: Mutex<BTreeMap<RunId, Arc<PreparedUnit>>>,
    /// Calls of units that are gone.
    past_calls: AtomicU64,
    past_failed_calls: AtomicU64,
}

impl WasmRunner {
    pub(crate) fn new(
        engines: Engines,
        capabilities: Arc<CapabilitySet>,
        bind: BTreeMap<CapabilityName, SocketAddr>,
        artifacts: ArtifactFiles,
        compiled: CompiledFiles,
        logs: LogSink,
    ) -> Self {
        for (name, offer) in always() {
            if let Err(e) = capabilities.apply(&name, &offer) {
                tracing::warn!(capability = %name, error = %e, "the agent is built without this capability");
            }
        }
        Self {
            engines,
            capabilities,
            listeners: Listeners::new(),
            bind,
            artifacts,
            compiled,
            logs,
            components: Mutex::default(),
            units: Mutex::default(),
            past_calls: AtomicU64::new(0),
            past_failed_calls: AtomicU64::new(0),
        }
    }

    /// What this agent can do.
    pub(crate) fn features(&self) -> BTreeSet<Feature> {
        let own = [Feature::WasiP2, Feature::WasiP3, Feature::Http];
        self.capabilities.features().into_iter().chain(own).collect()
    }

    /// What compiles and runs components here.
    pub(crate) fn engine(&self) -> Engine {
        let fingerprint = |wasi| self.engines.fingerprint(wasi);
        Engine {
            wasmtime: WASMTIME.to_owned(),
            target: target(),
            allocator: self.engines.allocator().to_string(),
            fingerprints: [("p2", Wasi::P2), ("p3", Wasi::P3)]
                .map(|(k, w)| (k.to_owned(), fingerprint(w)))
                .into(),
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

    fn hold_component(&self, digest: Digest, wasi: Wasi, component: CompiledComponent) -> Compiled {
        self.components().insert((digest, wasi), component);
        Compiled::Ready
    }
}

#[async_trait]
impl Runner for WasmRunner {
    fn set_capability(&self, name: &CapabilityName, offer: &CapabilityOffer) -> Result<Option<SocketAddr>, String> {
        match offer {
            CapabilityOffer::Http { .. } => {
                let bound = self.listeners.apply(name, offer, self.bind.get(name).copied());
                bound.map(Some).map_err(|e| whole(&e))
            }
            _ => self
                .capabilities
                .apply(name, offer)
                .map(|()| None)
                .map_err(|e| whole(&e)),
        }
    }

    fn remove_capability(&self, name: &CapabilityName) {
        self.listeners.remove(name);
        match always().find(|(always, _)| always == name) {
            Some((_, offer)) => drop(self.capabilities.apply(name, &offer)),
            None => self.capabilities.remove(name),
        }
    }

    fn compile(&self, digest: Digest, wasi: Wasi) -> Compiled {
        let fingerprint = self.engines.fingerprint(wasi);
        if let Some(path) = self.compiled.find(&digest, &fingerprint) {
            match self.engines.load_compiled(&path, wasi) {
                Ok(component) => return self.hold_component(digest, wasi, component),
                Err(e) => tracing::warn!(%digest, error = %whole(&e), "compiled code is made again"),
            }
        }
        let Some(wasm) = self.artifacts.read(&digest) else {
            return Compiled::Lost;
        };
        let started = std::time::Instant::now();
        let code = match self.engines.compile(&wasm, wasi) {
            Ok(code) => code,
            Err(e) => return Compiled::Failed(refused(&e)),
        };
        tracing::info!(digest = %digest.short(), ms = started.elapsed().as_millis() as u64, "compiled");
        let kept = self.compiled.keep(&digest, &fingerprint, &code).map_err(|e| whole(&e));
        let loaded = kept.and_then(|path| self.engines.load_compiled(&path, wasi).map_err(|e| whole(&e)));
        match loaded {
            Ok(component) => self.hold_component(digest, wasi, component),
            // A full disk costs the next start a compile, and no more.
            Err(e) => {
                tracing::warn!(%digest, error = %e, "compiled code cannot be kept on the disk");
                match self.engines.load_bytes(&wasm, wasi) {
                    Ok(component) => self.hold_component(digest, wasi, component),
                    Err(e) => Compiled::Failed(refused(&e)),
                }
            }
        }
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
            logs: Arc::new(self.logs.clone()),
        };
        match instance::prepare(request).await {
            Ok(prepared) => {
                self.units().insert(run, prepared);
                Ok(())
            }
            Err(e) => {
                // What is missing stays missing; what did not start may start when there is more room.
                let for_good = matches!(e, PrepareError::Link { .. } | PrepareError::OtherWasi { .. });
                Err(Failure {
                    reason: whole(&e),
                    for_good,
                })
            }
        }
    }

    fn resize(&self, run: RunId, count: u32) {
        if let Some(unit) = self.units().get(&run) {
            unit.set_count(count);
        }
    }

    fn set_routes(&self, routes: &[Route], serving: &BTreeMap<UnitId, RunId>) {
        let table = {
            let units = self.units();
            route_table(routes, |unit, _| {
                serving.get(unit).and_then(|run| units.get(run).cloned())
            })
        };
        self.listeners.set_routes(Arc::new(table));
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
        self.listeners.drain().await;
    }
}

/// The machine that code is compiled for, such as `x86_64-linux-gnu`.
fn target() -> String {
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    format!("{}-{}-{libc}", std::env::consts::ARCH, std::env::consts::OS)
}

fn always() -> impl Iterator<Item = (CapabilityName, CapabilityOffer)> {
    ALWAYS
        .into_iter()
        .filter_map(|(name, offer)| Some((CapabilityName::parse(name).ok()?, offer)))
}

fn refused(error: &EngineError) -> Failure {
    Failure {
        reason: whole(error),
        for_good: matches!(error, EngineError::Compile(_) | EngineError::TooLarge { .. }),
    }
}

/// An error with all its causes, in one line.
fn whole(error: &dyn std::error::Error) -> String {
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
