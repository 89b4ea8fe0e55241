//! Which hosts count as lost. Silence alone proves little: it may be ours, or a whole zone's.
//!
//! In: when each host was last heard, since when our own link is up and nothing of what was said was missed, the zones,
//! and the time. Out: one verdict per host that is not alive, and until when these hold. A pure function of those, so
//! that two schedulers with the same facts judge alike. Hosts are kept in the order in which they were heard, so that
//! only the silent ones are looked at.

use crate::observed::ObservedHost;
use crate::world::World;
use heddle_protocol::defaults::{
    HOST_LOST_AFTER_MS, PARTITION_HOSTS_MIN, PARTITION_SHARE_PERCENT, PARTITION_WINDOW_MS,
};
use heddle_protocol::id::HostId;
use heddle_protocol::time::Mono;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

/// The verdicts on all admitted hosts at a time, and for how long they hold if nothing is heard of those that are silent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdicts {
    /// The hosts that are not alive.
    odd: BTreeMap<HostId, HostLiveness>,
    /// How many of them are lost or cut off.
    grave: usize,
    /// When they were judged; none if something happened since that may change a verdict.
    from: Option<Mono>,
    /// When time alone may change a verdict; none is never.
    until: Option<Mono>,
}

impl Verdicts {
    /// The verdict on an admitted host.
    pub fn of(&self, host: &HostId) -> HostLiveness {
        if self.odd.is_empty() {
            return HostLiveness::Alive;
        }
        self.odd.get(host).cloned().unwrap_or(HostLiveness::Alive)
    }

    /// The hosts that are not alive, ordered by id.
    pub fn odd(&self) -> &BTreeMap<HostId, HostLiveness> {
        &self.odd
    }

    /// Verdicts that were kept, as those of one time.
    pub(crate) fn kept(odd: BTreeMap<HostId, HostLiveness>, at: Mono) -> Self {
        let grave = |v: &&HostLiveness| matches!(v, HostLiveness::Lost { .. } | HostLiveness::Partitioned { .. });
        Self {
            grave: odd.values().filter(grave).count(),
            odd,
            from: Some(at),
            until: None,
        }
    }

    /// Whether they are the verdicts at a time, if nothing is known that is not in them.
    pub(crate) fn hold_at(&self, now: Mono) -> bool {
        self.from.is_some_and(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }

    /// Whether any host is lost or cut off.
    pub(crate) fn is_grave(&self) -> bool {
        self.grave > 0
    }

    /// Notes that something happened that may change a verdict.
    pub(crate) fn doubt(&mut self) {
        self.from = None;
    }

    /// Forgets a host that is not admitted any more.
    pub(crate) fn forget(&mut self, host: &HostId) {
        self.odd.remove(host);
        self.doubt();
    }

    /// Notes that a host that was not alive was heard, and said who it is. Where others are lost or cut off, what follows for
    /// them is in doubt.
    pub(crate) fn hear(&mut self, host: &HostId, now: Mono, lost_after_ms: u64) {
        let alone = self.grave == 0 && self.hold_at(now);
        let before = self.odd.remove(host);
        if let Some(HostLiveness::Lost { .. } | HostLiveness::Partitioned { .. }) = before {
            self.grave = self.grave.saturating_sub(1);
        }
        if !alone {
            return self.doubt();
        }
        let silent = now.plus(lost_after_ms);
        self.until = Some(self.until.map_or(silent, |until| until.min(silent)));
    }

    /// The verdicts in which two differ, ordered by host: before and after.
    pub(crate) fn changes(&self, after: &Self) -> Vec<(HostId, HostLiveness, HostLiveness)> {
        let hosts: BTreeSet<&HostId> = self.odd.keys().chain(after.odd.keys()).collect();
        let each = hosts
            .into_iter()
            .map(|host| (host.clone(), self.of(host), after.of(host)));
        each.filter(|(_, before, after)| before != after).collect()
    }
}

/// When hosts were last heard, kept so that the silent ones are found without looking at the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listening {
    heard: Arc<BTreeMap<HostId, Heard>>,
    by_time: Arc<BTreeSet<(Mono, HostId)>>,
    /// Hosts that did not say hello.
    mute: Arc<BTreeSet<HostId>>,
    /// How many hosts of each zone said hello.
    zones: Arc<BTreeMap<String, usize>>,
}

/// What is known of one host.
#[derive(Debug, Clone, Default, PartialEq)]
struct Heard {
    at: Option<Mono>,
    /// Its zone; none if it did not say hello.
    zone: Option<String>,
}

