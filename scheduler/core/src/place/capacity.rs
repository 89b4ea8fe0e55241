//! What is free on a host: memory, replica slots, processor time and countable things, over all generations that are
//! placed there.

use super::fleet::HostView;
use heddle_protocol::host_report::Capacity;
use heddle_protocol::record::{Intent, PlaceSet, Taken};
use heddle_protocol::report::Rejection;
use std::collections::BTreeMap;

/// What one replica takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Take<'a> {
    /// Memory, in bytes.
    pub(crate) bytes: u64,
    /// What else.
    pub(crate) taken: &'a Taken,
}

impl<'a> From<&'a Intent> for Take<'a> {
    fn from(intent: &'a Intent) -> Self {
        Self {
            bytes: intent.reserve_bytes,
            taken: &intent.rules.takes,
        }
    }
}

impl<'a> From<&'a PlaceSet> for Take<'a> {
    fn from(set: &'a PlaceSet) -> Self {
        Self {
            bytes: set.reserve_bytes,
            taken: &set.takes,
        }
    }
}

/// What a host has to give that any replica takes of. Each replica that is placed touches one, so it is small.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scarce {
    /// Memory, in bytes.
    memory_bytes: u64,
    /// Replicas.
    replica_slots: u32,
    /// Processor time, in thousandths of a core; the most there can be sets no bound.
    cpu_millis: u32,
}

impl From<&Capacity> for Scarce {
    fn from(capacity: &Capacity) -> Self {
        Self {
            memory_bytes: capacity.memory_bytes,
            replica_slots: capacity.replica_slots,
            cpu_millis: capacity.cpu_millis.unwrap_or(u32::MAX),
        }
    }
}

/// What the replicas on a host take together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// Memory, in bytes.
    pub bytes: u64,
    /// Replicas.
    pub replicas: u32,
    /// Processor time, in thousandths of a core.
    pub cpu_millis: u64,
    /// Countable things, by name; those of which nothing is taken are not there. Few hosts have any.
    #[allow(
        clippy::box_collection,
        reason = "it keeps a seat within one line of the processor's cache"
    )]
    resources: Option<Box<BTreeMap<String, u64>>>,
}

impl Used {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        bytes: 0,
        replicas: 0,
        cpu_millis: 0,
        resources: None,
    };

    /// Countable things that are taken, by name.
    pub fn resources(&self) -> impl Iterator<Item = (&String, u64)> {
        let all = self.resources.iter().flat_map(|all| all.iter());
        all.map(|(name, used)| (name, *used))
    }

    /// Counts replicas in.
    pub(crate) fn add(&mut self, take: Take<'_>, count: u32) {
        let times = u64::from(count);
        self.bytes = self.bytes.saturating_add(take.bytes.saturating_mul(times));
        self.replicas = self.replicas.saturating_add(count);
        self.cpu_millis += u64::from(take.taken.cpu_millis) * times;
        for (name, needed) in &take.taken.resources {
            let all = self.resources.get_or_insert_default();
            *all.entry(name.clone()).or_default() += u64::from(*needed) * times;
        }
    }

    /// Counts replicas out.
    pub(crate) fn remove(&mut self, take: Take<'_>, count: u32) {
        let times = u64::from(count);
        self.bytes = self.bytes.saturating_sub(take.bytes.saturating_mul(times));
        self.replicas = self.replicas.saturating_sub(count);
        self.cpu_millis = self.cpu_millis.saturating_sub(u64::from(take.taken.cpu_millis) * times);
        for (name, needed) in &take.taken.resources {
            let Some(all) = &mut self.resources else { continue };
            if let Some(used) = all.get_mut(name) {
                *used = used.saturating_sub(u64::from(*needed) * times);
                if *used == 0 {
                    all.remove(name);
                }
            }
            if all.is_empty() {
                self.resources = None;
            }
        }
    }

    /// How many more replicas have room. The whole capacity is asked for only where countable things are needed.
    pub(crate) fn room<'c>(&self, scarce: Scarce, whole: impl FnOnce() -> &'c Capacity, take: Take<'_>) -> u32 {
        let mut room = u64::from(scarce.replica_slots.saturating_sub(self.replicas));
        let free_bytes = scarce.memory_bytes.saturating_sub(self.bytes);
        room = room.min(free_bytes.checked_div(take.bytes).unwrap_or(u64::MAX));
        if let (all, needed @ 1..) = (scarce.cpu_millis, u64::from(take.taken.cpu_millis))
            && all < u32::MAX
        {
            room = room.min(u64::from(all).saturating_sub(self.cpu_millis) / needed);
        }
        if !take.taken.resources.is_empty() {
            let capacity = whole();
            for (name, needed) in take.taken.resources.iter().filter(|(_, needed)| **needed > 0) {
                room = room.min(self.free_of(capacity, name) / u64::from(*needed));
            }
        }
        u32::try_from(room).unwrap_or(u32::MAX)
    }

    fn free_of(&self, capacity: &Capacity, name: &str) -> u64 {
        let all = capacity.resources.get(name).copied().unwrap_or(0);
        let used = self.resources.as_ref().and_then(|all| all.get(name));
        u64::from(all).saturating_sub(used.copied().unwrap_or(0))
    }

    /// How full a host is, in millionths of the scarcest of memory, slots and processor time.
    pub(crate) fn fullness_ppm(&self, scarce: Scarce) -> u32 {
        fullness_ppm(scarce, self.bytes, u64::from(self.replicas), self.cpu_millis)
    }

    /// How full it would be with some more replicas.
    pub(crate) fn fullness_with_ppm(&self, scarce: Scarce, take: Take<'_>, more: u32) -> u32 {
        let times = u64::from(more);
        let bytes = self.bytes.saturating_add(take.bytes.saturating_mul(times));
        let cpu_millis = self.cpu_millis + u64::from(take.taken.cpu_millis) * times;
        fullness_ppm(scarce, bytes, u64::from(self.replicas) + times, cpu_millis)
    }
}

