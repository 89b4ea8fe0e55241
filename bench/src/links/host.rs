//! Calls within one process, in five ways.
//!
//! In: the two components. Out: nanoseconds a call. Composed by us on the agent's engine, put together by hand on an
//! engine as wasmtime comes and on one that can stop its guests, and two instances with a function of the host between them:
//! typed, and with dynamic values.

use super::guests::{self, Kind, RUN, SINK};
use anyhow::{Context as _, Result, ensure};
use heddle_agent::engine::{EngineOptions, Engines};
use heddle_compose::{Link, Part, compose};
use heddle_protocol::host_spec::Wasi;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Mutex;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Lift, Linker, LinkerInstance, Lower, TypedFunc, Val,
};
use wasmtime::{Config, Store, StoreContextMut};

/// A way from one component to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Composed as a workload's components are.
    Composed,
    /// Put together by hand, on an engine that nobody configured.
    Bare,
    /// The same on an engine that can stop a guest: whoever runs guests of strangers has to.
    Stoppable,
    /// A typed function of the host, to an instance in another store.
    Typed,
    /// The same with dynamic values.
    Dynamic,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Composed, Self::Bare, Self::Stoppable, Self::Typed, Self::Dynamic];

    /// As it stands in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Composed => "composed",
            Self::Bare => "bare",
            Self::Stoppable => "stoppable",
            Self::Typed => "typed",
            Self::Dynamic => "dynamic",
        }
    }
}

/// The engines.
pub struct Engine {
    agent: Engines,
    bare: wasmtime::Engine,
    stoppable: wasmtime::Engine,
}

/// A caller that is ready.
pub struct Caller {
    store: Store<()>,
    loops: BTreeMap<&'static str, TypedFunc<(u32, u32), (u32,)>>,
}

type Shared = Arc<Mutex<(Store<()>, wasmtime::component::Instance)>>;

impl Engine {
    /// Makes them.
    pub fn new() -> Result<Self> {
        let agent = Engines::new(&EngineOptions::default())?;
        let mut config = Config::new();
        // As on the agent's engine for WASI 0.2: it has no part in what is compared.
        config.concurrency_support(false);
        let bare = wasmtime::Engine::new(&config)?;
        config.epoch_interruption(true);
        let stoppable = wasmtime::Engine::new(&config)?;
        Ok(Self { agent, bare, stoppable })
    }

    /// A caller whose calls go that way.
    pub async fn caller(&self, way: Way) -> Result<Caller> {
        let engine = match way {
            Way::Bare => &self.bare,
            Way::Stoppable => &self.stoppable,
            Way::Composed | Way::Typed | Way::Dynamic => self.agent.engine(Wasi::P2),
        };
        let bytes = match way {
            Way::Composed => composed()?,
            Way::Bare | Way::Stoppable => guests::by_hand()?,
            Way::Typed | Way::Dynamic => guests::caller()?,
        };
        let component = Component::new(engine, bytes)?;
        let mut linker = Linker::new(engine);
        if matches!(way, Way::Typed | Way::Dynamic) {
            add_callee(way, engine, &mut linker).await?;
        }
        let mut store = new_store(engine);
        let instance = linker.instantiate_async(&mut store, &component).await?;
        let run = instance.get_export_index(&mut store, None, RUN).context("no loops")?;
        let mut loops = BTreeMap::new();
        for kind in Kind::ALL {
            let name = kind.function();
            let index = instance
                .get_export_index(&mut store, Some(&run), name)
                .context("no loop")?;
            loops.insert(name, instance.get_typed_func::<(u32, u32), (u32,)>(&mut store, index)?);
        }
        Ok(Caller { store, loops })
    }
}

/// A store that is never interrupted: what is measured is no guest of a fleet.
fn new_store(engine: &wasmtime::Engine) -> Store<()> {
    let mut store = Store::new(engine, ());
    store.set_epoch_deadline(u64::MAX >> 1);
    store
}

