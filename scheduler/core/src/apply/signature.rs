//! Policies of namespaces: which keys an image must be signed with, and that it was.
//!
//! In: Policies, and what the shell found out of images' signatures (`ArtifactInfo::verified_by`). Out: records, and a
//! problem for each image that its namespace does not take. Nothing is verified here: it was, where the image was fetched.

use super::IMAGE_UNSIGNED;
use super::changes::{Changes, bad_name, object_id};
use super::group::Stated;
use crate::world::World;
use heddle_protocol::api::ApiError;
use heddle_protocol::api::apply::Change;
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::id::{Generation, Namespace, ObjectId, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::manifest::{Document, FieldPath, Policy};
use heddle_protocol::record::PolicyRecord;

/// Takes a Policy.
pub(super) fn take(
    changes: &mut Changes<'_>,
    order: usize,
    document: &Document,
    policy: &Policy,
) -> Result<(), ApiError> {
    let id = object_id(&policy.metadata.namespace, &policy.metadata.name).map_err(bad_name)?;
    let manifest = document.object.canonical_value();
    let (generation, change) = match changes.next.namespace_policies.get(&id) {
        Some(before) if before.manifest == manifest => (before.generation, Change::Unchanged),
        Some(before) => (before.generation.next(), Change::Updated),
        None => (Generation(1), Change::Created),
    };
    changes.tell(order, "Policy", &id, generation, change);
    if change == Change::Unchanged {
        return Ok(());
    }
    let keys = policy.spec.signatures.cosign.iter();
    let record = PolicyRecord {
        generation,
        manifest,
        keys: keys
            .filter_map(heddle_protocol::manifest::CosignKey::fingerprint)
            .collect(),
        applied_at: changes.at,
    };
    changes.write(Key::NamespacePolicy(id), &record)
}

/// The policies of a namespace.
fn policies_of<'a>(
    world: &'a World,
    namespace: &'a Namespace,
) -> impl Iterator<Item = (&'a ObjectId, &'a PolicyRecord)> {
    let all = world.namespace_policies.iter();
    all.filter(move |(id, _)| id.namespace == *namespace)
        .map(|(id, record)| (id, record.as_ref()))
}

/// The first policy of a namespace that an image does not keep.
fn broken<'a>(world: &'a World, namespace: &'a Namespace, artifact: &ArtifactInfo) -> Option<&'a ObjectId> {
    policies_of(world, namespace)
        .find(|(_, policy)| policy.keys.is_disjoint(&artifact.verified_by))
        .map(|(id, _)| id)
}

/// Notes what a workload that a person applies, or takes back, may not run in its namespace: of its own, and of what it
/// embeds. What is only renewed keeps what it has.
pub(super) fn check<'a>(
    changes: &mut Changes<'_>,
    id: &WorkloadId,
    document: &Document,
    stated: &Stated,
    embeds: impl Iterator<Item = &'a WorkloadId>,
) {
    let is_asked = policies_of(&changes.next, &id.namespace).next().is_some();
    if !is_asked || !changes.workloads_taken.contains(id) {
        return;
    }
    for (index, component) in stated.workload.spec.components.iter().enumerate() {
        let artifact = stated
            .artifacts
            .iter()
            .find(|(name, _)| name.as_str() == component.name);
        let policy = artifact.and_then(|(_, artifact)| broken(&changes.next, &id.namespace, artifact));
        if let Some(policy) = policy {
            let message = format!(
                "image {} is not signed by any key of Policy {policy}; sign it with cosign, and name it as it is in its \
                 registry (oci://…)",
                component.image
            );
            let path = FieldPath::spec().key("components").index(index).key("image");
            changes.problems.push(document.problem(&path, IMAGE_UNSIGNED, message));
        }
    }
    for embedded in embeds {
        let Some(stated) = changes.stated(embedded) else {
            continue;
        };
        for (component, artifact) in &stated.artifacts {
            if let Some(policy) = broken(&changes.next, &id.namespace, artifact) {
                let message = format!(
                    "component {component} of workload {embedded}, which is embedded, is not signed by any key of Policy \
                     {policy}; apply that workload with a signed image first"
                );
                let problem = document.problem(&FieldPath::spec().key("links"), IMAGE_UNSIGNED, message);
                changes.problems.push(problem);
            }
        }
    }
}
