//! How much memory instances may have: each by its workload's limit, all together by the host's budget.
//!
//! In: wasmtime's questions whether a memory or table may grow. Out: yes or no. A guest that is refused sees
//! `memory.grow` or `table.grow` fail, as on any machine that is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::ResourceLimiter;

/// Elements of one table: function references, mostly. No compiler makes more.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;
/// What one element takes. A component may have many tables, so they count like memory.
const TABLE_ELEMENT_BYTES: usize = 8;

/// What all instances of a host may have together, in bytes of linear memory and tables.
#[derive(Debug)]
pub struct MemoryBudget {
    bytes_max: u64,
    used: AtomicU64,
}

impl MemoryBudget {
    /// A budget of that many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            used: AtomicU64::new(0),
        }
    }

    /// What instances have now, in bytes.
    pub fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.bytes_max {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        true
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Meters the memory of one instance: all linear memories and tables of its store together.
pub struct MemoryMeter {
    budget: Arc<MemoryBudget>,
    bytes_max: u64,
    bytes: u64,
    refused_by_host: bool,
}

impl MemoryMeter {
    /// A meter with a limit of its own, under a budget.
    pub fn new(budget: Arc<MemoryBudget>, bytes_max: u64) -> Self {
        Self {
            budget,
            bytes_max,
            bytes: 0,
            refused_by_host: false,
        }
    }

    /// Whether growth was refused because the host is full rather than the instance.
    pub fn refused_by_host(&self) -> bool {
        self.refused_by_host
    }

    fn take(&mut self, more: u64) -> bool {
        if self.bytes.saturating_add(more) > self.bytes_max {
            return false;
        }
        if !self.budget.take(more) {
            self.refused_by_host = true;
            return false;
        }
        self.bytes += more;
        true
    }
}

impl Drop for MemoryMeter {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.take(desired.saturating_sub(current) as u64))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT_BYTES);
        Ok(desired <= TABLE_ELEMENTS_MAX && self.take(more as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_its_limit_and_the_host_has_a_budget() {
        let budget = Arc::new(MemoryBudget::new(100));
        let mut one = MemoryMeter::new(Arc::clone(&budget), 60);
        assert!(one.memory_growing(0, 40, None).unwrap());
        assert!(one.memory_growing(40, 60, None).unwrap());
        assert!(!one.memory_growing(0, 1, None).unwrap(), "a second memory counts too");
        assert!(!one.refused_by_host());
        let mut two = MemoryMeter::new(Arc::clone(&budget), 60);
        assert!(!two.memory_growing(0, 50, None).unwrap());
        assert!(two.refused_by_host());
        drop(one);
        assert!(two.memory_growing(0, 50, None).unwrap());
        drop(two);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn tables_count_like_memory_however_many_there_are() {
        let budget = Arc::new(MemoryBudget::new(u64::MAX));
        let mut meter = MemoryMeter::new(Arc::clone(&budget), 100 * TABLE_ELEMENT_BYTES as u64);
        assert!(meter.table_growing(0, 60, None).unwrap());
        assert!(!meter.table_growing(0, 60, None).unwrap(), "a second table counts too");
        assert!(meter.table_growing(60, 100, None).unwrap());
        assert!(!meter.memory_growing(0, 1, None).unwrap());
        let mut large = MemoryMeter::new(Arc::clone(&budget), u64::MAX);
        assert!(!large.table_growing(0, TABLE_ELEMENTS_MAX + 1, None).unwrap());
        assert!(!large.table_growing(0, usize::MAX, None).unwrap());
        drop((meter, large));
        assert_eq!(budget.used_bytes(), 0);
    }
}
