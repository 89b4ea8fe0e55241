//! Pauses that grow, with jitter. In: how often something failed. Out: how long to wait.

use rand::Rng as _;
use std::time::Duration;

/// The pause after that many failures, from 1 on: it doubles from `first` up to `most`.
pub(crate) fn pause(failures: u32, first: Duration, most: Duration) -> Duration {
    let doubled = first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(30)));
    doubled.min(most).mul_f64(rand::rng().random_range(0.5..1.0))
}
