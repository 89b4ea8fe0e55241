//! Secrets of components and capabilities: where each is, and in which version, as its backend said.
//!
//! In: a source as it is written. Out: the use that stands in a template. The value is asked for by nobody here.

use super::changes::Changes;
use super::nearest::{list, nearest};
use super::{SECRET_REFUSED, SECRET_UNKNOWN, SECRET_UNREACHABLE, SecretAnswer};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{SecretUse, Template};
use heddle_protocol::id::{Namespace, ObjectId, ObjectName, WorkloadId};
use heddle_protocol::manifest::{Object, Rotate, SecretSource};
use heddle_protocol::record::{PlatformRecord, WorkloadRecord};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with a secret: the field of its source, the rule, the words, and what was probably meant.
pub(super) struct Fault {
    pub(super) field: Option<&'static str>,
    pub(super) rule: &'static str,
    pub(super) message: String,
    pub(super) meant: Option<String>,
}

/// The secrets of one workload while it is resolved.
#[derive(Default)]
pub(super) struct Secrets {
    /// The SecretRefs that are used.
    pub(super) refs: BTreeSet<ObjectId>,
    /// The newest version of each secret that names none.
    pub(super) versions: BTreeMap<Digest, String>,
    pub(super) notes: Vec<String>,
    /// What was known before, for a backend that cannot be asked now.
    before: BTreeMap<Digest, String>,
    platform: bool,
}

impl Secrets {
    /// Secrets, with the versions that a workload knew before.
    pub(super) fn known_before(record: Option<&WorkloadRecord>) -> Self {
        Self {
            before: record.map(|r| r.secret_versions.clone()).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Secrets of a platform, which gets newer versions of all that name none.
    pub(super) fn of_platform(record: Option<&PlatformRecord>) -> Self {
        let uses = record
            .into_iter()
            .flat_map(|r| &r.secrets)
            .flat_map(|(_, uses)| uses.values());
        let known = uses.filter_map(|secret| Some((unversioned(secret).id(), secret.version.clone()?)));
        Self {
            before: known.collect(),
            platform: true,
            ..Self::default()
        }
    }

    /// One use of a secret, in its version. `user` is the workload in whose name the backend is asked.
    pub(super) fn take(
        &mut self,
        changes: &mut Changes,
        namespace: Option<&Namespace>,
        user: Option<&WorkloadId>,
        source: &SecretSource,
    ) -> Result<Option<SecretUse>, Fault> {
        let Some(asked) = self.written(changes, namespace, user, source)? else {
            return Ok(None);
        };
        let (id, place) = (asked.id(), format!("secret {} of backend {}", asked.path, asked.from));
        let answer = match self.before.get(&id) {
            // What is not asked about in a renewal stays as it is.
            Some(version) if changes.renewing && !changes.known.secrets.contains_key(&id) => {
                Some(SecretAnswer::Version(version.clone()))
            }
            _ => changes.answer(&asked),
        };
        let version = match answer {
            None => String::new(),
            Some(SecretAnswer::Version(version)) => version,
            Some(SecretAnswer::Refused(why)) => {
                let message = format!("{place} cannot be had: {why}");
                return Err(fault(None, SECRET_REFUSED, message));
            }
            Some(SecretAnswer::Unreachable(why)) => match asked.version.as_ref().or(self.before.get(&id)) {
                Some(version) => {
                    self.notes.push(format!(
                        "{place} stays at version {version}: its backend cannot be asked now ({why})"
                    ));
                    version.clone()
                }
                None => {
                    let message = format!("{place} has no known version, and its backend cannot be asked now: {why}");
                    return Err(fault(None, SECRET_UNREACHABLE, message));
                }
            },
        };
        if asked.version.is_some() {
            return Ok(Some(asked));
        }
        self.versions.insert(id, version.clone());
        let live = source.rotate == Rotate::Live && !self.platform;
        let version = (!live).then_some(version);
        Ok(Some(SecretUse { version, ..asked }))
    }

    /// The use as it is written: without a version if none is named.
    fn written(
        &mut self,
        changes: &Changes,
        namespace: Option<&Namespace>,
        user: Option<&WorkloadId>,
        source: &SecretSource,
    ) -> Result<Option<SecretUse>, Fault> {
        let in_place = SecretUse {
            workload: user.cloned(),
            from: source.from.clone().unwrap_or_default(),
            path: source.path.clone().unwrap_or_default(),
            field: source.field.clone(),
            version: source.version.map(|v| v.to_string()),
            no_cache: source.no_cache,
            env: source.env.clone(),
        };
        let (Some(name), Some(namespace)) = (&source.secret_ref, namespace) else {
            // A source that names neither was refused when the manifest was checked.
            return Ok(source.from.is_some().then_some(in_place));
        };
        let id = ObjectName::parse(name)
            .ok()
            .map(|name| ObjectId::new(namespace.clone(), name));
        let found = id.and_then(|id| changes.next.secret_refs.get_key_value(&id));
        let Some((id, record)) = found else {
            let known = changes.next.secret_refs.keys().filter(|id| id.namespace == *namespace);
            let known: Vec<&str> = known.map(|id| id.name.as_str()).collect();
            let message = format!(
                "there is no SecretRef {name} in namespace {namespace}; there are: {}",
                list(&known)
            );
            let meant = nearest(name, known).map(str::to_owned);
            return Err(Fault {
                meant,
                ..fault(Some("ref"), SECRET_UNKNOWN, message)
            });
        };
        self.refs.insert(id.clone());
        let Ok(Object::SecretRef(object)) = serde_json::from_value(record.manifest.clone()) else {
            let message = format!("the stored SecretRef {id} cannot be read; apply it again");
            return Err(fault(Some("ref"), SECRET_UNKNOWN, message));
        };
        let spec = object.spec;
        Ok(Some(SecretUse {
            from: spec.from,
            path: spec.path,
            field: spec.field.or(source.field.clone()),
            version: spec.version.map(|v| v.to_string()),
            no_cache: spec.no_cache,
            ..in_place
        }))
    }
}

fn fault(field: Option<&'static str>, rule: &'static str, message: String) -> Fault {
    Fault {
        field,
        rule,
        message,
        meant: None,
    }
}

/// Every use of a secret in a template.
pub(crate) fn uses(template: &Template) -> impl Iterator<Item = &SecretUse> {
    template.components.iter().flat_map(|component| {
        let parts = component.parts.values().flat_map(|part| part.secrets.values());
        component.secrets.values().chain(parts)
    })
}

/// A use as backends are asked for it: whichever version is the newest, whoever else it is shown to.
pub(crate) fn unversioned(secret: &SecretUse) -> SecretUse {
    SecretUse {
        version: None,
        env: None,
        ..secret.clone()
    }
}
