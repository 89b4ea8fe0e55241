//! What meets each import of a component: a link, the only capability that fits, or the WASI that is always there.
//!
//! Nothing is discovered at run time, so what is missing is refused here, with the near misses.

use super::nearest::{list, nearest};
use super::{CAPABILITY_UNKNOWN, IMPORT_AMBIGUOUS, IMPORT_UNKNOWN, IMPORT_UNMET, LINK_MISMATCH};
use crate::desired::always_offered;
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::host_spec::{Binding, CapabilityOffer, TemplateComponent};
use heddle_protocol::id::{CapabilityName, Namespace};
use heddle_protocol::manifest::{Component, Document, FieldPath, Link, Problem, Target, Workload, rule};
use heddle_protocol::wit;
use std::collections::BTreeMap;

/// What binding needs to know.
pub(super) struct Binder<'a> {
    pub(super) document: &'a Document,
    pub(super) workload: &'a Workload,
    pub(super) namespace: &'a Namespace,
    /// What is lent anywhere in the realm.
    pub(super) catalog: &'a BTreeMap<CapabilityName, CapabilityOffer>,
}

/// What was bound, and what was bound without being asked for.
#[derive(Default)]
pub(super) struct Bound {
    pub(super) bindings: BTreeMap<String, Binding>,
    pub(super) notes: Vec<String>,
    pub(super) problems: Vec<Problem>,
}

