//! Which of the hosts that may take a replica should, and which should give one up first.
//!
//! The order of wishes: the spread rules, fewest replicas of this workload, a host that runs an earlier generation of
//! it already (so that a new generation appears where the old one was), the emptiest host, and last the host id, so that
//! the same world always yields the same plan.

use super::capacity;
use super::fleet::Fleet;
use super::spread::{Path, SpreadTree};
use std::cmp::{Ordering, Reverse};

/// One host that may take replicas, or has some.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its place in the fleet.
    pub index: usize,
    /// Its place in the spread.
    pub path: Path,
    /// Replicas of this workload's newest generation there.
    pub count: u32,
    /// Replicas of earlier generations there.
    pub earlier: u32,
}

/// Whether `a` should get a replica rather than `b`: the lesser one should.
pub fn compare(fleet: &Fleet<'_>, tree: &SpreadTree<'_>, a: &Candidate, b: &Candidate) -> Ordering {
    let fullness = |c: &Candidate| fleet.host(c.index).map_or(u64::MAX, capacity::fullness_ppm);
    tree.compare(&a.path, &b.path)
        .then_with(|| a.count.cmp(&b.count))
        .then_with(|| Reverse(a.earlier).cmp(&Reverse(b.earlier)))
        .then_with(|| fullness(a).cmp(&fullness(b)))
        // Hosts are ordered by id.
        .then_with(|| a.index.cmp(&b.index))
}
