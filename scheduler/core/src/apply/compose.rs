//! From a group of components to what hosts run: each entry with all that it reaches becomes one component.
//!
//! In: a workload's group and its entries. Out: the template's components, each with the recipe's outcome as its bytes.
//! How names are given to imports in a composed component: docs/decisions/0002-composed-groups.md.

use super::changes::Changes;
use super::group::{Group, Node};
use super::{ArtifactTask, COMPOSE_FAILED, Composition, PartLink, PartSource};
use heddle_protocol::api::ApiError;
use heddle_protocol::host_spec::{Part, TemplateComponent, Wasi};
use heddle_protocol::id::ComponentName;
use heddle_protocol::manifest::{Document, FieldPath};
use std::collections::{BTreeMap, BTreeSet};

/// The components that a workload's replicas are made of, ordered by name. Problems are noted in the change.
pub(super) fn components(
    changes: &mut Changes<'_>,
    document: &Document,
    group: &Group,
    entries: &BTreeSet<ComponentName>,
) -> Result<Vec<TemplateComponent>, ApiError> {
    let mut components = Vec::with_capacity(entries.len());
    for entry in entries {
        let parts = reached(group, entry.as_str());
        match (parts.len(), group.nodes.get(entry.as_str())) {
            (_, None) => {}
            (1, Some(node)) => components.push(alone(entry, node)),
            (_, Some(node)) => components.extend(composed(changes, document, entry, node, &parts)?),
        }
    }
    Ok(components)
}

/// An entry with everything that it is linked to on the same host.
fn reached<'g>(group: &'g Group, entry: &'g str) -> BTreeMap<&'g str, &'g Node> {
    let mut parts = BTreeMap::new();
    let mut open = vec![entry];
    while let Some(name) = open.pop() {
        let Some(node) = group.nodes.get(name) else { continue };
        if parts.insert(name, node).is_none() {
            open.extend(node.local.values().map(|(part, _)| part.as_str()));
        }
    }
    parts
}

fn alone(entry: &ComponentName, node: &Node) -> TemplateComponent {
    let artifact = &node.artifact;
    TemplateComponent {
        config: node.config.clone(),
        secrets: node.secrets.clone(),
        bindings: node.bindings.clone(),
        calls: node.calls.clone(),
        ..TemplateComponent::new(entry.clone(), artifact.digest, artifact.bytes, artifact.wasi)
    }
}

fn composed(
    changes: &mut Changes<'_>,
    document: &Document,
    entry: &ComponentName,
    node: &Node,
    parts: &BTreeMap<&str, &Node>,
) -> Result<Option<TemplateComponent>, ApiError> {
    let recipe = recipe(entry, parts);
    // As long as the outcome is not known, what it would be in all that decisions look at.
    let any_p3 = parts.values().any(|part| part.artifact.wasi == Wasi::P3);
    let (mut artifact, mut bytes) = (node.artifact.digest, node.artifact.bytes);
    let mut wasi = if any_p3 { Wasi::P3 } else { Wasi::P2 };
    match changes.outcome(ArtifactTask::Compose(recipe))? {
        None => {}
        Some(Ok(info)) => (artifact, bytes, wasi) = (info.digest, info.bytes, info.wasi),
        Some(Err(why)) => {
            let names: Vec<&str> = parts.keys().copied().collect();
            let message = format!("components {} cannot be made one: {why}", names.join(", "));
            let path = FieldPath::spec().key("links");
            changes.problems.push(document.problem(&path, COMPOSE_FAILED, message));
            return Ok(None);
        }
    }
    let mut whole = TemplateComponent {
        config: node.config.clone(),
        secrets: node.secrets.clone(),
        ..TemplateComponent::new(entry.clone(), artifact, bytes, wasi)
    };
    for (place, (name, part)) in parts.iter().enumerate() {
        let part_name = (*name != entry.as_str()).then(|| (*name).to_owned());
        for (import, binding) in &part.bindings {
            let mut binding = binding.clone();
            (binding.interface, binding.part) = (Some(import.clone()), part_name.clone());
            whole.bindings.insert(name_in_whole(place, import), binding);
        }
        for (import, call) in &part.calls {
            let mut call = call.clone();
            (call.interface, call.part) = (Some(import.clone()), part_name.clone());
            whole.calls.insert(name_in_whole(place, import), call);
        }
        if let Some(part_name) = part_name {
            let settings = Part {
                config: part.config.clone(),
                secrets: part.secrets.clone(),
            };
            whole.parts.insert(part_name, settings);
        }
    }
    Ok(Some(whole))
}

fn recipe(entry: &ComponentName, parts: &BTreeMap<&str, &Node>) -> Composition {
    let source = |(place, (name, part)): (usize, (&&str, &&Node))| {
        let own = part.bindings.keys().chain(part.calls.keys());
        let rename = own
            .map(|import| (import.clone(), name_in_whole(place, import)))
            .collect();
        let artifact = part.artifact.digest;
        ((*name).to_owned(), PartSource { artifact, rename })
    };
    let links = parts.iter().flat_map(|(name, part)| {
        part.local.iter().map(|(import, (to, export))| PartLink {
            from: (*name).to_owned(),
            import: import.clone(),
            to: to.clone(),
            export: export.clone(),
        })
    });
    Composition {
        entry: entry.to_string(),
        parts: parts.iter().enumerate().map(source).collect(),
        links: links.collect(),
    }
}

/// The name that a part's import has in the whole: `wasi:config/store@V` becomes `heddle:p0-wasi-config/store@V`.
fn name_in_whole(place: usize, import: &str) -> String {
    format!("heddle:p{place}-{}", import.replacen(':', "-", 1))
}
