//! Hosts that share every failing check, told as one.

use super::Refusing;
use heddle_protocol::api::explain::HostKind;
use heddle_protocol::id::HostId;
use heddle_protocol::report::Rejection;
use std::collections::BTreeMap;

/// How far a host is from taking a replica: how many checks it fails, and then how much it lacks.
pub(super) fn distance(rejections: &[Rejection]) -> (usize, u64) {
    (rejections.len(), rejections.iter().map(lacking_ppm).sum())
}

/// What is lacking, in millionths of what is needed: so that memory and processor time compare.
fn lacking_ppm(rejection: &Rejection) -> u64 {
    let share = |needed: u64, free: u64| match needed {
        0 => 0,
        needed => {
            let ppm = u128::from(needed.saturating_sub(free)) * 1_000_000 / u128::from(needed);
            u64::try_from(ppm).unwrap_or(u64::MAX)
        }
    };
    match rejection {
        Rejection::Memory {
            needed_bytes,
            free_bytes,
        } => share(*needed_bytes, *free_bytes),
        Rejection::InstanceMemory {
            wanted_bytes,
            max_bytes,
        } => share(*wanted_bytes, *max_bytes),
        Rejection::Cpu {
            needed_millis,
            free_millis,
        } => share(u64::from(*needed_millis), u64::from(*free_millis)),
        Rejection::Resource { needed, free, .. } => share(u64::from(*needed), u64::from(*free)),
        // What is there or is not is lacking whole.
        _ => 1_000_000,
    }
}

/// The kinds of hosts, the nearest to taking a replica first.
pub(super) fn kinds(refusing: &[Refusing<'_, '_>]) -> Vec<HostKind> {
    let mut kinds: BTreeMap<Vec<Rejection>, (u32, &HostId, &[Rejection])> = BTreeMap::new();
    for (host, rejections) in refusing {
        let shape: Vec<Rejection> = rejections.iter().map(without_numbers).collect();
        let kind = kinds.entry(shape).or_insert((0, host.id, rejections));
        kind.0 += 1;
        if distance(rejections) < distance(kind.2) {
            (kind.1, kind.2) = (host.id, rejections);
        }
    }
    let mut kinds: Vec<HostKind> = kinds
        .into_values()
        .map(|(hosts, nearest, rejections)| HostKind {
            hosts,
            nearest: nearest.clone(),
            rejections: rejections.to_vec(),
        })
        .collect();
    kinds.sort_by(|a, b| {
        let far = |kind: &HostKind| distance(&kind.rejections);
        let commonest = b.hosts.cmp(&a.hosts);
        far(a)
            .cmp(&far(b))
            .then(commonest)
            .then_with(|| a.nearest.cmp(&b.nearest))
    });
    kinds
}

/// A check without what differs from host to host.
fn without_numbers(rejection: &Rejection) -> Rejection {
    let mut same = rejection.clone();
    match &mut same {
        Rejection::Memory { free_bytes, .. } => *free_bytes = 0,
        Rejection::InstanceMemory { max_bytes, .. } => *max_bytes = 0,
        Rejection::Slots { slots } => *slots = 0,
        Rejection::Cpu { free_millis, .. } => *free_millis = 0,
        Rejection::Resource { free, .. } => *free = 0,
        Rejection::Avoid { by, value, .. } | Rejection::Skew { by, value, .. } if by == super::HOST_LABEL => {
            value.clear();
        }
        Rejection::Near { by, value, .. } if by == super::HOST_LABEL => *value = None,
        _ => {}
    }
    same
}