impl Binder<'_> {
    /// Binds the imports of one component. `before` is what it was bound to in the generation before: a choice that was
    /// made once stays, also when another capability that would fit is lent later.
    pub(super) fn bind(
        &self,
        index: usize,
        component: &Component,
        artifact: &ArtifactInfo,
        before: Option<&TemplateComponent>,
    ) -> Bound {
        let mut bound = Bound::default();
        let links: Vec<(usize, &Link)> = self
            .workload
            .spec
            .links
            .iter()
            .enumerate()
            .filter(|(_, link)| link.from == component.name)
            .collect();
        for (at, link) in &links {
            if !artifact
                .imports
                .iter()
                .any(|import| wit::link_names(&link.import, import))
            {
                bound.problems.push(self.unknown_import(*at, link, artifact));
            }
        }
        for import in &artifact.imports {
            let link = links.iter().find(|(_, link)| wit::link_names(&link.import, import));
            match link {
                Some((at, link)) => self.follow(*at, link, import, &mut bound),
                None if wit::is_always_offered(import) => {}
                None => self.choose(index, component, import, before, &mut bound),
            }
        }
        bound
    }

    fn unknown_import(&self, at: usize, link: &Link, artifact: &ArtifactInfo) -> Problem {
        let path = FieldPath::spec().key("links").index(at).key("import");
        let others: Vec<&str> = artifact
            .imports
            .iter()
            .map(String::as_str)
            .filter(|import| !wit::is_always_offered(import))
            .collect();
        let message = format!(
            "component {} does not import {}; it imports: {}",
            link.from,
            link.import,
            list(&others)
        );
        let problem = self.document.problem(&path, IMPORT_UNKNOWN, message);
        // With another version, or with a slip.
        let name = |text: &str| text.split('@').next().unwrap_or_default().to_owned();
        let same_name = others.iter().copied().find(|other| name(other) == name(&link.import));
        match same_name.or_else(|| nearest(&link.import, others.iter().copied())) {
            Some(meant) => problem.suggest(meant),
            None => {
                let names: Vec<String> = others.iter().map(|o| name(o)).collect();
                match nearest(&link.import, names.iter().map(String::as_str)) {
                    Some(meant) => problem.suggest(meant),
                    None => problem,
                }
            }
        }
    }

    /// Binds an import as a link says.
    fn follow(&self, at: usize, link: &Link, import: &str, bound: &mut Bound) {
        let path = FieldPath::spec().key("links").index(at).key("to");
        let Some(Target::Capability(text)) = link.to.target() else {
            let message = "this release links imports to capabilities only";
            bound
                .problems
                .push(self.document.problem(&path, rule::NOT_YET_SUPPORTED, message));
            return;
        };
        let path = path.key("capability");
        let name = CapabilityName::parse(text).ok();
        match name.as_ref().and_then(|n| self.catalog.get(n)).zip(name.clone()) {
            Some((offer, name)) if meets(offer, import) => {
                bound.bindings.insert(import.to_owned(), self.binding(name, offer));
            }
            Some((offer, name)) => {
                let met = offer.meets();
                let what = if met.is_empty() {
                    "no import: it calls exports".to_owned()
                } else {
                    list(met)
                };
                let message = format!(
                    "capability {name} does not meet {import} of component {}; it meets {what}",
                    link.from
                );
                bound
                    .problems
                    .push(self.document.problem(&path, LINK_MISMATCH, message));
            }
            None => {
                let fitting: Vec<&str> = self.fitting(import).map(|(name, _)| name.as_str()).collect();
                let known = self.catalog.keys().map(CapabilityName::as_str);
                let message = format!(
                    "no platform lends a capability named {text}; those that meet {import}: {}",
                    list(&fitting)
                );
                let problem = self.document.problem(&path, CAPABILITY_UNKNOWN, message);
                bound.problems.push(match nearest(text, known) {
                    Some(meant) => problem.suggest(meant),
                    None => problem,
                });
            }
        }
    }

    /// Binds an import that no link names: by itself only if exactly one capability fits (D19).
    fn choose(
        &self,
        index: usize,
        component: &Component,
        import: &str,
        before: Option<&TemplateComponent>,
        bound: &mut Bound,
    ) {
        let path = FieldPath::spec().key("components").index(index);
        let fitting: Vec<_> = self.fitting(import).collect();
        let bound_before = before.and_then(|c| c.bindings.get(import)).map(|b| &b.capability);
        let kept = fitting.iter().find(|(name, _)| Some(*name) == bound_before);
        match (kept.or(fitting.first()), fitting.len()) {
            (None, _) => bound.problems.push(self.unmet(&path, component, import)),
            (Some((name, offer)), 1) => {
                bound
                    .bindings
                    .insert(import.to_owned(), self.binding((*name).clone(), offer));
                if !always_offered().contains_key(*name) {
                    bound.notes.push(format!(
                        "{}: import {import} of component {} is bound to capability {name}, the only one that meets it",
                        self.document.label(),
                        component.name
                    ));
                }
            }
            (Some((name, offer)), _) if kept.is_some() => {
                bound
                    .bindings
                    .insert(import.to_owned(), self.binding((*name).clone(), offer));
            }
            (Some(_), _) => {
                let names: Vec<&str> = fitting.iter().map(|(name, _)| name.as_str()).collect();
                let message = format!(
                    "import {import} of component {} is met by capabilities {}: say with a link which it is to be",
                    component.name,
                    list(names)
                );
                bound
                    .problems
                    .push(self.document.problem(&path, IMPORT_AMBIGUOUS, message));
            }
        }
    }

    fn unmet(&self, path: &FieldPath, component: &Component, import: &str) -> Problem {
        let all: Vec<(&CapabilityName, &str)> = self
            .catalog
            .iter()
            .flat_map(|(name, offer)| offer.meets().iter().map(move |met| (name, *met)))
            .collect();
        let package = import.split('@').next().unwrap_or_default();
        let package = package.split('/').next().unwrap_or_default();
        let near = |met: &str| met.split('/').next() == Some(package) || nearest(import, [met]).is_some();
        let misses: Vec<String> = all
            .iter()
            .filter(|(_, met)| near(met))
            .map(|(name, met)| format!("{name} meets {met}"))
            .collect();
        let misses = match misses.is_empty() {
            true => String::new(),
            false => format!("; near misses: {}", list(misses)),
        };
        let message = format!(
            "nothing meets import {import} of component {}: no link names it, no platform lends a capability for it, and it \
             is not part of the WASI that every agent offers{misses}",
            component.name
        );
        self.document.problem(path, IMPORT_UNMET, message)
    }

    fn fitting(&self, import: &str) -> impl Iterator<Item = (&CapabilityName, &CapabilityOffer)> {
        self.catalog.iter().filter(move |(_, offer)| meets(offer, import))
    }

    fn binding(&self, capability: CapabilityName, offer: &CapabilityOffer) -> Binding {
        let scope = match offer {
            CapabilityOffer::KeyvalueMemory { shared: false } => self.namespace.to_string(),
            // What all share, and what holds no data, needs no scope.
            CapabilityOffer::KeyvalueMemory { shared: true }
            | CapabilityOffer::Http { .. }
            | CapabilityOffer::Config {}
            | CapabilityOffer::Logging {} => String::new(),
        };
        Binding { capability, scope }
    }
}

fn meets(offer: &CapabilityOffer, import: &str) -> bool {
    offer.meets().iter().any(|met| import.starts_with(met))
}
