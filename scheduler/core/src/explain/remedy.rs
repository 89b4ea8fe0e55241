//! The smallest changes that would let a missing replica be placed.

use crate::plan::is_leaned_on;
use crate::world::World;
use heddle_protocol::api::explain::HostKind;
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::record::{Intent, WorkloadRecord};
use heddle_protocol::report::{Bytes, Rejection};
use std::collections::BTreeSet;

/// Changes that are suggested.
const SUGGESTIONS_MAX: usize = 5;

/// The smallest changes first: those of hosts that are nearest, one for each combination of checks.
pub(super) fn suggestions(
    world: &World,
    id: &WorkloadId,
    record: &WorkloadRecord,
    nearest_first: &[HostKind],
) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut texts = Vec::new();
    for kind in nearest_first {
        let checks: Vec<String> = kind.rejections.iter().map(check).collect();
        if !seen.insert(checks) {
            continue;
        }
        let steps: Vec<String> = kind.rejections.iter().map(|r| remedy(&kind.nearest, r)).collect();
        texts.push(steps.join(", and "));
    }
    texts.truncate(SUGGESTIONS_MAX - 1);
    if let Some(text) = nearest_first
        .iter()
        .find_map(|kind| outrank(world, id, &record.intent, kind))
    {
        texts.truncate(SUGGESTIONS_MAX - 2);
        texts.push(text);
    }
    // Every fleet can grow, where that alone would do.
    texts.push(new_host(&record.intent));
    texts
}

/// What tells one check from another for whoever mends it.
fn check(rejection: &Rejection) -> String {
    match rejection {
        Rejection::Label { label, wanted, .. } => format!("{label} {wanted}"),
        Rejection::CapabilityMissing { capability, .. } => capability.to_string(),
        Rejection::Taint { taint } => format!("taint {taint}"),
        Rejection::Resource { resource, .. } => format!("resource {resource}"),
        Rejection::Avoid { workload, .. } => format!("avoid {workload}"),
        Rejection::Near { workload, .. } => format!("near {workload}"),
        Rejection::Skew { by, .. } => format!("skew {by}"),
        other => format!("{:?}", std::mem::discriminant(other)),
    }
}

/// How a higher priority would make room: only where nothing but room is lacking.
fn outrank(world: &World, id: &WorkloadId, intent: &Intent, kind: &HostKind) -> Option<String> {
    let room = |rejection: &Rejection| {
        matches!(
            rejection,
            Rejection::Memory { .. } | Rejection::Slots { .. } | Rejection::Cpu { .. } | Rejection::Resource { .. }
        )
    };
    if !kind.rejections.iter().all(room) {
        return None;
    }
    let priority_of = |id: &WorkloadId| Some((world.workloads.get(id)?.intent.rules.priority, id.clone()));
    let there = world.workloads_on(&kind.nearest);
    let others = there.iter().filter(|other| *other != id && !is_leaned_on(world, other));
    let (priority, workload) = others.filter_map(priority_of).min()?;
    let higher = priority >= intent.rules.priority && priority < 1_000;
    higher.then(|| {
        format!(
            "raise placement.priority above {priority}, so that {workload} makes room on {}",
            kind.nearest
        )
    })
}

fn remedy(host: &HostId, rejection: &Rejection) -> String {
    match rejection {
        Rejection::Lost => format!("bring {host} back: its agent is not heard"),
        Rejection::NotSeen => format!("wait until {host} is heard, or start its agent"),
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
        Rejection::Slots { slots } => {
            format!("raise the replica slots of {host} above {slots} (`--slots` of its agent)")
        }
        Rejection::AlreadyThere => format!("nothing on {host}: it runs there already"),
        Rejection::Taint { taint } => {
            let name = taint.split('=').next().unwrap_or(taint);
            format!("tolerate the taint (placement.tolerate), or take it off: `heddle hosts untaint {host} {name}`")
        }
        Rejection::Cpu {
            needed_millis,
            free_millis,
        } => {
            let lacking = needed_millis.saturating_sub(*free_millis);
            match free_millis {
                0 => format!("free {lacking}m of processor time on {host}"),
                free => format!("free {lacking}m of processor time on {host}, or lower reserve.cpu to {free}m"),
            }
        }
        Rejection::Resource { resource, needed, free } => {
            format!(
                "free {} of {resource} on {host}, or give its agent more (`--resource`)",
                needed.saturating_sub(*free)
            )
        }
        Rejection::PerHost { most } => format!("raise placement.maxPerHost above {most}"),
        Rejection::Avoid { workload, by, value } => {
            format!("move {workload} away from {by} {value}, or give the rule a weight, which makes it a wish")
        }
        Rejection::Near { workload, by, value } => match value {
            Some(value) => {
                format!(
                    "have a replica of {workload} in {by} {value}, or give the rule a weight, which makes it a wish"
                )
            }
            None => format!("give {host} the label {by}, by which it can be near to {workload}"),
        },
        Rejection::Skew { by, most, .. } => {
            format!(
                "raise maxSkew by {by} above {most}, make it a wish (`hard: false`), or make room where there are fewer"
            )
        }
    }
}

/// The most that fits, as a manifest may write it: rounded down, for sizes there are whole numbers.
fn size_below(bytes: u64) -> Bytes {
    let unit = [1 << 20, 1 << 10].into_iter().find(|unit| bytes >= *unit).unwrap_or(1);
    Bytes(bytes - bytes % unit)
}

fn new_host(intent: &Intent) -> String {
    let labels = intent
        .require
        .iter()
        .map(|r| format!("label {}: {}", r.label, r.rule.in_words()));
    let takes = &intent.rules.takes;
    let resources = takes.resources.iter().map(|(name, count)| format!("{count} of {name}"));
    let cpu = (takes.cpu_millis > 0).then(|| format!("{}m of processor time", takes.cpu_millis));
    let all: Vec<String> = labels.chain(cpu).chain(resources).collect();
    let with = if all.is_empty() {
        String::new()
    } else {
        format!(" with {}", all.join(", "))
    };
    let and = if all.is_empty() { " with" } else { " and" };
    format!("add a host{with}{and} {} of free memory", Bytes(intent.reserve_bytes))
}
