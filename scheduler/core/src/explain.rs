//! Why a workload is where it is, or why it is not: what the planner knew, printed.
//!
//! In: the world and the time. Out: for each host with replicas why there, for each other host every check that it
//! fails, and the smallest changes that would let a missing replica be placed.

use crate::place::filter::{HOST_LABEL, count_refusals};
use crate::place::{Bounds, Fleet, HostView, Need, capacity};
use crate::workload_status::StatusView;
use crate::world::World;
use heddle_protocol::api::explain::{Chosen, Explanation, HostVerdict};
use heddle_protocol::api::status::WorkloadStatus;
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::record::{Intent, Replicas, WorkloadRecord};
use heddle_protocol::report::{Bytes, Rejection, WaitingOn};
use heddle_protocol::time::Mono;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Hosts whose every failing check is listed.
const VERDICTS_MAX: usize = 100;
/// Changes that are suggested.
const SUGGESTIONS_MAX: usize = 5;

/// Explains one workload; none if there is nothing of it.
pub fn explain(world: &World, id: &WorkloadId, now: Mono) -> Option<Explanation> {
    let view = StatusView::new(world, now);
    let status = view.workload(id)?;
    let Some(record) = world.workloads.get(id) else {
        return Some(Explanation {
            commit: world.head.n,
            status,
            spread: "none: it was deleted".to_owned(),
            chosen: Vec::new(),
            refused: Vec::new(),
            hosts: Vec::new(),
            would_help: Vec::new(),
        });
    };
    let template = world.templates.get(&record.template).map(Arc::as_ref);
    let need = Need {
        intent: &record.intent,
        template,
    };
    let counts = counts_of(world, id, record);
    let bounds = Bounds::of(world, id, now);
    let verdicts = verdicts(&need, bounds.as_ref(), view.fleet(), &counts);
    let firsts = verdicts
        .iter()
        .filter_map(|v| Some((v.host.clone(), v.rejections.first()?.clone())));
    let refused = count_refusals(firsts);
    let would_help = match missing(&status) {
        0 => Vec::new(),
        _ => suggestions(&need, &verdicts),
    };
    Some(Explanation {
        commit: world.head.n,
        spread: spread_in_words(&record.intent),
        chosen: chosen(&need, view.fleet(), &counts, &status),
        refused,
        hosts: verdicts.into_iter().take(VERDICTS_MAX).collect(),
        would_help,
        status,
    })
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

/// Every host that would not take one more, with every check that fails.
fn verdicts(
    need: &Need<'_>,
    bounds: Option<&Bounds<'_>>,
    fleet: &Fleet<'_>,
    counts: &BTreeMap<HostId, u32>,
) -> Vec<HostVerdict> {
    let daemon = need.intent.replicas == Replicas::Daemon;
    let verdict = |host: &HostView<'_>| {
        // A daemon that is there is no refusal that anybody wonders about.
        let rejections = if daemon && counts.contains_key(host.id) {
            Vec::new()
        } else {
            let own = need.refusals(host).into_iter();
            own.chain(bounds.into_iter().flat_map(|bounds| bounds.refusals(host)))
                .collect()
        };
        (!rejections.is_empty()).then(|| HostVerdict {
            host: host.id.clone(),
            rejections,
        })
    };
    fleet.hosts().iter().filter_map(verdict).collect()
}

fn spread_in_words(intent: &Intent) -> String {
    if intent.replicas == Replicas::Daemon {
        return "one replica on each host that fits".to_owned();
    }
    let mut rules: Vec<String> = Vec::new();
    for spread in &intent.spread {
        let weights: Vec<String> = spread
            .weights
            .iter()
            .map(|(value, weight)| format!("{value} {weight}"))
            .collect();
        rules.push(match weights.is_empty() {
            true => format!("evenly by {}", spread.by),
            false => format!("by {} as {}", spread.by, weights.join(" : ")),
        });
    }
    rules.push("evenly over hosts".to_owned());
    rules.push("emptiest host first".to_owned());
    rules.join(", then ")
}

fn chosen(need: &Need<'_>, fleet: &Fleet<'_>, counts: &BTreeMap<HostId, u32>, status: &WorkloadStatus) -> Vec<Chosen> {
    let why = |host: &HostView<'_>, count: u32| {
        let mut parts = vec![match (host.observed.is_some(), need.fits(host)) {
            (false, _) => "not heard yet, taken to hold it".to_owned(),
            (true, true) => "fits".to_owned(),
            (true, false) => "no longer fits: it moves away once replaced".to_owned(),
        }];
        for spread in need.intent.spread.iter().filter(|s| s.by != HOST_LABEL) {
            let value = label(host, &spread.by);
            let same = counts
                .iter()
                .filter(|(h, _)| fleet.get(h).is_some_and(|v| label(v, &spread.by) == value));
            let total: u32 = same.map(|(_, count)| *count).sum();
            parts.push(format!(
                "{} {} has {total} of {}",
                spread.by,
                value.unwrap_or("(none)"),
                status.desired
            ));
        }
        if need.intent.replicas != Replicas::Daemon {
            parts.push(format!("{count} of {} here", status.desired));
        }
        let (free, slots) = (capacity::free_bytes(host), capacity::free_slots(host));
        parts.push(format!("{} and {slots} slots left", Bytes(free)));
        parts.join("; ")
    };
    let each = counts.iter().map(|(host, count)| Chosen {
        host: host.clone(),
        count: *count,
        why: fleet
            .get(host)
            .map_or("the host was forgotten".to_owned(), |view| why(view, *count)),
    });
    each.collect()
}

