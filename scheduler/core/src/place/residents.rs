//! Which workloads are on which host, by number: four bytes for each.

use super::index::HostNo;
use super::shared::Shared;
use heddle_protocol::id::WorkloadId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A workload's number, for as long as it is placed.
pub(crate) type WorkloadNo = u32;

/// Which workloads are on which host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Residents {
    numbers: Arc<BTreeMap<WorkloadId, WorkloadNo>>,
    names: Shared<Option<WorkloadId>>,
    free: Vec<WorkloadNo>,
    on: Shared<Vec<WorkloadNo>, 8>,
}

impl Residents {
    /// A workload's number; it gets one if it has none and `make` says so.
    pub(crate) fn number(&mut self, id: &WorkloadId, make: bool) -> Option<WorkloadNo> {
        if let Some(number) = self.numbers.get(id) {
            return Some(*number);
        }
        if !make {
            return None;
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.names.push(None);
                u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(name) = self.names.get_mut(number) {
            *name = Some(id.clone());
        }
        Arc::make_mut(&mut self.numbers).insert(id.clone(), number);
        Some(number)
    }

    /// Gives a workload's number back: it is nowhere any more.
    pub(crate) fn forget(&mut self, id: &WorkloadId) {
        if !self.numbers.contains_key(id) {
            return;
        }
        if let Some(number) = Arc::make_mut(&mut self.numbers).remove(id) {
            if let Some(name) = self.names.get_mut(number) {
                *name = None;
            }
            self.free.push(number);
        }
    }

    /// Notes that a generation of a workload is on a host.
    pub(crate) fn enter(&mut self, host: HostNo, workload: Option<WorkloadNo>) {
        let Some(workload) = workload else { return };
        while self.on.len() <= host as usize {
            self.on.push(Vec::new());
        }
        if let Some(residents) = self.on.get_mut(host) {
            residents.push(workload);
        }
    }

    /// Notes that a generation of a workload is on a host no more.
    pub(crate) fn leave(&mut self, host: HostNo, workload: Option<WorkloadNo>) {
        let Some(residents) = self.on.get_mut(host) else { return };
        let place = residents.iter().rposition(|resident| Some(*resident) == workload);
        if let Some(place) = place {
            residents.swap_remove(place);
        }
    }

    /// The workloads on a host, those with two generations twice.
    pub(crate) fn on(&self, host: HostNo) -> impl Iterator<Item = &WorkloadId> {
        let residents = self.on.get(host).into_iter().flat_map(|residents| residents.iter());
        residents.filter_map(|resident| self.names.get(*resident)?.as_ref())
    }
}
