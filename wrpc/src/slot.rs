//! One call's place in a connection: what has arrived for it and who waits for it.
//!
//! In: messages that the mux sorted by token. Out: bytes in order, the peer's inbox, or the one failure that ends the
//! call. A slot never waits: what does not fit below its limit ends that call and no other.

use crate::error::{CallError, Failure};
use crate::header;
use async_nats::{Message, StatusCode, Subject};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Streams inside one call, whatever the interface says.
const NESTED_MAX: usize = 1 << 10;
/// Messages that may wait unread beside the bytes limit: many tiny messages cost more than their bytes.
const QUEUED_MESSAGES_MAX: usize = 1 << 14;

/// Patterns of the paths on which streams may arrive.
pub(crate) type Patterns = Box<[Box<[Option<usize>]>]>;

/// Which end of the call this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Waits for results.
    Caller,
    /// Waits for arguments.
    Callee,
}

/// What the callee said about itself.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Where it takes arguments and a cancel.
    pub(crate) inbox: Subject,
    /// Whether it understands our headers.
    pub(crate) ours: bool,
}

/// What the mux has to publish because of a message.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing.
    Nothing,
    /// A callee of another make waits for the end of the arguments: an empty message there.
    CloseParams(Subject),
}

/// How to make a slot.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) side: Side,
    /// Bytes that may wait unread.
    pub(crate) limit: usize,
    /// Bytes of the main channel, when the peer said so.
    pub(crate) expected: Option<u64>,
    pub(crate) patterns: Patterns,
    /// Nobody reads before the main channel is closed.
    pub(crate) whole: bool,
}

#[derive(Debug, Default)]
struct Channel {
    queue: VecDeque<Bytes>,
    closed: bool,
    waker: Option<Waker>,
}