fn label<'a>(host: &HostView<'a>, label: &str) -> Option<&'a str> {
    host.labels.and_then(|labels| labels.get(label)).map(String::as_str)
}

/// The smallest changes first: those of hosts that fail the fewest checks, one for each combination of checks.
fn suggestions(need: &Need<'_>, verdicts: &[HostVerdict]) -> Vec<String> {
    let mut nearest: Vec<&HostVerdict> = verdicts.iter().collect();
    nearest.sort_by_key(|v| (v.rejections.len(), effort(&v.rejections), v.host.clone()));
    let mut seen = Vec::new();
    let mut texts = Vec::new();
    for verdict in nearest {
        let kinds: Vec<_> = verdict.rejections.iter().map(std::mem::discriminant).collect();
        if seen.contains(&kinds) {
            continue;
        }
        seen.push(kinds);
        let steps: Vec<String> = verdict.rejections.iter().map(|r| remedy(&verdict.host, r)).collect();
        texts.push(steps.join(", and "));
    }
    // Every fleet can grow.
    texts.truncate(SUGGESTIONS_MAX - 1);
    texts.push(new_host(need.intent));
    texts
}

/// What is nearly enough comes before what is not: less memory to free.
fn effort(rejections: &[Rejection]) -> u64 {
    let each = rejections.iter().map(|r| match r {
        Rejection::Memory {
            needed_bytes,
            free_bytes,
        } => needed_bytes.saturating_sub(*free_bytes),
        _ => 0,
    });
    each.sum()
}

fn remedy(host: &HostId, rejection: &Rejection) -> String {
    match rejection {
        Rejection::Lost | Rejection::NotSeen => format!("bring {host} back: its agent is not heard"),
        Rejection::Cordoned => format!("uncordon {host}: `heddle hosts uncordon {host}`"),
        Rejection::Draining => format!("stop draining {host}: `heddle hosts uncordon {host}`"),
        Rejection::Leaving => format!("start the agent of {host} again: it was told to stop"),
        Rejection::PlatformConflict { what } => format!("have only one platform give {what} to {host}"),
        Rejection::Label {
            label,
            wanted,
            found: Some(found),
            ..
        } => {
            format!("change label {label} of {host} from {found} to {wanted}")
        }
        Rejection::Label {
            label,
            wanted,
            found: None,
            ..
        } => format!("give {host} the label {label}: {wanted}"),
        Rejection::CapabilityMissing { capability, .. } => format!("have a platform lend {capability} to {host}"),
        Rejection::FeatureMissing { features } => {
            let names: Vec<&str> = features.iter().map(String::as_str).collect();
            format!("update the agent of {host}: it lacks {}", names.join(", "))
        }
        Rejection::InstanceMemory { max_bytes, .. } => {
            format!(
                "lower limits.memory to {}, the most that an instance on {host} has",
                size_below(*max_bytes)
            )
        }
        Rejection::Memory {
            needed_bytes,
            free_bytes,
        } => {
            let lacking = Bytes(needed_bytes.saturating_sub(*free_bytes));
            match free_bytes {
                0 => format!("free {lacking} of memory on {host}"),
                free => format!(
                    "free {lacking} of memory on {host}, or lower reserve.memory to {}",
                    size_below(*free)
                ),
            }
        }
        Rejection::Slots { slots } => format!("raise the replica slots of {host} above {slots}"),
        Rejection::AlreadyThere => format!("nothing on {host}: it runs there already"),
        Rejection::Taint { taint } => format!("take the taint {taint} off {host}, or have the workload tolerate it"),
        Rejection::Cpu {
            needed_millis,
            free_millis,
        } => format!(
            "free {}m of processor time on {host}, or lower reserve.cpu to {free_millis}m",
            needed_millis.saturating_sub(*free_millis)
        ),
        Rejection::Resource { resource, needed, free } => {
            format!("free {} of {resource} on {host}", needed.saturating_sub(*free))
        }
        Rejection::PerHost { most } => format!("raise placement.maxPerHost above {most}"),
        Rejection::Avoid { workload, by, value } => format!("move {workload} away from {by} {value}"),
        Rejection::Near { workload, by, value } => match value {
            Some(value) => format!("have a replica of {workload} in {by} {value}"),
            None => format!("give {host} the label {by}"),
        },
        Rejection::Skew { by, most, .. } => {
            format!("raise maxSkew of the spread by {by} above {most}, or make room where it has fewer")
        }
    }
}

/// The most that fits, as a manifest may write it: rounded down, for sizes there are whole numbers.
fn size_below(bytes: u64) -> Bytes {
    let unit = [1 << 20, 1 << 10].into_iter().find(|unit| bytes >= *unit).unwrap_or(1);
    Bytes(bytes - bytes % unit)
}

fn new_host(intent: &Intent) -> String {
    let labels: Vec<String> = intent
        .require
        .iter()
        .map(|r| format!("label {}: {}", r.label, r.rule.in_words()))
        .collect();
    let with = if labels.is_empty() {
        String::new()
    } else {
        format!(" with {}", labels.join(", "))
    };
    format!("add a host{with} and {} of free memory", Bytes(intent.reserve_bytes))
}
