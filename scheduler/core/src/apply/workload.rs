//! Taking a workload: its images, imports, configs and triggers resolved into one template and one intent.

use super::bind::Binder;
use super::changes::{Changes, bad_name, internal, object_id, template_digest};
use super::nearest::{list, nearest};
use super::{CONCURRENCY_UNSUPPORTED, CONFIG_UNKNOWN, IMAGE_UNRESOLVED, ResolvedDocument, platform, route};
use crate::workload_status::units_of;
use crate::world::World;
use heddle_protocol::api::ApiError;
use heddle_protocol::api::apply::Change;
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::defaults::GENERATIONS_KEPT;
use heddle_protocol::host_spec::{Feature, Instances, Limits, Template, TemplateComponent, Wasi};
use heddle_protocol::id::{CapabilityName, ComponentName, ConfigId, Generation, ObjectName, WorkloadId};
use heddle_protocol::manifest::{Component, Document, FieldPath, Object, Scale, Workload, rule};
use heddle_protocol::record::{Intent, PastGeneration, Replicas, Spread, WorkloadRecord};
use std::collections::{BTreeMap, BTreeSet};

/// A workload with nothing left to look up.
pub(super) struct Resolved {
    pub(super) manifest: serde_json::Value,
    pub(super) artifacts: BTreeMap<ComponentName, ArtifactInfo>,
    pub(super) template: Template,
    pub(super) intent: Intent,
    pub(super) configs: BTreeSet<ConfigId>,
}

/// Takes a workload's document into the change.
pub(super) fn take(
    changes: &mut Changes,
    order: usize,
    resolved: &ResolvedDocument,
    workload: &Workload,
) -> Result<(), ApiError> {
    let id = object_id(&workload.metadata.namespace, &workload.metadata.name).map_err(bad_name)?;
    let document = &resolved.document;
    changes.workloads_taken.insert(id.clone());
    let mut artifacts = BTreeMap::new();
    for (index, component) in workload.spec.components.iter().enumerate() {
        let name = ComponentName::parse(&component.name).map_err(bad_name)?;
        match resolved.artifacts.get(&component.image) {
            Some(info) => drop(artifacts.insert(name, info.clone())),
            None => {
                let path = FieldPath::spec().key("components").index(index).key("image");
                let message = format!(
                    "image {} is not known: upload it, or name one that can be fetched",
                    component.image
                );
                changes
                    .problems
                    .push(document.problem(&path, IMAGE_UNRESOLVED, message));
            }
        }
    }
    if artifacts.len() < workload.spec.components.len() {
        return Ok(());
    }
    match resolve(changes, &id, document, workload, artifacts)? {
        Some(resolved) => put(changes, order, &id, resolved),
        None => Ok(()),
    }
}

/// Makes new generations of the workloads that use something that changed, if that changes what they run.
pub(super) fn renew_users(changes: &mut Changes, order: usize) -> Result<(), ApiError> {
    if changes.configs_changed.is_empty() && changes.offers_changed.is_empty() {
        return Ok(());
    }
    let uses = |record: &WorkloadRecord| {
        !record.configs.is_disjoint(&changes.configs_changed)
            || !record.intent.capabilities.is_disjoint(&changes.offers_changed)
    };
    let users: Vec<WorkloadId> = changes
        .next
        .workloads
        .iter()
        .filter(|(id, record)| !changes.workloads_taken.contains(*id) && uses(record))
        .map(|(id, _)| id.clone())
        .collect();
    for id in users {
        let Some(record) = changes.next.workloads.get(&id).cloned() else {
            continue;
        };
        if let Some(resolved) = resolve_stored(changes, &id, &record.manifest, &record.artifacts)? {
            put_if_changed(changes, order, &id, resolved)?;
        }
    }
    Ok(())
}

/// Resolves a workload again from its stored manifest and artifacts.
pub(super) fn resolve_stored(
    changes: &mut Changes,
    id: &WorkloadId,
    manifest: &serde_json::Value,
    artifacts: &BTreeMap<ComponentName, ArtifactInfo>,
) -> Result<Option<Resolved>, ApiError> {
    let object: Object = serde_json::from_value(manifest.clone()).map_err(|e| internal(&e))?;
    let document = Document::new("stored", object);
    let Object::Workload(workload) = &document.object else {
        return Err(internal(&format!(
            "the stored manifest of workload {id} is another object"
        )));
    };
    resolve(changes, id, &document, workload, artifacts.clone())
}

