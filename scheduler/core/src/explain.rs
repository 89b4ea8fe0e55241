//! Why a workload is where it is, or why it is not: what the planner knew, printed.
//!
//! In: the world and the time. Out: for each host with replicas why there and what came second; for the other hosts every
//! check that they fail, those that share all of them together; and the smallest changes that would let a missing replica
//! be placed.

mod kinds;
mod remedy;
mod wishes;

use crate::liveness::HostLiveness;
use crate::place::capacity::{self, Take};
use crate::place::class::Mood;
use crate::place::filter::{HOST_LABEL, Traits, set_name};
use crate::place::index::ClassNo;
use crate::place::{Bounds, Fleet, HostView, Need};
use crate::workload_status::StatusView;
use crate::world::World;
use heddle_protocol::api::explain::{Chosen, Explanation, HostVerdict, Second};
use heddle_protocol::api::status::WorkloadStatus;
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::label::HOST_NAME_LABEL;
use heddle_protocol::record::{Intent, Replicas, WorkloadRecord};
use heddle_protocol::report::{Bytes, Rejection, WaitingOn};
use heddle_protocol::time::Mono;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use wishes::Wishes;

/// Refusing hosts that are listed by themselves.
const NEAREST_MAX: usize = 100;
/// Hosts with replicas of which it is said what came second.
const SECONDS_MAX: usize = 100;

/// Explains one workload; none if there is nothing of it.
pub fn explain(world: &World, id: &WorkloadId, now: Mono) -> Option<Explanation> {
    let view = StatusView::new(world, now);
    let status = view.workload(id)?;
    let Some(record) = world.workloads.get(id) else {
        return Some(Explanation {
            commit: world.head.n,
            status,
            wishes: "none: it was deleted".to_owned(),
            chosen: Vec::new(),
            open: 0,
            refusing: Vec::new(),
            nearest: Vec::new(),
            would_help: Vec::new(),
        });
    };
    let mut asked = Asked::new(world, id, record, now);
    let counts = counts_of(world, id, record);
    let (open, refusing) = judge(&mut asked, view.fleet(), &counts);
    let groups = kinds::Groups::new(&refusing);
    let kinds = groups.kinds(&refusing);
    let leaving = |host: &HostId| view.fleet().get(host).is_some_and(HostView::is_emptied);
    let is_stuck = open.is_empty() && counts.keys().any(leaving);
    let would_help = match missing(&status) > 0 || is_stuck {
        true => remedy::suggestions(world, id, record, &kinds),
        false => Vec::new(),
    };
    let wishes = Wishes::new(world, id, record, view.fleet(), &counts);
    let verdict = |(host, rejections): &Refusing<'_, '_>| HostVerdict {
        host: host.id.clone(),
        rejections: of_host(rejections, host),
    };
    Some(Explanation {
        commit: world.head.n,
        wishes: wishes.in_words(),
        chosen: chosen(&asked, view.fleet(), &counts, &status, &wishes, &open),
        open: u32::try_from(open.len()).unwrap_or(u32::MAX),
        nearest: groups.nearest(&refusing, NEAREST_MAX).map(verdict).collect(),
        refusing: kinds,
        would_help,
        status,
    })
}

/// What is asked of each host.
struct Asked<'a> {
    need: Need<'a>,
    bounds: Option<Bounds<'a>>,
    /// Whether what the bounds say is the same for all hosts of a class.
    bounds_by_class: bool,
    /// What was found for each class, in which its hosts share it.
    classes: Vec<Vec<(Mood, Shared)>>,
}

/// Reasons that hosts share.
struct Shared {
    /// Those that stay whatever is free.
    lasting: Rc<[Rejection]>,
    /// Those that follow from where replicas are, if they are the same for the whole class.
    bounds: Vec<Rejection>,
    /// Both.
    all: Rc<[Rejection]>,
}

