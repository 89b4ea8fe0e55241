//! Deleting objects, and going back to an earlier generation.

use super::changes::{Changes, bad_name};
use super::nearest::{list, nearest};
use super::{Decision, Known, Undecided, platform, quota, route, workload};
use crate::world::World;
use heddle_protocol::api::apply::Change;
use heddle_protocol::api::objects::{ObjectKind, ObjectRef, Undo};
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::id::{ConfigId, ObjectId, PlatformName, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::record::WorkloadRecord;
use heddle_protocol::time::UnixMs;
use std::collections::BTreeSet;

/// Decides what deleting some objects changes: all of them, or nothing. A workload's replicas go with the plan that
/// follows.
///
/// # Errors
/// If an object is not there, or is used by one that stays.
pub fn decide_delete(
    world: &World,
    objects: &[ObjectRef],
    ignore_missing: bool,
    at: UnixMs,
) -> Result<Decision, ApiError> {
    let mut changes = Changes::plain(world, at);
    // Users go first, so that a config or platform can be deleted together with them.
    let mut ordered: Vec<(usize, &ObjectRef)> = objects.iter().enumerate().collect();
    ordered.sort_by_key(|(_, object)| object.kind != ObjectKind::Workload);
    let mut seen = BTreeSet::new();
    let mut workloads = Vec::new();
    for (order, object) in ordered {
        if !seen.insert(object) {
            continue;
        }
        let deleted = match object.kind {
            ObjectKind::Workload => {
                let id = WorkloadId::parse(&object.name).map_err(bad_name)?;
                workloads.push(id.clone());
                let record = changes.next.workloads.get(&id).map(|r| r.generation);
                record.map(|generation| (id.to_string(), generation, Key::Workload(id)))
            }
            ObjectKind::Config => {
                let id = ConfigId::parse(&object.name).map_err(bad_name)?;
                refuse_used(&changes.next, "Config", &id, |record| record.configs.contains(&id))?;
                let record = changes.next.configs.get(&id).map(|r| r.generation);
                record.map(|generation| (id.to_string(), generation, Key::Config(id)))
            }
            ObjectKind::SecretRef => {
                let id = ObjectId::parse(&object.name).map_err(bad_name)?;
                refuse_used(&changes.next, "SecretRef", &id, |record| {
                    record.secret_refs.contains(&id)
                })?;
                let record = changes.next.secret_refs.get(&id).map(|r| r.generation);
                record.map(|generation| (id.to_string(), generation, Key::SecretRef(id)))
            }
            ObjectKind::Policy => {
                let id = ObjectId::parse(&object.name).map_err(bad_name)?;
                let record = changes.next.namespace_policies.get(&id).map(|r| r.generation);
                record.map(|generation| (id.to_string(), generation, Key::NamespacePolicy(id)))
            }
            ObjectKind::Quota => {
                let id = ObjectId::parse(&object.name).map_err(bad_name)?;
                let record = changes.next.quotas.get(&id).map(|r| r.generation);
                record.map(|generation| (id.to_string(), generation, Key::Quota(id)))
            }
            ObjectKind::Platform => {
                let name = PlatformName::parse(&object.name).map_err(bad_name)?;
                let record = changes.next.platforms.get(&name).map(|r| r.generation);
                record.map(|generation| (name.to_string(), generation, Key::Platform(name)))
            }
        };
        match deleted {
            Some((name, generation, key)) => {
                let lent = match &key {
                    Key::Platform(name) => changes.next.platforms.get(name).map(|p| p.offers.clone()),
                    _ => None,
                };
                changes.delete(key)?;
                for capability in lent.iter().flat_map(|offers| offers.keys()) {
                    if let Some(why) = platform::used_and_no_longer_lent(&changes, capability) {
                        let message = format!("failed to delete Platform {}: {why}", object.name);
                        let next = "delete those workloads first, or have another platform lend it";
                        return Err(ApiError::new(ErrorCode::Conflict, message, next));
                    }
                }
                changes.tell(order, object.kind.as_str(), name, generation, Change::Deleted);
            }
            None if ignore_missing => {}
            None => return Err(not_found(world, object)),
        }
    }
    // Once all that go are gone.
    for id in workloads {
        refuse_linked(&changes.next, &id)?;
    }
    changes.finish_plain()
}

/// Refuses to delete what workloads use.
fn refuse_used(
    world: &World,
    kind: &str,
    id: &ObjectId,
    uses: impl Fn(&WorkloadRecord) -> bool,
) -> Result<(), ApiError> {
    let users = world.workloads.iter().filter(|(_, record)| uses(record));
    let users: Vec<&WorkloadId> = users.map(|(user, _)| user).collect();
    if users.is_empty() {
        return Ok(());
    }
    let s = if users.len() == 1 { "" } else { "s" };
    let message = format!(
        "failed to delete {kind} {id}: it is used by workload{s} {}",
        list(users)
    );
    Err(ApiError::new(
        ErrorCode::Conflict,
        message,
        "delete or change its users first",
    ))
}

/// Refuses to delete a workload that others embed or call. Those of them that are deleted too are gone already.
fn refuse_linked(world: &World, id: &WorkloadId) -> Result<(), ApiError> {
    let of = |uses: &dyn Fn(&WorkloadRecord) -> bool| -> Vec<WorkloadId> {
        let users = world.workloads.iter().filter(|(_, record)| uses(record));
        users.map(|(user, _)| user.clone()).collect()
    };
    let embedding = of(&|record| record.embeds.contains_key(id));
    let calling = of(&|record| record.intent.calls.iter().any(|call| call.workload == *id));
    let how = match (embedding.as_slice(), calling.as_slice()) {
        ([], []) => return Ok(()),
        (some, []) => format!("it is embedded in {}", list(some)),
        ([], some) => format!("it is called by {}", list(some)),
        (a, b) => format!("it is embedded in {} and called by {}", list(a), list(b)),
    };
    let message = format!("failed to delete Workload {id}: {how}");
    let next = "delete those too, or change their links first";
    Err(ApiError::new(ErrorCode::Conflict, message, next))
}

fn not_found(world: &World, object: &ObjectRef) -> ApiError {
    // Slips are looked for within the namespace: a long one would make any two names look alike.
    let (namespace, name) = object.name.split_once('/').unwrap_or(("default", &object.name));
    let within = |ids: Vec<&ObjectId>| -> Vec<String> {
        ids.into_iter()
            .filter(|id| id.namespace.as_str() == namespace)
            .map(|id| id.name.as_str().to_owned())
            .collect()
    };
    let known: Vec<String> = match object.kind {
        ObjectKind::Workload => within(world.workloads.keys().collect()),
        ObjectKind::Config => within(world.configs.keys().collect()),
        ObjectKind::SecretRef => within(world.secret_refs.keys().collect()),
        ObjectKind::Policy => within(world.namespace_policies.keys().collect()),
        ObjectKind::Quota => within(world.quotas.keys().collect()),
        ObjectKind::Platform => world.platforms.keys().map(ToString::to_string).collect(),
    };
    let kind = object.kind.as_str();
    let message = format!("failed to find {kind} {}", object.name);
    let next = match nearest(name, known.iter().map(String::as_str)) {
        Some(meant) if object.kind != ObjectKind::Platform => format!("did you mean {namespace}/{meant}?"),
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("`heddle get {} -A` lists what there is", object.kind.plural()),
    };
    ApiError::new(ErrorCode::NotFound, message, next)
}

/// Decides what going back to an earlier generation changes: that one's manifest and artifacts, with today's configs and
/// platforms, as a new generation.
///
/// # Errors
/// If the workload or the generation is not there, or the fleet no longer has what it needs.
pub fn decide_undo(world: &World, undo: &Undo, known: &Known, at: UnixMs) -> Result<Decision, Undecided> {
    let id = &undo.workload;
    let Some(record) = world.workloads.get(id) else {
        let object = ObjectRef {
            kind: ObjectKind::Workload,
            name: id.to_string(),
        };
        return Err(not_found(world, &object).into());
    };
    let kept: Vec<String> = record.history.iter().map(|past| past.generation.to_string()).collect();
    let past = match undo.to {
        None => record.history.first(),
        Some(to) => record.history.iter().find(|past| past.generation == to),
    };
    let Some(past) = past else {
        let wanted = undo
            .to
            .map_or("an earlier generation".to_owned(), |to| format!("generation {to}"));
        let message = format!(
            "failed to take {id} back: {wanted} is not kept; it is at {}, kept are: {}",
            record.generation,
            list(kept)
        );
        return Err(ApiError::new(ErrorCode::NotFound, message, "apply the manifest that you want").into());
    };
    let mut changes = Changes::new(world, known, at);
    changes.workloads_taken.insert(id.clone());
    if let Some(resolved) = workload::resolve_stored(&mut changes, id, &past.manifest, &past.artifacts)? {
        workload::put(&mut changes, 0, id, resolved)?;
        workload::renew_users(&mut changes, 1)?;
        if let Some((mine, owner)) = route::taken_routes(&changes, id).into_iter().next() {
            let message = format!(
                "failed to take {id} back: route {} is owned by workload {owner} now",
                mine.path
            );
            return Err(ApiError::new(
                ErrorCode::Conflict,
                message,
                "delete that one, or apply another manifest",
            )
            .into());
        }
    }
    if let Some(excess) = quota::excesses(&mut changes, world).into_iter().next() {
        let message = format!("failed to take {id} back: {}", excess.message);
        let next = "make room in the namespace, or raise its Quota";
        return Err(ApiError::new(ErrorCode::Conflict, message, next).into());
    }
    changes.finish()
}
