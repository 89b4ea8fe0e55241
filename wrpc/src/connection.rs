//! A connection for calls in both directions over one NATS client.
//!
//! In: a client and options. Out: calls (`Connection::call`), served functions (`Connection::serve`) and typed peers
//! (`Connection::peer`). All clones share one inbox; when the last is gone, so are its tasks.

use crate::accept::Accepts;
use crate::error::{CallError, ConnectError, connection};
use crate::header;
use crate::mux::{self, Mux, Registration};
use crate::slot::{Peer, Plan, Side};
use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// What every subject of a function has between its prefix and its instance.
pub const PROTOCOL: &str = "wrpc.0.0.1";
/// Largest arguments or results when the options say nothing.
pub const BYTES_MAX: usize = 16 << 20;
/// What headers take of the largest payload, at most.
const HEADER_ROOM: usize = 2 << 10;
/// Bytes in one message after the first: small enough that other calls come between.
const CHUNK_BYTES: usize = 256 << 10;

/// How a connection behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Time of a typed call when its context names none.
    pub deadline: Duration,
    /// Largest arguments that are sent.
    pub params_bytes_max: usize,
    /// Largest results that are taken, and largest data that may wait unread in the streams of one typed call.
    pub results_bytes_max: usize,
    /// How long NATS may take to confirm a subscription.
    pub ready_within: Duration,
    /// A call that takes longer than this is told to its caller as accepted, so that the caller can cancel
    /// it; a second at most.
    pub accept_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            params_bytes_max: BYTES_MAX,
            results_bytes_max: BYTES_MAX,
            ready_within: Duration::from_secs(5),
            accept_after: Duration::from_millis(20),
        }
    }
}

/// Which function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// What the subject begins with; may be empty.
    pub prefix: &'a str,
    /// The interface, such as `shop:tax/rates@1.0.0`; may be empty.
    pub instance: &'a str,
    /// The function.
    pub function: &'a str,
    /// Whether the function has results. A callee of another make ends a failed call with no results at all, which
    /// is the same on the wire as the results of a function that has none.
    pub has_results: bool,
}

impl<'a> Target<'a> {
    /// A function with results.
    pub fn new(prefix: &'a str, instance: &'a str, function: &'a str) -> Self {
        Self {
            prefix,
            instance,
            function,
            has_results: true,
        }
    }

    /// The same of a function that returns nothing.
    pub fn without_results(self) -> Self {
        Self {
            has_results: false,
            ..self
        }
    }
}

/// The subject on which a function is called.
pub fn subject(prefix: &str, instance: &str, function: &str) -> String {
    let mut subject = String::with_capacity(prefix.len() + PROTOCOL.len() + instance.len() + function.len() + 3);
    for part in [prefix, PROTOCOL, instance, function] {
        if !part.is_empty() {
            if !subject.is_empty() {
                subject.push('.');
            }
            subject.push_str(part);
        }
    }
    subject
}

