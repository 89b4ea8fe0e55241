//! Processor time of one unit: counted by the ticks that interrupt its guests, and held to what its manifest allows.
//!
//! In: ticks. Out: how long a guest must pause. A tick falls on a guest in proportion to the time that it computes, so the
//! count is right over many calls although single ones are shorter than a tick.

use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a guest computes before it is interrupted and lets others run. Short enough that a neighbour's request hardly
/// feels it, long enough that switching costs nothing.
pub const TICK: Duration = Duration::from_millis(10);
/// What a unit may use at once after it was idle, as time at its full share.
const BURST: Duration = Duration::from_millis(500);
/// How long a component counts as computing after one of its calls was interrupted or trapped, in milliseconds.
const SUSPECT_MS: u64 = 10_000;
/// Calls that a component must answer without an interrupt before it is known to be quick.
const PROOFS: u32 = 16;
/// The longest single pause: limits may be raised meanwhile.
const PAUSE_MAX: Duration = Duration::from_millis(500);

thread_local! {
    /// What this thread had computed when the guest that it runs had its turn; none where nobody keeps that.
    static TURN: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Gives a guest a turn, and remembers since when it computes: one that was waiting is told of a tick as well, as soon as
/// it goes on. Only its thread's processor time counts: on a busy machine a guest that answers at once may lose its processor
/// for longer than a tick.
pub fn in_turn<T>(turn: impl FnOnce() -> T) -> T {
    let before = TURN.replace(Some(thread_time()));
    let done = turn();
    TURN.set(before);
    done
}

/// How long the guest that has its turn on this thread has computed in it, a tick at most; none where nobody keeps that.
pub fn computed() -> Option<Duration> {
    let started = TURN.get()?;
    Some(thread_time().saturating_sub(started).min(TICK))
}

/// The processor time of the calling thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The processor time of all guests of one unit together.
#[derive(Debug)]
pub struct CpuBudget(Mutex<State>);

/// How often the calls of one component were interrupted because they compute, and when last. A call that traps counts as
/// well: it may have computed almost a tick, and taking it down costs its thread as much again.
///
/// A component that is known to be quick is forgiven one interrupt: the kernel may have counted work of its own, such as
/// making room in memory, as the guest's. The call that was interrupted is moved all the same.
#[derive(Debug)]
pub struct Interrupts {
    start: Instant,
    count: AtomicU64,
    /// Milliseconds after `start` until which its calls count as computing.
    until: AtomicU64,
    /// Calls that were answered since the last interrupt.
    answered: AtomicU32,
}

impl Default for Interrupts {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            count: AtomicU64::new(0),
            until: AtomicU64::new(0),
            answered: AtomicU32::new(0),
        }
    }
}

