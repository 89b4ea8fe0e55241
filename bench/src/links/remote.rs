//! A call from component to component over NATS, as two agents carry it: a fresh instance of the callee for each.
//!
//! In: where NATS is, how many calls. Out: microseconds a call, as the loop inside the caller sees it.

use super::guests::{self, Kind, RUN, SINK};
use anyhow::{Context as _, Result, bail};
use heddle_agent::engine::{EngineOptions, Engines};
use heddle_agent::instance::{PrepareRequest, PreparedUnit, prepare};
use heddle_agent::links::Links;
use heddle_agent::secrets::SecretStore;
use heddle_capability::{CapabilitySet, NoLogs};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{
    Call, Callee, HostSpecBody, Instances, Limits, Serve, Template, TemplateComponent, Wasi,
};
use heddle_protocol::id::{ComponentName, Generation, Realm, UnitId, WorkloadId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The callee serves within this time.
const SERVES_WITHIN: Duration = Duration::from_secs(20);
/// Samples of which the median is taken.
const SAMPLES: usize = 9;

/// Medians in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Remote {
    /// A u32 there and back.
    pub u32_us: f64,
    /// 64 KiB there and a u32 back.
    pub bytes64k_us: f64,
}

/// Measures about `calls` calls of each kind.
pub async fn measure(url: &str, calls: usize) -> Result<Remote> {
    let engines = Engines::new(&EngineOptions::default())?;
    let links = || -> Result<Links> {
        Ok(Links::new(
            Realm::parse("bench")?,
            Some(url.to_owned()),
            SecretStore::default(),
        ))
    };
    let (near, far) = (links()?, links()?);
    let (caller, callee) = (unit_id("caller")?, unit_id("callee")?);
    let answering = unit(&engines, &far, &callee, &guests::callee()?, BTreeMap::new()).await?;
    let call = Call {
        interface: None,
        part: None,
        to: Callee::Workload(callee.workload.clone()),
        instance: SINK.to_owned(),
        timeout_ms: 5_000,
        idempotent: false,
        max_in_flight: 128,
    };
    let calls_sink = BTreeMap::from([(SINK.to_owned(), call)]);
    let calling = unit(&engines, &near, &caller, &guests::caller()?, calls_sink).await?;
    let serve = Serve {
        unit: callee.clone(),
        component: component()?,
        interface: SINK.to_owned(),
        prefix: None,
    };
    let spec = HostSpecBody {
        serves: vec![serve],
        callees: BTreeMap::from([(callee.workload.clone(), vec![callee.generation])]),
        ..HostSpecBody::default()
    };
    far.set_live(&spec, [&callee].into_iter(), |serve| {
        answering.callable(&serve.component)
    });
    let only_calls = HostSpecBody {
        serves: Vec::new(),
        ..spec
    };
    near.set_live(&only_calls, [&caller].into_iter(), |_| None);
    reached(&calling).await?;
    let times = u32::try_from(calls.div_ceil(SAMPLES))?;
    let measured = Remote {
        u32_us: median(&calling, Kind::U32, times).await?,
        bytes64k_us: median(&calling, Kind::Bytes64k, times).await?,
    };
    far.close().await;
    Ok(measured)
}

async fn median(unit: &Arc<PreparedUnit>, kind: Kind, times: u32) -> Result<f64> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        samples.push(turn(unit, kind, times).await? / f64::from(times));
    }
    Ok(super::median(samples))
}

/// Waits until the callee's subscription has reached NATS.
async fn reached(unit: &Arc<PreparedUnit>) -> Result<()> {
    let until = Instant::now() + SERVES_WITHIN;
    while let Err(error) = turn(unit, Kind::U32, 1).await {
        if Instant::now() >= until {
            bail!(error.context("failed to reach the callee in time"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Microseconds of so many calls.
async fn turn(unit: &Arc<PreparedUnit>, kind: Kind, times: u32) -> Result<f64> {
    let callable = unit.callable(&component()?).context("the caller is not there")?;
    let deadline = Instant::now() + callable.time_limit();
    let (took, taken) = oneshot::channel();
    let work: heddle_capability::Work = Box::new(move |store, instance| {
        Box::pin(async move {
            let missing = || wasmtime::Error::msg("the caller has no loops");
            let run = instance.get_export_index(&mut *store, None, RUN).ok_or_else(missing)?;
            let index = instance
                .get_export_index(&mut *store, Some(&run), kind.function())
                .ok_or_else(missing)?;
            let run = instance.get_typed_func::<(u32, u32), (u32,)>(&mut *store, index)?;
            let began = Instant::now();
            run.call_async(&mut *store, (times, kind.bytes())).await?;
            // The receiver waits below.
            let _ = took.send(began.elapsed().as_secs_f64() * 1e6);
            Ok(())
        })
    });
    callable.call(deadline, work).await?;
    Ok(taken.await?)
}

async fn unit(
    engines: &Engines,
    links: &Links,
    id: &UnitId,
    bytes: &[u8],
    calls: BTreeMap<String, Call>,
) -> Result<Arc<PreparedUnit>> {
    let name = component()?;
    let compiled = engines.load_bytes(bytes, Wasi::P2)?;
    let mut part = TemplateComponent::new(name.clone(), Digest::of(bytes), bytes.len() as u64, Wasi::P2);
    part.calls = calls;
    let template = Template {
        requires: Default::default(),
        components: vec![part],
        limits: Limits::new(64 << 20, 60_000, 100),
        instances: Instances {
            reuse: 1,
            concurrency: 1,
        },
        run: None,
        consumes: Vec::new(),
    };
    let request = PrepareRequest {
        unit: id.clone(),
        count: 1,
        template: Arc::new(template),
        components: BTreeMap::from([(name, compiled)]),
        capabilities: Arc::new(CapabilitySet::builder().build()),
        links: links.clone(),
        secrets: SecretStore::default(),
        addresses: Arc::default(),
        logs: Arc::new(NoLogs),
    };
    Ok(prepare(request).await?)
}

fn unit_id(name: &str) -> Result<UnitId> {
    Ok(UnitId {
        workload: WorkloadId::parse(&format!("bench/{name}"))?,
        generation: Generation(1),
    })
}

fn component() -> Result<ComponentName> {
    Ok(ComponentName::parse("main")?)
}
