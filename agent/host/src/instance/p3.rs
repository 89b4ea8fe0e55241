//! Calls of WASI 0.3 handlers, which may serve several calls at the same time in one instance.
//!
//! In: a request. Out: the guest's response. wasmtime's own worker runs the instances; here is what it asks: how to make
//! one, whether it takes another call, and when it has had its time.

use crate::engine::lanes::spawn_slow;
use crate::instance::GuestBody;
use crate::instance::body::{CappedBody, TooLarge};
use crate::instance::component::{Maker, PreparedComponent};
use crate::limits::Permit;
use heddle_capability::{Ctx, Level};
use heddle_capability_http::{Refusal, Reply};
use heddle_protocol::host_spec::Instances;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;
use wasmtime::component::GuestTaskId;
use wasmtime::{PoolConcurrencyLimitError, Store, StoreContextMut};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::{
    ExpirationError, HandlerState, Instance, InstantiationError, ProxyHandler, ProxyPre, ShouldAccept,
    TrapOrPanicError, WorkerExpiration, WorkerState, WorkerStatus,
};

/// How long an instance waits for its next call before it makes room.
const IDLE_TTL: Duration = Duration::from_secs(10);
/// How long the worker's own clock waits beyond a call's limit: the call itself is stopped first, which says why.
const GRACE: Duration = Duration::from_millis(100);

/// A WASI 0.3 handler.
pub(crate) type P3 = ProxyHandler<State>;

/// What all instances of a component are made of.
pub(crate) struct State {
    maker: Maker,
    pre: ProxyPre<Ctx>,
    instances: Instances,
}

pub(crate) fn handler(maker: Maker, pre: ProxyPre<Ctx>, instances: Instances) -> P3 {
    ProxyHandler::new(State { maker, pre, instances })
}

/// Serves one request with a handler of WASI 0.3.
pub(crate) async fn serve(
    component: &Arc<PreparedComponent>,
    handler: &P3,
    permit: Permit,
    request: Request<Incoming>,
) -> Result<Response<Reply<GuestBody>>, Refusal> {
    let deadline = Instant::now() + component.maker.time;
    let (request, too_large) = CappedBody::of(request);
    let request = request.map(BodyExt::boxed_unsync);
    let calls = handler.clone();
    let call = async move { calls.handle(deadline, request).await };
    // Its workers begin on the lane that the call begins on, and cannot be moved. So a component begins on the slow one until
    // it is known to be quick.
    let interrupts = &component.maker.grants.interrupts;
    let before = interrupts.count();
    let answered = async {
        match interrupts.is_quick() && !interrupts.lately(Instant::now()) {
            true => call.await,
            false => spawn_slow(call).await.unwrap_or_else(|e| Err(wasmtime::Error::new(e))),
        }
    };
    // The worker may not get to its own clock while a guest computes.
    let answered = tokio::time::timeout_at((deadline + GRACE).into(), answered).await;
    let refusal = match answered {
        Ok(Ok(response)) => {
            interrupts.answered(before);
            return Ok(response.map(|body| Reply::Guest(GuestBody::of_running(body, component, Some(permit)))));
        }
        Ok(Err(error)) => refusal(component, &error, deadline),
        Err(_) => {
            component.timed_out();
            Refusal::TimeLimit
        }
    };
    Err(TooLarge::or(too_large.as_ref(), refusal))
}

fn refusal(component: &PreparedComponent, error: &wasmtime::Error, deadline: Instant) -> Refusal {
    // One that computes at its limit traps, and the worker says of every trap the same.
    let late = error.is::<TrapOrPanicError>() && Instant::now() >= deadline;
    if error.is::<ExpirationError>() || late {
        component.timed_out();
        return Refusal::TimeLimit;
    }
    if let Some(failed) = error.downcast_ref::<InstantiationError<Instant>>() {
        let full = failed.error.is::<PoolConcurrencyLimitError>() || failed.error.is::<HostFull>();
        return component.failed(&failed.error, full);
    }
    if error.is::<TrapOrPanicError>() {
        // The worker has told the log why.
        component.maker.grants.interrupts.trapped(Instant::now());
        return Refusal::Trapped;
    }
    component.failed(error, false)
}

/// An instance was refused its memory because the host is full.
#[derive(Debug, thiserror::Error)]
#[error("the host has no memory for another instance")]
struct HostFull;

impl HandlerState for State {
    type StoreData = Ctx;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<Ctx, Expiration, Worker>> {
        let deadline = Instant::now() + self.maker.time;
        let mut store = self.maker.store(deadline);
        store.data_mut().allow_calls(self.instances.concurrency);
        let made = tokio::time::timeout_at(deadline.into(), self.pre.instantiate_async(&mut store)).await;
        let proxy = match made {
            Ok(Ok(proxy)) => proxy,
            Ok(Err(_)) if store.data().refused_by_host() => return Err(HostFull.into()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(ExpirationError.into()),
        };
        let expiration = Expiration {
            time: self.maker.time,
            sleep: None,
        };
        let state = Worker {
            maker: self.maker.clone(),
            instances: self.instances,
        };
        Ok(Instance {
            store,
            proxy,
            view: Ctx::http,
            expiration,
            state,
        })
    }
}

/// When an instance has had its time.
pub(crate) struct Expiration {
    time: Duration,
    sleep: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl WorkerExpiration for Expiration {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, status: WorkerStatus, start: Instant) -> Poll<()> {
        let this = self.get_mut();
        let ends = start
            + match status {
                WorkerStatus::Idle => IDLE_TTL,
                WorkerStatus::Requests | WorkerStatus::PostReturn => this.time + GRACE,
            };
        let (_, sleep) = match &mut this.sleep {
            Some(sleep) if sleep.0 == ends => sleep,
            other => other.insert((ends, Box::pin(tokio::time::sleep_until(ends.into())))),
        };
        sleep.as_mut().poll(cx)
    }
}

/// One instance, as its worker sees it.
pub(crate) struct Worker {
    maker: Maker,
    instances: Instances,
}

impl WorkerState for Worker {
    type StoreData = Ctx;
    /// When the call must be done.
    type RequestData = Instant;

    fn should_accept_request(&self, concurrent_count: usize, total_count: usize) -> ShouldAccept {
        let at_most = |n: u32| usize::try_from(n.max(1)).unwrap_or(usize::MAX);
        if total_count >= at_most(self.instances.reuse) {
            ShouldAccept::Never
        } else if concurrent_count >= at_most(self.instances.concurrency) {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        mut store: StoreContextMut<'_, Ctx>,
        deadline: Instant,
        _task: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        // The latest of its calls is the one with the most time left.
        store.data_mut().set_deadline(deadline);
        Box::pin(tokio::time::sleep_until(deadline.into()))
    }

    fn drop(&self, store: Store<Ctx>, result: wasmtime::Result<()>) {
        drop(store);
        if let Err(error) = result {
            self.maker
                .log
                .write(Level::Error, &format!("an instance ended: {error:?}"));
        }
    }
}
