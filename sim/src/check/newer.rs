//! NEWER-ONLY and SIGNED-OR-NOTHING: what an agent accepts is newer than what it held, is for this start of it, was
//! committed, names what was placed on it at that commit, and names only artifacts that there are.

use crate::agent::Agent;
use crate::truth::{Truth, Units};
use heddle_agent_core::ReadSpec;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::Accepted;
use heddle_protocol::id::BootId;
use std::collections::BTreeSet;

/// Looks at a spec that an agent just accepted.
pub fn check(
    truth: &Truth,
    agent: &Agent,
    read: &ReadSpec,
    before: Option<Accepted>,
    artifacts: &BTreeSet<Digest>,
) -> Vec<(&'static str, String)> {
    let mut broken = Vec::new();
    let (spec, host) = (&read.spec, &agent.id);
    if let Some(before) = before.filter(|before| before.version >= spec.version) {
        let what = format!("{host} holds {} and accepted {}", before.version, spec.version);
        broken.push(("newer-only", what));
    }
    let boot = agent
        .life
        .as_ref()
        .map(|life| BootId::new(format!("{host}-{}", life.boot)));
    if spec.host != *host || Some(&spec.boot_id) != boot.as_ref() {
        let what = format!("{host} accepted a spec for {} of {}", spec.boot_id, spec.host);
        broken.push(("addressed", what));
    }
    let n = spec.version.n;
    match truth.commits.get(&n) {
        Some(commit) if commit.version == spec.version => {}
        _ => {
            let what = format!("{host} accepted {}, which was never committed", spec.version);
            broken.push(("committed-specs-only", what));
            return broken;
        }
    }
    let units: Units = spec
        .body
        .units
        .iter()
        .map(|unit| (unit.id(), (unit.count, unit.template)))
        .collect();
    let placed = truth.units_at(host, n);
    if units != placed {
        let what = format!(
            "{host} accepted {} with {units:?}; placed were {placed:?}",
            spec.version
        );
        broken.push(("specs-are-placements", what));
    }
    let named = spec.body.templates.values().flat_map(|template| &template.components);
    if let Some(component) = named
        .into_iter()
        .find(|component| !artifacts.contains(&component.artifact))
    {
        let what = format!(
            "{host} was told to run {}, which nobody has",
            component.artifact.short()
        );
        broken.push(("by-digest", what));
    }
    broken
}
