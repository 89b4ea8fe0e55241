//! Calls of WASI 0.2 handlers: an instance each, or one instance for several calls, one after the other.
//!
//! In: a request. Out: a response as soon as the guest has begun one. A call runs in the task of its connection, and in
//! one of its own only if it goes on after its response is under way.

use crate::engine::lanes::Laned;
use crate::instance::GuestBody;
use crate::instance::body::{CappedBody, Run, TooLarge};
use crate::instance::component::{Handler, PreparedComponent};
use crate::limits::{IdlePlace, Permit};
use heddle_capability::{Ctx, Level};
use heddle_capability_http::{Refusal, Reply};
use http::{Request, Response};
use hyper::body::Incoming;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

/// Instances of one component that wait for their next call.
const IDLE_MAX: usize = 64;
/// How long an instance waits for its next call before it makes room.
const IDLE_TTL: Duration = Duration::from_secs(10);

/// A WASI 0.2 handler.
pub(crate) struct P2 {
    pre: ProxyPre<Ctx>,
    /// Calls that one instance serves.
    reuse: u32,
    idle: Mutex<Vec<Idle>>,
    sweeping: AtomicBool,
}

/// An instance between two calls.
struct Idle {
    instance: Instance,
    _place: IdlePlace,
    since: Instant,
}

struct Instance {
    store: Store<Ctx>,
    proxy: Proxy,
    served: u32,
}

impl P2 {
    pub(crate) fn new(pre: ProxyPre<Ctx>, reuse: u32) -> Self {
        Self {
            pre,
            reuse,
            idle: Mutex::default(),
            sweeping: AtomicBool::new(false),
        }
    }

    fn take_idle(&self) -> Option<Instance> {
        if self.reuse <= 1 {
            return None;
        }
        // The last one that became idle: its memory is the warmest.
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .map(|idle| idle.instance)
    }

    fn drop_idle(&self, before: Instant) -> usize {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let stale: Vec<Idle> = idle.extract_if(.., |idle| idle.since < before).collect();
        let left = idle.len();
        drop(idle);
        drop(stale);
        left
    }
}

type Head = Result<Response<WasiBody>, ErrorCode>;

enum First {
    /// The guest has begun a response, and runs on.
    Head(Head),
    /// The guest has ended.
    Ended(Result<(), Refusal>),
}