impl<'a> Asked<'a> {
    fn new(world: &'a World, id: &'a WorkloadId, record: &'a WorkloadRecord, now: Mono) -> Self {
        let template = world.templates.get(&record.template).map(Arc::as_ref);
        let intent = &record.intent;
        let bounds = Bounds::of(world, id, now);
        Self {
            need: Need { intent, template },
            bounds_by_class: bounds.as_ref().is_none_or(Bounds::is_by_class),
            bounds,
            classes: Vec::new(),
        }
    }

    fn bounds_of(&self, host: &HostView<'_>) -> Vec<Rejection> {
        self.bounds.iter().flat_map(|bounds| bounds.refusals(host)).collect()
    }

    /// What hosts of a class share.
    fn shared(&self, class: ClassNo, mood: Mood) -> Option<&Shared> {
        let mut moods = self.classes.get(class as usize)?.iter();
        moods.find(|(other, _)| *other == mood).map(|(_, shared)| shared)
    }

    /// Every reason why a host would not take one more replica. Hosts of a class share the list as far as they can.
    fn refusals(&mut self, host: &HostView<'_>) -> Rc<[Rejection]> {
        let Some(class) = host.class.filter(|_| self.need.is_by_class()) else {
            let mut all = self.need.refusals(host);
            all.extend(self.bounds_of(host));
            return all.into();
        };
        let mood = Mood::from(&host.liveness);
        if self.shared(class, mood).is_none() {
            let lasting = self.need.lasting_refusals(&Traits::from(host));
            let bounds = match self.bounds_by_class {
                true => self.bounds_of(host),
                false => Vec::new(),
            };
            let shared = Shared {
                all: lasting.iter().chain(&bounds).cloned().collect(),
                lasting: lasting.into(),
                bounds,
            };
            let place = class as usize;
            if self.classes.len() <= place {
                self.classes.resize_with(place + 1, Vec::new);
            }
            if let Some(moods) = self.classes.get_mut(place) {
                moods.push((mood, shared));
            }
        }
        let own_bounds = match self.bounds_by_class {
            true => Vec::new(),
            false => self.bounds_of(host),
        };
        let Some(shared) = self.shared(class, mood) else {
            return Rc::default();
        };
        // Of a host that was never heard nothing else is known.
        let no_room = match host.labels {
            Some(_) => capacity::refusals(host, self.need.intent),
            None => Vec::new(),
        };
        if no_room.is_empty() && own_bounds.is_empty() {
            return Rc::clone(&shared.all);
        }
        let own = no_room.into_iter().chain(own_bounds);
        shared
            .lasting
            .iter()
            .cloned()
            .chain(own)
            .chain(shared.bounds.iter().cloned())
            .collect()
    }
}

/// What hosts of a class share, with one host's own name where it speaks of that.
fn of_host(rejections: &[Rejection], host: &HostView<'_>) -> Vec<Rejection> {
    let mut all = rejections.to_vec();
    let name = host.labels.and_then(|labels| labels.get(HOST_NAME_LABEL));
    all.iter_mut().for_each(|rejection| set_name(rejection, name));
    all
}

fn counts_of(world: &World, id: &WorkloadId, record: &WorkloadRecord) -> BTreeMap<HostId, u32> {
    let sets = world.places.get(id).into_iter().flat_map(|p| &p.sets);
    let newest = sets.filter(|set| set.generation == record.intent.unit_generation);
    newest
        .flat_map(|set| set.hosts.iter().map(|(host, count)| (host.clone(), *count)))
        .collect()
}

fn missing(status: &WorkloadStatus) -> u32 {
    let each = status.waiting.iter().map(|w| match w {
        WaitingOn::Hosts { missing, .. } => *missing,
        WaitingOn::Units { .. } | WaitingOn::Partition { .. } => 0,
    });
    each.sum()
}

/// A host with every check that it fails.
type Refusing<'f, 'a> = (&'f HostView<'a>, Rc<[Rejection]>);

