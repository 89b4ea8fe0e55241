//! How much memory instances may have: each by its workload's limit, all together by the host's budget.
//!
//! In: wasmtime's questions whether a memory or table may grow. Out: yes or no. A guest that is refused sees
//! `memory.grow` fail, as on any machine that is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::ResourceLimiter;

/// Elements of one table: function references, mostly. No compiler makes more; each takes 8 bytes.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;

/// What all instances of a host may have together, in bytes of linear memory.
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

/// Meters the memory of one instance: all linear memories of its store together.
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
}

impl Drop for MemoryMeter {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        if self.bytes.saturating_add(more) > self.bytes_max {
            return Ok(false);
        }
        if !self.budget.take(more) {
            self.refused_by_host = true;
            return Ok(false);
        }
        self.bytes += more;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
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
}