/// Serves one request with a handler of WASI 0.2.
pub(crate) async fn serve(
    component: &Arc<PreparedComponent>,
    permit: Permit,
    request: Request<Incoming>,
) -> Result<Response<Reply<GuestBody>>, Refusal> {
    let deadline = Instant::now() + component.maker.time;
    let (request, too_large) = CappedBody::of(request);
    let (send_head, mut head) = oneshot::channel();
    let run: Run = Box::pin(call(Arc::clone(component), permit, request, send_head, deadline));
    let mut run = Laned::new(run, &component.maker.grants.interrupts);
    // A guest may end without a response, and says so in two ways.
    let mut closed = false;
    let first = poll_fn(|cx| match Pin::new(&mut run).poll(cx) {
        Poll::Ready(ended) => Poll::Ready(First::Ended(ended.unwrap_or(Err(Refusal::Trapped)))),
        // On its own lane it says by itself that there is a response. Here it runs in this very task, so after each of
        // its turns it is enough to look.
        Poll::Pending if closed => Poll::Pending,
        Poll::Pending if run.is_slow() => match Pin::new(&mut head).poll(cx) {
            Poll::Ready(Ok(head)) => Poll::Ready(First::Head(head)),
            Poll::Ready(Err(_)) => {
                closed = true;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        },
        Poll::Pending => match head.try_recv() {
            Ok(head) => Poll::Ready(First::Head(head)),
            Err(_) => Poll::Pending,
        },
    });
    let first = tokio::time::timeout_at(deadline.into(), first).await.map_err(|_| {
        component.timed_out();
        Refusal::TimeLimit
    });
    let answered = match first {
        Ok(First::Head(Ok(response))) => {
            let run = Box::pin(async move { run.await.unwrap_or(Err(Refusal::Trapped)) });
            Ok(response.map(|body| Reply::Guest(GuestBody::of_call(body, run, deadline, component))))
        }
        Ok(First::Head(Err(code))) => Err(guest_error(component, &code)),
        Ok(First::Ended(Ok(()))) => match head.try_recv() {
            Ok(Ok(response)) => Ok(response.map(|body| Reply::Guest(GuestBody::of_running(body, component, None)))),
            Ok(Err(code)) => Err(guest_error(component, &code)),
            Err(_) => {
                component
                    .maker
                    .log
                    .write(Level::Error, "the call ended without a response");
                Err(Refusal::NoResponse)
            }
        },
        Ok(First::Ended(Err(refusal))) | Err(refusal) => Err(refusal),
    };
    answered.map_err(|refusal| TooLarge::or(too_large.as_ref(), refusal))
}

fn guest_error(component: &PreparedComponent, code: &ErrorCode) -> Refusal {
    component
        .maker
        .log
        .write(Level::Error, &format!("the call answered with an error: {code:?}"));
    Refusal::GuestError
}

/// Runs one call to its end. The response leaves through `head` on the way.
async fn call(
    component: Arc<PreparedComponent>,
    _permit: Permit,
    request: Request<CappedBody>,
    head: oneshot::Sender<Head>,
    deadline: Instant,
) -> Result<(), Refusal> {
    let Handler::P2(handler) = &component.handler else {
        return Err(Refusal::NoHandler);
    };
    let mut instance = match handler.take_idle() {
        Some(instance) => instance,
        None => instantiate(&component, handler, deadline).await?,
    };
    let store = &mut instance.store;
    store.data_mut().set_deadline(deadline);
    let called = async {
        let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
        let out = store.data_mut().http().new_response_outparam(head)?;
        instance
            .proxy
            .wasi_http_incoming_handler()
            .call_handle(&mut *store, request, out)
            .await
    };
    if let Err(error) = called.await {
        return Err(component.failed(&error, false));
    }
    instance.served += 1;
    if instance.served < handler.reuse {
        keep(&component, handler, instance);
    }
    Ok(())
}

async fn instantiate(component: &PreparedComponent, handler: &P2, deadline: Instant) -> Result<Instance, Refusal> {
    let mut store = component.maker.store(deadline);
    match handler.pre.instantiate_async(&mut store).await {
        Ok(proxy) => Ok(Instance {
            store,
            proxy,
            served: 0,
        }),
        Err(error) => {
            let host_full = store.data().refused_by_host();
            Err(component.failed(&error, host_full))
        }
    }
}

/// Keeps an instance for its next call, and sees to it that it is not kept for ever.
fn keep(component: &Arc<PreparedComponent>, handler: &P2, instance: Instance) {
    {
        let mut idle = handler.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= IDLE_MAX {
            return;
        }
        let Some(place) = component.maker.idle.take() else {
            return;
        };
        idle.push(Idle {
            instance,
            _place: place,
            since: Instant::now(),
        });
    }
    if handler.sweeping.swap(true, Ordering::AcqRel) {
        return;
    }
    // One task per component, and only while there is something to sweep. It must not keep the unit alive.
    let component = Arc::downgrade(component);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(IDLE_TTL).await;
            let Some(component) = component.upgrade() else { return };
            let Handler::P2(handler) = &component.handler else {
                return;
            };
            let Some(before) = Instant::now().checked_sub(IDLE_TTL) else {
                continue;
            };
            if handler.drop_idle(before) == 0 {
                handler.sweeping.store(false, Ordering::Release);
                // One that became idle in between would wait for the next call to be swept: look once more.
                let none = handler.idle.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
                if none || handler.sweeping.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        }
    });
}