fn composed() -> Result<Vec<u8>> {
    let (caller, callee) = (guests::caller()?, guests::callee()?);
    let rename = BTreeMap::new();
    let part = |bytes| Part { bytes, rename: &rename };
    let parts = BTreeMap::from([("caller", part(&caller)), ("callee", part(&callee))]);
    let link = Link {
        from: "caller",
        import: SINK,
        to: "callee",
        export: SINK,
    };
    Ok(compose("caller", &parts, &[link])?)
}

/// Puts a function of the host before an instance in a store of its own.
async fn add_callee(way: Way, engine: &wasmtime::Engine, linker: &mut Linker<()>) -> Result<()> {
    let component = Component::new(engine, guests::callee()?)?;
    let sink = component.get_export_index(None, SINK).context("no sink")?;
    let index = |name: &str| component.get_export_index(Some(&sink), name).context("no function");
    let (u, s, b) = (index("u")?, index("s")?, index("b")?);
    let mut store = new_store(engine);
    let instance = Linker::new(engine).instantiate_async(&mut store, &component).await?;
    let callee: Shared = Arc::new(Mutex::new((store, instance)));
    let mut linker = linker.instance(SINK)?;
    if way == Way::Dynamic {
        for (name, index) in [("u", u), ("s", s), ("b", b)] {
            add_dynamic(&mut linker, name, index, &callee).await?;
        }
        return Ok(());
    }
    add_typed::<(u32,)>(&mut linker, "u", u, &callee).await?;
    add_typed::<(String,)>(&mut linker, "s", s, &callee).await?;
    add_typed::<(Vec<u8>,)>(&mut linker, "b", b, &callee).await
}

async fn add_typed<P>(
    linker: &mut LinkerInstance<'_, ()>,
    name: &str,
    index: ComponentExportIndex,
    callee: &Shared,
) -> Result<()>
where
    P: ComponentNamedList + Lift + Lower + Send + Sync + 'static,
{
    let function = {
        let (store, instance) = &mut *callee.lock().await;
        instance.get_typed_func::<P, (u32,)>(&mut *store, index)?
    };
    let callee = Arc::clone(callee);
    linker.func_wrap_async(name, move |_: StoreContextMut<'_, ()>, params: P| {
        let callee = Arc::clone(&callee);
        Box::new(async move { function.call_async(&mut callee.lock().await.0, params).await })
    })?;
    Ok(())
}

async fn add_dynamic(
    linker: &mut LinkerInstance<'_, ()>,
    name: &str,
    index: ComponentExportIndex,
    callee: &Shared,
) -> Result<()> {
    let function = {
        let (store, instance) = &mut *callee.lock().await;
        instance.get_func(&mut *store, index).context("no function")?
    };
    let callee = Arc::clone(callee);
    linker.func_new_async(name, move |_, _, params: &[Val], results: &mut [Val]| {
        let callee = Arc::clone(&callee);
        Box::new(async move { function.call_async(&mut callee.lock().await.0, params, results).await })
    })?;
    Ok(())
}

impl Caller {
    /// Nanoseconds a call, over as many calls as take `sample_us`.
    pub async fn sample(&mut self, kind: Kind, sample_us: u64) -> Result<f64> {
        let mut times: u32 = 1;
        loop {
            let took = self.turn(kind, times).await?;
            if took >= sample_us as f64 * 1e3 || times >= 1 << 30 {
                return Ok(took / f64::from(times));
            }
            // Towards the time that is wanted, at most tenfold at once.
            let factor = (sample_us as f64 * 1.2e3 / took.max(1.0)).clamp(1.5, 10.0);
            times = (f64::from(times) * factor).ceil() as u32;
        }
    }

    async fn turn(&mut self, kind: Kind, times: u32) -> Result<f64> {
        let run = self.loops.get(kind.function()).context("no loop")?;
        let began = Instant::now();
        let (sum,) = run.call_async(&mut self.store, (times, kind.bytes())).await?;
        let took = began.elapsed();
        let expected = match kind {
            // One and two and so on.
            Kind::U32 => (u64::from(times) * (u64::from(times) + 1) / 2) as u32,
            _ => times.wrapping_mul(kind.bytes()),
        };
        ensure!(sum == expected, "the callee got something else");
        Ok(took.as_secs_f64() * 1e9)
    }
}
