//! What the store of one instance holds, and the linker with everything that WASI has standardised.
//!
//! In: a log, a memory limit and a deadline. Out: a context with WASI linked whole and nothing granted: no folder, no
//! address, no environment, no argument.

use crate::cpu::{self, CpuBudget, Interrupts, TICK};
use crate::egress::Outgoing;
use crate::grants::Grants;
use crate::log::{Level, Log};
use crate::memory::MemoryMeter;
use crate::slots::Slots;
use crate::stdio::LineStream;
use heddle_protocol::host_spec::Wasi;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Handles that one instance may have at the same time for each call that it serves at once: to requests, headers, bodies, streams. What is behind them is
/// memory of the host, which the memory limit does not count. A guest that talks to a hundred servers needs some hundreds.
const HANDLES_MAX: usize = 2_048;
/// The largest set of headers, in bytes: as large as the head of a request may be.
const HEADERS_BYTES_MAX: usize = 64 << 10;

/// What a tick counts where nobody keeps since when a guest computes: it may only have come back from waiting.
const UNKNOWN_TURN: Duration = Duration::from_millis(2);

/// What the store of one instance holds.
pub struct Ctx {
    /// The resources that the instance has handles to.
    pub table: ResourceTable,
    /// Values that capabilities keep per instance.
    pub slots: Slots,
    memory: MemoryMeter,
    deadline: Instant,
    /// How long this call has computed, as far as ticks have told.
    computed: Duration,
    cpu: Arc<CpuBudget>,
    interrupts: Arc<Interrupts>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
}

/// The trap of a guest that still computes at its deadline.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the call reached its time limit")]
pub struct TimeLimitReached;

impl Ctx {
    /// A context that writes to that log, has that much memory, must be done by then, and is granted that.
    pub fn new(log: &Arc<Log>, memory: MemoryMeter, deadline: Instant, grants: &Grants) -> Self {
        let wasi = WasiCtx::builder()
            .envs(&grants.environment())
            .stdout(LineStream::new(Arc::clone(log), Level::Info))
            .stderr(LineStream::new(Arc::clone(log), Level::Warn))
            .build();
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HEADERS_BYTES_MAX);
        let mut ctx = Self {
            table: ResourceTable::new(),
            slots: Slots::default(),
            memory,
            deadline,
            computed: Duration::ZERO,
            cpu: Arc::clone(&grants.cpu),
            interrupts: Arc::clone(&grants.interrupts),
            wasi,
            http,
            outgoing: Outgoing {
                log: Arc::clone(log),
                egress: Arc::clone(&grants.egress),
            },
        };
        ctx.allow_calls(1);
        ctx
    }

    /// Makes room for the handles of so many calls at the same time.
    pub fn allow_calls(&mut self, calls: u32) {
        let calls = usize::try_from(calls.max(1)).unwrap_or(usize::MAX);
        self.table.set_max_capacity(HANDLES_MAX.saturating_mul(calls));
    }

    /// Sets when the guest must be done.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
        self.computed = Duration::ZERO;
    }

    /// When the guest must be done: a call that waits for something outside should be back before.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether growth was refused because the host is full rather than the instance.
    pub fn refused_by_host(&self) -> bool {
        self.memory.refused_by_host()
    }

    /// Makes a store of this context. At each tick of its engine's epoch a guest that computes lets others run, and pauses when its unit has used its processor time; one that
    /// is past its deadline traps with [`TimeLimitReached`].
    pub fn into_store(self, engine: &Engine) -> Store<Self> {
        let mut store = Store::new(engine, self);
        store.limiter(|ctx| &mut ctx.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let (ctx, now) = (store.data_mut(), Instant::now());
            if now >= ctx.deadline {
                return Err(TimeLimitReached.into());
            }
            let computed = cpu::computed();
            ctx.computed += computed.unwrap_or(UNKNOWN_TURN);
            if ctx.computed >= TICK {
                ctx.interrupts.note(now);
            }
            Ok(match ctx.cpu.tick(now, computed.unwrap_or(TICK)) {
                None => UpdateDeadline::Yield(1),
                Some(pause) => UpdateDeadline::YieldCustom(1, Box::pin(tokio::time::sleep(pause))),
            })
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
