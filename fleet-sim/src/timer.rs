//! What is due when, for all hosts of a shard: one heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What is due for a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// It says hello, or says it again.
    Hello,
    /// It says that it lives.
    Beat,
    /// Units of it have started.
    Started,
}

/// One entry: when, whose, of which life of it, and what.
type Entry = (u64, usize, u64, Due);

/// What is due when, in milliseconds since the fleet began.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<Entry>>);

impl Timers {
    /// Sets something for one life of a host: a host that died or started again takes no entry of an earlier life.
    pub(crate) fn set(&mut self, at: u64, host: usize, life: u64, due: Due) {
        self.0.push(Reverse((at, host, life, due)));
    }

    /// When the next is due.
    pub(crate) fn next(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next that is due.
    pub(crate) fn pop(&mut self, now: u64) -> Option<(usize, u64, Due)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, host, life, due))| (host, life, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_the_order_of_time() {
        let mut timers = Timers::default();
        timers.set(30, 1, 0, Due::Beat);
        timers.set(10, 2, 0, Due::Hello);
        timers.set(20, 3, 0, Due::Started);
        assert_eq!(timers.next(), Some(10));
        assert_eq!(timers.pop(9), None);
        assert_eq!(timers.pop(20), Some((2, 0, Due::Hello)));
        assert_eq!(timers.pop(20), Some((3, 0, Due::Started)));
        assert_eq!(timers.pop(20), None);
    }
}
