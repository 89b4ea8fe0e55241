//! How long a failed attempt waits before the next one.
//!
//! Each unit and each capability waits for itself, so a neighbour that fails for ever slows nobody down.

/// The pause after the first failed attempt, in milliseconds.
const PAUSE_MS_FIRST: u64 = 500;
/// The longest pause, in milliseconds: what is mended is noticed within half a minute.
pub const PAUSE_MS_MAX: u64 = 30_000;
/// The pause after a lost link came back, in milliseconds at most: what failed for want of the link is tried again soon,
/// and a fleet's hosts do not all ask at once.
pub(crate) const RECONNECTED_PAUSE_MS_MAX: u64 = 500;

/// Chance, as a number from 0 to 999 that the shell draws.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Jitter(pub u16);

impl Jitter {
    /// The chance of one of many things that are decided at once: each gets another number from the same draw.
    pub(crate) fn of_one(self, number: u64) -> Self {
        // 389 has no factor in common with 1000, so that a thousand neighbours get a thousand numbers.
        Self(((u64::from(self.0) + number % 1_000 * 389) % 1_000) as u16)
    }

    /// A part of `whole` between 0 and `whole`.
    pub fn part_of(self, whole: u64) -> u64 {
        whole.saturating_mul(u64::from(self.0.min(999))) / 1_000
    }
}

/// The pause after so many failed attempts: doubled each time up to [`PAUSE_MS_MAX`], and between half and all of that,
/// so that units that failed together are not tried together for ever.
pub fn pause_ms(attempts: u32, jitter: Jitter) -> u64 {
    let doublings = attempts.saturating_sub(1).min(16);
    let whole = (PAUSE_MS_FIRST << doublings).min(PAUSE_MS_MAX);
    whole / 2 + jitter.part_of(whole / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let longest: Vec<u64> = (1..=8).map(|attempts| pause_ms(attempts, Jitter(999))).collect();
        assert_eq!(longest, [499, 999, 1999, 3998, 7996, 15992, 29985, 29985]);
        assert_eq!(pause_ms(u32::MAX, Jitter(0)), PAUSE_MS_MAX / 2);
    }

    #[test]
    fn jitter_stays_between_half_and_all_of_the_pause() {
        for jitter in [0, 1, 500, 999, u16::MAX] {
            let pause = pause_ms(3, Jitter(jitter));
            assert!((1_000..=2_000).contains(&pause), "{pause}");
        }
    }
}