fn fullness_ppm(scarce: Scarce, bytes: u64, replicas: u64, cpu_millis: u64) -> u32 {
    let memory = share(bytes, scarce.memory_bytes);
    let slots = share(replicas, u64::from(scarce.replica_slots));
    let cpu = match scarce.cpu_millis {
        u32::MAX => 0,
        all => share(cpu_millis, u64::from(all)),
    };
    memory.max(slots).max(cpu)
}

/// The fullness above which no host of a class has room for one more: what is fuller need not be looked at.
pub(crate) fn fullness_with_room_max(most: (u64, u32, Option<u32>), take: Take<'_>) -> u32 {
    let (bytes, slots, cpu) = most;
    let left = |needed: u64, all: u64| match all {
        0 => 0,
        all => share(all.saturating_sub(needed), all),
    };
    let memory = left(take.bytes, bytes);
    let slots = left(1, u64::from(slots));
    let cpu = cpu.map_or(1_000_000, |all| left(u64::from(take.taken.cpu_millis), u64::from(all)));
    memory.max(slots).max(cpu)
}

fn share(used: u64, all: u64) -> u32 {
    if all == 0 {
        return 1_000_000;
    }
    let ppm = match used.checked_mul(1_000_000) {
        Some(scaled) => scaled / all,
        None => u64::try_from(u128::from(used) * 1_000_000 / u128::from(all)).unwrap_or(u64::MAX),
    };
    u32::try_from(ppm).unwrap_or(u32::MAX)
}

/// Memory that is free, in bytes.
pub fn free_bytes(host: &HostView<'_>) -> u64 {
    host.capacity.memory_bytes.saturating_sub(host.used.bytes)
}

/// Replica slots that are free.
pub fn free_slots(host: &HostView<'_>) -> u32 {
    host.capacity.replica_slots.saturating_sub(host.used.replicas)
}

/// Why one more replica has no room.
pub fn refusals(host: &HostView<'_>, intent: &Intent) -> Vec<Rejection> {
    let take = Take::from(intent);
    // What a host has to give in all lies elsewhere, and most have room.
    if host.used.room(host.scarce, || host.capacity, take) > 0 {
        return Vec::new();
    }
    refusals_of(host.used, host.scarce, || host.capacity, take)
}

/// The same, for a host that nothing else is known of.
pub(crate) fn refusals_of<'c>(
    used: &Used,
    scarce: Scarce,
    whole: impl FnOnce() -> &'c Capacity,
    take: Take<'_>,
) -> Vec<Rejection> {
    let mut all = Vec::new();
    let free_bytes = scarce.memory_bytes.saturating_sub(used.bytes);
    if free_bytes < take.bytes {
        all.push(Rejection::Memory {
            needed_bytes: take.bytes,
            free_bytes,
        });
    }
    if scarce.replica_slots <= used.replicas {
        all.push(Rejection::Slots {
            slots: scarce.replica_slots,
        });
    }
    if scarce.cpu_millis < u32::MAX {
        let free = u64::from(scarce.cpu_millis).saturating_sub(used.cpu_millis);
        if free < u64::from(take.taken.cpu_millis) {
            all.push(Rejection::Cpu {
                needed_millis: take.taken.cpu_millis,
                free_millis: u32::try_from(free).unwrap_or(u32::MAX),
            });
        }
    }
    if take.taken.resources.is_empty() {
        return all;
    }
    let capacity = whole();
    for (name, needed) in &take.taken.resources {
        let free = used.free_of(capacity, name);
        if free < u64::from(*needed) {
            all.push(Rejection::Resource {
                resource: name.clone(),
                needed: *needed,
                free: u32::try_from(free).unwrap_or(u32::MAX),
            });
        }
    }
    all
}
