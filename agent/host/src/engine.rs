//! The two wasmtime engines of an agent, and what they compile and load.
//!
//! In: how much room there is, and the bytes of components. Out: compiled components, ready to be linked. Guests of WASI
//! 0.2 run on an engine without concurrency support, which makes their calls cheaper; those of 0.3 need it.

mod config;
mod ticker;

use crate::engine::config::{PoolSize, engine_config};
use crate::limits::IdleRoom;
use heddle_capability::{Ctx, MemoryBudget, base_linker};
use heddle_protocol::defaults::ARTIFACT_BYTES_MAX;
use heddle_protocol::host_spec::Wasi;
use sha2::{Digest, Sha256};
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

pub use config::{Allocator, EngineOptions};

/// Both engines, and what their instances share. Cheap to clone.
#[derive(Clone)]
pub struct Engines {
    shared: Arc<Shared>,
}

struct Shared {
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
    /// The artifact is too large.
    #[error("failed to compile: the component has {bytes} bytes, more than {max}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The most that is taken.
        max: u64,
    },
    /// The bytes are no component that this engine can run.
    #[error("failed to compile the component")]
    Compile(#[source] wasmtime::Error),
    /// Compiled code cannot be loaded: it is damaged, or made by another engine.
    #[error("failed to load compiled code; it is compiled again")]
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
        let made = both(pool.as_ref());
        let (engines, allocator, fallback) = match (made, pool.is_some()) {
            (Ok(engines), true) => (engines, Allocator::Pooling, None),
            (Ok(engines), false) => (engines, Allocator::OnDemand, None),
            (Err(error), false) => return Err(error),
            (Err(error), true) => {
                let why = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(why, "the instance pool cannot be reserved; making instances on demand");
                (both(None)?, Allocator::OnDemand, Some(why))
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

    /// A digest of everything that compiled code depends on. Compiled code fits only the same fingerprint.
    pub fn fingerprint(&self, wasi: Wasi) -> String {
        let mut hasher = Sha256Hasher(Sha256::new());
        self.one(wasi).engine.precompile_compatibility_hash().hash(&mut hasher);
        hex::encode(&hasher.0.finalize()[..16])
    }

    /// Compiles a component to code that [`Engines::load_compiled`] takes. Takes seconds of CPU time for large ones: call
    /// it where it may block.
    pub fn compile(&self, wasm: &[u8], wasi: Wasi) -> Result<Vec<u8>, EngineError> {
        check_size(wasm)?;
        self.one(wasi)
            .engine
            .precompile_component(wasm)
            .map_err(EngineError::Compile)
    }

    /// Loads code that this host compiled itself, by mapping its file.
    ///
    /// The caller vouches for the file: that [`Engines::compile`] wrote it, with the same fingerprint, and that nobody
    /// changed it since. Loading forged code is running it.
    pub fn load_compiled(&self, path: &Path, wasi: Wasi) -> Result<CompiledComponent, EngineError> {
        // SAFETY: the artifact cache hands out only files that this host compiled and whose MAC it has just checked.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize_file(&self.one(wasi).engine, path) };
        Ok(self.loaded(component.map_err(EngineError::Load)?, wasi))
    }

    /// Compiles a component and keeps the code in memory only.
    pub fn load_bytes(&self, wasm: &[u8], wasi: Wasi) -> Result<CompiledComponent, EngineError> {
        check_size(wasm)?;
        let component = Component::new(&self.one(wasi).engine, wasm).map_err(EngineError::Compile)?;
        Ok(self.loaded(component, wasi))
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
        }
    }
}

fn both(pool: Option<&PoolSize>) -> Result<[OneEngine; 2], EngineError> {
    let make = |wasi| {
        let failed = |source| EngineError::Start { wasi, source };
        let engine = Engine::new(&engine_config(wasi, pool)).map_err(failed)?;
        let linker = base_linker(&engine, wasi).map_err(failed)?;
        Ok(OneEngine { engine, linker })
    };
    Ok([make(Wasi::P2)?, make(Wasi::P3)?])
}

fn check_size(wasm: &[u8]) -> Result<(), EngineError> {
    let (bytes, max) = (wasm.len() as u64, ARTIFACT_BYTES_MAX);
    if bytes > max {
        Err(EngineError::TooLarge { bytes, max })
    } else {
        Ok(())
    }
}

/// Feeds what is hashed to SHA-256, so that the same engine has the same fingerprint in every process.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
    }
}
