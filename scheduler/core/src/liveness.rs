//! Which hosts count as lost. Silence alone proves little: it may be ours, or a whole zone's.
//!
//! In: when each host was last heard, since when our own link is up, the zones, and the time. Out: one verdict per
//! host. A pure function of those, so that two schedulers with the same facts judge alike.

use crate::world::World;
use heddle_protocol::defaults::{
    HOST_LOST_AFTER_MS, PARTITION_HOSTS_MIN, PARTITION_SHARE_PERCENT, PARTITION_WINDOW_MS,
};
use heddle_protocol::id::HostId;
use heddle_protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};

/// The label that names a host's zone. Hosts without it form one zone together.
pub const ZONE_LABEL: &str = "zone";

/// The numbers to judge silence by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivenessOptions {
    /// Silence after which a host counts as lost, in milliseconds.
    pub lost_after_ms: u64,
    /// A zone that loses more hosts than this at once is cut off rather than dead.
    pub partition_hosts_min: usize,
    /// The same, as a share of the zone's hosts, in percent. The larger of both counts.
    pub partition_share_percent: usize,
    /// What "at once" means, in milliseconds.
    pub partition_window_ms: u64,
    /// After so much silence even the hosts of a cut-off zone count as lost, in milliseconds; none means never.
    pub partition_timeout_ms: Option<u64>,
}

impl Default for LivenessOptions {
    fn default() -> Self {
        Self {
            lost_after_ms: HOST_LOST_AFTER_MS,
            partition_hosts_min: PARTITION_HOSTS_MIN,
            partition_share_percent: PARTITION_SHARE_PERCENT,
            partition_window_ms: PARTITION_WINDOW_MS,
            partition_timeout_ms: None,
        }
    }
}

/// Whether a host lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostLiveness {
    /// It was heard lately, and it said who it is.
    Alive,
    /// It was not heard yet since this scheduler started or its link came back, or it did not say who it is. It is
    /// taken to hold its work, and takes nothing new.
    NotSeen,
    /// It has been silent for too long while others could be heard.
    Lost {
        /// When its silence became too long.
        since: Mono,
    },
    /// It is silent, with much of its zone: the zone counts as cut off. It is taken to hold its work.
    Partitioned {
        /// The zone; empty for hosts without one.
        zone: String,
    },
}

impl HostLiveness {
    /// Whether the host may be taken to hold its work.
    pub fn holds_work(&self) -> bool {
        !matches!(self, Self::Lost { .. })
    }
}

/// Judges every admitted host.
pub fn judge(world: &World, now: Mono) -> BTreeMap<HostId, HostLiveness> {
    let mut verdicts: BTreeMap<HostId, HostLiveness> = world
        .hosts
        .keys()
        .map(|host| (host.clone(), judge_alone(world, host, now)))
        .collect();
    if verdicts.values().any(|v| matches!(v, HostLiveness::Lost { .. })) {
        guard_partitions(world, now, &mut verdicts);
    }
    verdicts
}

/// Whether a host was heard lately and said who it is: what it reports is then true now.
pub fn is_heard(world: &World, host: &HostId, now: Mono) -> bool {
    world.hosts.contains_key(host) && judge_alone(world, host, now) == HostLiveness::Alive
}

/// Whether this scheduler has listened for less than one timeout: hosts that it has not heard may yet be heard.
pub fn is_settling(world: &World, now: Mono) -> bool {
    now < listening_since(world).plus(world.watch.options.lost_after_ms)
}

/// The verdict on one host, not looking at its neighbours.
fn judge_alone(world: &World, host: &HostId, now: Mono) -> HostLiveness {
    let lost_after_ms = world.watch.options.lost_after_ms;
    if let Some(observed) = world.observed.get(host)
        && now.since(observed.last_heard) < lost_after_ms
    {
        return if observed.hello.is_some() {
            HostLiveness::Alive
        } else {
            HostLiveness::NotSeen
        };
    }
    let began = silence_began(world, host);
    match world.watch.link_up_since {
        // Our own link was not up for the whole silence, so the silence may be ours.
        Some(_) if now.since(began) >= lost_after_ms => HostLiveness::Lost {
            since: began.plus(lost_after_ms),
        },
        _ => HostLiveness::NotSeen,
    }
}

