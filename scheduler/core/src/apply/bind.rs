//! What meets each import of a component: a link, the only capability that fits, or the WASI that is always there.
//!
//! Nothing is discovered at run time, so what is missing is refused here, with the near misses (`miss`).

use super::group::{Frame, Grouper, component_path};
use super::interface::{export_for, fits, package};
use super::nearest::{list, nearest};
use super::{ArtifactTask, CallCheck};
use super::{CALL_UNFIT, CAPABILITY_UNKNOWN, IMPORT_AMBIGUOUS, LINK_MISMATCH};
use crate::desired::always_offered;
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::defaults::{CALL_IN_FLIGHT, CALL_TIMEOUT_MS};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{Binding, Call, Callee, CapabilityOffer};
use heddle_protocol::id::{CapabilityName, ComponentName};
use heddle_protocol::manifest::{Component, FieldPath, Link, Target};
use heddle_protocol::wit;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// What meets one import.
pub(super) enum Met {
    /// A capability of the host.
    Capability(Binding),
    /// A call over the network.
    Call(Call),
    /// Another component, by its name as a part, with one of its exports.
    Part(String, String),
}

/// Binds the imports of one component.
pub(super) struct Binder<'g, 'a, 'c, 'k> {
    pub(super) grouper: &'g mut Grouper<'a, 'c, 'k>,
    pub(super) frame: Rc<Frame>,
    index: usize,
    pub(super) component: &'g Component,
    pub(super) artifact: &'g ArtifactInfo,
    /// What is lent anywhere in the realm.
    pub(super) catalog: Arc<BTreeMap<CapabilityName, CapabilityOffer>>,
    met: BTreeMap<String, Met>,
}

impl<'g, 'a, 'c, 'k> Binder<'g, 'a, 'c, 'k> {
    pub(super) fn new(
        grouper: &'g mut Grouper<'a, 'c, 'k>,
        frame: Rc<Frame>,
        index: usize,
        component: &'g Component,
        artifact: &'g ArtifactInfo,
    ) -> Self {
        let catalog = grouper.changes.catalog();
        Self {
            grouper,
            frame,
            index,
            component,
            artifact,
            catalog,
            met: BTreeMap::new(),
        }
    }

    /// What meets each import, but for those that every agent meets by itself.
    pub(super) fn bind(mut self) -> BTreeMap<String, Met> {
        let stated = self.frame.stated.clone();
        let links = stated.workload.spec.links.iter().enumerate();
        let links: Vec<(usize, &Link)> = links.filter(|(_, link)| link.from == self.component.name).collect();
        for (at, link) in &links {
            if !self
                .artifact
                .imports
                .iter()
                .any(|import| wit::link_names(&link.import, import))
            {
                self.unknown_import(*at, link);
            }
        }
        let mut unlinked = Vec::new();
        for import in &self.artifact.imports {
            match links.iter().find(|(_, link)| wit::link_names(&link.import, import)) {
                Some((at, link)) => self.follow(*at, link, import),
                None if wit::is_always_offered(import) => {}
                None => unlinked.push(import),
            }
        }
        for import in unlinked {
            if let Some((part, export)) = self.beside(import) {
                self.met.insert(import.clone(), Met::Part(part, export));
            } else {
                self.choose(import);
            }
        }
        self.met
    }

    /// An interface of types comes from the component that the interfaces beside it are linked to.
    fn beside(&self, import: &str) -> Option<(String, String)> {
        self.met.iter().find_map(|(linked, met)| {
            let Met::Part(part, _) = met else { return None };
            let node = self.grouper.group.nodes.get(part)?;
            let export = export_for(&node.artifact, import)?;
            (package(linked) == package(import)).then(|| (part.clone(), export.to_owned()))
        })
    }

    pub(super) fn to_path(at: usize) -> FieldPath {
        FieldPath::spec().key("links").index(at).key("to")
    }

    /// Meets an import as a link says.
    fn follow(&mut self, at: usize, link: &Link, import: &str) {
        let met = match link.to.target() {
            Some(Target::Capability(name)) => self.capability(at, name, import),
            Some(Target::Component(name)) => self.sibling(at, name, import),
            Some(Target::Workload(name, None)) => self.embed(at, name, import),
            Some(Target::Workload(name, Some(_))) => self.call(at, link, name, import),
            // Refused when the manifest was checked.
            None => None,
        };
        if let Some(met) = met {
            self.met.insert(import.to_owned(), met);
        }
    }