impl Channel {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[derive(Debug)]
struct State {
    main: Channel,
    nested: BTreeMap<Box<[usize]>, Channel>,
    expected: Option<u64>,
    received: u64,
    queued_bytes: usize,
    queued_messages: usize,
    peer: Option<Peer>,
    params_sent: bool,
    failure: Option<Failure>,
    /// The peer has ended the call: there is nobody to cancel.
    ended: bool,
    waiters: Vec<Waker>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Slot {
    side: Side,
    limit: usize,
    whole: bool,
    patterns: Patterns,
    state: Mutex<State>,
}

impl Slot {
    pub(crate) fn new(plan: Plan) -> Self {
        let main = Channel {
            closed: plan.expected == Some(0),
            ..Channel::default()
        };
        Self {
            side: plan.side,
            limit: plan.limit,
            whole: plan.whole,
            patterns: plan.patterns,
            state: Mutex::new(State {
                main,
                nested: BTreeMap::new(),
                expected: plan.expected,
                received: 0,
                queued_bytes: 0,
                queued_messages: 0,
                peer: None,
                params_sent: true,
                failure: None,
                ended: false,
                waiters: Vec::new(),
            }),
        }
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before the lock is let go, so a poisoned lock holds a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message on the token itself: a callee accepts, nobody is there, or a caller cancels.
    pub(crate) fn root(&self, message: Message) -> Next {
        let mut state = self.state();
        if self.side == Side::Callee {
            if header::has(message.headers.as_ref(), header::CANCEL) {
                state.ended = true;
                state.fail(CallError::Cancelled);
            }
            return Next::Nothing;
        }
        match (message.status, message.reply) {
            (Some(StatusCode::NO_RESPONDERS), _) => {
                state.ended = true;
                state.fail(CallError::NoResponders);
            }
            (Some(status), _) if !status.is_success() => {
                state.fail(CallError::Connection(format!("NATS answered with status {status}")));
            }
            // The first callee wins; without a queue group there may be more.
            (_, Some(inbox)) if state.peer.is_none() => {
                let ours = header::has(message.headers.as_ref(), header::ACCEPT);
                state.peer = Some(Peer {
                    inbox: inbox.clone(),
                    ours,
                });
                state.wake_waiters();
                if !ours && state.params_sent {
                    return Next::CloseParams(inbox);
                }
            }
            (_, Some(_)) => {}
            (_, None) => state.fail(CallError::Protocol(
                "the callee accepted without naming its inbox".to_owned(),
            )),
        }
        Next::Nothing
    }

    /// A message on the main channel: results at the caller, arguments at the callee.
    pub(crate) fn main(&self, message: Message) {
        let mut state = self.state();
        if state.main.closed || state.failure.is_some() {
            return;
        }
        let mut announced = None;
        if self.side == Side::Caller
            && let Some(headers) = message.headers.as_ref()
        {
            if let Some(fault) = header::read_fault(headers) {
                state.ended = true;
                state.fail(fault);
                return;
            }
            announced = header::number(headers, header::RESULTS);
        }
        if let Some(announced) = announced {
            if self.whole && announced > self.limit as u64 {
                state.fail(self.too_large(announced));
                return;
            }
            state.expected = Some(announced);
        } else if message.payload.is_empty() {
            state.close_main();
            return;
        }
        state.received += message.payload.len() as u64;
        if !message.payload.is_empty() && !state.charge(message.payload.len(), self.limit) {
            let bytes = (state.queued_bytes + message.payload.len()) as u64;
            state.fail(self.too_large(bytes));
            return;
        }
        if !message.payload.is_empty() {
            state.main.queue.push_back(message.payload);
        }
        match state.expected {
            Some(expected) if state.received > expected => {
                state.fail(CallError::Protocol("more bytes arrived than were announced".to_owned()));
            }
            Some(expected) if state.received == expected => state.close_main(),
            _ if self.whole => {}
            _ => state.main.wake(),
        }
    }

    /// A message of a stream inside the call.
    pub(crate) fn nested(&self, path: &[usize], message: Message) {
        if !self.takes(path) {
            return;
        }
        let mut state = self.state();
        if state.failure.is_some() {
            return;
        }
        if !state.nested.contains_key(path) && state.nested.len() >= NESTED_MAX {
            state.fail(CallError::Protocol(format!(
                "more than {NESTED_MAX} streams in one call"
            )));
            return;
        }
        let bytes = message.payload.len();
        if bytes > 0 && !state.charge(bytes, self.limit) {
            let bytes = (state.queued_bytes + bytes) as u64;
            state.fail(self.too_large(bytes));
            return;
        }
        let channel = state.nested.entry(path.into()).or_default();
        if bytes == 0 {
            channel.closed = true;
        } else if !channel.closed {
            channel.queue.push_back(message.payload);
        }
        channel.wake();
    }

    fn takes(&self, path: &[usize]) -> bool {
        self.patterns.iter().any(|pattern| {
            pattern.len() == path.len()
                && pattern
                    .iter()
                    .zip(path)
                    .all(|(pattern, step)| pattern.is_none_or(|pattern| pattern == *step))
        })
    }

    fn too_large(&self, bytes: u64) -> CallError {
        let what = match (self.whole, self.side) {
            (false, _) => "unread data",
            (true, Side::Caller) => "results",
            (true, Side::Callee) => "arguments",
        };
        CallError::TooLarge {
            what,
            bytes,
            limit: self.limit as u64,
        }
    }

    /// Ends the call from this side.
    pub(crate) fn fail(&self, error: CallError) {
        self.state().fail(error);
    }

    /// The failure, if there is one.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.state().failure.clone()
    }

    /// Says that arguments follow after the first message.
    pub(crate) fn params_follow(&self) {
        self.state().params_sent = false;
    }

