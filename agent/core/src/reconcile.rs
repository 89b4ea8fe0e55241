//! What to do next: the difference between what a host should run and what it has, as actions.
//!
//! In: the spec, what is running, the time. Out: actions that can begin now, in an order that never leaves a route
//! without the unit behind it. Deciding again after they have begun gives nothing new.

use crate::action::Action;
use crate::capability::CapabilityPhase;
use crate::running::{ArtifactState, ComponentState, Run, RunId, Running};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::UnitPhase;
use heddle_protocol::host_spec::{Compile, HostSpecBody, TemplateComponent, Wasi};
use heddle_protocol::id::{CapabilityName, UnitId};
use heddle_protocol::mutant::mutant;
use heddle_protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};

/// How long compiled code stays in memory unused, in milliseconds: long enough for an undo to find it.
const COMPONENT_IDLE_MS: u64 = 600_000;
/// Unused compiled components kept in memory at most: each holds mapped memory, and those are limited per process.
const IDLE_COMPONENTS_MAX: usize = 64;

/// Decides what to do next.
pub fn reconcile(spec: &HostSpecBody, running: &Running, now: Mono) -> Vec<Action> {
    let mut actions = Vec::new();
    set_capabilities(spec, running, now, &mut actions);
    fetch_and_compile(spec.compile, running, &mut actions);
    prepare_and_resize(running, &mut actions);
    // Routes leave a run before it drains.
    set_routes(running, &mut actions);
    drain_and_drop(running, now, &mut actions);
    remove_capabilities(spec, running, &mut actions);
    forget_components(running, now, &mut actions);
    actions
}

fn set_capabilities(spec: &HostSpecBody, running: &Running, now: Mono, actions: &mut Vec<Action>) {
    for (name, offer) in &spec.capabilities {
        if running.capabilities.must_set(name, offer, now) {
            actions.push(Action::SetCapability {
                name: name.clone(),
                offer: offer.clone(),
            });
        }
    }
}

/// Code that the scheduler compiled needs no artifact: where it has none for this engine, compiling fetches what it needs.
fn fetch_and_compile(by: Compile, running: &Running, actions: &mut Vec<Action>) {
    let mut decided = BTreeSet::new();
    for run in running.runs.values() {
        for component in components(run) {
            let key = (component.artifact, component.wasi);
            if running.components.contains_key(&key) {
                continue;
            }
            let artifact = running.artifacts.get(&component.artifact);
            let artifact = match by {
                Compile::Precompiled => Some(&ArtifactState::Here),
                Compile::Local => artifact,
            };
            match (run.phase, artifact) {
                (UnitPhase::Fetching, None) if decided.insert((component.artifact, None)) => {
                    actions.push(Action::FetchArtifact {
                        digest: component.artifact,
                        bytes: component.artifact_bytes,
                    });
                }
                (UnitPhase::Fetching | UnitPhase::Compiling, Some(ArtifactState::Here))
                    if decided.insert((component.artifact, Some(component.wasi))) =>
                {
                    actions.push(Action::CompileArtifact {
                        digest: component.artifact,
                        bytes: component.artifact_bytes,
                        wasi: component.wasi,
                        by,
                    });
                }
                _ => {}
            }
        }
    }
}

fn prepare_and_resize(running: &Running, actions: &mut Vec<Action>) {
    for (id, run) in running.runs() {
        match (run.phase, &run.template) {
            (UnitPhase::Starting, Some(template)) if !run.preparing && running.lacking(run).is_none() => {
                let (unit, template) = (run.unit.clone(), template.clone());
                actions.push(Action::PrepareUnit {
                    run: id,
                    unit,
                    template,
                    count: run.count,
                });
            }
            (UnitPhase::Ready, _) if run.held_count != run.count && !mutant("resize-is-forgotten") => {
                actions.push(Action::ResizeUnit {
                    run: id,
                    unit: run.unit.clone(),
                    count: run.count,
                });
            }
            _ => {}
        }
    }
}

fn set_routes(running: &Running, actions: &mut Vec<Action>) {
    let serving: BTreeMap<UnitId, RunId> = running
        .wanted
        .iter()
        .filter(|(_, id)| {
            running.runs.get(id).is_some_and(|run| {
                run.phase == UnitPhase::Ready || run.phase == UnitPhase::Starting && mutant("routes-before-ready")
            })
        })
        .map(|(unit, id)| (unit.clone(), *id))
        .collect();
    if !running.has_installed(&serving) {
        actions.push(Action::SetRoutes { serving });
    }
}

fn drain_and_drop(running: &Running, now: Mono, actions: &mut Vec<Action>) {
    for (id, run) in running.runs() {
        if run.phase == UnitPhase::Draining && !run.drain_begun && !mutant("drain-is-never-begun") {
            let deadline = run.drain_deadline.unwrap_or(now);
            actions.push(Action::DrainUnit {
                run: id,
                unit: run.unit.clone(),
                deadline,
            });
        }
    }
    for (run, unit) in &running.leftovers {
        actions.push(Action::DropUnit {
            run: *run,
            unit: unit.clone(),
        });
    }
}

/// A capability goes when the spec does not name it and the last run that needs it has gone; one that is just being set
/// up goes after that has ended, so that the two never cross.
fn remove_capabilities(spec: &HostSpecBody, running: &Running, actions: &mut Vec<Action>) {
    let needed: BTreeSet<&CapabilityName> = running.runs.values().flat_map(|run| &run.needs).collect();
    for (name, phase) in running.capabilities() {
        let unneeded = !spec.capabilities.contains_key(name) && !needed.contains(name);
        if unneeded && *phase != CapabilityPhase::Setting {
            actions.push(Action::RemoveCapability { name: name.clone() });
        }
    }
}

fn forget_components(running: &Running, now: Mono, actions: &mut Vec<Action>) {
    let mut idle: Vec<(Mono, Digest, Wasi)> = running
        .components
        .iter()
        .filter_map(|((digest, wasi), state)| match state {
            ComponentState::Here {
                idle_since: Some(since),
            } => Some((*since, *digest, *wasi)),
            _ => None,
        })
        .collect();
    idle.sort();
    let over = idle.len().saturating_sub(IDLE_COMPONENTS_MAX);
    for (i, (since, digest, wasi)) in idle.into_iter().enumerate() {
        if i < over || now.since(since) >= COMPONENT_IDLE_MS {
            actions.push(Action::ForgetComponent { digest, wasi });
        }
    }
}

fn components(run: &Run) -> impl Iterator<Item = &TemplateComponent> {
    run.template.iter().flat_map(|template| &template.components)
}
