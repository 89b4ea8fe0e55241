//! The traits of `wrpc-transport` over a connection: calls with Rust types and with streams inside them.
//!
//! In: a connection, a prefix, a queue group. Out: `Invoke` and `Serve`, so that `InvokeExt::invoke_values` and
//! `ServeExt::serve_values` work, between two of ours and with peers of another make. The arguments that are given to
//! `invoke` are all the synchronous ones; only streams are written afterwards.

use crate::connection::{Connection, Shared, subject};
use crate::error::{CallError, Fault, io};
use crate::header;
use crate::mux::Registration;
use crate::peer_io::{Call, Reader, Writer};
use crate::serve::{Answer, rest};
use crate::slot::{Patterns, Plan, Side};
use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the synchronous arguments of a call may take to arrive.
const PARAMS_WITHIN: Duration = Duration::from_secs(10);

/// One prefix on a connection, to call and to serve with Rust types; clones share it.
#[derive(Debug, Clone)]
pub struct Peer {
    connection: Connection,
    prefix: Arc<str>,
    queue_group: Option<Arc<str>>,
}

impl Connection {
    /// A peer that calls and serves below a prefix. Without a queue group each server executes each call.
    pub fn peer(&self, prefix: &str, queue_group: Option<&str>) -> Peer {
        Peer {
            connection: self.clone(),
            prefix: prefix.into(),
            queue_group: queue_group.map(Into::into),
        }
    }
}

/// What a typed call says beside its arguments.
#[derive(Debug, Clone, Default)]
pub struct InvokeContext {
    /// How long the whole call may take, streams included; the connection's default if it says nothing, a
    /// day at most.
    pub within: Option<Duration>,
    /// Headers for the callee.
    pub headers: HeaderMap,
}

impl InvokeContext {
    /// A call that takes no longer than this.
    pub fn within(within: Duration) -> Self {
        Self {
            within: Some(within),
            headers: HeaderMap::new(),
        }
    }
}

/// What a typed callee learns beside the arguments.
#[derive(Debug)]
pub struct ServeContext {
    /// The headers of the call.
    pub headers: Option<HeaderMap>,
    /// The subject it was called on.
    pub subject: async_nats::Subject,
    /// Until when the caller waits, if it says so.
    pub deadline: Option<Instant>,
    call: Arc<Call>,
}

impl ServeContext {
    /// Resolves when the caller has cancelled, and not before: race it with the work.
    pub async fn cancelled(&self) {
        self.call.slot().failed().await;
    }
}

impl wrpc_transport::Invoke for Peer {
    type Context = InvokeContext;
    type Outgoing = Writer;
    type Incoming = Reader;

    async fn invoke<P>(
        &self,
        cx: Self::Context,
        instance: &str,
        func: &str,
        params: Bytes,
        paths: impl AsRef<[P]> + Send,
    ) -> anyhow::Result<(Self::Outgoing, Self::Incoming)>
    where
        P: AsRef<[Option<usize>]> + Send + Sync,
    {
        let patterns: Patterns = paths.as_ref().iter().map(|path| path.as_ref().into()).collect();
        let shared = self.connection.shared();
        let within = cx.within.unwrap_or(shared.options.deadline).min(header::DEADLINE_MAX);
        let begun = begin(
            shared,
            &self.prefix,
            (instance, func),
            cx.headers,
            params,
            patterns,
            within,
        )
        .await;
        begun.map_err(|error| anyhow::Error::from(io(&error)))
    }
}

