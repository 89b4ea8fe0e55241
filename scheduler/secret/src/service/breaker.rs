//! When a backend that could not be reached is asked again.
//!
//! In: how calls ended. Out: whether the next one is made. After a few failures in a row nobody asks for a while; then one
//! call goes ahead, and the others follow when it succeeds. Pauses double, with jitter, up to a bound.

use std::time::Duration;
use tokio::time::Instant;

/// Failures in a row that one lost packet does not explain.
const FAILURES_MAX: u32 = 3;
/// The first pause.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest: a backend that is back is noticed within it.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// How a backend fares.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    pauses: u32,
    shut_until: Option<Instant>,
    trying: bool,
}

impl Breaker {
    /// Whether a call may go ahead; if not, how long the pause still is.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        let Some(until) = self.shut_until else { return Ok(()) };
        if now < until {
            return Err(until - now);
        }
        if self.trying {
            return Err(Duration::ZERO);
        }
        self.trying = true;
        Ok(())
    }

    /// Takes in whether a call reached the backend. `jitter` is from 0 to 1.
    pub(super) fn note(&mut self, reached: bool, now: Instant, jitter: f64) {
        if reached {
            *self = Self::default();
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let is_shut = self.shut_until.is_some_and(|until| now < until);
        // Calls that were under way when it was shut say nothing new.
        if self.failures < FAILURES_MAX || is_shut {
            return;
        }
        let pause = PAUSE_MAX.min(PAUSE * (1 << self.pauses.min(6)));
        self.pauses = self.pauses.saturating_add(1);
        self.shut_until = Some(now + pause.mul_f64(0.5 + jitter / 2.0));
        self.trying = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_backend_is_left_alone_for_longer_and_longer_and_one_call_tries_it() {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        for _ in 0..FAILURES_MAX {
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.note(false, now, 1.0);
        }
        let mut last = Duration::ZERO;
        for _ in 0..8 {
            let pause = breaker.admit(now).unwrap_err();
            assert!(pause >= last && pause <= PAUSE_MAX);
            last = pause;
            now += pause;
            assert_eq!(breaker.admit(now), Ok(()), "one tries");
            assert!(breaker.admit(now).is_err(), "and the others wait for it");
            breaker.note(false, now, 1.0);
        }
        assert_eq!(last, PAUSE_MAX);
        now += PAUSE_MAX;
        assert_eq!(breaker.admit(now), Ok(()));
        breaker.note(true, now, 1.0);
        assert_eq!((breaker.admit(now), breaker.admit(now)), (Ok(()), Ok(())));
    }
}
