//! Hosts that share every failing check, told as one.

use super::Refusing;
use crate::place::filter::set_name;
use heddle_protocol::api::explain::HostKind;
use heddle_protocol::report::Rejection;
use std::collections::BTreeMap;
use std::rc::Rc;

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

/// Refusing hosts, those together that share one list of checks.
pub(super) struct Groups {
    /// By host, in the order of the hosts: which group it is of.
    of_host: Vec<usize>,
    /// By group, in the order of their first hosts: that host's place, how many there are, and how far they are.
    groups: Vec<Group>,
}

struct Group {
    first: usize,
    hosts: u32,
    distance: (usize, u64),
}

impl Groups {
    /// Sorts hosts out.
    pub(super) fn new(refusing: &[Refusing<'_, '_>]) -> Self {
        let mut by_list: BTreeMap<*const Rejection, usize> = BTreeMap::new();
        let (mut of_host, mut groups) = (Vec::with_capacity(refusing.len()), Vec::new());
        for (first, (_, rejections)) in refusing.iter().enumerate() {
            let mut new = || {
                groups.push(Group {
                    first,
                    hosts: 0,
                    distance: distance(rejections),
                });
                groups.len() - 1
            };
            // A list that nobody else holds is one host's own: of ten thousand such nobody need be looked up.
            let group = match Rc::strong_count(rejections) {
                1 => new(),
                _ => *by_list.entry(rejections.as_ptr()).or_insert_with(new),
            };
            if let Some(group) = groups.get_mut(group) {
                group.hosts += 1;
            }
            of_host.push(group);
        }
        Self { of_host, groups }
    }

    /// The hosts that are nearest to taking a replica, by id among equals.
    pub(super) fn nearest<'r, 'f, 'a>(
        &self,
        refusing: &'r [Refusing<'f, 'a>],
        most: usize,
    ) -> impl Iterator<Item = &'r Refusing<'f, 'a>> {
        let distance = |group: &usize| self.groups.get(*group).map(|group| group.distance);
        let mut hosts: Vec<_> = self.of_host.iter().map(distance).zip(0_usize..).collect();
        if most < hosts.len() {
            hosts.select_nth_unstable(most);
            hosts.truncate(most);
        }
        hosts.sort_unstable();
        hosts.into_iter().filter_map(|(_, host)| refusing.get(host))
    }

    /// The kinds of hosts, the nearest to taking a replica first.
    pub(super) fn kinds(&self, refusing: &[Refusing<'_, '_>]) -> Vec<HostKind> {
        let mut kinds: Vec<(u32, (usize, u64), usize)> = Vec::new();
        let mut by_shape: BTreeMap<Vec<Rejection>, usize> = BTreeMap::new();
        let mut before: Option<(&[Rejection], usize)> = None;
        for group in &self.groups {
            let Some((_, rejections)) = refusing.get(group.first) else {
                continue;
            };
            // Most are of the kind of the host before.
            let known = before.filter(|(other, _)| same_kind(other, rejections));
            let at = known.map_or_else(
                || {
                    let shape: Vec<Rejection> = rejections.iter().map(without_numbers).collect();
                    *by_shape.entry(shape).or_insert_with(|| {
                        kinds.push((0, group.distance, group.first));
                        kinds.len() - 1
                    })
                },
                |(_, at)| at,
            );
            before = Some((rejections, at));
            let Some(kind) = kinds.get_mut(at) else { continue };
            kind.0 += group.hosts;
            if group.distance < kind.1 {
                (kind.1, kind.2) = (group.distance, group.first);
            }
        }
        let told = |(hosts, distance, nearest): (u32, (usize, u64), usize)| {
            let (host, rejections) = refusing.get(nearest)?;
            let kind = HostKind {
                hosts,
                nearest: host.id.clone(),
                rejections: super::of_host(rejections, host),
            };
            Some((distance, kind))
        };
        let mut kinds: Vec<_> = kinds.into_iter().filter_map(told).collect();
        kinds.sort_by(|(a_far, a), (b_far, b)| {
            let commonest = b.hosts.cmp(&a.hosts);
            a_far.cmp(b_far).then(commonest).then_with(|| a.nearest.cmp(&b.nearest))
        });
        kinds.into_iter().map(|(_, kind)| kind).collect()
    }
}

/// Whether two lists of checks differ in numbers at most.
fn same_kind(a: &[Rejection], b: &[Rejection]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| without_numbers(a) == without_numbers(b))
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
        _ => set_name(&mut same, None),
    }
    same
}
