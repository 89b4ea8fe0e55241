//! Taking a workload: its images, imports, configs, secrets and triggers resolved into one template and one intent.

use super::changes::{Changes, bad_name, internal, object_id, template_digest};
use super::embed::{embedded_needs, note_embedded, requirements};
use super::entry::{Artifacts, Outside, Triggers, entries};
use super::group::{Stated, group};
use super::{CONCURRENCY_UNSUPPORTED, IMAGE_UNRESOLVED, ResolvedDocument, compose, placement, route, signature};
use crate::workload_status::units_of;
use crate::world::World;
use heddle_protocol::api::ApiError;
use heddle_protocol::api::apply::Change;
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::defaults::GENERATIONS_KEPT;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{Feature, Instances, Limits, Template, TemplateComponent, Wasi};
use heddle_protocol::id::{ComponentName, ConfigId, Generation, ObjectId, WorkloadId};
use heddle_protocol::manifest::{Document, FieldPath, Object, Scale, Workload};
use heddle_protocol::record::{HttpTrigger, Intent, JobIntent, PastGeneration, Replicas, Requirement, WorkloadRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A workload with nothing left to look up.
pub(super) struct Resolved {
    manifest: serde_json::Value,
    artifacts: Artifacts,
    template: Template,
    intent: Intent,
    configs: BTreeSet<ConfigId>,
    secret_refs: BTreeSet<ObjectId>,
    embeds: BTreeMap<WorkloadId, Generation>,
    secret_versions: BTreeMap<Digest, String>,
}

/// States all workloads of a change, so that they may be linked to each other, and takes them: those that are embedded
/// before those that embed them.
pub(super) fn take_all(changes: &mut Changes<'_>, documents: &[ResolvedDocument]) -> Result<(), ApiError> {
    let mut stated = BTreeMap::new();
    for (index, resolved) in documents.iter().enumerate() {
        if let Object::Workload(workload) = &resolved.document.object {
            let id = object_id(&workload.metadata.namespace, &workload.metadata.name).map_err(bad_name)?;
            changes.workloads_taken.insert(id.clone());
            if let Some(artifacts) = artifacts_of(changes, resolved, workload)? {
                let workload = Workload::clone(workload);
                let each = Arc::new(Stated { workload, artifacts });
                changes.state(id.clone(), each.clone());
                stated.insert(id, (index, each));
            }
        }
    }
    for id in super::order::embedded_first(stated.iter().map(|(id, (_, stated))| (id, stated.as_ref()))) {
        let Some((index, each)) = stated.get(&id) else { continue };
        let Some(resolved) = documents.get(*index) else {
            continue;
        };
        if let Some(resolved) = resolve(changes, &id, &resolved.document, each)? {
            put(changes, *index, &id, resolved)?;
        }
    }
    Ok(())
}

/// What the images of a workload are; none if one is not known, which is then noted.
fn artifacts_of(
    changes: &mut Changes<'_>,
    resolved: &ResolvedDocument,
    workload: &Workload,
) -> Result<Option<Artifacts>, ApiError> {
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
                let problem = resolved.document.problem(&path, IMAGE_UNRESOLVED, message);
                changes.problems.push(problem);
            }
        }
    }
    Ok((artifacts.len() == workload.spec.components.len()).then_some(artifacts))
}

/// Makes new generations of the workloads that use something that changed, if that changes what they run.
pub(super) fn renew_users(changes: &mut Changes<'_>, order: usize) -> Result<(), ApiError> {
    let uses = |record: &WorkloadRecord| {
        !record.configs.is_disjoint(&changes.configs_changed)
            || !record.secret_refs.is_disjoint(&changes.secret_refs_changed)
            || !record.intent.capabilities.is_disjoint(&changes.offers_changed)
            || record
                .secret_versions
                .keys()
                .any(|id| changes.secrets_renewed.contains(id))
    };
    // Most changes concern a workload alone, and there may be a hundred thousand others.
    let nothing = changes.configs_changed.is_empty()
        && changes.secret_refs_changed.is_empty()
        && changes.offers_changed.is_empty()
        && changes.secrets_renewed.is_empty();
    let workloads = changes.next.workloads.iter().filter(|_| !nothing);
    let users = workloads.filter(|(id, record)| !changes.workloads_taken.contains(*id) && uses(record));
    let users: BTreeSet<WorkloadId> = users.map(|(id, _)| id.clone()).collect();
    renew(changes, order, users)?;
    // What is embedded has a new generation now, or exports something else to those who call it.
    let mut renewed = BTreeSet::new();
    loop {
        let users = users_of_changed(changes, &renewed);
        if users.is_empty() {
            return Ok(());
        }
        renewed.extend(users.iter().cloned());
        renew(changes, order, users)?;
    }
}

