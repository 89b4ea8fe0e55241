//! The bodies that go through a guest: the request's, kept within its size, and the response's, which keeps the guest
//! running while it is sent.
//!
//! In: a client's bytes, and a guest's. Out: the same bytes.

use crate::instance::bulk::Bulk;
use crate::instance::component::PreparedComponent;
use crate::limits::Permit;
use bytes::Bytes;
use heddle_capability::Interrupts;
use heddle_capability_http::Refusal;
use heddle_protocol::defaults::HTTP_BODY_BYTES_MAX;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;
use wasmtime_wasi_http::{Error, WasiBody};

/// A call that is still running.
pub(crate) type Run = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// After so many bytes of an answer, and again after each time as many, it is asked whether its guest computes.
const LOOK_EVERY_BYTES: usize = 256 << 10;

/// The body of a guest's response.
///
/// It carries the guest that writes it: most guests are done as soon as their last bytes are taken, and so need no task
/// of their own. One that is not gets one, with the time that its call has left.
pub struct GuestBody {
    inner: Inner,
    rest: Option<Rest>,
    /// Bytes until the next look.
    unseen: usize,
    interrupts: Arc<Interrupts>,
    _permit: Option<Permit>,
}

enum Inner {
    Guest(WasiBody),
    /// The rest of a long answer, once its guest computes.
    Bulk(Bulk),
    /// Between two.
    Moving,
}

struct Rest {
    run: Run,
    deadline: Instant,
    component: Arc<PreparedComponent>,
}

impl GuestBody {
    /// The body of a guest that runs by itself, or not any more. The call counts until the body is sent.
    pub(crate) fn of_running(inner: WasiBody, component: &PreparedComponent, permit: Option<Permit>) -> Self {
        Self {
            inner: Inner::Guest(inner),
            rest: None,
            unseen: LOOK_EVERY_BYTES,
            interrupts: Arc::clone(&component.maker.grants.interrupts),
            _permit: permit,
        }
    }

    /// The body of a guest that has to be kept running.
    pub(crate) fn of_call(inner: WasiBody, run: Run, deadline: Instant, component: &Arc<PreparedComponent>) -> Self {
        let rest = Rest {
            run,
            deadline,
            component: Arc::clone(component),
        };
        let mut body = Self::of_running(inner, component, None);
        body.rest = Some(rest);
        body
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = match &mut self.inner {
            Inner::Guest(body) => Pin::new(body).poll_frame(cx),
            Inner::Bulk(bulk) => return bulk.poll_piece(cx),
            Inner::Moving => return Poll::Ready(None),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.unseen = self.unseen.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if self.unseen == 0 {
                self.look();
            }
        }
        polled
    }

    /// Leaves the rest of a long answer to the slow lane if the guest computes.
    fn look(&mut self) {
        self.unseen = LOOK_EVERY_BYTES;
        if !self.interrupts.lately(Instant::now()) {
            return;
        }
        self.inner = match std::mem::replace(&mut self.inner, Inner::Moving) {
            Inner::Guest(body) => Inner::Bulk(Bulk::of(body)),
            other => other,
        };
    }
}

impl Rest {
    fn spawn(self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            // What the guest does after its response is logged where it happens; nobody waits for it here.
            if tokio::time::timeout_at(self.deadline.into(), self.run).await.is_err() {
                self.component.timed_out();
            }
        });
    }
}

impl Drop for GuestBody {
    /// The body may be done with before its guest is: sent whole, or the client went away. In the second case the guest
    /// finds out when it writes.
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            rest.spawn();
        }
    }
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let frame = this.poll_inner(cx);
        let Some(mut rest) = this.rest.take() else { return frame };
        // One turn, now that its first bytes are taken: that ends most guests. One that goes on runs by itself from here,
        // under its deadline, however slowly the client reads.
        if rest.run.as_mut().poll(cx).is_pending() {
            rest.spawn();
        }
        if frame.is_ready() { frame } else { this.poll_inner(cx) }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Guest(body) => body.is_end_stream(),
            Inner::Bulk(_) => false,
            Inner::Moving => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Guest(body) => body.size_hint(),
            Inner::Bulk(_) | Inner::Moving => SizeHint::default(),
        }
    }
}

/// A request's body, cut off where it becomes too large.
pub(crate) struct CappedBody {
    inner: Incoming,
    left: u64,
    /// None where the size is known, and small enough, from the start.
    over: Option<TooLarge>,
}

/// Tells later whether a request's body was too large.
#[derive(Clone, Default)]
pub(crate) struct TooLarge(Arc<AtomicBool>);

impl TooLarge {
    /// The refusal to answer with: a guest that fails over a body that is too large is not the one to blame.
    pub(crate) fn or(flag: Option<&Self>, refusal: Refusal) -> Refusal {
        if flag.is_some_and(|flag| flag.0.load(Ordering::Relaxed)) {
            Refusal::BodyTooLarge
        } else {
            refusal
        }
    }
}

impl CappedBody {
    /// Caps the body of a request, unless its size is known.
    pub(crate) fn of(request: Request<Incoming>) -> (Request<Self>, Option<TooLarge>) {
        let known = request.body().size_hint().upper().is_some();
        let over = (!known).then(TooLarge::default);
        let request = request.map(|inner| Self {
            inner,
            left: HTTP_BODY_BYTES_MAX,
            over: over.clone(),
        });
        (request, over)
    }
}

impl Body for CappedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(frame)) => frame.map_err(Error::Hyper),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        let Some(over) = &self.over else {
            return Poll::Ready(Some(frame));
        };
        let bytes = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(frame))
            }
            None => {
                over.0.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(HTTP_BODY_BYTES_MAX)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
