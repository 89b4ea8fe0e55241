//! What the store of one instance holds, and the linker with everything that WASI has standardised.
//!
//! In: a log, a memory limit and a deadline. Out: a context with WASI linked whole and nothing granted: no folder, no
//! address, no environment, no argument.

use crate::egress::DenyOutgoing;
use crate::log::{Level, Log};
use crate::memory::MemoryMeter;
use crate::slots::Slots;
use crate::stdio::LineStream;
use heddle_protocol::host_spec::Wasi;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// What the store of one instance holds.
pub struct Ctx {
    /// The resources that the instance has handles to.
    pub table: ResourceTable,
    /// Values that capabilities keep per instance.
    pub slots: Slots,
    memory: MemoryMeter,
    deadline: Instant,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: DenyOutgoing,
}

/// The trap of a guest that still computes at its deadline.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the call reached its time limit")]
pub struct TimeLimitReached;

impl Ctx {
    /// A context that writes to that log, has that much memory and must be done by then.
    pub fn new(log: &Arc<Log>, memory: MemoryMeter, deadline: Instant) -> Self {
        let wasi = WasiCtx::builder()
            .stdout(LineStream::new(Arc::clone(log), Level::Info))
            .stderr(LineStream::new(Arc::clone(log), Level::Warn))
            .build();
        Self {
            table: ResourceTable::new(),
            slots: Slots::default(),
            memory,
            deadline,
            wasi,
            http: WasiHttpCtx::new(),
            outgoing: DenyOutgoing { log: Arc::clone(log) },
        }
    }

    /// Sets when the guest must be done.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Whether growth was refused because the host is full rather than the instance.
    pub fn refused_by_host(&self) -> bool {
        self.memory.refused_by_host()
    }

    /// Makes a store of this context. At each tick of its engine's epoch a guest that computes lets others run; one that
    /// is past its deadline traps with [`TimeLimitReached`].
    pub fn into_store(self, engine: &Engine) -> Store<Self> {
        let mut store = Store::new(engine, self);
        store.limiter(|ctx| &mut ctx.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            if Instant::now() >= store.data().deadline {
                return Err(TimeLimitReached.into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }
}

impl WasiView for Ctx {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Ctx {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outgoing,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// A linker with everything that WASI has standardised; the 0.3 engine has 0.2 as well, which its guests' libraries use.
pub fn base_linker(engine: &Engine, wasi: Wasi) -> wasmtime::Result<Linker<Ctx>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    if wasi == Wasi::P3 {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    Ok(linker)
}