/// Workloads that embed an earlier generation than the newest, or call a workload that this change writes; but for those
/// that were looked at already.
fn users_of_changed(changes: &Changes<'_>, looked_at: &BTreeSet<WorkloadId>) -> BTreeSet<WorkloadId> {
    let behind = |record: &WorkloadRecord| {
        record.embeds.iter().any(|(id, generation)| {
            changes
                .next
                .workloads
                .get(id)
                .is_some_and(|embedded| embedded.generation != *generation)
        })
    };
    let calls = |record: &WorkloadRecord| {
        record
            .intent
            .calls
            .iter()
            .any(|call| changes.workloads_put.contains(&call.workload))
    };
    if changes.workloads_put.is_empty() {
        return BTreeSet::new();
    }
    let workloads = changes.next.linked().filter(|(id, _)| !looked_at.contains(*id));
    let users =
        workloads.filter(|(id, record)| behind(record) || (calls(record) && !changes.workloads_taken.contains(*id)));
    users.map(|(id, _)| id.clone()).collect()
}

fn renew(changes: &mut Changes<'_>, order: usize, users: BTreeSet<WorkloadId>) -> Result<(), ApiError> {
    let stated: Vec<(WorkloadId, Arc<Stated>)> = users
        .into_iter()
        .filter_map(|id| changes.stated(&id).map(|stated| (id, stated)))
        .collect();
    for id in super::order::embedded_first(stated.iter().map(|(id, stated)| (id, stated.as_ref()))) {
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
    changes: &mut Changes<'_>,
    id: &WorkloadId,
    manifest: &serde_json::Value,
    artifacts: &Artifacts,
) -> Result<Option<Resolved>, ApiError> {
    let object: Object = serde_json::from_value(manifest.clone()).map_err(|e| internal(&e))?;
    let document = Document::new("stored", object);
    let Object::Workload(workload) = &document.object else {
        return Err(internal(&format!(
            "the stored manifest of workload {id} is another object"
        )));
    };
    let stated = Arc::new(Stated {
        workload: Workload::clone(workload),
        artifacts: artifacts.clone(),
    });
    changes.state(id.clone(), stated.clone());
    resolve(changes, id, &document, &stated)
}

/// Resolves a workload; none if there were problems, which are then noted.
fn resolve(
    changes: &mut Changes<'_>,
    id: &WorkloadId,
    document: &Document,
    stated: &Arc<Stated>,
) -> Result<Option<Resolved>, ApiError> {
    let problems_before = changes.problems.len();
    let (workload, artifacts, catalog) = (&stated.workload, &stated.artifacts, changes.catalog());
    let group = group(changes, id, document, stated)?;
    signature::check(changes, id, document, stated, group.embeds.keys());
    let outside = Outside {
        document,
        workload,
        artifacts,
        catalog: &catalog,
    };
    let http = route::triggers(&outside, &mut changes.problems);
    let triggers = outside.triggers(&mut changes.problems);
    check_concurrency(changes, document, workload, &http, artifacts);
    let mut require = requirements(changes, document, workload);
    if changes.problems.len() > problems_before {
        return Ok(None);
    }
    let components = compose::components(changes, document, &group, &entries(workload, artifacts))?;
    if changes.problems.len() > problems_before {
        return Ok(None);
    }

    let mut own = group.capabilities.get(&None).cloned().unwrap_or_default();
    own.extend(http.iter().map(|trigger| trigger.capability.clone()));
    own.extend(triggers.consumes.iter().map(|consume| consume.capability.clone()));
    let embedded = embedded_needs(changes, document, &group, &own, &require);
    let mut capabilities = own;
    for need in embedded.values() {
        capabilities.extend(need.capabilities.iter().cloned());
        let new = need.require.iter().filter(|rule| !require.contains(rule));
        let new: Vec<Requirement> = new.cloned().collect();
        require.extend(new);
    }
    note_embedded(changes, document, &group, &embedded, workload);
    changes.notes.extend(group.notes);
    changes.notes.extend(
        group
            .secrets
            .notes
            .iter()
            .map(|note| format!("{}: {note}", document.label())),
    );

    let mut requires = features(&components, &triggers);
    let offers = capabilities.iter().filter_map(|name| catalog.get(name));
    requires.extend(offers.map(|offer| offer.feature()));
    let features = requires.clone();
    let (limits, instances) = (&workload.spec.limits, &workload.spec.instances);
    let template = Template {
        requires,
        components,
        limits: Limits {
            memory_bytes: limits.memory.as_bytes(),
            time_ms: limits.time.as_ms(),
            concurrency: limits.concurrency,
            egress: limits.egress.clone(),
            cpu_millis: limits
                .cpu
                .map(|cpu| u32::try_from(cpu.as_millicores()).unwrap_or(u32::MAX)),
        },
        instances: Instances {
            reuse: instances.reuse,
            concurrency: instances.concurrency,
        },
        run: triggers.run,
        consumes: triggers.consumes,
    };
    let (replicas, job) = match workload.spec.scale() {
        Scale::Replicas(count) => (Replicas::Count(count), None),
        Scale::Daemon => (Replicas::Daemon, None),
        Scale::Job(job) => {
            let completions = job.completions.unwrap_or(1);
            (Replicas::Count(completions), Some(JobIntent { completions }))
        }
    };
    let rules = placement::rules_of(&id.namespace, &workload.spec).map_err(bad_name)?;
    let intent = Intent {
        unit_generation: Generation(0),
        replicas,
        require,
        spread: placement::spread_of(&workload.spec),
        capabilities,
        reserve_bytes: workload.spec.reserved_memory().as_bytes(),
        http,
        cron: triggers.cron,
        calls: group.calls,
        serves: triggers.serves,
        job,
        features,
        embedded,
        rules,
    };
    Ok(Some(Resolved {
        manifest: document.object.canonical_value(),
        artifacts: artifacts.clone(),
        template,
        intent,
        configs: group.configs,
        secret_refs: group.secrets.refs,
        embeds: group.embeds,
        secret_versions: group.secrets.versions,
    }))
}

/// What components and triggers ask of an agent, besides what capabilities do.
fn features(components: &[TemplateComponent], triggers: &Triggers) -> BTreeSet<Feature> {
    let mut features: BTreeSet<Feature> = components
        .iter()
        .map(|component| match component.wasi {
            Wasi::P2 => Feature::WASI_P2,
            Wasi::P3 => Feature::WASI_P3,
        })
        .collect();
    let needs = [
        (triggers.run.is_some() || !triggers.cron.is_empty(), Feature::RUN),
        (
            !triggers.serves.is_empty() || components.iter().any(|c| !c.calls.is_empty()),
            Feature::WRPC,
        ),
        (components.iter().any(has_secrets), Feature::SECRETS),
    ];
    features.extend(
        needs
            .into_iter()
            .filter(|(needed, _)| *needed)
            .map(|(_, feature)| feature),
    );
    features
}

fn has_secrets(component: &TemplateComponent) -> bool {
    !component.secrets.is_empty() || component.parts.values().any(|part| !part.secrets.is_empty())
}

/// Only handlers of WASI 0.3 take several calls at once (D24).
fn check_concurrency(
    changes: &mut Changes<'_>,
    document: &Document,
    workload: &Workload,
    http: &[HttpTrigger],
    artifacts: &Artifacts,
) {
    let wanted = workload.spec.instances.concurrency;
    if wanted <= 1 {
        return;
    }
    let is_handler = |export: &String| export.starts_with("wasi:http/handler@0.3.");
    let takes_several = |info: &ArtifactInfo| info.exports.iter().any(is_handler);
    let able = |component: &ComponentName| artifacts.get(component).is_some_and(takes_several);
    if http.is_empty() || http.iter().any(|trigger| !able(&trigger.component)) {
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
pub(super) fn put(
    changes: &mut Changes<'_>,
    order: usize,
    id: &WorkloadId,
    resolved: Resolved,
) -> Result<(), ApiError> {
    if !put_if_changed(changes, order, id, resolved)? {
        let generation = changes.next.workloads.get(id).map(|r| r.generation).unwrap_or_default();
        changes.tell(order, "Workload", id, generation, Change::Unchanged);
    }
    Ok(())
}

/// Writes a workload as a new generation if that differs from the newest one. Returns whether it does.
fn put_if_changed(
    changes: &mut Changes<'_>,
    order: usize,
    id: &WorkloadId,
    resolved: Resolved,
) -> Result<bool, ApiError> {
    let Resolved {
        manifest,
        artifacts,
        template,
        mut intent,
        configs,
        secret_refs,
        embeds,
        secret_versions,
    } = resolved;
    let digest = template_digest(&template)?;
    let before = changes.next.workloads.get(id).cloned();
    let (generation, history, change) = match &before {
        Some(before) => {
            intent.unit_generation = before.intent.unit_generation;
            let runs_same = before.template == digest && before.intent == intent;
            let means_same = before.manifest == manifest && before.artifacts == artifacts;
            let uses_same = before.configs == configs && before.secret_refs == secret_refs && before.embeds == embeds;
            if runs_same && means_same && uses_same {
                if before.secret_versions != secret_versions {
                    // Those who run it are told of a newer version; what they are stays the same.
                    let record = WorkloadRecord {
                        secret_versions,
                        ..before.as_ref().clone()
                    };
                    changes.put_workload(id, record, template)?;
                }
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
    let record = WorkloadRecord {
        generation,
        manifest,
        artifacts,
        intent,
        template: digest,
        configs,
        secret_refs,
        embeds,
        secret_versions,
        history,
        applied_at: changes.at,
    };
    changes.workloads_put.insert(id.clone());
    changes.put_workload(id, record, template)?;
    changes.tell(order, "Workload", id, generation, change);
    Ok(true)
}

/// Whether replicas of two intents with one template are the same: then they stay when the number changes. New rules of
/// placement are a reason to place all of them anew, for a plan by itself moves none.
fn runs_alike(a: &Intent, b: &Intent) -> bool {
    let calls = (&a.calls, &a.serves) == (&b.calls, &b.serves);
    a.http == b.http && a.reserve_bytes == b.reserve_bytes && placement::places_alike(a, b) && calls && a.job == b.job
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
