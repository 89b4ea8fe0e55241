//! How long pretended units take to start: a pull of the image the first time a host needs it, then the start itself.
//!
//! In: a seed, a host, what is started. Out: milliseconds. The same question has the same answer, so that a run can be
//! repeated.

use heddle_protocol::digest::Digest;
use std::hash::{DefaultHasher, Hasher as _};

/// How long units take to start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartDelay {
    /// The start itself, from and to, in milliseconds; every length between is equally likely.
    pub start_ms: (u64, u64),
    /// Fetching and compiling what a host does not have yet, from and to, in milliseconds.
    pub pull_ms: (u64, u64),
    /// Hosts, in percent, whose pulls take [`StartDelay::slow_pull_ms`] instead.
    pub slow_percent: u64,
    /// How long a slow pull takes, in milliseconds.
    pub slow_pull_ms: u64,
}

impl StartDelay {
    /// How long a start takes.
    pub fn start(&self, seed: u64, host: usize, nth: u64) -> u64 {
        between(self.start_ms, chance(&(seed, host, nth, "start")))
    }

    /// How long a host needs to have an image ready that it does not have.
    pub fn pull(&self, seed: u64, host: usize, image: &Digest) -> u64 {
        let drawn = chance(&(seed, host, image, "pull"));
        match chance(&(seed, host, "slow")) % 100 < self.slow_percent {
            true => self.slow_pull_ms,
            false => between(self.pull_ms, drawn),
        }
    }
}

fn between((from, to): (u64, u64), drawn: u64) -> u64 {
    from + drawn % (to.saturating_sub(from) + 1)
}

/// A number that follows from what it is asked with: the standard library's hasher begins with fixed keys.
pub(crate) fn chance(of: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_within_their_bounds_and_come_out_the_same_again() {
        let delay = StartDelay {
            start_ms: (10, 20),
            pull_ms: (100, 100),
            slow_percent: 30,
            slow_pull_ms: 5_000,
        };
        let image = Digest::of(b"image");
        let mut slow = 0;
        for host in 0..1_000 {
            let start = delay.start(7, host, 3);
            assert!((10..=20).contains(&start));
            assert_eq!(start, delay.start(7, host, 3));
            let pull = delay.pull(7, host, &image);
            assert!(pull == 100 || pull == 5_000);
            slow += u32::from(pull == 5_000);
        }
        assert!((200..400).contains(&slow), "{slow} of 1000 hosts are slow");
    }
}