    /// Whom to tell that nobody waits any more: nobody when the call is over.
    pub(crate) fn to_cancel(&self) -> Option<Subject> {
        let state = self.state();
        let over = state.ended || (state.main.closed && self.patterns.is_empty());
        // Typed readers let go as soon as they have decoded, before the closing message is there.
        let decoded = !self.whole && state.received > 0 && self.patterns.is_empty();
        if self.side == Side::Callee || over || decoded {
            return None;
        }
        let peer = state.peer.as_ref()?;
        peer.ours.then(|| peer.inbox.clone())
    }

    /// Whether the peer said how many bytes there are.
    pub(crate) fn is_announced(&self) -> bool {
        self.state().expected.is_some()
    }

    /// The next bytes on a path (the empty one is the main channel), or `None` at its end.
    pub(crate) fn poll_next(&self, path: &[usize], cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        if !path.is_empty() && !self.takes(path) {
            let error = CallError::Protocol(format!("there is no stream at {path:?} in this function"));
            return Poll::Ready(Err(Arc::new(error)));
        }
        let mut guard = self.state();
        let state = &mut *guard;
        let channel = if path.is_empty() {
            &mut state.main
        } else {
            state.nested.entry(path.into()).or_default()
        };
        if let Some(bytes) = channel.queue.pop_front() {
            state.queued_bytes = state.queued_bytes.saturating_sub(bytes.len());
            state.queued_messages = state.queued_messages.saturating_sub(1);
            return Poll::Ready(Ok(Some(bytes)));
        }
        if channel.closed {
            return Poll::Ready(Ok(None));
        }
        if let Some(failure) = state.failure.clone() {
            return Poll::Ready(Err(failure));
        }
        channel.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// All bytes of the main channel, when it is closed.
    pub(crate) async fn complete(&self) -> Result<Bytes, Failure> {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            if let Some(failure) = state.failure.clone() {
                return Poll::Ready(Err(failure));
            }
            if !state.main.closed {
                state.main.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let queue = std::mem::take(&mut state.main.queue);
            state.queued_bytes = 0;
            drop(state);
            Poll::Ready(Ok(joined(queue)))
        })
        .await
    }

    /// The callee, when it has accepted.
    pub(crate) fn poll_peer(&self, cx: &mut Context<'_>) -> Poll<Result<Peer, Failure>> {
        let mut state = self.state();
        if let Some(failure) = state.failure.clone() {
            return Poll::Ready(Err(failure));
        }
        if let Some(peer) = state.peer.clone() {
            return Poll::Ready(Ok(peer));
        }
        state.wait(cx);
        Poll::Pending
    }

    /// Resolves when the call has failed, and not before.
    pub(crate) async fn failed(&self) -> Failure {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            if let Some(failure) = state.failure.clone() {
                return Poll::Ready(failure);
            }
            state.wait(cx);
            Poll::Pending
        })
        .await
    }
}

impl State {
    fn charge(&mut self, bytes: usize, limit: usize) -> bool {
        if self.queued_bytes.saturating_add(bytes) > limit || self.queued_messages >= QUEUED_MESSAGES_MAX {
            return false;
        }
        self.queued_bytes += bytes;
        self.queued_messages += 1;
        true
    }

    fn close_main(&mut self) {
        self.main.closed = true;
        self.main.wake();
    }

    fn fail(&mut self, error: CallError) {
        if self.failure.is_none() {
            self.failure = Some(Arc::new(error));
        }
        self.main.wake();
        for channel in self.nested.values_mut() {
            channel.wake();
        }
        self.wake_waiters();
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
            self.waiters.push(cx.waker().clone());
        }
    }

    fn wake_waiters(&mut self) {
        for waiter in self.waiters.drain(..) {
            waiter.wake();
        }
    }
}

fn joined(mut queue: VecDeque<Bytes>) -> Bytes {
    if queue.len() <= 1 {
        return queue.pop_front().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(queue.iter().map(Bytes::len).sum());
    for part in queue {
        whole.extend_from_slice(&part);
    }
    whole.freeze()
}