/// Resolves a workload; none if there were problems, which are then noted.
fn resolve(
    changes: &mut Changes,
    id: &WorkloadId,
    document: &Document,
    workload: &Workload,
    artifacts: BTreeMap<ComponentName, ArtifactInfo>,
) -> Result<Option<Resolved>, ApiError> {
    let problems_before = changes.problems.len();
    let catalog = changes.catalog();
    let before = changes
        .next
        .workloads
        .get(id)
        .and_then(|r| changes.next.templates.get(&r.template))
        .cloned();
    let binder = Binder {
        document,
        workload,
        namespace: &id.namespace,
        catalog: &catalog,
    };
    let mut requires = BTreeSet::new();
    let mut capabilities: BTreeSet<CapabilityName> = BTreeSet::new();
    let mut configs = BTreeSet::new();
    let mut components = Vec::with_capacity(artifacts.len());
    let mut notes = Vec::new();
    for (index, component) in workload.spec.components.iter().enumerate() {
        let name = ComponentName::parse(&component.name).map_err(bad_name)?;
        let Some(artifact) = artifacts.get(&name) else { continue };
        let before = before
            .as_ref()
            .and_then(|t| t.components.iter().find(|c| c.name == name));
        let bound = binder.bind(index, component, artifact, before);
        changes.problems.extend(bound.problems);
        notes.extend(bound.notes);
        capabilities.extend(bound.bindings.values().map(|b| b.capability.clone()));
        let config = config_of(changes, id, document, index, component, &mut configs);
        requires.insert(match artifact.wasi {
            Wasi::P2 => Feature::WasiP2,
            Wasi::P3 => Feature::WasiP3,
        });
        components.push(TemplateComponent {
            name,
            artifact: artifact.digest,
            artifact_bytes: artifact.bytes,
            wasi: artifact.wasi,
            config,
            bindings: bound.bindings,
        });
    }
    components.sort_by(|a, b| a.name.cmp(&b.name));
    let http = route::triggers(document, workload, &artifacts, &catalog, &mut changes.problems);
    check_concurrency(changes, document, workload, &http, &artifacts);
    capabilities.extend(http.iter().map(|trigger| trigger.capability.clone()));
    requires.extend(
        capabilities
            .iter()
            .filter_map(|name| catalog.get(name))
            .map(|offer| offer.feature()),
    );

    let mut require = Vec::new();
    for (index, selector) in workload.spec.placement.require.iter().enumerate() {
        let path = FieldPath::spec().key("placement").key("require").index(index);
        require.extend(
            platform::requirements(changes, document, &path, selector)
                .into_iter()
                .flatten(),
        );
    }
    let spread = workload.spec.placement.spread.iter();
    let spread = spread
        .map(|s| Spread {
            by: s.by.clone(),
            weights: s.weights.clone(),
        })
        .collect();
    let replicas = match workload.spec.scale() {
        Scale::Replicas(count) => Replicas::Count(count),
        Scale::Daemon => Replicas::Daemon,
        Scale::Job(_) => {
            let path = FieldPath::spec().key("job");
            changes
                .problems
                .push(document.problem(&path, rule::NOT_YET_SUPPORTED, "this release does not run jobs"));
            Replicas::Count(0)
        }
    };
    if changes.problems.len() > problems_before {
        return Ok(None);
    }
    changes.notes.extend(notes);
    let (limits, instances) = (&workload.spec.limits, &workload.spec.instances);
    let template = Template {
        requires,
        components,
        limits: Limits {
            memory_bytes: limits.memory.as_bytes(),
            time_ms: limits.time.as_ms(),
            concurrency: limits.concurrency,
        },
        instances: Instances {
            reuse: instances.reuse,
            concurrency: instances.concurrency,
        },
    };
    let intent = Intent {
        unit_generation: Generation(0),
        replicas,
        require,
        spread,
        capabilities,
        reserve_bytes: workload.spec.reserved_memory().as_bytes(),
        http,
    };
    Ok(Some(Resolved {
        manifest: document.object.canonical_value(),
        artifacts,
        template,
        intent,
        configs,
    }))
}

/// A component's configuration: its sources in their order, later ones over earlier ones.
fn config_of(
    changes: &mut Changes,
    id: &WorkloadId,
    document: &Document,
    index: usize,
    component: &Component,
    configs: &mut BTreeSet<ConfigId>,
) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (at, source) in component.config.iter().enumerate() {
        if let Some(name) = &source.config_ref {
            let config = ObjectName::parse(name)
                .ok()
                .map(|name| ConfigId::new(id.namespace.clone(), name));
            match config.and_then(|config| changes.next.configs.get(&config).cloned().map(|r| (config, r))) {
                Some((config, record)) => {
                    values.extend(record.values.clone());
                    configs.insert(config);
                }
                None => {
                    let path = FieldPath::spec()
                        .key("components")
                        .index(index)
                        .key("config")
                        .index(at)
                        .key("ref");
                    let known: Vec<&str> = configs_in(&changes.next, id).collect();
                    let message = format!(
                        "there is no Config {name} in namespace {}; there are: {}",
                        id.namespace,
                        list(&known)
                    );
                    let problem = document.problem(&path, CONFIG_UNKNOWN, message);
                    let problem = match nearest(name, known) {
                        Some(meant) => problem.suggest(meant),
                        None => problem,
                    };
                    changes.problems.push(problem);
                }
            }
        }
        values.extend(source.values.clone().unwrap_or_default());
    }
    values
}

