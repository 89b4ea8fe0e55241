//! What is free on a host: memory and replica slots, over all generations that are placed there.

use super::fleet::HostView;
use heddle_protocol::report::Rejection;

/// Whether one more replica has room.
pub fn has_room(host: &HostView<'_>, reserve_bytes: u64) -> bool {
    free_bytes(host) >= reserve_bytes && free_slots(host) > 0
}

/// Memory that is free, in bytes.
pub fn free_bytes(host: &HostView<'_>) -> u64 {
    host.capacity.memory_bytes.saturating_sub(host.used_bytes)
}

/// Replica slots that are free.
pub fn free_slots(host: &HostView<'_>) -> u32 {
    host.capacity.replica_slots.saturating_sub(host.used_replicas)
}

/// Why one more replica has no room.
pub fn refusals(host: &HostView<'_>, reserve_bytes: u64) -> Vec<Rejection> {
    let mut all = Vec::new();
    let free = free_bytes(host);
    if free < reserve_bytes {
        all.push(Rejection::Memory {
            needed_bytes: reserve_bytes,
            free_bytes: free,
        });
    }
    if free_slots(host) == 0 {
        all.push(Rejection::Slots {
            slots: host.capacity.replica_slots,
        });
    }
    all
}

/// How full a host is, in millionths of its scarcer resource.
pub fn fullness_ppm(host: &HostView<'_>) -> u64 {
    let share = |used: u64, all: u64| match all {
        0 => 1_000_000,
        all => u64::try_from(u128::from(used) * 1_000_000 / u128::from(all)).unwrap_or(u64::MAX),
    };
    let memory = share(host.used_bytes, host.capacity.memory_bytes);
    let slots = share(u64::from(host.used_replicas), u64::from(host.capacity.replica_slots));
    memory.max(slots)
}