impl Listening {
    /// Takes in what is known of a host now; none if it is not admitted. Costs little if only the time changed.
    pub(crate) fn set(&mut self, host: &HostId, admitted: bool, observed: Option<&ObservedHost>) {
        let before = self.heard.get(host);
        if !admitted {
            if before.is_some() {
                self.forget(host);
            }
            return;
        }
        let at = observed.map(|o| o.last_heard);
        let label = observed.map(|o| o.hello.as_ref().map(|_| o.label(ZONE_LABEL).unwrap_or_default()));
        let zone = label.flatten();
        if let Some(before) = before
            && before.zone.as_deref() == zone
        {
            if before.at != at {
                let by_time = Arc::make_mut(&mut self.by_time);
                if let Some(before) = before.at {
                    by_time.remove(&(before, host.clone()));
                }
                by_time.extend(at.map(|at| (at, host.clone())));
                if let Some(heard) = Arc::make_mut(&mut self.heard).get_mut(host) {
                    heard.at = at;
                }
            }
            return;
        }
        self.forget(host);
        let zone = zone.map(str::to_owned);
        match &zone {
            Some(zone) => *Arc::make_mut(&mut self.zones).entry(zone.clone()).or_default() += 1,
            None => drop(Arc::make_mut(&mut self.mute).insert(host.clone())),
        }
        Arc::make_mut(&mut self.by_time).extend(at.map(|at| (at, host.clone())));
        Arc::make_mut(&mut self.heard).insert(host.clone(), Heard { at, zone });
    }

    fn forget(&mut self, host: &HostId) {
        let Some(before) = Arc::make_mut(&mut self.heard).remove(host) else {
            return;
        };
        if let Some(at) = before.at {
            Arc::make_mut(&mut self.by_time).remove(&(at, host.clone()));
        }
        match before.zone {
            None => drop(Arc::make_mut(&mut self.mute).remove(host)),
            Some(zone) => {
                let zones = Arc::make_mut(&mut self.zones);
                if let Some(count) = zones.get_mut(&zone) {
                    *count -= 1;
                    if *count == 0 {
                        zones.remove(&zone);
                    }
                }
            }
        }
    }

    /// The hosts that were heard and then not for so long, the longest silence first.
    fn silent_for(&self, ms: u64, now: Mono) -> impl Iterator<Item = &HostId> {
        let silent = self.by_time.iter().take_while(move |(at, _)| now.since(*at) >= ms);
        silent.map(|(_, host)| host)
    }

    /// When the first of the other hosts will have been silent for so long.
    fn next_silent_for(&self, ms: u64, now: Mono) -> Option<Mono> {
        let first = self.by_time.iter().find(|(at, _)| now.since(*at) < ms);
        first.map(|(at, _)| at.plus(ms))
    }

    /// The hosts that were never heard.
    fn unheard(&self) -> impl Iterator<Item = &HostId> {
        let never = |host: &&HostId| self.heard.get(*host).is_some_and(|heard| heard.at.is_none());
        self.mute.iter().filter(never)
    }

    fn zone_of(&self, host: &HostId) -> Option<&String> {
        self.heard.get(host)?.zone.as_ref()
    }
}

/// The verdicts at a time: those that were told last, as long as they hold.
pub(crate) fn verdicts_at(world: &World, now: Mono) -> Cow<'_, Verdicts> {
    let told = &world.watch.announced;
    match told.hold_at(now) {
        true => Cow::Borrowed(told),
        false => Cow::Owned(judge(world, now)),
    }
}

/// Judges every admitted host.
pub fn judge(world: &World, now: Mono) -> Verdicts {
    let (listening, options) = (world.listening(), &world.watch.options);
    let silent = listening.silent_for(options.lost_after_ms, now);
    let mut odd: BTreeMap<HostId, HostLiveness> = silent
        .chain(listening.mute.iter())
        .map(|host| (host.clone(), judge_alone(world, host, now)))
        .filter(|(_, verdict)| *verdict != HostLiveness::Alive)
        .collect();
    let lost = |v: &HostLiveness| matches!(v, HostLiveness::Lost { .. });
    let grave = odd.values().filter(|v| lost(v)).count();
    if grave > 0 {
        guard_partitions(world, now, &mut odd);
    }
    let until = holds_until(world, now, &odd, grave > 0);
    Verdicts {
        odd,
        grave,
        from: Some(now),
        until,
    }
}

