//! What a link to a log in memory goes through, for simulations: requests and answers that take time or never arrive.
//!
//! In: a question that the log itself answers at once. Out: the same answer, later; or none, although what was asked may
//! have been done, or may yet be done when nobody waits for it any more: a request on its way outlives its sender.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// What a link does to one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trip {
    /// How long the request takes; none if it never arrives.
    pub there: Option<Duration>,
    /// How long the answer takes; none if it never arrives.
    pub back: Option<Duration>,
}

/// How a link is.
pub trait Weather: Debug + Send + Sync {
    /// Decides over the next question.
    fn trip(&self) -> Trip;
}

/// A link to a log in memory.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) weather: Arc<dyn Weather>,
    pub(crate) answer_within: Duration,
}

impl Way {
    /// Asks. None if there is no answer in time; what was asked may be done all the same.
    pub(crate) async fn ask<T: Send + 'static>(&self, question: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let deadline = Instant::now() + self.answer_within;
        let Trip { there, back } = self.weather.trip();
        let (sender, answer) = oneshot::channel();
        if let Some(there) = there {
            // The network's own task: it goes on when whoever asked is gone.
            tokio::spawn(async move {
                sleep(there).await;
                let found = question();
                let Some(back) = back else { return };
                sleep(back).await;
                // Whoever asked may have given up.
                let _ = sender.send(found);
            });
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(found)) => Some(found),
            _ => {
                sleep_until(deadline).await;
                None
            }
        }
    }
}