impl Interrupts {
    /// A call was interrupted because it computes.
    pub fn note(&self, now: Instant) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if self.answered.swap(0, Ordering::Relaxed) < PROOFS {
            self.suspect(now);
        }
    }

    /// A call trapped.
    pub fn trapped(&self, now: Instant) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.answered.store(0, Ordering::Relaxed);
        self.suspect(now);
    }

    fn suspect(&self, now: Instant) {
        self.until.store(self.since_start(now) + SUSPECT_MS, Ordering::Relaxed);
    }

    /// How often calls were interrupted.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether its calls count as computing.
    pub fn lately(&self, now: Instant) -> bool {
        self.since_start(now) < self.until.load(Ordering::Relaxed)
    }

    /// A call was answered that began when this was the count. It says something only if none was interrupted meanwhile.
    pub fn answered(&self, count: u64) {
        if self.count() == count && !self.is_quick() {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether its calls are known to be quick: many were answered since the last that was interrupted.
    pub fn is_quick(&self) -> bool {
        self.answered.load(Ordering::Relaxed) >= PROOFS
    }

    fn since_start(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

#[derive(Debug)]
struct State {
    /// Thousandths of a core; none is as much as there is.
    share: Option<u64>,
    /// What may be used now; below zero is a debt.
    left: i128,
    filled_at: Instant,
}

impl Default for CpuBudget {
    fn default() -> Self {
        Self::new(None)
    }
}

impl CpuBudget {
    /// So many thousandths of a core; none for no limit.
    pub fn new(share_millis: Option<u64>) -> Self {
        let mut state = State {
            share: share_millis,
            left: 0,
            filled_at: Instant::now(),
        };
        state.left = state.full();
        Self(Mutex::new(state))
    }

    /// Changes the share.
    pub fn set_share(&self, share_millis: Option<u64>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.share = share_millis;
        state.left = state.left.min(state.full());
    }

    /// Counts some computing that a tick has ended, and says how long the guest must pause.
    pub fn tick(&self, now: Instant, computed: Duration) -> Option<Duration> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let share = state.share?;
        // In thousandths of nanoseconds, so that nothing is lost by rounding.
        let passed = now.saturating_duration_since(state.filled_at).as_nanos() as i128;
        state.left = (state.left + passed * i128::from(share)).min(state.full());
        state.filled_at = now;
        state.left -= computed.as_nanos() as i128 * 1_000;
        if state.left >= 0 {
            return None;
        }
        let nanos = (-state.left) / i128::from(share.max(1));
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(PAUSE_MAX))
    }
}

impl State {
    fn full(&self) -> i128 {
        BURST.as_nanos() as i128 * i128::from(self.share.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_computes_all_the_time_gets_its_share() {
        let budget = CpuBudget::new(Some(250));
        let start = Instant::now();
        let (mut now, mut computed) = (start, Duration::ZERO);
        while now.duration_since(start) < Duration::from_secs(60) {
            now += TICK;
            computed += TICK;
            now += budget.tick(now, TICK).unwrap_or_default();
        }
        let share = computed.as_secs_f64() / now.duration_since(start).as_secs_f64();
        assert!((0.24..0.27).contains(&share), "{share}");
    }

    #[test]
    fn a_component_counts_as_computing_for_a_while() {
        let (interrupts, now) = (Interrupts::default(), Instant::now());
        assert!(!interrupts.lately(now));
        interrupts.note(now);
        assert!(interrupts.lately(now + Duration::from_millis(9_900)));
        assert!(!interrupts.lately(now + Duration::from_millis(10_100)));
        assert_eq!(interrupts.count(), 1);
    }

    #[test]
    fn a_component_is_quick_once_it_has_answered_often_enough_without_an_interrupt() {
        let interrupts = Interrupts::default();
        let answer = |n| (0..n).for_each(|_| interrupts.answered(interrupts.count()));
        answer(PROOFS - 1);
        assert!(!interrupts.is_quick());
        answer(1);
        assert!(interrupts.is_quick());
        let before = interrupts.count();
        interrupts.note(Instant::now());
        assert!(!interrupts.is_quick(), "an interrupt takes it all back");
        (0..PROOFS).for_each(|_| interrupts.answered(before));
        assert!(!interrupts.is_quick(), "calls that began before it prove nothing");
        answer(PROOFS);
        assert!(interrupts.is_quick());
    }

    #[test]
    fn a_quick_component_is_forgiven_one_interrupt_and_no_trap() {
        let (interrupts, now) = (Interrupts::default(), Instant::now());
        let answer = || (0..PROOFS).for_each(|_| interrupts.answered(interrupts.count()));
        answer();
        interrupts.note(now);
        assert_eq!(interrupts.count(), 1, "the call itself is moved");
        assert!(!interrupts.lately(now));
        interrupts.note(now);
        assert!(interrupts.lately(now), "a second one is not forgiven");
        let later = now + Duration::from_millis(SUSPECT_MS * 2);
        answer();
        assert!(!interrupts.lately(later));
        interrupts.trapped(later);
        assert!(interrupts.lately(later));
        assert!(!interrupts.is_quick());
    }

    #[test]
    fn only_processor_time_counts_in_a_turn() {
        let waited = in_turn(|| {
            std::thread::sleep(TICK * 2);
            computed()
        });
        assert!(waited.unwrap() < TICK / 2, "{waited:?}");
        let spun = in_turn(|| {
            let begin = thread_time();
            while thread_time() < begin + TICK * 2 {}
            computed()
        });
        assert_eq!(spun, Some(TICK));
        assert_eq!(computed(), None, "outside of turns nobody keeps it");
    }

    #[test]
    fn without_a_limit_nothing_pauses() {
        let budget = CpuBudget::new(None);
        let now = Instant::now();
        assert!((0..1_000).all(|_| budget.tick(now, TICK).is_none()));
        budget.set_share(Some(1));
        assert!(budget.tick(now, TICK).is_some());
    }
}
