//! HTTP triggers: which component serves which route, and that every route has one owner (D19).

use super::changes::Changes;
use super::nearest::{list, nearest};
use super::{
    CAPABILITY_NOT_HTTP, CAPABILITY_UNKNOWN, HANDLER_AMBIGUOUS, HANDLER_MISSING, ROUTE_TAKEN, ResolvedDocument,
};
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::host_spec::CapabilityOffer;
use heddle_protocol::id::{CapabilityName, ComponentName, WorkloadId};
use heddle_protocol::manifest::{self, Document, FieldPath, Object, Problem, Workload};
use heddle_protocol::record::HttpTrigger;
use std::collections::BTreeMap;

/// The HTTP triggers of a workload, resolved.
pub(super) fn triggers(
    document: &Document,
    workload: &Workload,
    artifacts: &BTreeMap<ComponentName, ArtifactInfo>,
    catalog: &BTreeMap<CapabilityName, CapabilityOffer>,
    problems: &mut Vec<Problem>,
) -> Vec<HttpTrigger> {
    let mut triggers = Vec::new();
    for (index, trigger) in workload.spec.triggers.iter().enumerate() {
        let Some(http) = &trigger.http else { continue };
        let path = FieldPath::spec().key("triggers").index(index).key("http");
        let capability = listener(document, http, catalog, &path, problems);
        let component = handler(document, http, artifacts, &path, problems);
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

fn handler(
    document: &Document,
    http: &manifest::HttpTrigger,
    artifacts: &BTreeMap<ComponentName, ArtifactInfo>,
    path: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Option<ComponentName> {
    let handlers: Vec<&ComponentName> = artifacts
        .iter()
        .filter(|(_, info)| info.serves_http())
        .map(|(name, _)| name)
        .collect();
    match (&http.component, handlers.as_slice()) {
        (Some(named), _) => {
            let found = handlers
                .iter()
                .find(|name| name.as_str() == named)
                .map(|name| (*name).clone());
            if found.is_none() {
                let message = format!(
                    "component {named} exports no HTTP handler (wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3); \
                     components that do: {}",
                    list(&handlers)
                );
                let problem = document.problem(&path.key("component"), HANDLER_MISSING, message);
                problems.push(match handlers.as_slice() {
                    [only] => problem.suggest(only.as_str()),
                    _ => problem,
                });
            }
            found
        }
        (None, [only]) => Some((*only).clone()),
        (None, []) => {
            let message =
                "no component exports an HTTP handler (wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3)";
            problems.push(document.problem(path, HANDLER_MISSING, message));
            None
        }
        (None, several) => {
            let message = format!(
                "components {} export an HTTP handler: name one as `component`",
                list(several)
            );
            problems.push(document.problem(path, HANDLER_AMBIGUOUS, message));
            None
        }
    }
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
