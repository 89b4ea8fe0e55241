//! What concerns several objects of one change: who owns a name or a route, and workloads that embed each other.

use super::super::document::Document;
use super::super::object::{Kind, Object};
use super::super::problem::{FieldPath, Problem, quoted};
use super::super::rule;
use super::super::workload::{Method, Target, Workload};
use super::cycle::{Edge, cycles};
use std::collections::HashMap;

pub(super) fn check(documents: &[Document], problems: &mut Vec<Problem>) {
    duplicates(documents, problems);
    routes(documents, problems);
    circles(documents, problems);
}

/// Where a document's value is, as a message says it; a document without text has no place.
fn place(document: &Document, path: &FieldPath) -> String {
    document
        .position(path)
        .map_or(String::new(), |at| format!(" at {} {at}", document.source))
}

fn duplicates(documents: &[Document], problems: &mut Vec<Problem>) {
    let mut seen: HashMap<(Kind, Option<&str>, &str), &Document> = HashMap::new();
    let at = FieldPath::root().key("metadata").key("name");
    for document in documents {
        let object = &document.object;
        if let Some(first) = seen.insert((object.kind(), object.namespace(), object.name()), document) {
            let message = format!(
                "the object is written twice; the first is{}",
                or_earlier(place(first, &at))
            );
            problems.push(document.problem(&at, rule::DUPLICATE_OBJECT, message));
        }
    }
}

fn or_earlier(place: String) -> String {
    if place.is_empty() {
        " earlier in the same change".to_owned()
    } else {
        place
    }
}

fn workloads(documents: &[Document]) -> impl Iterator<Item = (&Document, &Workload)> {
    documents.iter().filter_map(|document| match &document.object {
        Object::Workload(workload) => Some((document, &**workload)),
        _ => None,
    })
}

/// A route has one owner in the realm, whatever the namespace: requests do not say whose they are.
fn routes(documents: &[Document], problems: &mut Vec<Problem>) {
    type Route<'a> = (&'a str, Option<&'a str>, &'a str, Method);
    let mut owners: HashMap<Route<'_>, (&Document, FieldPath)> = HashMap::new();
    for (document, workload) in workloads(documents) {
        for (index, trigger) in workload.spec.triggers.iter().enumerate() {
            let Some(http) = &trigger.http else { continue };
            let at = FieldPath::spec().key("triggers").index(index).key("http");
            let methods = if http.methods.is_empty() {
                Method::ALL.as_slice()
            } else {
                &http.methods
            };
            let mut reported = false;
            for method in methods {
                let route = (
                    http.capability.as_str(),
                    http.host.as_deref(),
                    http.path.as_str(),
                    *method,
                );
                let Some((owner, owner_at)) = owners.get(&route) else {
                    owners.insert(route, (document, at.clone()));
                    continue;
                };
                // A method named twice in one trigger is the list's problem, not a second owner.
                let itself = std::ptr::eq(*owner, document) && *owner_at == at;
                if !reported && !itself {
                    // A trigger that names no method clashes over all of them, not over the first of the list.
                    let method = if http.methods.is_empty() {
                        "any method"
                    } else {
                        method.as_str()
                    };
                    let message = format!(
                        "the route {method} {}{} of `{}` already belongs to {} ({owner_at}){}",
                        http.host.as_deref().unwrap_or("*"),
                        http.path,
                        http.capability,
                        owner.label(),
                        place(owner, owner_at),
                    );
                    problems.push(document.problem(&at, rule::ROUTE_CONFLICT, message));
                    reported = true;
                }
            }
        }
    }
}

/// Workloads that embed each other could never be composed. Calls over the network may go in circles.
fn circles(documents: &[Document], problems: &mut Vec<Problem>) {
    let all: Vec<(&Document, &Workload)> = workloads(documents).collect();
    let numbers: HashMap<(&str, &str), usize> = all
        .iter()
        .enumerate()
        .map(|(number, (_, workload))| {
            (
                (workload.metadata.namespace.as_str(), workload.metadata.name.as_str()),
                number,
            )
        })
        .collect();
    let mut edges = Vec::new();
    let mut link_of = Vec::new();
    for (from, (_, workload)) in all.iter().enumerate() {
        for (index, link) in workload.spec.links.iter().enumerate() {
            let Some(Target::Workload(name, None)) = link.to.target() else {
                continue;
            };
            let Some(to) = numbers.get(&(workload.metadata.namespace.as_str(), name)) else {
                continue;
            };
            if *to != from {
                edges.push(Edge { from, to: *to });
                link_of.push(index);
            }
        }
    }
    for circle in cycles(all.len(), &edges) {
        let Some(last) = circle.last() else { continue };
        let (document, _) = all[edges[*last].from];
        let mut names: Vec<&str> = circle
            .iter()
            .map(|edge| all[edges[*edge].from].1.metadata.name.as_str())
            .collect();
        names.extend(names.first().copied());
        // A circle of thousands is told by its beginning.
        let shown: Vec<String> = names.iter().take(12).map(|name| quoted(name)).collect();
        let rest = if names.len() > shown.len() { " → …" } else { "" };
        let message = format!(
            "workloads embed each other in a circle: {}{rest}; let one of them call with `via: wrpc`",
            shown.join(" → ")
        );
        let at = FieldPath::spec().key("links").index(link_of[*last]).key("to");
        problems.push(document.problem(&at, rule::LINK_CYCLE, message));
    }
}
