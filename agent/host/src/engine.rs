//! The two wasmtime engines of an agent, and what they compile and load.
//!
//! In: how much room there is, and the bytes of components. Out: compiled components, ready to be linked. Guests of WASI
//! 0.2 run on an engine without concurrency support, which makes their calls cheaper; those of 0.3 need it.

mod config;
pub(crate) mod lanes;
mod ticker;

use crate::engine::config::{PoolSize, engine_config};
use crate::limits::IdleRoom;
use heddle_capability::{Ctx, MemoryBudget, base_linker};
#[cfg(feature = "compiler")]
use heddle_engine::CompileError;
use heddle_engine::EngineProfile;
use heddle_protocol::host_spec::Wasi;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

pub use config::{Allocator, EngineOptions};

/// Both engines, and what their instances share. Cheap to clone.
#[derive(Clone)]
pub struct Engines {
    shared: Arc<Shared>,
}

struct Shared {
    profile: EngineProfile,
    p2: OneEngine,
    p3: OneEngine,
    allocator: Allocator,
    fallback: Option<String>,
    instance_memory_max: Option<u64>,
    budget: Arc<MemoryBudget>,
    idle: Arc<IdleRoom>,
}

struct OneEngine {
    engine: Engine,
    linker: Linker<Ctx>,
}

/// A component that is compiled and loaded. Cheap to clone; components with the same bytes may share one.
#[derive(Clone)]
pub struct CompiledComponent {
    pub(crate) component: Component,
    pub(crate) wasi: Wasi,
    pub(crate) engines: Engines,
    /// It, linked with nothing but what every agent offers: the same for all units that bind nothing.
    pub(crate) unbound: Arc<OnceLock<InstancePre<Ctx>>>,
}

/// Why an engine cannot be made, or a component not be compiled or loaded.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No engine can be made.
    #[error("failed to start the {wasi:?} engine")]
    Start {
        /// Which of the two.
        wasi: Wasi,
        /// Why.
        source: wasmtime::Error,
    },
    /// The bytes are no component that this engine can run, or are too many.
    #[cfg(feature = "compiler")]
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Compiled code cannot be loaded: it is damaged, or made by another engine.
    #[error("failed to load compiled code")]
    Load(#[source] wasmtime::Error),
}