    fn capability(&mut self, at: usize, text: &str, import: &str) -> Option<Met> {
        let path = Self::to_path(at).key("capability");
        let name = CapabilityName::parse(text).ok();
        let catalog = self.catalog.clone();
        let Some((name, offer)) = name.and_then(|n| catalog.get(&n).map(|offer| (n, offer))) else {
            let fitting = catalog.iter().filter(|(_, offer)| meets(offer, import));
            let fitting: Vec<&str> = fitting.map(|(name, _)| name.as_str()).collect();
            let message = format!(
                "no platform lends a capability named {text}; those that meet {import}: {}",
                list(&fitting)
            );
            let problem = self.problem(&path, CAPABILITY_UNKNOWN, message);
            let known = catalog.keys().map(CapabilityName::as_str);
            self.grouper.report(match nearest(text, known) {
                Some(meant) => problem.suggest(meant),
                None => problem,
            });
            return None;
        };
        if !meets(offer, import) {
            let met = offer.meets();
            let what = if met.is_empty() {
                "no import: it calls exports".to_owned()
            } else {
                list(met)
            };
            let message = format!(
                "capability {name} does not meet {import} of component {}; it meets {what}",
                self.component.name
            );
            let problem = self.problem(&path, LINK_MISMATCH, message);
            self.grouper.report(problem);
            return None;
        }
        match offer {
            CapabilityOffer::Wrpc {
                prefix,
                interfaces,
                timeout_ms,
            } => self.outside(&path, name, prefix, interfaces, *timeout_ms, import),
            _ => Some(Met::Capability(self.binding(name, offer))),
        }
    }

    /// A call to somebody who need not be of this fleet.
    fn outside(
        &mut self,
        path: &FieldPath,
        name: CapabilityName,
        prefix: &str,
        interfaces: &[String],
        timeout_ms: u64,
        import: &str,
    ) -> Option<Met> {
        let instance = interfaces.iter().find(|i| *i == import);
        let instance = instance
            .or_else(|| interfaces.iter().find(|i| fits(import, i)))?
            .clone();
        let frame = self.frame.clone();
        self.grouper.uses(&frame, &name);
        self.check_call(path, import, None, &instance)?;
        Some(Met::Call(Call {
            interface: None,
            part: None,
            to: Callee::Prefix(prefix.to_owned()),
            instance,
            timeout_ms,
            idempotent: false,
            max_in_flight: CALL_IN_FLIGHT,
        }))
    }

    /// A call to the replicas of another workload.
    fn call(&mut self, at: usize, link: &Link, name: &str, import: &str) -> Option<Met> {
        let path = Self::to_path(at).key("workload");
        let target = self.target(&path, name, import)?;
        if !super::entry::entries(&target.stated.workload, &target.stated.artifacts).contains(&target.component) {
            self.not_an_entry(&path, &target);
            return None;
        }
        self.check_call(&path, import, Some(target.artifact), &target.export)?;
        self.grouper.group.calls.insert(heddle_protocol::record::RemoteExport {
            workload: target.id.clone(),
            component: target.component,
            interface: target.export.clone(),
        });
        Some(Met::Call(Call {
            interface: None,
            part: None,
            to: Callee::Workload(target.id),
            instance: target.export,
            timeout_ms: link.timeout.map_or(CALL_TIMEOUT_MS, |t| t.as_ms()),
            idempotent: link.idempotent,
            max_in_flight: link.max_inflight.unwrap_or(CALL_IN_FLIGHT),
        }))
    }

    /// Whether a call fits, as far as that is known; none if it does not.
    fn check_call(&mut self, path: &FieldPath, import: &str, callee: Option<Digest>, export: &str) -> Option<()> {
        let task = ArtifactTask::CheckCall(CallCheck {
            caller: self.artifact.digest,
            import: import.to_owned(),
            callee,
            export: export.to_owned(),
        });
        match self.grouper.changes.outcome(task) {
            Ok(None | Some(Ok(_))) => Some(()),
            Ok(Some(Err(why))) => {
                let message = format!(
                    "import {import} of component {} cannot be called over the network: {why}",
                    self.component.name
                );
                let problem = self.problem(path, CALL_UNFIT, message);
                self.grouper.report(problem);
                None
            }
            Err(error) => {
                let problem = self.problem(path, CALL_UNFIT, error.message);
                self.grouper.report(problem);
                None
            }
        }
    }

