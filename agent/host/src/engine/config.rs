//! How instances are made. In: how much room there is. Out: wasmtime's configuration, each number with its reason. What
//! native code depends on is set in `heddle-engine`.

use heddle_engine::EngineProfile;
use heddle_protocol::host_spec::Wasi;
use std::fmt;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How instances are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocator {
    /// From a pool of slots that is reserved at start: fast, and memory of an instance has an upper bound.
    Pooling,
    /// Each by asking the system: slower, and needs no address space ahead.
    OnDemand,
}

impl Allocator {
    /// The allocator's name, as hellos report it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pooling => "pooling",
            Self::OnDemand => "on-demand",
        }
    }
}

impl fmt::Display for Allocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How much room instances have.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How instances are made.
    pub allocator: Allocator,
    /// Instances that may live at the same time on each engine, when pooling.
    pub instances: u32,
    /// The most memory that one instance may have, in bytes, when pooling.
    pub instance_memory_max: u64,
    /// Memory that all instances may have together, in bytes.
    pub memory_bytes: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            allocator: Allocator::Pooling,
            // As many as a host takes replicas by default. Each takes 4 GiB of address space twice, of 128 TiB.
            instances: 1_000,
            // Twice what a workload's limit is by default.
            instance_memory_max: 128 << 20,
            memory_bytes: u64::MAX,
        }
    }
}

/// The pool's numbers, from the options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolSize {
    instances: u32,
    memory_bytes_max: usize,
}

impl PoolSize {
    pub(crate) fn of(options: &EngineOptions) -> Self {
        let memory_bytes_max = usize::try_from(options.instance_memory_max).unwrap_or(usize::MAX);
        Self {
            instances: options.instances.max(1),
            memory_bytes_max,
        }
    }
}

/// Core instances in one component: a WASI component has four, a composed group some for each of its parts.
const CORE_INSTANCES_PER_INSTANCE: u32 = 8;
/// Memories per instance in the pool: one is the rule, a composed group has one for each of its parts.
const MEMORIES_PER_INSTANCE: u32 = 2;
/// Tables per instance in the pool: one for the guest's functions, one for the adapters around it.
const TABLES_PER_INSTANCE: u32 = 4;
/// Stacks per instance: one for the call, one to spare for instantiation.
const STACKS_PER_INSTANCE: u32 = 2;
/// Core instances of one component at most: a composed group of about fifty parts.
const CORE_INSTANCES_MAX: u32 = 200;
/// Memories, and tables, of one component at most.
const MEMORIES_MAX: u32 = 50;
/// Metadata of one component or core instance at most, in bytes. Python and JavaScript guests need about 100 KiB.
const INSTANCE_METADATA_BYTES_MAX: usize = 1 << 20;
/// Elements of one pooled table: interpreters compiled to WebAssembly have some ten thousand functions.
const TABLE_ELEMENTS_MAX: usize = 50_000;
/// Memory of a slot that is cleared by writing zeros instead of being given back. Giving back takes a lock of the whole
/// address space, and every thread of the process feels it, so small guests run about twice as fast this way; most touch
/// less than this. Where the kernel tells which pages were touched (Linux 6.7 and later), only these are written: a fresh
/// instance of a Rust guest then costs 15 µs instead of 30. It is more than the stack that the linker gives a guest
/// (1 MiB), because one that uses all of it up would be felt by its neighbours.
const MEMORY_KEPT_BYTES: usize = 1_280 << 10;
/// The same for tables.
const TABLE_KEPT_BYTES: usize = 64 << 10;
/// Free slots that keep their guest's image mapped, so that its next instance finds everything in place.
const WARM_SLOTS_MAX: u32 = 256;
/// The configuration of one engine: what its code depends on, and how its instances are made.
pub(crate) fn engine_config(profile: &EngineProfile, wasi: Wasi, pool: Option<&PoolSize>) -> wasmtime::Result<Config> {
    let mut config = profile.config(wasi)?;
    if let Some(pool) = pool {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(pool)));
    }
    Ok(config)
}

fn pooling(size: &PoolSize) -> PoolingAllocationConfig {
    let times = |n: u32| size.instances.saturating_mul(n);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(size.instances)
        .total_core_instances(times(CORE_INSTANCES_PER_INSTANCE))
        .total_memories(times(MEMORIES_PER_INSTANCE))
        .total_tables(times(TABLES_PER_INSTANCE))
        .total_stacks(times(STACKS_PER_INSTANCE))
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(MEMORIES_MAX)
        .max_component_instance_size(INSTANCE_METADATA_BYTES_MAX)
        .max_core_instance_size(INSTANCE_METADATA_BYTES_MAX)
        .max_memory_size(size.memory_bytes_max)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(MEMORY_KEPT_BYTES)
        .pagemap_scan(Enabled::Auto)
        .table_keep_resident(TABLE_KEPT_BYTES)
        .max_unused_warm_slots(WARM_SLOTS_MAX);
    pool
}
