//! Tells callers of long calls that they were accepted, and where a cancel goes.
//!
//! In: calls as they begin. Out: an acceptance for each that is still running after a while. Most calls are over by
//! then and cost neither a message nor a timer.

use crate::header;
use crate::mux::Mux;
use async_nats::Subject;
use async_nats::message::OutboundMessage;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Every call of this long is remembered until it is due.
const AFTER_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Begun {
    due: Instant,
    token: u64,
    reply: Subject,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Accepts {
    mux: Arc<Mux>,
    after: Duration,
    begun: Mutex<VecDeque<Begun>>,
    first: Notify,
}

impl Accepts {
    pub(crate) fn new(mux: Arc<Mux>, after: Duration) -> Self {
        Self {
            mux,
            after: after.min(AFTER_MAX),
            begun: Mutex::default(),
            first: Notify::new(),
        }
    }

    fn begun(&self) -> MutexGuard<'_, VecDeque<Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call has begun whose caller takes acceptances.
    pub(crate) fn later(&self, token: u64, reply: Subject) {
        let due = Instant::now() + self.after;
        let mut begun = self.begun();
        let is_first = begun.is_empty();
        begun.push_back(Begun { due, token, reply });
        drop(begun);
        if is_first {
            self.first.notify_one();
        }
    }

    /// Sends what is due; the queue is in order, because every call waits equally long.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let due = self.begun().front().map(|begun| begun.due);
            match due {
                None => self.first.notified().await,
                Some(due) => {
                    tokio::time::sleep_until(due).await;
                    self.send_due();
                }
            }
        }
    }

    fn send_due(&self) {
        let now = Instant::now();
        loop {
            let mut begun = self.begun();
            if begun.front().is_none_or(|begun| begun.due > now) {
                return;
            }
            let Some(Begun { token, reply, .. }) = begun.pop_front() else {
                return;
            };
            drop(begun);
            if self.mux.find(token).is_some() {
                self.mux.post_message(message(&self.mux, token, reply));
            }
        }
    }
}

/// The message that accepts a call.
pub(crate) fn message(mux: &Mux, token: u64, reply: Subject) -> OutboundMessage {
    OutboundMessage {
        subject: reply,
        reply: Some(mux.subject(token)),
        payload: Bytes::new(),
        headers: Some(header::one(header::ACCEPT, 1)),
    }
}