    /// Another component of the same workload.
    fn sibling(&mut self, at: usize, name: &str, import: &str) -> Option<Met> {
        let path = Self::to_path(at).key("component");
        let component = ComponentName::parse(name).ok()?;
        let frame = self.frame.clone();
        let artifact = frame.stated.artifacts.get(&component)?;
        let Some(export) = export_for(artifact, import) else {
            self.lacks_export(&path, name, artifact, import);
            return None;
        };
        let part = self.grouper.add(&frame, &component);
        Some(Met::Part(part, export.to_owned()))
    }

    /// A component of another workload, with state of its own.
    fn embed(&mut self, at: usize, name: &str, import: &str) -> Option<Met> {
        let path = Self::to_path(at).key("workload");
        let target = self.target(&path, name, import)?;
        let frame = self.frame_of(&path, name, &target)?;
        let generation = self
            .grouper
            .changes
            .next
            .workloads
            .get(&target.id)
            .map(|r| r.generation);
        let group = &mut self.grouper.group;
        group.embeds.insert(target.id.clone(), generation.unwrap_or_default());
        group.embedded.insert(target.id.clone(), target.stated.clone());
        let part = self.grouper.add(&frame, &target.component);
        Some(Met::Part(part, target.export))
    }

    /// Binds an import that no link names: by itself only if exactly one capability fits (D19). Calls over the network
    /// are never chosen by themselves.
    fn choose(&mut self, import: &str) {
        let catalog = self.catalog.clone();
        let is_local = |offer: &CapabilityOffer| !matches!(offer, CapabilityOffer::Wrpc { .. });
        let fitting = catalog
            .iter()
            .filter(|(_, offer)| meets(offer, import) && is_local(offer));
        let fitting: Vec<(&CapabilityName, &CapabilityOffer)> = fitting.collect();
        let before = self.bound_before(import);
        let kept = fitting.iter().find(|(name, _)| Some(*name) == before.as_ref());
        match (kept.or(fitting.first()), fitting.len()) {
            (None, _) => self.unmet(import),
            (Some((name, offer)), count) if count == 1 || kept.is_some() => {
                let binding = self.binding((*name).clone(), offer);
                self.met.insert(import.to_owned(), Met::Capability(binding));
                if count == 1 && !always_offered().contains_key(*name) && self.frame.is_own() {
                    self.grouper.group.notes.push(format!(
                        "{}: import {import} of component {} is bound to capability {name}, the only one that meets it",
                        self.grouper.document.label(),
                        self.component.name
                    ));
                }
            }
            (Some(_), _) => {
                let names: Vec<&str> = fitting.iter().map(|(name, _)| name.as_str()).collect();
                let message = format!(
                    "import {import} of component {} is met by capabilities {}: say with a link which it is to be",
                    self.component.name,
                    list(names)
                );
                let problem = self.problem(&component_path(self.index), IMPORT_AMBIGUOUS, message);
                self.grouper.report(problem);
            }
        }
    }

    /// What was chosen before: here, or by the embedded workload for itself.
    fn bound_before(&self, import: &str) -> Option<CapabilityName> {
        let frame = &self.frame;
        let outermost = frame.chain.first().and_then(|id| self.grouper.changes.template_of(id));
        let part = format!("{}{}", frame.prefix, self.component.name);
        let whole = Frame {
            prefix: String::new(),
            id: frame.id.clone(),
            stated: frame.stated.clone(),
            chain: Vec::new(),
            at: None,
            before: outermost,
        };
        let here = whole.bound_before(&part, import).cloned();
        here.or_else(|| frame.bound_before(&self.component.name, import).cloned())
    }

    pub(super) fn own_path(&self) -> FieldPath {
        component_path(self.index)
    }

    fn binding(&self, capability: CapabilityName, offer: &CapabilityOffer) -> Binding {
        let scope = match offer.is_scoped() {
            true => self.frame.id.namespace.to_string(),
            false => String::new(),
        };
        Binding::new(capability, scope)
    }
}

/// Whether a capability meets an import.
pub(super) fn meets(offer: &CapabilityOffer, import: &str) -> bool {
    offer.meets().iter().any(|met| fits(import, met))
}
