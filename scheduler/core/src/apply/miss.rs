//! Imports that nothing meets, and links that lead nowhere: refused with the near misses, so that the next try succeeds.
//!
//! Also where a link to another workload leads: which of its components exports what is imported.

use super::bind::{Binder, meets};
use super::group::{DEPTH_MAX, Frame, Stated};
use super::interface::{export_for, package, without_version};
use super::nearest::{list, nearest};
use super::{
    CALLEE_NOT_AN_ENTRY, COMPOSE_TOO_LARGE, EMBED_CYCLE, EXPORT_AMBIGUOUS, EXPORT_MISSING, IMPORT_UNKNOWN,
    IMPORT_UNMET, WORKLOAD_UNKNOWN,
};
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::CapabilityOffer;
use heddle_protocol::id::{CapabilityName, ComponentName, ObjectName, WorkloadId};
use heddle_protocol::manifest::{FieldPath, Link, Problem};
use heddle_protocol::wit;
use std::rc::Rc;
use std::sync::Arc;

/// Where a link to another workload leads.
pub(super) struct TargetExport {
    pub(super) id: WorkloadId,
    pub(super) stated: Arc<Stated>,
    pub(super) component: ComponentName,
    pub(super) artifact: Digest,
    pub(super) export: String,
}

impl Binder<'_, '_, '_, '_> {
    pub(super) fn problem(&self, path: &FieldPath, rule: &'static str, message: impl Into<String>) -> Problem {
        self.frame.problem(self.grouper.document, path, rule, message)
    }

    /// The one component of another workload that exports what is imported.
    pub(super) fn target(&mut self, path: &FieldPath, name: &str, import: &str) -> Option<TargetExport> {
        let namespace = self.frame.id.namespace.clone();
        let id = WorkloadId::new(namespace, ObjectName::parse(name).ok()?);
        let Some(stated) = self.grouper.changes.stated(&id) else {
            self.workload_unknown(path, &id, import);
            return None;
        };
        let exporting: Vec<(&ComponentName, &ArtifactInfo, &str)> = stated
            .artifacts
            .iter()
            .filter_map(|(name, info)| Some((name, info, export_for(info, import)?)))
            .collect();
        match exporting.as_slice() {
            [(component, info, export)] => Some(TargetExport {
                id,
                component: (*component).clone(),
                artifact: info.digest,
                export: (*export).to_owned(),
                stated: stated.clone(),
            }),
            [] => {
                let exports = stated.artifacts.values().flat_map(|info| &info.exports);
                let exports: Vec<&str> = exports.map(String::as_str).collect();
                let message = format!(
                    "no component of workload {id} exports {import}; they export: {}{}",
                    list(&exports),
                    self.elsewhere(import)
                );
                let problem = self.problem(path, EXPORT_MISSING, message);
                self.grouper.report(problem);
                None
            }
            several => {
                let names = several.iter().map(|(name, _, _)| name);
                let message = format!(
                    "components {} of workload {id} all export {import}: a link can mean only one; give each a workload of \
                     its own",
                    list(names)
                );
                let problem = self.problem(path, EXPORT_AMBIGUOUS, message);
                self.grouper.report(problem);
                None
            }
        }
    }

    /// The workload that a link embeds, unless it embeds this one itself.
    pub(super) fn frame_of(&mut self, path: &FieldPath, name: &str, target: &TargetExport) -> Option<Rc<Frame>> {
        let id = &target.id;
        if let Some(start) = self.frame.chain.iter().position(|above| above == id) {
            let circle = self.frame.chain[start..].iter().chain([id]);
            let circle: Vec<String> = circle.map(ToString::to_string).collect();
            let message = format!(
                "workloads embed each other in a circle: {}; let one of them call with `via: wrpc`",
                circle.join(" → ")
            );
            let problem = self.problem(path, EMBED_CYCLE, message);
            self.grouper.report(problem);
            return None;
        }
        if self.frame.chain.len() > DEPTH_MAX {
            let message = format!("workloads are embedded in each other more than {DEPTH_MAX} deep");
            let problem = self.problem(path, COMPOSE_TOO_LARGE, message);
            self.grouper.report(problem);
            return None;
        }
        let mut chain = self.frame.chain.clone();
        chain.push(id.clone());
        Some(Rc::new(Frame {
            prefix: format!("{}{name}/", self.frame.prefix),
            id: id.clone(),
            stated: target.stated.clone(),
            chain,
            at: Some(self.frame.at.clone().unwrap_or_else(|| path.clone())),
            before: self.grouper.changes.template_of(id),
        }))
    }

    fn workload_unknown(&mut self, path: &FieldPath, id: &WorkloadId, import: &str) {
        let own = self.frame.id.name.to_string();
        let mut known = self.grouper.changes.names_in(&id.namespace);
        known.retain(|name| *name != own);
        let message = format!(
            "there is no workload {id}; there are: {}{}",
            list(&known),
            self.elsewhere(import)
        );
        let problem = self.problem(path, WORKLOAD_UNKNOWN, message);
        self.grouper
            .report(match nearest(id.name.as_str(), known.iter().map(String::as_str)) {
                Some(meant) => problem.suggest(meant),
                None => problem,
            });
    }

