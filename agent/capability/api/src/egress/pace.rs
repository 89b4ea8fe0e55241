//! How fast one component opens connections.
//!
//! In: turns, asked for one after the other. Out: each as soon as it may be had. A burst is let through at once; beyond it
//! turns come at a steady rate, in the order in which they were asked for. Who gives up while waiting takes nothing away from
//! the others.

use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Turns with a pause between them, on average.
#[derive(Debug)]
pub(super) struct Pace {
    pause: Duration,
    /// What an idle time saves up at most.
    burst: Duration,
    /// When the next turn is due. Whoever waits for it holds this, and the others wait for them.
    due: Mutex<Instant>,
}

impl Pace {
    /// `per_s` turns a second, and `burst` at once after a time of rest.
    pub(super) fn new(per_s: u32, burst: u32) -> Self {
        let pause = Duration::from_secs(1) / per_s.max(1);
        let burst = pause * burst;
        Self {
            pause,
            burst,
            due: Mutex::new(Instant::now().checked_sub(burst).unwrap_or_else(Instant::now)),
        }
    }

    /// Waits for the next turn.
    pub(super) async fn turn(&self) {
        let mut due = self.due.lock().await;
        let now = Instant::now();
        let earliest = now.checked_sub(self.burst).unwrap_or(now);
        *due = (*due).max(earliest);
        if *due > now {
            tokio::time::sleep_until(*due).await;
        }
        *due += self.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{Future as _, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    /// How long some turns take together.
    async fn take(pace: &Pace, turns: u32) -> Duration {
        let began = Instant::now();
        for _ in 0..turns {
            pace.turn().await;
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_what_follows_at_the_rate() {
        let pace = Pace::new(100, 10);
        assert_eq!(take(&pace, 11).await, Duration::ZERO);
        assert_eq!(take(&pace, 100).await, Duration::from_secs(1));
        // A rest gives the burst back, and no more than that.
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(take(&pace, 11).await, Duration::ZERO);
        assert_eq!(take(&pace, 1).await, Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_takes_nothing_away() {
        let pace = Pace::new(100, 0);
        take(&pace, 1).await;
        for _ in 0..1_000 {
            let mut turn = pin!(pace.turn());
            poll_fn(|cx| {
                assert!(turn.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        assert_eq!(take(&pace, 1).await, Duration::from_millis(10));
    }
}