/// The hosts that would take one more, and those that would not. A daemon wants one per host: those that have it are
/// neither.
fn judge<'f, 'a>(
    asked: &mut Asked<'_>,
    fleet: &'f Fleet<'a>,
    counts: &BTreeMap<HostId, u32>,
) -> (Vec<&'f HostView<'a>>, Vec<Refusing<'f, 'a>>) {
    let daemon = asked.need.intent.replicas == Replicas::Daemon;
    let (mut open, mut refusing) = (Vec::new(), Vec::new());
    for host in fleet.hosts() {
        if daemon && counts.contains_key(host.id) {
            continue;
        }
        let rejections = asked.refusals(host);
        match rejections.is_empty() {
            true => open.push(host),
            false => refusing.push((host, rejections)),
        }
    }
    (open, refusing)
}

fn chosen(
    asked: &Asked<'_>,
    fleet: &Fleet<'_>,
    counts: &BTreeMap<HostId, u32>,
    status: &WorkloadStatus,
    wishes: &Wishes<'_>,
    open: &[&HostView<'_>],
) -> Vec<Chosen> {
    let daemon = asked.need.intent.replicas == Replicas::Daemon;
    let rivals = if daemon { Vec::new() } else { wishes.rivals(open) };
    let mut all = Vec::with_capacity(counts.len());
    for (index, (host, count, view)) in fleet.each(counts.iter()).enumerate() {
        let stays = |view: &&HostView<'_>| view.liveness == HostLiveness::Alive && !view.is_emptied();
        let second = view
            .filter(stays)
            .filter(|_| index < SECONDS_MAX)
            .and_then(|view| wishes.second(view, &rivals));
        all.push(Chosen {
            host: host.clone(),
            count: *count,
            why: view.map_or("the host was forgotten".to_owned(), |view| {
                why(asked, view, *count, status, wishes)
            }),
            second: second.map(|(host, why)| Second {
                host: host.id.clone(),
                why,
            }),
        });
    }
    all
}

/// Why a host has replicas: that it fits, its share by each rule, and what is left there.
fn why(asked: &Asked<'_>, host: &HostView<'_>, count: u32, status: &WorkloadStatus, wishes: &Wishes<'_>) -> String {
    let intent = asked.need.intent;
    let mut parts = vec![
        match host.liveness {
            HostLiveness::Lost { .. } => "lost: replaced where there is room",
            HostLiveness::Partitioned { .. } => "cut off with its zone, taken to hold it",
            HostLiveness::NotSeen => "not heard yet, taken to hold it",
            HostLiveness::Alive if host.is_emptied() => "being emptied: it moves away once replaced",
            HostLiveness::Alive if asked.need.fits(host) => "fits",
            HostLiveness::Alive => "no longer fits: it moves away once replaced",
        }
        .to_owned(),
    ];
    for spread in intent.spread.iter().filter(|s| s.by != HOST_LABEL) {
        let value = label(host, &spread.by);
        let total = wishes.count_at(&spread.by, value);
        parts.push(format!(
            "{} {} has {total} of {}",
            spread.by,
            value.unwrap_or("(none)"),
            status.desired
        ));
    }
    if intent.replicas != Replicas::Daemon {
        parts.push(format!("{count} of {} here", status.desired));
    }
    if let preferred @ 1.. = wishes.preference(host) {
        parts.push(format!("preferred by {preferred}"));
    }
    if host.observed.is_some() {
        let (free, slots) = (capacity::free_bytes(host), capacity::free_slots(host));
        let s = if slots == 1 { "" } else { "s" };
        parts.push(format!("{} and {slots} slot{s} left", Bytes(free)));
    }
    parts.join("; ")
}

/// A label's value, where `host` is the host itself.
fn label<'h>(host: &'h HostView<'_>, label: &str) -> Option<&'h str> {
    match label {
        HOST_LABEL => Some(host.id.as_str()),
        label => host.labels.and_then(|labels| labels.get(label)).map(String::as_str),
    }
}

/// How full a host is, in millionths of its scarcest resource, with so many of a workload's replicas thought away.
fn fullness_ppm(host: &HostView<'_>, intent: &Intent, less: u32) -> u32 {
    if less == 0 {
        return host.used.fullness_ppm(host.scarce);
    }
    let mut used = host.used.clone();
    used.remove(Take::from(intent), less);
    used.fullness_ppm(host.scarce)
}
