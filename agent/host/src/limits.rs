//! How many calls a unit takes at the same time, when its last one has ended, and how many instances a host keeps idle.
//!
//! In: calls that begin and end. Out: permits, and the end of draining. A call that finds no permit is refused at once:
//! a queue would only hide the overload from the balancer in front.

use heddle_capability::CpuBudget;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tokio::sync::Notify;

/// The calls of one unit.
#[derive(Debug)]
pub struct Admission {
    concurrency: u32,
    /// Processor time of one replica, in thousandths of a core.
    cpu_millis: Option<u32>,
    cpu: Arc<CpuBudget>,
    /// Replicas that the unit stands for.
    count: AtomicU32,
    /// `count × concurrency`.
    max: AtomicU32,
    in_flight: AtomicU32,
    draining: AtomicBool,
    idle: Notify,
}

/// One admitted call, for as long as it lives.
#[derive(Debug)]
pub struct Permit(Arc<Admission>);

impl Admission {
    /// Admits `count × concurrency` calls.
    pub fn new(count: u32, concurrency: u32) -> Self {
        Self {
            concurrency,
            cpu_millis: None,
            cpu: Arc::default(),
            count: AtomicU32::new(count),
            max: AtomicU32::new(count.saturating_mul(concurrency)),
            in_flight: AtomicU32::new(0),
            draining: AtomicBool::new(false),
            idle: Notify::new(),
        }
    }

    /// Holds each replica to so many thousandths of a core; none to nothing.
    pub fn with_cpu(self, cpu_millis: Option<u32>) -> Self {
        let admission = Self { cpu_millis, ..self };
        admission.cpu.set_share(admission.cpu_share(admission.count()));
        admission
    }

    /// The processor time of all its guests together.
    pub fn cpu(&self) -> &Arc<CpuBudget> {
        &self.cpu
    }

    fn cpu_share(&self, count: u32) -> Option<u64> {
        self.cpu_millis
            .map(|millis| u64::from(millis) * u64::from(count.max(1)))
    }

    /// Changes how many replicas the unit stands for. Calls in flight go on.
    pub fn set_count(&self, count: u32) {
        self.count.store(count, Ordering::Relaxed);
        self.cpu.set_share(self.cpu_share(count));
        self.max
            .store(count.saturating_mul(self.concurrency), Ordering::Relaxed);
    }

    /// Replicas that the unit stands for.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Admits a call, if there is room.
    pub fn admit(self: &Arc<Self>) -> Option<Permit> {
        let before = self.in_flight.fetch_add(1, Ordering::AcqRel);
        let permit = Permit(Arc::clone(self));
        (before < self.max.load(Ordering::Relaxed)).then_some(permit)
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Whether the unit is going away.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Says that the unit is going away. Its routes are gone already; calls that still reach it are served.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
        if self.in_flight() == 0 {
            self.idle.notify_waiters();
        }
    }

    /// Waits until the unit drains and no call is in flight.
    pub async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if self.is_draining() && self.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
        if before == 1 && self.0.is_draining() {
            self.0.idle.notify_waiters();
        }
    }
}

/// Room for instances that wait for their next call, over all units of a host. They take slots that others may need, so
/// there is a bound for all of them together.
#[derive(Debug)]
pub struct IdleRoom {
    max: u32,
    taken: AtomicU32,
}

/// The place of one idle instance.
#[derive(Debug)]
pub struct IdlePlace(Arc<IdleRoom>);

impl IdleRoom {
    /// Room for that many.
    pub fn new(max: u32) -> Self {
        Self {
            max,
            taken: AtomicU32::new(0),
        }
    }

    /// Takes a place, if there is one.
    pub fn take(self: &Arc<Self>) -> Option<IdlePlace> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        let place = IdlePlace(Arc::clone(self));
        (before < self.max).then_some(place)
    }
}

impl Drop for IdlePlace {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_admits_its_count_times_its_concurrency() {
        let admission = Arc::new(Admission::new(2, 3));
        let permits: Vec<_> = (0..6).map(|_| admission.admit().unwrap()).collect();
        assert!(admission.admit().is_none());
        assert_eq!(admission.in_flight(), 6, "a refused call leaves no trace");
        admission.set_count(3);
        let seventh = admission.admit().unwrap();
        drop((permits, seventh));
        assert_eq!(admission.in_flight(), 0);
    }

    #[test]
    fn idle_instances_have_so_much_room_and_no_more() {
        let room = Arc::new(IdleRoom::new(2));
        let (one, _two) = (room.take().unwrap(), room.take().unwrap());
        assert!(room.take().is_none());
        drop(one);
        assert!(room.take().is_some());
    }

    #[tokio::test]
    async fn draining_ends_with_the_last_call() {
        let admission = Arc::new(Admission::new(1, 2));
        let permit = admission.admit().unwrap();
        admission.begin_drain();
        let waiting = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.drained().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(permit);
        waiting.await.unwrap();
    }
}
