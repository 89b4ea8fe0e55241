//! Reading verbs: answered at once, from the committed state and from what hosts said.

use crate::serve::{Ask, fit, plain};
use bytes::Bytes;
use heddle_protocol::api::explain::Explain;
use heddle_protocol::api::hosts::{HostList, Hosts};
use heddle_protocol::api::objects::{Get, ObjectKind, Objects, StoredObject};
use heddle_protocol::api::rebalance::{Rebalance, Rebalanced};
use heddle_protocol::api::status::{Status, Statuses};
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::defaults::PAGE_ITEMS;
use heddle_protocol::digest::Digest;
use heddle_protocol::id::{Generation, HostId, Namespace, ObjectId, WorkloadId};
use heddle_protocol::time::{Mono, UnixMs};
use heddle_scheduler_core::apply::quota_use;
use heddle_scheduler_core::{World, decide_rebalance, explain, host_status, host_statuses, workload_status};

/// Bytes of one page: it must fit one NATS message with room to spare.
const PAGE_BYTES_MAX: usize = 400 << 10;

type Answer = Result<(serde_json::Value, Bytes), ApiError>;

/// `status`.
pub fn status(world: &World, ask: &Ask, now: Mono) -> Answer {
    let body = ask.body::<Status>()?;
    let named = !body.workloads.is_empty();
    let ids: Vec<WorkloadId> = if named {
        body.workloads.clone()
    } else {
        let known = world.workloads.keys().chain(world.places.keys()).filter(|id| {
            (!body.in_namespace || id.namespace == ask.namespace) && body.after.as_ref().is_none_or(|after| *id > after)
        });
        let mut ids: Vec<WorkloadId> = known.cloned().collect();
        ids.sort();
        ids.dedup();
        ids
    };
    let mut page = Page::default();
    for id in &ids {
        match workload_status(world, id, now).map(fit::status) {
            Some(status) if page.takes(&status) => {}
            Some(_) => break,
            None if named => return Err(not_found("workload", id)),
            None => {}
        }
    }
    plain(&Statuses {
        commit: world.head.n,
        workloads: page.items,
        more: page.full,
    })
}

/// `hosts`.
pub fn hosts(world: &World, ask: &Ask, wanted: &dyn Fn(&HostId) -> Option<Digest>, now: Mono) -> Answer {
    let body = ask.body::<Hosts>()?;
    if let Some(host) = body.host.as_ref().filter(|host| !world.hosts.contains_key(*host)) {
        return Err(not_found("host", host));
    }
    let statuses = match &body.host {
        Some(host) => host_status(world, host, now).into_iter().collect(),
        // All at once: each by itself would look at the whole fleet for every line.
        None => host_statuses(world, now),
    };
    let follows = |host: &HostId| body.after.as_ref().is_none_or(|after| host > after);
    let mut page = Page::default();
    for mut status in statuses.into_iter().filter(|status| follows(&status.host)) {
        status.wanted_digest = wanted(&status.host);
        if !page.takes(&status) {
            break;
        }
    }
    plain(&HostList {
        commit: world.head.n,
        hosts: page.items,
        more: page.full,
    })
}

/// `get`.
pub fn get(world: &World, ask: &Ask) -> Answer {
    let body = ask.body::<Get>()?;
    let mut page = Page::default();
    let after = body.after.as_deref();
    let wanted = |name: &str| body.name.as_deref().is_none_or(|n| n == name) && after.is_none_or(|a| name > a);
    let in_namespace = |id: &ObjectId| !body.in_namespace || id.namespace == ask.namespace;
    let wanted_id = |id: &ObjectId| in_namespace(id) && wanted(&id.to_string());
    let objects: Box<dyn Iterator<Item = StoredObject> + '_> = match body.kind {
        ObjectKind::Workload => Box::new(world.workloads.iter().filter(|(id, _)| wanted_id(id)).map(|(id, r)| {
            let history = r.history.iter().map(|past| past.generation).collect();
            StoredObject {
                history,
                ..stored(id, r.generation, r.applied_at, &r.manifest)
            }
        })),
        ObjectKind::Platform => {
            let named = world.platforms.iter().filter(|(name, _)| wanted(name.as_str()));
            Box::new(named.map(|(name, r)| stored(name, r.generation, r.applied_at, &r.manifest)))
        }
        ObjectKind::Config => {
            let named = world.configs.iter().filter(|(id, _)| wanted_id(id));
            Box::new(named.map(|(id, r)| stored(id, r.generation, r.applied_at, &r.manifest)))
        }
        ObjectKind::Policy => {
            let named = world.namespace_policies.iter().filter(|(id, _)| wanted_id(id));
            Box::new(named.map(|(id, r)| stored(id, r.generation, r.applied_at, &r.manifest)))
        }
        ObjectKind::Quota => {
            let named = world.quotas.iter().filter(|(id, _)| wanted_id(id));
            Box::new(named.map(|(id, r)| StoredObject {
                used: Some(quota_use(world, &id.namespace)),
                ..stored(id, r.generation, r.applied_at, &r.manifest)
            }))
        }
        ObjectKind::SecretRef => {
            let named = world.secret_refs.iter().filter(|(id, _)| wanted_id(id));
            Box::new(named.map(|(id, r)| stored(id, r.generation, r.applied_at, &r.manifest)))
        }
    };
    for object in objects {
        if !page.takes(&object) {
            break;
        }
    }
    if let (Some(name), true) = (&body.name, page.items.is_empty()) {
        return Err(not_found(&body.kind.as_str().to_lowercase(), name));
    }
    plain(&Objects {
        commit: world.head.n,
        objects: page.items,
        more: page.full,
    })
}

fn stored(
    name: &dyn std::fmt::Display,
    generation: Generation,
    applied_at: UnixMs,
    manifest: &serde_json::Value,
) -> StoredObject {
    StoredObject {
        name: name.to_string(),
        generation,
        applied_at,
        manifest: manifest.clone(),
        history: Vec::new(),
        used: None,
    }
}

/// `explain`.
pub fn explain_workload(world: &World, ask: &Ask, now: Mono) -> Answer {
    let body = ask.body::<Explain>()?;
    match explain::explain(world, &body.workload, now) {
        Some(explanation) => plain(&fit::explanation(explanation)),
        None => Err(not_found("workload", &body.workload)),
    }
}

/// `rebalance` that only says what would move.
pub fn rebalance(world: &World, asked: &Rebalance, namespace: &Namespace, now: Mono) -> Answer {
    let (_, moves) = decide_rebalance(world, asked, namespace, now)?;
    let commit = world.head.n;
    plain(&Rebalanced { commit, ..moves })
}

/// There is no such thing.
pub fn not_found(what: &str, name: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        format!("failed to find {what} {name}"),
        format!("`heddle get {what}s -A` lists what there is")
            .replace("get hosts -A", "hosts")
            .replace("policys", "policies"),
    )
}

/// Items until there are too many of them, or too many bytes.
struct Page<T> {
    items: Vec<T>,
    bytes: usize,
    full: bool,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            bytes: 0,
            full: false,
        }
    }
}

impl<T: serde::Serialize + Clone> Page<T> {
    fn takes(&mut self, item: &T) -> bool {
        let bytes = serde_json::to_vec(item).map_or(0, |bytes| bytes.len());
        // A first item is taken whatever its size: otherwise nobody would ever get past it.
        if !self.items.is_empty() && (self.items.len() >= PAGE_ITEMS || self.bytes + bytes > PAGE_BYTES_MAX) {
            self.full = true;
            return false;
        }
        self.bytes += bytes;
        self.items.push(item.clone());
        true
    }
}