    pub(super) fn not_an_entry(&mut self, path: &FieldPath, target: &TargetExport) {
        let TargetExport {
            id, component, export, ..
        } = target;
        let message = format!(
            "component {component} of workload {id} runs only as a part of others, so nobody can call it over the network; \
             give it a workload of its own, or a trigger `wrpc: {{ interface: {export}, prefix: … }}`"
        );
        let problem = self.problem(path, CALLEE_NOT_AN_ENTRY, message);
        self.grouper.report(problem);
    }

    pub(super) fn lacks_export(&mut self, path: &FieldPath, name: &str, artifact: &ArtifactInfo, import: &str) {
        let others = artifact.exports.iter().map(String::as_str);
        let same = others
            .clone()
            .find(|other| without_version(other) == without_version(import));
        let version = match same {
            Some(other) => format!(" in this version (it exports {other})"),
            None => String::new(),
        };
        let message = format!(
            "component {name} does not export {import}{version}; it exports: {}{}",
            list(others),
            self.elsewhere(import)
        );
        let problem = self.problem(path, EXPORT_MISSING, message);
        self.grouper.report(problem);
    }

    /// A link for something that the component does not import.
    pub(super) fn unknown_import(&mut self, at: usize, link: &Link) {
        let path = FieldPath::spec().key("links").index(at).key("import");
        let imports = self.artifact.imports.iter().map(String::as_str);
        let others: Vec<&str> = imports.filter(|import| !wit::is_always_offered(import)).collect();
        let message = format!(
            "component {} does not import {}; it imports: {}",
            link.from,
            link.import,
            list(&others)
        );
        let problem = self.problem(&path, IMPORT_UNKNOWN, message);
        // With another version, or with a slip.
        let wanted = without_version(&link.import);
        let same_name = others.iter().copied().find(|other| without_version(other) == wanted);
        let meant = same_name.or_else(|| nearest(&link.import, others.iter().copied()));
        let meant = meant.or_else(|| nearest(&link.import, others.iter().map(|other| without_version(other))));
        self.grouper.report(match meant {
            Some(meant) => problem.suggest(meant),
            None => problem,
        });
    }

    /// An import that nothing meets.
    pub(super) fn unmet(&mut self, import: &str) {
        let near = |met: &str| package(met) == package(import) || nearest(import, [met]).is_some();
        let calls = |offer: &CapabilityOffer| matches!(offer, CapabilityOffer::Wrpc { .. }) && meets(offer, import);
        let all = self.catalog.iter().flat_map(|(name, offer)| {
            let met = offer.meets().into_iter();
            met.map(move |met| (name, offer, met))
                .collect::<Vec<(&CapabilityName, &CapabilityOffer, &str)>>()
        });
        let misses: Vec<String> = all
            .filter(|(_, offer, met)| near(met) && !calls(offer))
            .map(|(name, _, met)| format!("{name} meets {met}"))
            .collect();
        let mut hints = match misses.is_empty() {
            true => String::new(),
            false => format!("; near misses: {}", list(misses)),
        };
        if let Some((name, _)) = self.catalog.iter().find(|(_, offer)| calls(offer)) {
            hints.push_str(&format!(
                "; capability {name} meets it over the network: add a link `to: {{ capability: {name} }}` if that is meant"
            ));
        }
        hints.push_str(&self.elsewhere(import));
        let message = format!(
            "nothing meets import {import} of component {}: no link names it, no platform lends a capability for it, and it \
             is not part of the WASI that every agent offers{hints}",
            self.component.name
        );
        let problem = self.problem(&self.own_path(), IMPORT_UNMET, message);
        self.grouper.report(problem);
    }

    /// Who else exports what is imported: components of the workload, workloads of the namespace.
    fn elsewhere(&mut self, import: &str) -> String {
        let mut found = Vec::new();
        let own = self.component.name.clone();
        let exporting = |info: &ArtifactInfo| export_for(info, import).is_some();
        for (name, _) in self
            .frame
            .stated
            .artifacts
            .iter()
            .filter(|(n, a)| n.as_str() != own && exporting(a))
        {
            found.push(format!(
                "component {name} exports it: add a link `to: {{ component: {name} }}`"
            ));
        }
        let chain = self.frame.chain.clone();
        for (id, artifacts) in self.grouper.changes.artifacts_in(&self.frame.id.namespace) {
            if !chain.contains(&id) && artifacts.values().any(exporting) {
                let name = &id.name;
                found.push(format!(
                    "workload {name} exports it: add a link `to: {{ workload: {name} }}`"
                ));
            }
        }
        match found.is_empty() {
            true => String::new(),
            false => format!("; {}", list(found)),
        }
    }
}
