//! All calls of one connection over one inbox.
//!
//! In: every message below the inbox. Out: each handed to the slot of its token. A slot is in the shared map before
//! anything is published that could be answered, so no answer arrives too early; and handing over never waits, so no
//! call holds up another.

use crate::error::CallError;
use crate::header;
use crate::slot::{Next, Plan, Side, Slot};
use async_nats::client::traits::Publisher as _;
use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use futures::StreamExt as _;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tracing::debug;

/// Hex digits of a token.
const TOKEN_LEN: usize = 16;
/// Steps of a path to a stream, at most.
const PATH_LEN_MAX: usize = 16;
/// Small messages that wait to be published by the courier.
const POST_CAPACITY: usize = 1 << 12;

/// See the module.
#[derive(Debug)]
pub(crate) struct Mux {
    /// With its dot at the end.
    inbox: String,
    slots: Mutex<Slots>,
    post: mpsc::Sender<OutboundMessage>,
}

#[derive(Debug, Default)]
struct Slots {
    closed: bool,
    by_token: HashMap<u64, Arc<Slot>>,
}

/// A slot's stay in the map: dropping it ends the stay, and cancels the call if it is not over.
#[derive(Debug)]
pub(crate) struct Registration {
    mux: Arc<Mux>,
    token: u64,
    slot: Arc<Slot>,
}

impl Mux {
    /// A mux and the queue of what it wants published.
    pub(crate) fn new(inbox: String) -> (Arc<Self>, mpsc::Receiver<OutboundMessage>) {
        let (post, posted) = mpsc::channel(POST_CAPACITY);
        let slots = Mutex::default();
        (Arc::new(Self { inbox, slots, post }), posted)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Insert and remove are whole steps, so a poisoned map is a whole map.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a token nobody can guess, and keeps a slot under it.
    pub(crate) fn register(self: &Arc<Self>, plan: Plan) -> Result<Registration, CallError> {
        let slot = Arc::new(Slot::new(plan));
        let mut slots = self.slots();
        if slots.closed {
            return Err(closed());
        }
        loop {
            let token = rand::random::<u64>();
            if let Entry::Vacant(free) = slots.by_token.entry(token) {
                free.insert(slot.clone());
                return Ok(Registration {
                    mux: self.clone(),
                    token,
                    slot,
                });
            }
        }
    }

    pub(crate) fn find(&self, token: u64) -> Option<Arc<Slot>> {
        self.slots().by_token.get(&token).cloned()
    }

    /// Where a token is spoken to.
    pub(crate) fn subject(&self, token: u64) -> Subject {
        Subject::from(format!("{}{token:016x}", self.inbox))
    }

    /// Has something small published soon. When too much waits it is dropped: deadlines bound what hangs on it.
    pub(crate) fn post(&self, subject: Subject, headers: Option<HeaderMap>) {
        let message = OutboundMessage {
            subject,
            reply: None,
            payload: Bytes::new(),
            headers,
        };
        self.post_message(message);
    }

    /// The same with everything said.
    pub(crate) fn post_message(&self, message: OutboundMessage) {
        if self.post.try_send(message).is_err() {
            debug!("dropped a closing message: too many wait to be published");
        }
    }

    /// Sorts messages until the subscription ends, then ends every call.
    pub(crate) async fn run(self: Arc<Self>, mut messages: async_nats::Subscriber) {
        while let Some(message) = messages.next().await {
            self.route(message);
        }
        let slots = {
            let mut slots = self.slots();
            slots.closed = true;
            std::mem::take(&mut slots.by_token)
        };
        for slot in slots.into_values() {
            slot.fail(closed());
        }
    }

    fn route(&self, message: Message) {
        let Some((token, rest)) = message.subject.strip_prefix(self.inbox.as_str()).and_then(token) else {
            return;
        };
        let Some(slot) = self.find(token) else {
            self.stray(rest, &message);
            return;
        };
        let rest = match (slot.side(), rest) {
            (_, "") => {
                if let Next::CloseParams(inbox) = slot.root(message) {
                    self.post(Subject::from(format!("{inbox}.params")), None);
                }
                return;
            }
            (Side::Caller, rest) => rest.strip_prefix(".results"),
            (Side::Callee, rest) => rest.strip_prefix(".params"),
        };
        match rest.map(path) {
            Some(Some(path)) if path.is_empty() => slot.main(message),
            Some(Some(path)) => slot.nested(&path, message),
            _ => {}
        }
    }

    /// A message for a call that is over: a callee that has only now accepted it must hear that nobody waits.
    fn stray(&self, rest: &str, message: &Message) {
        if let Some(inbox) = &message.reply
            && rest.is_empty()
            && header::has(message.headers.as_ref(), header::ACCEPT)
        {
            self.post(inbox.clone(), Some(header::one(header::CANCEL, 1)));
        }
    }
}

/// Publishes the small messages that nobody waits for: closings, cancels, faults of dropped calls.
pub(crate) async fn courier(client: async_nats::Client, mut posted: mpsc::Receiver<OutboundMessage>) {
    while let Some(message) = posted.recv().await {
        let sent = client.publish_message(message).await;
        if let Err(error) = sent {
            debug!(%error, "failed to publish a closing message");
        }
    }
}

fn closed() -> CallError {
    CallError::Connection("the NATS client is closed".to_owned())
}

fn token(rest: &str) -> Option<(u64, &str)> {
    let (token, rest) = rest.split_at_checked(TOKEN_LEN)?;
    if !token.bytes().all(|b| b.is_ascii_hexdigit()) || !(rest.is_empty() || rest.starts_with('.')) {
        return None;
    }
    Some((u64::from_str_radix(token, 16).ok()?, rest))
}

fn path(rest: &str) -> Option<Vec<usize>> {
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let steps = rest.strip_prefix('.')?.split('.');
    let path: Option<Vec<usize>> = steps.take(PATH_LEN_MAX + 1).map(|step| step.parse().ok()).collect();
    path.filter(|path| path.len() <= PATH_LEN_MAX)
}

impl Registration {
    /// What has arrived.
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Its token.
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// Where it is spoken to.
    pub(crate) fn subject(&self) -> Subject {
        self.mux.subject(self.token)
    }

    /// Its mux.
    pub(crate) fn mux(&self) -> &Arc<Mux> {
        &self.mux
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Out of the map first: an acceptance that arrives between the two steps is answered as a stray.
        self.mux.slots().by_token.remove(&self.token);
        if let Some(inbox) = self.slot.to_cancel() {
            self.mux.post(inbox, Some(header::one(header::CANCEL, 1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_token_is_a_token() {
        assert_eq!(token("00000000000000ff"), Some((255, "")));
        assert_eq!(token("00000000000000ff.results.1"), Some((255, ".results.1")));
        for odd in [
            "",
            "ff",
            "00000000000000ffx",
            "+0000000000000ff",
            "00000000000000f\u{e9}",
        ] {
            assert_eq!(token(odd), None, "{odd}");
        }
    }

    #[test]
    fn only_numbers_are_a_path() {
        assert_eq!(path(""), Some(vec![]));
        assert_eq!(path(".0.12"), Some(vec![0, 12]));
        assert_eq!(path(".-1"), None);
        assert_eq!(path("0"), None);
        assert_eq!(path(&".1".repeat(17)), None);
    }
}