/// A connection for calls; clones share it.
#[derive(Debug, Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: async_nats::Client,
    pub(crate) mux: Arc<Mux>,
    pub(crate) accepts: Arc<Accepts>,
    pub(crate) options: Options,
    /// The courier is none of them: it ends by itself, when it has published what was left to say.
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Shared {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Connection {
    /// Listens on an inbox of its own, and returns when that works.
    pub async fn new(client: async_nats::Client, options: Options) -> Result<Self, ConnectError> {
        let inbox = format!("{}.", client.new_inbox());
        let subscription = client.subscribe(format!("{inbox}>")).await;
        let subscription = subscription.map_err(|error| ConnectError::Subscribe {
            reason: error.to_string(),
        })?;
        let (mux, posted) = Mux::new(inbox.clone());
        let accepts = Arc::new(Accepts::new(mux.clone(), options.accept_after));
        tokio::spawn(mux::courier(client.clone(), posted));
        let tasks = [
            tokio::spawn(mux.clone().run(subscription)),
            tokio::spawn(accepts.clone().run()),
        ];
        let shared = Shared {
            client,
            mux,
            accepts,
            options,
            tasks,
        };
        let this = Self {
            shared: Arc::new(shared),
        };
        let within = this.shared.options.ready_within;
        match this.round_trip().await {
            Ok(()) => Ok(this),
            Err(CallError::Deadline) => {
                let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
                Err(ConnectError::Silent { inbox, within_ms })
            }
            Err(error) => Err(ConnectError::Subscribe {
                reason: error.to_string(),
            }),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether NATS is there at the moment.
    pub fn is_connected(&self) -> bool {
        self.shared.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Sends something to itself: NATS keeps the order of one connection, so what was subscribed before is served.
    pub(crate) async fn round_trip(&self) -> Result<(), CallError> {
        let fence = self.shared.mux.register(Plan {
            side: Side::Caller,
            limit: 0,
            expected: None,
            patterns: Box::default(),
            whole: true,
        })?;
        let there_and_back = async {
            let subject = Subject::from(format!("{}.results", fence.subject()));
            self.shared
                .client
                .publish(subject, Bytes::new())
                .await
                .map_err(connection)?;
            fence.slot().complete().await.map_err(|failure| (*failure).clone())
        };
        match tokio::time::timeout(self.shared.options.ready_within, there_and_back).await {
            Ok(done) => done.map(|_| ()),
            Err(_) => Err(CallError::Deadline),
        }
    }

    /// Calls a function and waits for its results until `deadline`. Dropping the future cancels the call.
    pub async fn call(&self, target: &Target<'_>, params: Bytes, deadline: Instant) -> Result<Bytes, CallError> {
        let limit = self.shared.options.params_bytes_max;
        if params.len() > limit {
            let bytes = params.len() as u64;
            return Err(CallError::TooLarge {
                what: "arguments",
                bytes,
                limit: limit as u64,
            });
        }
        let within = deadline.saturating_duration_since(Instant::now());
        if within.is_zero() {
            return Err(CallError::Deadline);
        }
        let call = self.call_within(target, params, within);
        match tokio::time::timeout_at(deadline.into(), call).await {
            Ok(done) => done,
            Err(_) => Err(CallError::Deadline),
        }
    }

    async fn call_within(&self, target: &Target<'_>, params: Bytes, within: Duration) -> Result<Bytes, CallError> {
        let registration = self.shared.mux.register(Plan {
            side: Side::Caller,
            limit: self.shared.options.results_bytes_max,
            expected: None,
            patterns: Box::default(),
            whole: true,
        })?;
        let subject = subject(target.prefix, target.instance, target.function);
        self.shared
            .begin(&registration, subject, HeaderMap::new(), params, Some(within))
            .await?;
        let slot = registration.slot();
        let results = slot.complete().await.map_err(|failure| (*failure).clone())?;
        if results.is_empty() && target.has_results && !slot.is_announced() {
            return Err(CallError::Failed(
                "it ended the call without results and without a reason".to_owned(),
            ));
        }
        Ok(results)
    }
}

impl Shared {
    /// Waits until everything that was handed over before has reached NATS: a client that is dropped takes what it has
    /// not written yet with it. The fence goes behind the small messages that nobody waits for.
    pub(crate) async fn settle(&self) {
        let fence = self.mux.register(Plan {
            side: Side::Caller,
            limit: 0,
            expected: None,
            patterns: Box::default(),
            whole: true,
        });
        let Ok(fence) = fence else { return };
        let subject = Subject::from(format!("{}.results", fence.subject()));
        self.mux.post(subject, None);
        // Without NATS there is nobody to reach.
        let _ = tokio::time::timeout(self.options.ready_within, fence.slot().complete()).await;
    }

    /// Bytes of payload in the first message of something, which has headers.
    pub(crate) fn first_bytes_max(&self) -> usize {
        self.client.max_payload().saturating_sub(HEADER_ROOM)
    }

    /// Bytes of payload in the messages that follow.
    pub(crate) fn chunk_bytes_max(&self) -> usize {
        self.client.max_payload().clamp(1, CHUNK_BYTES)
    }

    /// Publishes a call; arguments that do not fit in its first message follow when the callee has accepted.
    pub(crate) async fn begin(
        &self,
        registration: &Registration,
        subject: String,
        mut headers: HeaderMap,
        mut params: Bytes,
        within: Option<Duration>,
    ) -> Result<(), CallError> {
        header::call(&mut headers, params.len(), within);
        let first = params.split_to(params.len().min(self.first_bytes_max()));
        if !params.is_empty() {
            registration.slot().params_follow();
        }
        let sent = self
            .client
            .publish_with_reply_and_headers(subject, registration.subject(), headers, first)
            .await;
        sent.map_err(connection)?;
        if params.is_empty() {
            return Ok(());
        }
        let slot = registration.slot();
        let peer: Peer = std::future::poll_fn(|cx| slot.poll_peer(cx))
            .await
            .map_err(|failure| (*failure).clone())?;
        let subject = Subject::from(format!("{}.params", peer.inbox));
        self.send_chunks(&subject, params).await?;
        if !peer.ours {
            self.client.publish(subject, Bytes::new()).await.map_err(connection)?;
        }
        Ok(())
    }

    /// Publishes bytes in messages that are small enough.
    pub(crate) async fn send_chunks(&self, subject: &Subject, mut bytes: Bytes) -> Result<(), CallError> {
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(self.chunk_bytes_max()));
            self.client.publish(subject.clone(), chunk).await.map_err(connection)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_parts_leave_no_dots_in_a_subject() {
        assert_eq!(subject("a.b", "x:y/z@1.0.0", "f"), "a.b.wrpc.0.0.1.x:y/z@1.0.0.f");
        assert_eq!(subject("", "", "f"), "wrpc.0.0.1.f");
    }
}