async fn begin(
    shared: &Arc<Shared>,
    prefix: &str,
    (instance, function): (&str, &str),
    headers: HeaderMap,
    params: Bytes,
    patterns: Patterns,
    within: Duration,
) -> Result<(Writer, Reader), CallError> {
    let limit = shared.options.params_bytes_max;
    if params.len() > limit {
        let bytes = params.len() as u64;
        return Err(CallError::TooLarge {
            what: "arguments",
            bytes,
            limit: limit as u64,
        });
    }
    let deadline = Instant::now() + within;
    let registration = shared.mux.register(Plan {
        side: Side::Caller,
        limit: shared.options.results_bytes_max,
        expected: None,
        patterns,
        whole: false,
    })?;
    let subject = subject(prefix, instance, function);
    let begun = shared.begin(&registration, subject, headers, params, Some(within));
    match tokio::time::timeout_at(deadline.into(), begun).await {
        Ok(begun) => begun?,
        Err(_) => return Err(CallError::Deadline),
    }
    let call = Arc::new(Call::new(shared.clone(), registration, None));
    Ok((
        Writer::params(call.clone(), Some(deadline)),
        Reader::new(call, Bytes::new(), Some(deadline), Some(deadline)),
    ))
}

impl wrpc_transport::Serve for Peer {
    type Context = ServeContext;
    type Outgoing = Writer;
    type Incoming = Reader;

    async fn serve(
        &self,
        instance: &str,
        func: &str,
        paths: impl Into<Arc<[Box<[Option<usize>]>]>> + Send,
    ) -> anyhow::Result<
        impl Stream<Item = anyhow::Result<(Self::Context, Self::Outgoing, Self::Incoming)>> + Send + 'static,
    > {
        let subject = subject(&self.prefix, instance, func);
        let group = self.queue_group.as_ref().map(|group| group.to_string());
        let messages = self.connection.subscribe(subject, group).await?;
        let (shared, paths) = (self.connection.shared().clone(), paths.into());
        // A call that cannot be begun is answered and left out: it is no reason to stop serving.
        Ok(messages.filter_map(move |message| {
            let (shared, paths) = (shared.clone(), paths.clone());
            async move { arrive(shared, &paths, message).await.map(Ok) }
        }))
    }
}

fn arrive(
    shared: Arc<Shared>,
    paths: &Arc<[Box<[Option<usize>]>]>,
    message: Message,
) -> impl Future<Output = Option<(ServeContext, Writer, Reader)>> + Send + use<> {
    let patterns: Patterns = paths.iter().cloned().collect();
    async move {
        let reply = message.reply?;
        let head = header::read_call(message.headers.as_ref());
        let answer = Answer {
            shared: shared.clone(),
            reply,
            ours: head.is_some(),
            given: false,
        };
        let limit = shared.options.params_bytes_max;
        let bytes = head.map_or(0, |head| head.params);
        if bytes > limit as u64 {
            answer.refuse(&Fault::TooLarge {
                bytes,
                limit: limit as u64,
            });
            return None;
        }
        let expected = match rest(head, &message.payload) {
            Ok(expected) => expected,
            Err(fault) => {
                answer.refuse(&fault);
                return None;
            }
        };
        let has_streams = !patterns.is_empty();
        let plan = Plan {
            side: Side::Callee,
            limit,
            expected,
            patterns,
            whole: false,
        };
        let registration = match shared.mux.register(plan) {
            Ok(registration) => registration,
            Err(error) => {
                answer.refuse(&Fault::Refused(error.to_string()));
                return None;
            }
        };
        accepted(&shared, &registration, &answer, has_streams || expected != Some(0)).await?;
        let deadline = head.and_then(|head| head.within).map(|within| Instant::now() + within);
        let call = Arc::new(Call::new(shared, registration, Some(answer)));
        let soon = Instant::now() + PARAMS_WITHIN;
        let until = deadline.map_or(soon, |deadline| deadline.min(soon));
        let reader = Reader::new(call.clone(), message.payload, Some(until), deadline);
        let writer = Writer::results(call.clone(), deadline);
        let cx = ServeContext {
            headers: message.headers,
            subject: message.subject,
            deadline,
            call,
        };
        Some((cx, writer, reader))
    }
}

/// Accepts at once when the caller waits for that, and after a while otherwise.
async fn accepted(shared: &Shared, registration: &Registration, answer: &Answer, now: bool) -> Option<()> {
    if answer.ours && !now {
        shared.accepts.later(registration.token(), answer.reply.clone());
        return Some(());
    }
    answer.accept(registration).await.ok()
}
