//! From a template to a unit that is ready: link every import, then try one instance.
//!
//! In: compiled components and the capabilities that the template binds. Out: a prepared unit, or the one thing that is
//! in its way, by name.

use crate::engine::CompiledComponent;
use crate::instance::component::{Handler, Maker, PreparedComponent};
use crate::instance::p2::P2;
use crate::instance::{PrepareRequest, PreparedUnit, p3};
use crate::limits::Admission;
use heddle_capability::{CapabilityError, Ctx, Import, Log};
use heddle_protocol::host_spec::{Limits, TemplateComponent, Wasi};
use heddle_protocol::id::ComponentName;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use wasmtime::component::InstancePre;
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre as P2Pre;
use wasmtime_wasi_http::p3::bindings::ServicePre as P3Pre;

/// What a WASI 0.2 handler exports, without version.
const P2_HANDLER: &str = "wasi:http/incoming-handler@";
/// What a WASI 0.3 handler exports, without version.
const P3_HANDLER: &str = "wasi:http/handler@";

/// Why a unit cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A component of the template was not given.
    #[error("failed to prepare component {0}: its compiled code is missing")]
    NotCompiled(ComponentName),
    /// A component was compiled for another WASI than the template says.
    #[error(
        "failed to prepare component {component}: the template says {template:?}, it was compiled for {compiled:?}"
    )]
    OtherWasi {
        /// The component.
        component: ComponentName,
        /// What the template says.
        template: Wasi,
        /// What it was compiled for.
        compiled: Wasi,
    },
    /// A capability does not meet its import.
    #[error("failed to prepare component {component}")]
    Capability {
        /// The component.
        component: ComponentName,
        /// Why.
        source: CapabilityError,
    },
    /// An import is not met, or met with something of another type. The cause names it.
    #[error("failed to link component {component}")]
    Link {
        /// The component.
        component: ComponentName,
        /// Why.
        source: wasmtime::Error,
    },
    /// The first instance could not be made.
    #[error("failed to start component {component}")]
    Start {
        /// The component.
        component: ComponentName,
        /// Why.
        source: wasmtime::Error,
    },
    /// The first instance was not made in time.
    #[error("failed to start component {component} within {limit_ms} ms, the time limit of a call")]
    StartTimeLimit {
        /// The component.
        component: ComponentName,
        /// The limit.
        limit_ms: u64,
    },
}

/// Prepares a unit: links every import of every component, and makes one instance of each to see that it starts.
pub async fn prepare(request: PrepareRequest) -> Result<Arc<PreparedUnit>, PrepareError> {
    let admission = Arc::new(Admission::new(request.count, request.template.limits.concurrency));
    let mut components = BTreeMap::new();
    for component in &request.template.components {
        let prepared = prepare_component(&request, component, &admission).await?;
        components.insert(component.name.clone(), Arc::new(prepared));
    }
    Ok(Arc::new(PreparedUnit {
        id: request.unit,
        admission,
        components,
    }))
}

async fn prepare_component(
    request: &PrepareRequest,
    component: &TemplateComponent,
    admission: &Arc<Admission>,
) -> Result<PreparedComponent, PrepareError> {
    let name = &component.name;
    let compiled = request
        .components
        .get(name)
        .ok_or_else(|| PrepareError::NotCompiled(name.clone()))?;
    if compiled.wasi != component.wasi {
        let (template, compiled) = (component.wasi, compiled.wasi);
        return Err(PrepareError::OtherWasi {
            component: name.clone(),
            template,
            compiled,
        });
    }
    let log = Arc::new(Log::new(request.unit.clone(), name.clone(), Arc::clone(&request.logs)));
    let link_failed = |source| PrepareError::Link {
        component: name.clone(),
        source,
    };
    let pre = link(request, component, compiled, &log)?;
    let maker = maker(&request.template.limits, compiled, &log);
    let handler = handler(&pre, &maker, request, compiled).map_err(link_failed)?;
    try_one(&pre, &maker, name).await?;
    let (calls, failed_calls) = (AtomicU64::new(0), AtomicU64::new(0));
    Ok(PreparedComponent {
        maker,
        handler,
        admission: Arc::clone(admission),
        calls,
        failed_calls,
    })
}

/// Links WASI and what the template binds. What is missing then is named by the error.
fn link(
    request: &PrepareRequest,
    component: &TemplateComponent,
    compiled: &CompiledComponent,
    log: &Arc<Log>,
) -> Result<InstancePre<Ctx>, PrepareError> {
    let name = &component.name;
    let failed = |source| PrepareError::Link {
        component: name.clone(),
        source,
    };
    let unbound = |source| PrepareError::Capability {
        component: name.clone(),
        source,
    };
    let mut linker = compiled.engines.linker(component.wasi);
    request.capabilities.init(&mut linker, component.wasi).map_err(failed)?;
    for (interface, binding) in &component.bindings {
        let import = Import {
            interface,
            unit: &request.unit,
            component: name,
            config: &component.config,
            scope: &binding.scope,
            log,
        };
        let mut instance = linker.instance(interface).map_err(failed)?;
        request
            .capabilities
            .prepare(&binding.capability, &import, &mut instance)
            .map_err(unbound)?;
    }
    linker.instantiate_pre(&compiled.component).map_err(failed)
}

fn maker(limits: &Limits, compiled: &CompiledComponent, log: &Arc<Log>) -> Maker {
    Maker {
        engine: compiled.engines.engine(compiled.wasi).clone(),
        budget: Arc::clone(compiled.engines.budget()),
        idle: Arc::clone(compiled.engines.idle()),
        log: Arc::clone(log),
        memory_bytes: limits.memory_bytes,
        time: Duration::from_millis(limits.time_ms),
    }
}

/// Finds out how the component takes requests, if it does.
fn handler(
    pre: &InstancePre<Ctx>,
    maker: &Maker,
    request: &PrepareRequest,
    compiled: &CompiledComponent,
) -> wasmtime::Result<Handler> {
    let instances = request.template.instances;
    let ty = compiled.component.component_type();
    let exports = |prefix: &str| ty.exports(pre.engine()).any(|(name, _)| name.starts_with(prefix));
    Ok(match compiled.wasi {
        Wasi::P2 if exports(P2_HANDLER) => Handler::P2(P2::new(P2Pre::new(pre.clone())?, instances.reuse)),
        Wasi::P3 if exports(P3_HANDLER) => Handler::P3(p3::handler(
            maker.clone(),
            ProxyPre::P3(P3Pre::new(pre.clone())?),
            instances,
        )),
        Wasi::P3 if exports(P2_HANDLER) => Handler::P3(p3::handler(
            maker.clone(),
            ProxyPre::P2(P2Pre::new(pre.clone())?),
            instances,
        )),
        Wasi::P2 | Wasi::P3 => Handler::None,
    })
}

async fn try_one(pre: &InstancePre<Ctx>, maker: &Maker, name: &ComponentName) -> Result<(), PrepareError> {
    let deadline = Instant::now() + maker.time;
    let mut store = maker.store(deadline);
    match tokio::time::timeout_at(deadline.into(), pre.instantiate_async(&mut store)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(source)) => Err(PrepareError::Start {
            component: name.clone(),
            source,
        }),
        Err(_) => {
            let limit_ms = u64::try_from(maker.time.as_millis()).unwrap_or(u64::MAX);
            Err(PrepareError::StartTimeLimit {
                component: name.clone(),
                limit_ms,
            })
        }
    }
}
