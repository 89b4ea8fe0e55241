//! A workload's components with everything that their imports lead to: other components of the workload, components of
//! embedded workloads with all that those need, capabilities, and calls over the network.
//!
//! In: the change so far, and one workload. Out: one node per component, by the name that it has as a part, and what the
//! workload asks of hosts because of them. Nothing is composed here: see `compose`.

use super::bind::{Binder, Met};
use super::changes::{Changes, bad_name};
use super::entry::Artifacts;
use super::nearest::{list, nearest};
use super::secret::Secrets;
use super::{COMPOSE_TOO_LARGE, CONFIG_UNKNOWN};
use heddle_protocol::api::ApiError;
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::host_spec::{Binding, Call, SecretUse, Template};
use heddle_protocol::id::{CapabilityName, ComponentName, ConfigId, Generation, ObjectName, WorkloadId};
use heddle_protocol::manifest::{Component, Document, FieldPath, Problem, Workload};
use heddle_protocol::record::RemoteExport;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// Workloads that are embedded in each other, at most so deep.
pub(super) const DEPTH_MAX: usize = 8;
/// Components of one workload with all that it embeds.
pub(super) const PARTS_MAX: usize = 64;

/// A workload as it is meant, before anything of it is resolved.
#[derive(Debug, Clone)]
pub(super) struct Stated {
    pub(super) workload: Workload,
    pub(super) artifacts: Artifacts,
}

/// One component with what meets its imports, by their own names.
pub(super) struct Node {
    pub(super) artifact: ArtifactInfo,
    pub(super) config: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, SecretUse>,
    pub(super) bindings: BTreeMap<String, Binding>,
    pub(super) calls: BTreeMap<String, Call>,
    /// Imports that another node meets: which, and with which export.
    pub(super) local: BTreeMap<String, (String, String)>,
}

/// A workload's components and what they lead to.
pub(super) struct Group {
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) configs: BTreeSet<ConfigId>,
    pub(super) secrets: Secrets,
    pub(super) embeds: BTreeMap<WorkloadId, Generation>,
    /// The embedded workloads as they are stated.
    pub(super) embedded: BTreeMap<WorkloadId, Arc<Stated>>,
    pub(super) calls: BTreeSet<RemoteExport>,
    pub(super) notes: Vec<String>,
    /// Capabilities by who uses them; none is the workload itself.
    pub(super) capabilities: BTreeMap<Option<WorkloadId>, BTreeSet<CapabilityName>>,
}

/// One workload on the way down: the one that is resolved, or one that it embeds.
pub(super) struct Frame {
    /// What the parts' names begin with: empty, or `tax/`.
    pub(super) prefix: String,
    pub(super) id: WorkloadId,
    pub(super) stated: Arc<Stated>,
    /// The workloads above it, itself included.
    pub(super) chain: Vec<WorkloadId>,
    /// The link that embeds it, where problems are told; none for the workload itself.
    pub(super) at: Option<FieldPath>,
    /// What it was resolved to before.
    pub(super) before: Option<Arc<Template>>,
}

impl Frame {
    /// Whether it is the workload that is resolved, rather than one that it embeds.
    pub(super) fn is_own(&self) -> bool {
        self.at.is_none()
    }

    /// A problem with something of this workload.
    pub(super) fn problem(
        &self,
        document: &Document,
        path: &FieldPath,
        rule: &'static str,
        message: impl Into<String>,
    ) -> Problem {
        match &self.at {
            None => document.problem(path, rule, message),
            Some(at) => {
                let message = format!("workload {} cannot be embedded: {}", self.id, message.into());
                document.problem(at, rule, message)
            }
        }
    }

    /// The capability that an import was bound to before. A choice that was made once stays.
    pub(super) fn bound_before(&self, component: &str, import: &str) -> Option<&CapabilityName> {
        let components = &self.before.as_ref()?.components;
        components.iter().find_map(|whole| {
            whole.bindings.iter().find_map(|(name, binding)| {
                let part = binding.part.as_deref().unwrap_or(whole.name.as_str());
                let interface = binding.interface.as_deref().unwrap_or(name);
                (part == component && interface == import).then_some(&binding.capability)
            })
        })
    }
}

/// Builds the group of one workload.
pub(super) struct Grouper<'a, 'c, 'k> {
    pub(super) changes: &'a mut Changes<'k>,
    pub(super) document: &'c Document,
    pub(super) group: Group,
    /// Nodes that are under way or done.
    begun: BTreeSet<String>,
}

/// The group of a workload. Problems are noted in the change.
pub(super) fn group(
    changes: &mut Changes<'_>,
    id: &WorkloadId,
    document: &Document,
    stated: &Arc<Stated>,
) -> Result<Group, ApiError> {
    let record = changes.next.workloads.get(id).cloned();
    let frame = Rc::new(Frame {
        prefix: String::new(),
        id: id.clone(),
        stated: stated.clone(),
        chain: vec![id.clone()],
        at: None,
        before: changes.template_of(id),
    });
    let group = Group {
        nodes: BTreeMap::new(),
        configs: BTreeSet::new(),
        secrets: Secrets::known_before(record.as_deref()),
        embeds: BTreeMap::new(),
        embedded: BTreeMap::new(),
        calls: BTreeSet::new(),
        notes: Vec::new(),
        capabilities: BTreeMap::new(),
    };
    let mut grouper = Grouper {
        changes,
        document,
        group,
        begun: BTreeSet::new(),
    };
    for component in &stated.workload.spec.components {
        let name = ComponentName::parse(&component.name).map_err(bad_name)?;
        grouper.add(&frame, &name);
    }
    Ok(grouper.group)
}

