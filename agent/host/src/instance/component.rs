//! One component of a unit: how its instances are made, and the way of a request to it.
//!
//! In: a request. Out: the guest's response, or why there is none.

use crate::instance::GuestBody;
use crate::instance::p2::{self, P2};
use crate::instance::p3;
use crate::limits::{Admission, IdleRoom};
use heddle_capability::{Ctx, Grants, Level, Log, MemoryBudget, MemoryMeter, TimeLimitReached};
use heddle_capability_http::{Refusal, Reply};
use heddle_protocol::defaults::HTTP_BODY_BYTES_MAX;
use heddle_protocol::id::{ComponentName, UnitId};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use wasmtime::component::InstancePre;
use wasmtime::{Engine, PoolConcurrencyLimitError, Store};

/// A component that is linked and was tried.
pub(crate) struct PreparedComponent {
    pub(crate) unit: UnitId,
    pub(crate) name: ComponentName,
    pub(crate) pre: InstancePre<Ctx>,
    pub(crate) maker: Maker,
    pub(crate) handler: Handler,
    pub(crate) admission: Arc<Admission>,
    pub(crate) calls: AtomicU64,
    pub(crate) failed_calls: AtomicU64,
}

/// How a component takes requests.
pub(crate) enum Handler {
    P2(P2),
    P3(p3::P3),
    /// Not at all: it is there for other reasons.
    None,
}

/// Makes stores within the workload's limits.
#[derive(Clone)]
pub(crate) struct Maker {
    pub(crate) engine: Engine,
    pub(crate) budget: Arc<MemoryBudget>,
    pub(crate) idle: Arc<IdleRoom>,
    pub(crate) log: Arc<Log>,
    pub(crate) memory_bytes: u64,
    pub(crate) grants: Arc<Grants>,
    /// Wall time of one call.
    pub(crate) time: Duration,
}

impl Maker {
    pub(crate) fn store(&self, deadline: Instant) -> Store<Ctx> {
        let memory = MemoryMeter::new(Arc::clone(&self.budget), self.memory_bytes);
        Ctx::new(&self.log, memory, deadline, &self.grants).into_store(&self.engine)
    }
}

impl PreparedComponent {
    /// Serves one request.
    pub(crate) async fn serve(
        component: &Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Reply<GuestBody>>, Refusal> {
        let permit = component.admission.admit().ok_or(Refusal::Overloaded)?;
        if request.body().size_hint().lower() > HTTP_BODY_BYTES_MAX {
            return Err(Refusal::BodyTooLarge);
        }
        match &component.handler {
            Handler::P2(_) => p2::serve(component, permit, request).await,
            Handler::P3(handler) => p3::serve(component, handler, permit, request).await,
            Handler::None => Err(Refusal::NoHandler),
        }
    }

    /// Tells the log why a call failed, and says which answer that makes.
    pub(crate) fn failed(&self, error: &wasmtime::Error, host_full: bool) -> Refusal {
        let refusal = match error {
            error if error.is::<TimeLimitReached>() => Refusal::TimeLimit,
            error if host_full || error.is::<PoolConcurrencyLimitError>() => Refusal::HostFull,
            _ => Refusal::Trapped,
        };
        match refusal {
            Refusal::TimeLimit => self.timed_out(),
            Refusal::HostFull => tracing::debug!(%error, "no room for another instance"),
            // The chain and the guest's backtrace, which are the workload's own business.
            _ => {
                self.maker.grants.interrupts.trapped(Instant::now());
                self.maker
                    .log
                    .write(Level::Error, &format!("the call failed: {error:?}"));
            }
        }
        refusal
    }

    /// Tells the log that a call was stopped at its time limit.
    pub(crate) fn timed_out(&self) {
        let text = format!(
            "the call was stopped: it took longer than {} ms",
            self.maker.time.as_millis()
        );
        self.maker.log.write(Level::Error, &text);
    }
}
