//! Every start of every replica, over all hosts: what shows whether each was started exactly once.

use heddle_protocol::id::{UnitId, WorkloadId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A unit's number in the ledger.
pub(crate) type UnitNo = u32;

/// What became of one unit's replicas, over all hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnitCounts {
    /// Replicas that hosts began to start.
    pub starts: u64,
    /// Replicas on hosts that live, started or starting.
    pub running: u64,
    /// The most that there ever were at the same time.
    pub running_max: u64,
    /// Replicas that have started, on hosts that live.
    pub ready: u64,
}

/// What became of all replicas.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    numbers: HashMap<UnitId, UnitNo>,
    units: Vec<(UnitId, UnitCounts)>,
    total: UnitCounts,
}

/// What changed on one host.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change {
    pub(crate) starts: i64,
    pub(crate) running: i64,
    pub(crate) ready: i64,
}

impl Ledger {
    /// The sums over all units.
    pub fn total(&self) -> UnitCounts {
        self.book().total
    }

    /// What became of each unit.
    pub fn units(&self) -> BTreeMap<UnitId, UnitCounts> {
        self.book().units.iter().cloned().collect()
    }

    /// What became of a workload's replicas, of any generation.
    pub fn workload(&self, id: &WorkloadId) -> UnitCounts {
        let book = self.book();
        let mut sum = UnitCounts::default();
        for (_, counts) in book.units.iter().filter(|(unit, _)| unit.workload == *id) {
            sum.starts += counts.starts;
            sum.running += counts.running;
            sum.running_max = sum.running_max.max(counts.running_max);
            sum.ready += counts.ready;
        }
        sum
    }

    /// The numbers of units, in their order.
    pub(crate) fn numbers<'a>(&self, units: impl Iterator<Item = &'a UnitId>) -> Vec<UnitNo> {
        let mut book = self.book();
        units.map(|unit| book.number(unit)).collect()
    }

    /// The ids of units, by their numbers.
    pub(crate) fn ids(&self, numbers: impl Iterator<Item = UnitNo>) -> Vec<UnitId> {
        let book = self.book();
        let id = |number: UnitNo| book.units.get(number as usize).map(|(unit, _)| unit.clone());
        numbers.filter_map(id).collect()
    }

    /// Takes in what changed on a host.
    pub(crate) fn take(&self, changes: impl Iterator<Item = (UnitNo, Change)>) {
        let mut book = self.book();
        let book = &mut *book;
        for (number, change) in changes {
            if let Some((_, counts)) = book.units.get_mut(number as usize) {
                counts.take(change);
                book.total.take(change);
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing in here is left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn number(&mut self, unit: &UnitId) -> UnitNo {
        if let Some(number) = self.numbers.get(unit) {
            return *number;
        }
        let number = u32::try_from(self.units.len()).unwrap_or(u32::MAX);
        self.units.push((unit.clone(), UnitCounts::default()));
        self.numbers.insert(unit.clone(), number);
        number
    }
}

impl UnitCounts {
    fn take(&mut self, change: Change) {
        self.starts = self.starts.saturating_add_signed(change.starts);
        self.running = self.running.saturating_add_signed(change.running);
        self.running_max = self.running_max.max(self.running);
        self.ready = self.ready.saturating_add_signed(change.ready);
    }
}

/// A ledger that many share.
pub(crate) type Shared = Arc<Ledger>;