impl Grouper<'_, '_, '_> {
    pub(super) fn report(&mut self, problem: Problem) {
        self.changes.problems.push(problem);
    }

    /// Adds a component of a workload and all that its imports lead to. Returns its name as a part.
    pub(super) fn add(&mut self, frame: &Rc<Frame>, name: &ComponentName) -> String {
        let node_name = format!("{}{name}", frame.prefix);
        if !self.begun.insert(node_name.clone()) {
            return node_name;
        }
        if self.begun.len() == PARTS_MAX + 1 {
            let message = format!("more than {PARTS_MAX} components would become one");
            let problem = frame.problem(
                self.document,
                &FieldPath::spec().key("links"),
                COMPOSE_TOO_LARGE,
                message,
            );
            self.report(problem);
        }
        let stated = frame.stated.clone();
        let components = stated.workload.spec.components.iter().enumerate();
        let found = components.into_iter().find(|(_, c)| c.name == name.as_str());
        let (Some((index, component)), Some(artifact)) = (found, stated.artifacts.get(name)) else {
            return node_name;
        };
        if self.begun.len() > PARTS_MAX {
            return node_name;
        }
        let mut node = Node {
            artifact: artifact.clone(),
            config: self.config_of(frame, index, component),
            secrets: self.secrets_of(frame, index, component),
            bindings: BTreeMap::new(),
            calls: BTreeMap::new(),
            local: BTreeMap::new(),
        };
        for (import, met) in Binder::new(self, frame.clone(), index, component, artifact).bind() {
            match met {
                Met::Capability(binding) => {
                    self.uses(frame, &binding.capability);
                    node.bindings.insert(import, binding);
                }
                Met::Call(call) => drop(node.calls.insert(import, call)),
                Met::Part(part, export) => drop(node.local.insert(import, (part, export))),
            }
        }
        self.group.nodes.insert(node_name.clone(), node);
        node_name
    }

    /// Notes that a workload uses a capability.
    pub(super) fn uses(&mut self, frame: &Frame, capability: &CapabilityName) {
        let user = (!frame.is_own()).then(|| frame.id.clone());
        self.group
            .capabilities
            .entry(user)
            .or_default()
            .insert(capability.clone());
    }

    /// A component's configuration: its sources in their order, later ones over earlier ones.
    fn config_of(&mut self, frame: &Frame, index: usize, component: &Component) -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        for (at, source) in component.config.iter().enumerate() {
            if let Some(name) = &source.config_ref {
                let config = ObjectName::parse(name).ok();
                let config = config.map(|name| ConfigId::new(frame.id.namespace.clone(), name));
                let configs = &self.changes.next.configs;
                match config.and_then(|config| configs.get(&config).cloned().map(|r| (config, r))) {
                    Some((config, record)) => {
                        values.extend(record.values.clone());
                        self.group.configs.insert(config);
                    }
                    None => {
                        let path = component_path(index).key("config").index(at).key("ref");
                        let problem = self.config_unknown(frame, &path, name);
                        self.report(problem);
                    }
                }
            }
            values.extend(source.values.clone().unwrap_or_default());
        }
        values
    }

    fn config_unknown(&self, frame: &Frame, path: &FieldPath, name: &str) -> Problem {
        let namespace = &frame.id.namespace;
        let configs = self.changes.next.configs.keys();
        let known: Vec<&str> = configs
            .filter(|c| c.namespace == *namespace)
            .map(|c| c.name.as_str())
            .collect();
        let message = format!(
            "there is no Config {name} in namespace {namespace}; there are: {}",
            list(&known)
        );
        let problem = frame.problem(self.document, path, CONFIG_UNKNOWN, message);
        match nearest(name, known) {
            Some(meant) => problem.suggest(meant),
            None => problem,
        }
    }

    fn secrets_of(&mut self, frame: &Frame, index: usize, component: &Component) -> BTreeMap<String, SecretUse> {
        let mut secrets = BTreeMap::new();
        for (name, source) in &component.secrets {
            let (namespace, user) = (Some(&frame.id.namespace), Some(&frame.id));
            match self.group.secrets.take(self.changes, namespace, user, source) {
                Ok(Some(secret)) => drop(secrets.insert(name.clone(), secret)),
                Ok(None) => {}
                Err(fault) => {
                    let path = component_path(index).key("secrets").entry(name);
                    let path = fault.field.map_or(path.clone(), |field| path.key(field));
                    let problem = frame.problem(self.document, &path, fault.rule, fault.message);
                    self.report(match fault.meant {
                        Some(meant) => problem.suggest(meant),
                        None => problem,
                    });
                }
            }
        }
        secrets
    }
}

/// Where a component stands in its manifest.
pub(super) fn component_path(index: usize) -> FieldPath {
    FieldPath::spec().key("components").index(index)
}
