//! From a template to a unit that is ready: link every import, then try one instance.
//!
//! In: compiled components and the capabilities that the template binds. Out: a prepared unit, or the one thing that is
//! in its way, by name.

use crate::engine::CompiledComponent;
use crate::instance::component::{Handler, Maker, PreparedComponent};
use crate::instance::p2::P2;
use crate::instance::{PrepareRequest, PreparedUnit, p3};
use crate::limits::Admission;
use heddle_capability::{CapabilityError, CpuBudget, Ctx, Egress, EgressRule, Grants, Import, Log, SecretHandle};
use heddle_capability_wrpc::PlanError;
use heddle_protocol::host_spec::{TemplateComponent, Wasi};
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
    /// A secret that it uses has not come to this host.
    #[error(
        "waits for secret {name} of component {component} ({from}: {path}): the scheduler could not send it yet; see \
         `heddle events` for what its backend says"
    )]
    SecretMissing {
        /// The component.
        component: ComponentName,
        /// The component's name for the secret.
        name: String,
        /// The backend.
        from: String,
        /// Its path there.
        path: String,
    },
    /// A capability does not meet its import.
    #[error("failed to prepare component {component}")]
    Capability {
        /// The component.
        component: ComponentName,
        /// Why.
        source: CapabilityError,
    },
    /// An import cannot be a call over the network.
    #[error("failed to prepare component {component}")]
    Call {
        /// The component.
        component: ComponentName,
        /// Why.
        source: PlanError,
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
    let limits = &request.template.limits;
    let admission = Arc::new(Admission::new(request.count, limits.concurrency).with_cpu(limits.cpu_millis));
    let mut components = BTreeMap::new();
    for component in &request.template.components {
        let prepared = prepare_component(&request, component, &admission).await?;
        components.insert(component.name.clone(), Arc::new(prepared));
    }
    Ok(Arc::new(PreparedUnit {
        id: request.unit,
        template: request.template,
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
    secrets_are_here(request, component)?;
    let log = Arc::new(Log::new(request.unit.clone(), name.clone(), Arc::clone(&request.logs)));
    let link_failed = |source| PrepareError::Link {
        component: name.clone(),
        source,
    };
    let pre = link(request, component, (compiled, admission), &log)?;
    let maker = maker(request, component, compiled, &log, admission.cpu());
    let handler = handler(&pre, &maker, request, compiled).map_err(link_failed)?;
    try_one(&pre, &maker, name).await?;
    let (calls, failed_calls) = (AtomicU64::new(0), AtomicU64::new(0));
    Ok(PreparedComponent {
        unit: request.unit.clone(),
        name: name.clone(),
        pre,
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
    (compiled, admission): (&CompiledComponent, &Arc<Admission>),
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
    // Thousands of workloads may have one image, and most bind nothing: they share the links too.
    let binds_nothing = component.bindings.is_empty() && component.calls.is_empty();
    if let Some(pre) = compiled.unbound.get().filter(|_| binds_nothing) {
        return Ok(pre.clone());
    }
    let mut linker = compiled.engines.linker(component.wasi);
    request.capabilities.init(&mut linker, component.wasi).map_err(failed)?;
    let parts = Parts::of(request, component);
    for (name_in_linker, binding) in &component.bindings {
        let part = parts.find(binding.part.as_deref());
        let import = Import {
            interface: binding.interface.as_deref().unwrap_or(name_in_linker),
            unit: &request.unit,
            component: name,
            config: part.config,
            secrets: &part.secrets,
            scope: &binding.scope,
            log,
        };
        let mut instance = linker.instance(name_in_linker).map_err(failed)?;
        request
            .capabilities
            .prepare(&binding.capability, &import, &mut instance)
            .map_err(unbound)?;
    }
    for (import, call) in &component.calls {
        let mut instance = linker.instance(import).map_err(failed)?;
        let called = (&compiled.component, admission);
        let linked = request.links.link(&request.unit, import, call, called, &mut instance);
        linked.map_err(|source| PrepareError::Call {
            component: name.clone(),
            source,
        })?;
    }
    let pre = linker.instantiate_pre(&compiled.component).map_err(failed)?;
    if binds_nothing {
        // Whoever came first keeps its own; both are the same.
        let _ = compiled.unbound.set(pre.clone());
    }
    Ok(pre)
}

/// The component itself and what is composed into it: each has configuration and secrets of its own.
struct Parts<'a> {
    own: PartValues<'a>,
    others: BTreeMap<&'a str, PartValues<'a>>,
}

struct PartValues<'a> {
    config: &'a BTreeMap<String, String>,
    secrets: BTreeMap<String, SecretHandle>,
}

impl<'a> Parts<'a> {
    fn of(request: &PrepareRequest, component: &'a TemplateComponent) -> Self {
        let values = |config, secrets| PartValues {
            config,
            secrets: request.secrets.handles(secrets),
        };
        let others = component.parts.iter();
        Self {
            own: values(&component.config, &component.secrets),
            others: others
                .map(|(name, part)| (name.as_str(), values(&part.config, &part.secrets)))
                .collect(),
        }
    }

    /// A part that the template does not describe has nothing but what the component has.
    fn find(&self, part: Option<&str>) -> &PartValues<'a> {
        part.and_then(|part| self.others.get(part)).unwrap_or(&self.own)
    }
}

fn maker(
    request: &PrepareRequest,
    component: &TemplateComponent,
    compiled: &CompiledComponent,
    log: &Arc<Log>,
    cpu: &Arc<CpuBudget>,
) -> Maker {
    let limits = &request.template.limits;
    Maker {
        engine: compiled.engines.engine(compiled.wasi).clone(),
        budget: Arc::clone(compiled.engines.budget()),
        idle: Arc::clone(compiled.engines.idle()),
        log: Arc::clone(log),
        memory_bytes: limits.memory_bytes,
        grants: Arc::new(grants(request, component, cpu)),
        time: Duration::from_millis(limits.time_ms),
    }
}

/// What the manifest grants. Components that are composed into one share their environment, as they share a process
/// elsewhere.
fn grants(request: &PrepareRequest, component: &TemplateComponent, cpu: &Arc<CpuBudget>) -> Grants {
    let parts = component.parts.values().flat_map(|part| part.secrets.values());
    let env = component.secrets.values().chain(parts).filter_map(|used| {
        let name = used.env.clone()?;
        Some((name, request.secrets.handle(used)))
    });
    // The scheduler has checked them; one that cannot be read grants nothing.
    let rules = request.template.limits.egress.iter();
    let rules = rules.filter_map(|rule| EgressRule::parse(rule).ok()).collect();
    Grants {
        env: env.collect(),
        cpu: Arc::clone(cpu),
        interrupts: Arc::default(),
        egress: Arc::new(Egress::new(rules, Arc::clone(&request.addresses))),
    }
}

/// Every secret that a component uses must have come: without it the component would only fail later.
fn secrets_are_here(request: &PrepareRequest, component: &TemplateComponent) -> Result<(), PrepareError> {
    let parts = component.parts.values().flat_map(|part| &part.secrets);
    let missing = component
        .secrets
        .iter()
        .chain(parts)
        .find(|(_, used)| request.secrets.handle(used).get().is_none());
    match missing {
        None => Ok(()),
        Some((name, used)) => Err(PrepareError::SecretMissing {
            component: component.name.clone(),
            name: name.clone(),
            from: used.from.clone(),
            path: used.path.clone(),
        }),
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