/// Since when a host could have been heard and was not.
fn silence_began(world: &World, host: &HostId) -> Mono {
    let heard = world.observed.get(host).map_or(Mono(0), |observed| observed.last_heard);
    heard.max(listening_since(world))
}

/// Since when this scheduler could hear its hosts.
fn listening_since(world: &World) -> Mono {
    world.watch.started_at.max(world.watch.link_up_since.unwrap_or(Mono(0)))
}

/// How long the rest of a cut-off zone has to come back once its first host is heard again: two timeouts, so that hosts
/// that reconnect one after the other are not taken for lost in between.
fn thaw_ms(options: &LivenessOptions) -> u64 {
    options.lost_after_ms.saturating_mul(2)
}

/// Turns "lost" into "cut off" where much of a zone fell silent at once.
fn guard_partitions(world: &World, now: Mono, verdicts: &mut BTreeMap<HostId, HostLiveness>) {
    let options = &world.watch.options;
    // Hosts that never said hello to us may be of any zone: they are weighed against the whole fleet.
    let zone_of = |host: &HostId| -> Option<String> {
        let hello = world.observed.get(host)?.hello.as_ref()?;
        Some(hello.labels.get(ZONE_LABEL).cloned().unwrap_or_default())
    };
    let mut sizes: BTreeMap<Option<String>, usize> = BTreeMap::new();
    let mut silences: BTreeMap<Option<String>, Vec<(Mono, HostId)>> = BTreeMap::new();
    let half_way = |host: &HostId| now.since(silence_began(world, host)) >= options.lost_after_ms / 2;
    for host in verdicts.keys() {
        let zone = zone_of(host);
        *sizes.entry(zone.clone()).or_default() += 1;
        // Hosts half way to being lost count along: in a partition they follow within one heartbeat, and by then work
        // would have been moved already.
        if half_way(host) {
            silences
                .entry(zone)
                .or_default()
                .push((silence_began(world, host), host.clone()));
        }
    }
    sizes.insert(None, verdicts.len());
    // With no host to be heard at all there is nobody to take anything over, and the cause is hardly theirs. Half way
    // counts here too: the last hosts of a fleet that falls silent are not to be given the work of the first.
    let all_silent = verdicts.keys().all(half_way);
    for (zone, mut silent) in silences {
        silent.sort();
        let size = sizes.get(&zone).copied().unwrap_or(0);
        let allowed = options
            .partition_hosts_min
            .max(size * options.partition_share_percent / 100);
        let name = zone.unwrap_or_default();
        let thawing = world
            .watch
            .thawed_at
            .get(&name)
            .filter(|at| now.since(**at) < thaw_ms(options));
        for (began, host) in &silent {
            let Some(verdict @ HostLiveness::Lost { .. }) = verdicts.get_mut(host) else {
                continue;
            };
            let first = silent.partition_point(|(b, _)| b.plus(options.partition_window_ms) < *began);
            let end = silent.partition_point(|(b, _)| *b <= began.plus(options.partition_window_ms));
            let at_once = end.saturating_sub(first);
            let timed_out = options.partition_timeout_ms.is_some_and(|ms| now.since(*began) >= ms);
            let thaws = thawing.is_some_and(|at| began < at);
            if !timed_out && (at_once > allowed || all_silent || thaws) {
                *verdict = HostLiveness::Partitioned { zone: name.clone() };
            }
        }
    }
}

/// When silence alone can change a verdict next: when the host that lives and was heard longest ago is half way to being
/// lost. While any host does not live, verdicts may follow from each other, and every look is a full one.
pub(crate) fn next_look(world: &World, verdicts: &BTreeMap<HostId, HostLiveness>, now: Mono) -> Mono {
    if verdicts.values().any(|verdict| *verdict != HostLiveness::Alive) {
        return now;
    }
    let heard = verdicts
        .keys()
        .filter_map(|host| world.observed.get(host).map(|o| o.last_heard));
    heard.min().unwrap_or(now).plus(world.watch.options.lost_after_ms / 2)
}

/// The hosts of each cut-off zone.
pub fn partitions(verdicts: &BTreeMap<HostId, HostLiveness>) -> BTreeMap<String, BTreeSet<HostId>> {
    let mut zones: BTreeMap<String, BTreeSet<HostId>> = BTreeMap::new();
    for (host, verdict) in verdicts {
        if let HostLiveness::Partitioned { zone } = verdict {
            zones.entry(zone.clone()).or_default().insert(host.clone());
        }
    }
    zones
}