impl Engines {
    /// Makes both engines, and starts the clock that interrupts guests.
    ///
    /// Where the pool cannot be reserved (too little address space, say) instances are made on demand instead;
    /// [`Engines::fallback`] says why.
    pub fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        let pool = match options.allocator {
            Allocator::Pooling => Some(PoolSize::of(options)),
            Allocator::OnDemand => None,
        };
        let profile = EngineProfile::of_this_machine();
        let made = both(&profile, pool.as_ref());
        let (engines, allocator, fallback) = match (made, pool.is_some()) {
            (Ok(engines), true) => (engines, Allocator::Pooling, None),
            (Ok(engines), false) => (engines, Allocator::OnDemand, None),
            (Err(error), false) => return Err(error),
            (Err(error), true) => {
                let why = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(why, "the instance pool cannot be reserved; making instances on demand");
                (both(&profile, None)?, Allocator::OnDemand, Some(why))
            }
        };
        let [p2, p3] = engines;
        ticker::start([&p2.engine, &p3.engine]);
        let instance_memory_max = (allocator == Allocator::Pooling).then_some(options.instance_memory_max);
        let budget = Arc::new(MemoryBudget::new(options.memory_bytes));
        // Half of the pool stays free for instances that work.
        let idle = Arc::new(IdleRoom::new(options.instances / 2));
        Ok(Self {
            shared: Arc::new(Shared {
                profile,
                p2,
                p3,
                allocator,
                fallback,
                instance_memory_max,
                budget,
                idle,
            }),
        })
    }

    /// What code must be made for, to be loaded here.
    pub fn profile(&self) -> &EngineProfile {
        &self.shared.profile
    }

    /// A digest of everything that compiled code depends on. Compiled code fits only the same fingerprint.
    pub fn fingerprint(&self, wasi: Wasi) -> String {
        self.shared.profile.fingerprint(wasi)
    }

    /// Compiles a component to code that [`Engines::load_compiled`] takes. Takes seconds of CPU time for large ones: call
    /// it where it may block.
    #[cfg(feature = "compiler")]
    pub fn compile(&self, wasm: &[u8], wasi: Wasi) -> Result<Vec<u8>, EngineError> {
        Ok(heddle_engine::compile(&self.shared.profile, wasi, wasm)?)
    }

    /// Loads code by mapping its file.
    ///
    /// The caller vouches for the file: that this host compiled it or has it from its realm's scheduler, for the same
    /// fingerprint, and that nobody changed it since. Loading forged code is running it.
    pub fn load_compiled(&self, path: &Path, wasi: Wasi) -> Result<CompiledComponent, EngineError> {
        // SAFETY: the cache hands out only files that this agent wrote and whose MAC it has just checked; what it writes it
        // compiled itself, or the realm key signed it.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize_file(&self.one(wasi).engine, path) };
        Ok(self.loaded(component.map_err(EngineError::Load)?, wasi))
    }

    /// Loads code that is kept in memory only, as when the disk is full. The caller vouches for it in the same way.
    pub fn load_code(&self, code: &[u8], wasi: Wasi) -> Result<CompiledComponent, EngineError> {
        // SAFETY: as above; the code was made, or its digest and signature were checked, a moment ago.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(&self.one(wasi).engine, code) };
        Ok(self.loaded(component.map_err(EngineError::Load)?, wasi))
    }

    /// Compiles a component and keeps the code in memory only.
    #[cfg(feature = "compiler")]
    pub fn load_bytes(&self, wasm: &[u8], wasi: Wasi) -> Result<CompiledComponent, EngineError> {
        self.load_code(&self.compile(wasm, wasi)?, wasi)
    }

    /// How instances are made: `pooling` or `on-demand`.
    pub fn allocator(&self) -> Allocator {
        self.shared.allocator
    }

    /// Why instances are made on demand although a pool was asked for.
    pub fn fallback(&self) -> Option<&str> {
        self.shared.fallback.as_deref()
    }

    /// The most memory that one instance may have, in bytes: a slot of the pool. None without a pool.
    pub fn instance_memory_max(&self) -> Option<u64> {
        self.shared.instance_memory_max
    }

    /// What all instances have together, in bytes of linear memory.
    pub fn memory_used_bytes(&self) -> u64 {
        self.shared.budget.used_bytes()
    }

    pub(crate) fn budget(&self) -> &Arc<MemoryBudget> {
        &self.shared.budget
    }

    pub(crate) fn idle(&self) -> &Arc<IdleRoom> {
        &self.shared.idle
    }

    /// The engine itself, for those who run components their own way.
    pub fn engine(&self, wasi: Wasi) -> &Engine {
        &self.one(wasi).engine
    }

    /// A linker with WASI in it, to add to.
    pub(crate) fn linker(&self, wasi: Wasi) -> Linker<Ctx> {
        self.one(wasi).linker.clone()
    }

    fn one(&self, wasi: Wasi) -> &OneEngine {
        match wasi {
            Wasi::P2 => &self.shared.p2,
            Wasi::P3 => &self.shared.p3,
        }
    }

    fn loaded(&self, component: Component, wasi: Wasi) -> CompiledComponent {
        CompiledComponent {
            component,
            wasi,
            engines: self.clone(),
            unbound: Arc::default(),
        }
    }
}

fn both(profile: &EngineProfile, pool: Option<&PoolSize>) -> Result<[OneEngine; 2], EngineError> {
    let make = |wasi| {
        let failed = |source| EngineError::Start { wasi, source };
        let config = engine_config(profile, wasi, pool).map_err(failed)?;
        let engine = Engine::new(&config).map_err(failed)?;
        let linker = base_linker(&engine, wasi).map_err(failed)?;
        Ok::<_, EngineError>(OneEngine { engine, linker })
    };
    Ok([make(Wasi::P2)?, make(Wasi::P3)?])
}