fn configs_in<'a>(world: &'a World, id: &'a WorkloadId) -> impl Iterator<Item = &'a str> {
    world
        .configs
        .keys()
        .filter(|config| config.namespace == id.namespace)
        .map(|config| config.name.as_str())
}

/// Only handlers of WASI 0.3 take several calls at once (D24).
fn check_concurrency(
    changes: &mut Changes,
    document: &Document,
    workload: &Workload,
    http: &[heddle_protocol::record::HttpTrigger],
    artifacts: &BTreeMap<ComponentName, ArtifactInfo>,
) {
    let wanted = workload.spec.instances.concurrency;
    if wanted <= 1 {
        return;
    }
    let takes_several = |component: &ComponentName| {
        let exports = artifacts.get(component).into_iter().flat_map(|info| &info.exports);
        exports
            .into_iter()
            .any(|export| export.starts_with("wasi:http/handler@0.3."))
    };
    if http.is_empty() || http.iter().any(|trigger| !takes_several(&trigger.component)) {
        let message = format!(
            "instances take {wanted} calls at once only if their component exports wasi:http/handler@0.3; write 1, or raise \
             `limits.concurrency` for more instances"
        );
        let path = FieldPath::spec().key("instances").key("concurrency");
        changes
            .problems
            .push(document.problem(&path, CONCURRENCY_UNSUPPORTED, message).suggest("1"));
    }
}

/// Writes a workload that a document or an undo names, and says what became of it.
pub(super) fn put(changes: &mut Changes, order: usize, id: &WorkloadId, resolved: Resolved) -> Result<(), ApiError> {
    if !put_if_changed(changes, order, id, resolved)? {
        let generation = changes.next.workloads.get(id).map(|r| r.generation).unwrap_or_default();
        changes.tell(order, "Workload", id, generation, Change::Unchanged);
    }
    Ok(())
}

/// Writes a workload as a new generation if that differs from the newest one. Returns whether it does.
fn put_if_changed(changes: &mut Changes, order: usize, id: &WorkloadId, resolved: Resolved) -> Result<bool, ApiError> {
    let Resolved {
        manifest,
        artifacts,
        template,
        mut intent,
        configs,
    } = resolved;
    let digest = template_digest(&template)?;
    let before = changes.next.workloads.get(id).cloned();
    let (generation, history, change) = match &before {
        Some(before) => {
            intent.unit_generation = before.intent.unit_generation;
            let same = before.template == digest && before.intent == intent;
            if same && before.manifest == manifest && before.artifacts == artifacts && before.configs == configs {
                return Ok(false);
            }
            let generation = before.generation.next();
            if before.template != digest || !runs_alike(&before.intent, &intent) {
                intent.unit_generation = generation;
            }
            let past = PastGeneration {
                generation: before.generation,
                manifest: before.manifest.clone(),
                artifacts: before.artifacts.clone(),
                applied_at: before.applied_at,
            };
            let history = std::iter::once(past).chain(before.history.iter().cloned());
            (generation, history.take(GENERATIONS_KEPT).collect(), Change::Updated)
        }
        None => {
            let generation = first_generation(&changes.next, id);
            intent.unit_generation = generation;
            (generation, Vec::new(), Change::Created)
        }
    };
    let applied_at = changes.at;
    let record = WorkloadRecord {
        generation,
        manifest,
        artifacts,
        intent,
        template: digest,
        configs,
        history,
        applied_at,
    };
    changes.put_workload(id, record, template)?;
    changes.tell(order, "Workload", id, generation, change);
    Ok(true)
}

/// Whether replicas of two intents with one template are the same: then they stay when the number changes. A new spread
/// is a reason to place all of them anew, for a plan by itself moves none.
fn runs_alike(a: &Intent, b: &Intent) -> bool {
    a.http == b.http && a.reserve_bytes == b.reserve_bytes && a.spread == b.spread
}

/// The number that a new workload begins with: above anything that is left of an earlier one of its name, so that no two
/// units ever share an id.
fn first_generation(world: &World, id: &WorkloadId) -> Generation {
    let placed = world
        .places
        .get(id)
        .into_iter()
        .flat_map(|p| &p.sets)
        .map(|set| set.generation);
    let reported = units_of(world, id).map(|(_, unit)| unit);
    placed
        .chain(reported.map(|u| u.generation))
        .max()
        .unwrap_or_default()
        .next()
}
