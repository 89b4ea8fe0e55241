//! Clients that wait for workloads: answered when they are there, or when the time is over.

use crate::serve::{fit, plain};
use bytes::Bytes;
use heddle_protocol::api::ApiError;
use heddle_protocol::api::status::Wait;
use heddle_protocol::time::Mono;
use heddle_scheduler_core::wait::first_missing;
use heddle_scheduler_core::{World, waited};

/// The longest one wait may take, in milliseconds; clients ask again.
const WAIT_MS_MAX: u64 = 10_000;
/// Waits at the same time. More are answered at once with how far things are, and ask again.
const WAITERS_MAX: usize = 10_000;

/// The clients that wait.
#[derive(Debug, Default)]
pub struct Waiters(Vec<Waiter>);

#[derive(Debug)]
struct Waiter {
    reply: async_nats::Subject,
    wait: Wait,
    until: Mono,
    /// The first target that was not there at the last look: most looks need go no further.
    missing: usize,
}

/// An answer, and whose it is.
pub type Answer = (async_nats::Subject, Result<(serde_json::Value, Bytes), ApiError>);

impl Waiters {
    /// Takes in a client; it is answered at the next [`Waiters::due`] if there is nothing to wait for.
    pub fn push(&mut self, reply: async_nats::Subject, wait: Wait, now: Mono) {
        let ms = if self.0.len() < WAITERS_MAX {
            wait.timeout_ms.min(WAIT_MS_MAX)
        } else {
            0
        };
        self.0.push(Waiter {
            reply,
            wait,
            until: now.plus(ms),
            missing: 0,
        });
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Answers all whose time is over, and, if anything changed, all that have what they wait for, as things were when
    /// everything that had been said was heard.
    pub fn due(&mut self, world: &World, changed: bool, now: Mono, heard_at: Mono) -> Vec<Answer> {
        let mut answers = Vec::new();
        self.0.retain_mut(|waiter| {
            let targets = &waiter.wait.targets;
            let over = now >= waiter.until;
            if !over && !changed {
                return true;
            }
            // One that was there may be gone again, so the list is gone through once more from its beginning.
            let missing = first_missing(world, targets, waiter.missing, heard_at);
            if let Some(missing) = missing.or_else(|| first_missing(world, targets, 0, heard_at)) {
                waiter.missing = missing;
                if !over {
                    return true;
                }
            }
            answers.push((
                waiter.reply.clone(),
                plain(&fit::waited(waited(world, targets, heard_at))),
            ));
            false
        });
        answers
    }
}