/// When time alone may change a verdict.
fn holds_until(world: &World, now: Mono, odd: &BTreeMap<HostId, HostLiveness>, grave: bool) -> Option<Mono> {
    let (listening, options) = (world.listening(), &world.watch.options);
    let lost_after_ms = options.lost_after_ms;
    let mut times: Vec<Mono> = Vec::new();
    let began_listening = listening_since(world).max(missed_at(world));
    times.push(listening_since(world).plus(lost_after_ms));
    times.push(began_listening.plus(lost_after_ms));
    times.extend(listening.next_silent_for(lost_after_ms, now));
    for (host, _) in odd.iter().filter(|(_, v)| **v == HostLiveness::NotSeen) {
        times.push(silence_began(world, host).plus(lost_after_ms));
    }
    if grave {
        times.push(began_listening.plus(lost_after_ms / 2));
        times.extend(listening.next_silent_for(lost_after_ms / 2, now));
        times.extend(world.watch.thawed_at.values().map(|at| at.plus(thaw_ms(options))));
        if let Some(timeout_ms) = options.partition_timeout_ms {
            times.extend(odd.keys().map(|host| silence_began(world, host).plus(timeout_ms)));
        }
    }
    times.into_iter().filter(|time| *time > now).min()
}

/// When all hosts that have been silent for half as long as lost ones are heard or lost; none if there are none.
pub(crate) fn half_way_until(world: &World, now: Mono) -> Option<Mono> {
    let (listening, lost_after_ms) = (world.listening(), world.watch.options.lost_after_ms);
    let half_way = |(at, _): &&(Mono, HostId)| now.since(*at) >= lost_after_ms / 2;
    let (last, _) = listening.by_time.iter().take_while(half_way).last()?;
    Some(last.plus(lost_after_ms)).filter(|until| *until > now)
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
    heard.max(listening_since(world)).max(missed_at(world))
}

/// Since when this scheduler could hear its hosts.
fn listening_since(world: &World) -> Mono {
    world.watch.started_at.max(world.watch.link_up_since.unwrap_or(Mono(0)))
}

/// When messages were missed last. What a host said may have been among them.
fn missed_at(world: &World) -> Mono {
    world.watch.missed_at.unwrap_or(Mono(0))
}

/// How long the rest of a cut-off zone has to come back once its first host is heard again: two timeouts, so that hosts
/// that reconnect one after the other are not taken for lost in between.
fn thaw_ms(options: &LivenessOptions) -> u64 {
    options.lost_after_ms.saturating_mul(2)
}

/// Turns "lost" into "cut off" where much of a zone fell silent at once.
fn guard_partitions(world: &World, now: Mono, odd: &mut BTreeMap<HostId, HostLiveness>) {
    let (listening, options) = (world.listening(), &world.watch.options);
    let mut silences: BTreeMap<Option<&String>, Vec<(Mono, HostId)>> = BTreeMap::new();
    let half_way = |host: &HostId| now.since(silence_began(world, host)) >= options.lost_after_ms / 2;
    let mut half_way_count = 0;
    // Hosts half way to being lost count along: in a partition they follow within one heartbeat, and by then work
    // would have been moved already.
    let silent = listening
        .silent_for(options.lost_after_ms / 2, now)
        .chain(listening.unheard());
    for host in silent.filter(|host| half_way(host)) {
        half_way_count += 1;
        // Hosts that never said hello to us may be of any zone: they are weighed against the whole fleet.
        let began = silence_began(world, host);
        let zone = listening.zone_of(host);
        silences.entry(zone).or_default().push((began, host.clone()));
    }
    // With no host to be heard at all there is nobody to take anything over, and the cause is hardly theirs. Half way
    // counts here too: the last hosts of a fleet that falls silent are not to be given the work of the first.
    let all_silent = half_way_count == world.hosts.len();
    for (zone, mut silent) in silences {
        silent.sort();
        let size = match zone {
            Some(zone) => listening.zones.get(zone).copied().unwrap_or(0),
            None => world.hosts.len(),
        };
        let allowed = options
            .partition_hosts_min
            .max(size * options.partition_share_percent / 100);
        let name = zone.cloned().unwrap_or_default();
        let thawing = world
            .watch
            .thawed_at
            .get(&name)
            .filter(|at| now.since(**at) < thaw_ms(options));
        for (began, host) in &silent {
            let Some(verdict @ HostLiveness::Lost { .. }) = odd.get_mut(host) else {
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

/// The hosts of each cut-off zone.
pub fn partitions(verdicts: &Verdicts) -> BTreeMap<String, BTreeSet<HostId>> {
    let mut zones: BTreeMap<String, BTreeSet<HostId>> = BTreeMap::new();
    for (host, verdict) in verdicts.odd() {
        if let HostLiveness::Partitioned { zone } = verdict {
            zones.entry(zone.clone()).or_default().insert(host.clone());
        }
    }
    zones
}
