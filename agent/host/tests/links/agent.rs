//! An agent as far as links go: engines, units, and what is live of them.

use crate::guests::{DRIVE, ECHO, callee, caller};
use crate::nats::{Nats, eventually};
use crate::support::{Host, KeptLogs, SOON, component, limits};
use heddle_agent::instance::{PrepareError, PrepareRequest, PreparedUnit, prepare};
use heddle_agent::links::Links;
use heddle_agent::secrets::SecretStore;
use heddle_capability::{CallFailure, Work};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{
    Call, Callee, HostSpecBody, Instances, Limits, SecretUse, Serve, Template, TemplateComponent, Wasi,
};
use heddle_protocol::id::{Generation, Realm, UnitId, WorkloadId};
use heddle_protocol::subject::rpc_prefix;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use wasmtime::component::Val;

pub fn realm() -> Realm {
    Realm::parse("eu").unwrap()
}

pub fn workload(name: &str) -> WorkloadId {
    WorkloadId::parse(&format!("shop/{name}")).unwrap()
}

pub fn unit(name: &str, generation: u64) -> UnitId {
    UnitId {
        workload: workload(name),
        generation: Generation(generation),
    }
}

/// Calls to a workload, or to whoever is under a prefix.
pub fn call(to: Callee) -> Call {
    Call {
        interface: None,
        part: None,
        to,
        instance: ECHO.to_owned(),
        timeout_ms: 10_000,
        idempotent: false,
        max_in_flight: 128,
    }
}

pub fn call_echo() -> Call {
    call(Callee::Workload(workload("echo")))
}

/// One agent.
pub struct Agent {
    pub host: Host,
    pub links: Links,
    pub secrets: SecretStore,
    units: Mutex<BTreeMap<UnitId, Arc<PreparedUnit>>>,
}

/// What a unit is made of, beside its bytes.
pub struct Plan {
    pub unit: UnitId,
    pub wasi: Wasi,
    pub limits: Limits,
    pub call: Option<Call>,
}

impl Plan {
    pub fn new(unit: UnitId) -> Self {
        Self {
            unit,
            wasi: Wasi::P2,
            limits: limits(),
            call: None,
        }
    }
}

impl Agent {
    pub fn new(nats: &Nats) -> Self {
        let secrets = SecretStore::default();
        Self {
            host: Host::new(),
            links: Links::new(realm(), Some(nats.url.clone()), secrets.clone()),
            secrets,
            units: Mutex::default(),
        }
    }

    pub async fn try_prepare(&self, plan: Plan, bytes: &[u8]) -> Result<Arc<PreparedUnit>, PrepareError> {
        let compiled = self.host.engines.load_bytes(bytes, plan.wasi).unwrap();
        let mut part = TemplateComponent::new(component(), Digest::of(bytes), 1, plan.wasi);
        part.calls = plan.call.into_iter().map(|call| (ECHO.to_owned(), call)).collect();
        let template = Template {
            requires: Default::default(),
            components: vec![part],
            limits: plan.limits,
            instances: Instances {
                reuse: 1,
                concurrency: 1,
            },
            run: None,
            consumes: Vec::new(),
        };
        let unit = prepare(PrepareRequest {
            unit: plan.unit.clone(),
            count: 1,
            template: Arc::new(template),
            components: BTreeMap::from([(component(), compiled)]),
            capabilities: Arc::clone(&self.host.capabilities),
            links: self.links.clone(),
            secrets: self.secrets.clone(),
            addresses: Arc::default(),
            logs: Arc::clone(&self.host.logs) as Arc<KeptLogs> as _,
        })
        .await?;
        self.units.lock().unwrap().insert(plan.unit, Arc::clone(&unit));
        Ok(unit)
    }

    pub async fn prepare(&self, plan: Plan, bytes: &[u8]) -> Arc<PreparedUnit> {
        self.try_prepare(plan, bytes).await.unwrap()
    }

    /// Makes exactly this live.
    pub fn set_live(&self, spec: &HostSpecBody, live: &[UnitId]) {
        let units = self.units.lock().unwrap();
        self.links.set_live(spec, live.iter(), |serve| {
            live.contains(&serve.unit)
                .then(|| units.get(&serve.unit))??
                .callable(&serve.component)
        });
    }

