//! HTTP triggers: which component serves which route, and that every route has one owner (D19).

use super::changes::Changes;
use super::entry::Outside;
use super::nearest::{list, nearest};
use super::{CAPABILITY_NOT_HTTP, CAPABILITY_UNKNOWN, ROUTE_TAKEN, ResolvedDocument};
use heddle_protocol::host_spec::CapabilityOffer;
use heddle_protocol::id::{CapabilityName, WorkloadId};
use heddle_protocol::manifest::{self, Document, FieldPath, Object, Problem};
use heddle_protocol::record::HttpTrigger;
use std::collections::BTreeMap;

/// The HTTP triggers of a workload, resolved.
pub(super) fn triggers(outside: &Outside<'_>, problems: &mut Vec<Problem>) -> Vec<HttpTrigger> {
    let mut triggers = Vec::new();
    for (index, trigger) in outside.workload.spec.triggers.iter().enumerate() {
        let Some(http) = &trigger.http else { continue };
        let path = FieldPath::spec().key("triggers").index(index).key("http");
        let capability = listener(outside.document, http, outside.catalog, &path, problems);
        let component = outside.http_handler(&path, http, problems);
        if let (Some(capability), Some(component)) = (capability, component) {
            triggers.push(HttpTrigger {
                capability,
                host: http.host.as_ref().map(|h| h.to_ascii_lowercase()),
                path: normal_path(&http.path),
                methods: http.methods.iter().map(|m| m.as_str().to_owned()).collect(),
                component,
            });
        }
    }
    triggers.sort();
    triggers
}

/// `/a/` and `/a` are one prefix.
fn normal_path(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

fn listener(
    document: &Document,
    http: &manifest::HttpTrigger,
    catalog: &BTreeMap<CapabilityName, CapabilityOffer>,
    path: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Option<CapabilityName> {
    let path = path.key("capability");
    let listeners: Vec<&str> = catalog
        .iter()
        .filter(|(_, offer)| matches!(offer, CapabilityOffer::Http { .. }))
        .map(|(name, _)| name.as_str())
        .collect();
    let name = CapabilityName::parse(&http.capability).ok();
    let (rule, message) = match name.as_ref().and_then(|n| catalog.get(n)) {
        Some(CapabilityOffer::Http { .. }) => return name,
        Some(_) => (
            CAPABILITY_NOT_HTTP,
            format!("capability {} is no HTTP listener", http.capability),
        ),
        None => (
            CAPABILITY_UNKNOWN,
            format!("no platform lends a capability named {}", http.capability),
        ),
    };
    let message = format!("{message}; listeners: {}", list(&listeners));
    let problem = document.problem(&path, rule, message);
    problems.push(match nearest(&http.capability, listeners) {
        Some(meant) => problem.suggest(meant),
        None => problem,
    });
    None
}

/// Whether two triggers would answer the same request on the same prefix.
fn clash(a: &HttpTrigger, b: &HttpTrigger) -> bool {
    let methods = a.methods.is_empty() || b.methods.is_empty() || !a.methods.is_disjoint(&b.methods);
    a.capability == b.capability && a.host == b.host && a.path == b.path && methods
}

/// Refuses routes that another workload owns, once all documents are in: two workloads may swap routes in one change.
pub(super) fn check_owners(changes: &mut Changes, documents: &[ResolvedDocument]) {
    let mut problems = Vec::new();
    for resolved in documents {
        let Object::Workload(workload) = &resolved.document.object else {
            continue;
        };
        let Ok(id) = super::changes::object_id(&workload.metadata.namespace, &workload.metadata.name) else {
            continue;
        };
        for (mine, owner) in taken_routes(changes, &id) {
            let host = mine.host.as_deref().unwrap_or("any host");
            let methods = if mine.methods.is_empty() {
                "any method".to_owned()
            } else {
                list(&mine.methods)
            };
            let message = format!(
                "route {} of capability {} ({host}, {methods}) is owned by workload {owner}: give it another path, host or \
                 method, or delete that one",
                mine.path, mine.capability
            );
            let path = FieldPath::spec().key("triggers");
            problems.push(resolved.document.problem(&path, ROUTE_TAKEN, message));
        }
    }
    changes.problems.extend(problems);
}

/// The routes of a workload that another one has too, with that one.
pub(super) fn taken_routes(changes: &Changes, id: &WorkloadId) -> Vec<(HttpTrigger, WorkloadId)> {
    let Some(record) = changes.next.workloads.get(id) else {
        return Vec::new();
    };
    let mut taken = Vec::new();
    for mine in &record.intent.http {
        for owner in changes.next.route_owners(mine).filter(|owner| *owner != id) {
            let theirs = changes
                .next
                .workloads
                .get(owner)
                .map(|r| r.intent.http.as_slice())
                .unwrap_or_default();
            if theirs.iter().any(|t| clash(mine, t)) {
                taken.push((mine.clone(), owner.clone()));
            }
        }
    }
    taken
}