    /// Lets go of a unit.
    pub fn drop_unit(&self, unit: &UnitId) {
        self.units.lock().unwrap().remove(unit);
    }
}

/// A spec in which these units serve the interface, and callers know these generations, the newest first.
pub fn spec(serves: &[UnitId], generations: &[u64]) -> HostSpecBody {
    let serve = |unit: &UnitId| Serve {
        unit: unit.clone(),
        component: component(),
        interface: ECHO.to_owned(),
        prefix: None,
    };
    HostSpecBody {
        serves: serves.iter().map(serve).collect(),
        callees: BTreeMap::from([(workload("echo"), generations.iter().copied().map(Generation).collect())]),
        ..HostSpecBody::default()
    }
}

pub fn a_secret() -> SecretUse {
    SecretUse {
        workload: Some(workload("caller")),
        from: "nats".to_owned(),
        path: "caller".to_owned(),
        field: None,
        version: None,
        no_cache: false,
        env: None,
    }
}

/// Calls a function of the caller's.
pub async fn drive(unit: &Arc<PreparedUnit>, function: &str, params: Vec<Val>) -> Result<Vec<Val>, CallFailure> {
    let callable = unit.callable(&component()).unwrap();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let function = function.to_owned();
    let deadline = Instant::now() + callable.time_limit();
    let work: Work = Box::new(move |store, instance| {
        Box::pin(async move {
            let drive = instance.get_export_index(&mut *store, None, DRIVE).unwrap();
            let index = instance.get_export_index(&mut *store, Some(&drive), &function).unwrap();
            let function = instance.get_func(&mut *store, index).unwrap();
            let mut results = vec![Val::Bool(false); function.ty(&*store).results().len()];
            function.call_async(&mut *store, &params, &mut results).await?;
            let _ = sender.send(results);
            Ok(())
        })
    });
    callable.call(deadline, work).await?;
    Ok(receiver.await.unwrap())
}

/// Adds two numbers far away.
pub async fn add(unit: &Arc<PreparedUnit>, a: u32, b: u32) -> Result<u32, CallFailure> {
    let results = drive(unit, "add", vec![Val::U32(a), Val::U32(b)]).await?;
    let [Val::U32(sum)] = results[..] else {
        panic!("add gives {results:?}");
    };
    Ok(sum)
}

/// Two agents: a caller on the one and an answering unit on the other, reached.
pub struct Pair {
    pub nats: Nats,
    pub left: Agent,
    pub right: Agent,
    pub caller: Arc<PreparedUnit>,
    pub callee: Arc<PreparedUnit>,
}

impl Pair {
    pub async fn new(caller_plan: Plan, callee_plan: Plan) -> Self {
        let nats = Nats::start().await;
        let (left, right) = (Agent::new(&nats), Agent::new(&nats));
        let callee_unit = callee_plan.unit.clone();
        let caller_unit = caller_plan.unit.clone();
        let callee = right.prepare(callee_plan, &callee(0)).await;
        let caller = left.prepare(caller_plan, &caller()).await;
        right.set_live(&spec(std::slice::from_ref(&callee_unit), &[]), &[callee_unit]);
        left.set_live(&spec(&[], &[1]), &[caller_unit]);
        let pair = Self {
            nats,
            left,
            right,
            caller,
            callee,
        };
        reached(&pair.caller).await;
        pair
    }

    pub async fn plain() -> Self {
        Self::new(caller_plan(), Plan::new(unit("echo", 1))).await
    }
}

pub fn caller_plan() -> Plan {
    Plan {
        call: Some(call_echo()),
        ..Plan::new(unit("caller", 1))
    }
}

/// Waits until a caller's calls arrive.
pub async fn reached(caller: &Arc<PreparedUnit>) {
    let ask = async || add(caller, 1, 1).await.ok();
    tokio::time::timeout(SOON, eventually("the callee is reached", ask))
        .await
        .unwrap();
}

/// What the subjects of the answering unit begin with.
pub fn prefix(generation: u64) -> String {
    rpc_prefix(&realm(), &unit("echo", generation))
}
