//! A change while it is worked out: the world as it would be, the writes that make it so, and what stands against it.

use super::entry::Artifacts;
use super::group::Stated;
use super::{
    ArtifactTask, CONFLICTS, Decision, Known, Needed, QUOTA_EXCEEDED, SecretAnswer, UNAVAILABLE, Undecided, Write,
};
use crate::desired::always_offered;
use crate::world::World;
use heddle_protocol::api::apply::{Applied, AppliedObject, Change};
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{CapabilityOffer, SecretUse, Template};
use heddle_protocol::id::{
    CapabilityName, ConfigId, Generation, NameError, Namespace, ObjectId, PlatformName, WorkloadId,
};
use heddle_protocol::key::Key;
use heddle_protocol::manifest::{Config, Document, Object, PROBLEMS_MAX, Problem, SecretRef};
use heddle_protocol::record::{ConfigRecord, PlatformRecord, SecretRefRecord, WorkloadRecord};
use heddle_protocol::time::UnixMs;
use serde::Serialize;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is lent, by name.
pub(super) type Catalog = BTreeMap<CapabilityName, CapabilityOffer>;

/// A change while it is worked out.
pub(super) struct Changes<'k> {
    /// The world with everything that was taken so far.
    pub(super) next: World,
    /// What was found out already.
    pub(super) known: &'k Known,
    /// What must still be found out. Until it is, the change is worked out as if it went well, so that everything that is
    /// needed is named at once.
    pub(super) needed: Needed,
    pub(super) at: UnixMs,
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<String>,
    /// Configs that changed: their users get new generations.
    pub(super) configs_changed: BTreeSet<ConfigId>,
    /// Capabilities whose offer changed in a way that their users' templates may show.
    pub(super) offers_changed: BTreeSet<CapabilityName>,
    /// SecretRefs that changed: their users get new generations.
    pub(super) secret_refs_changed: BTreeSet<ObjectId>,
    /// Namespaces whose quota changed.
    pub(super) quotas_changed: BTreeSet<Namespace>,
    /// Secrets of which a newer version is known, as uses that name none.
    pub(super) secrets_renewed: BTreeSet<Digest>,
    /// Whether only newer versions of some secrets are taken: all others stay as they were.
    pub(super) renewing: bool,
    /// Workloads that the documents themselves hold.
    pub(super) workloads_taken: BTreeSet<WorkloadId>,
    /// Workloads that get a new generation.
    pub(super) workloads_put: BTreeSet<WorkloadId>,
    /// Workloads as they are meant after this change, as far as they were looked at.
    stated: BTreeMap<WorkloadId, Arc<Stated>>,
    catalog: OnceCell<Arc<Catalog>>,
    writes: BTreeMap<Key, Option<Vec<u8>>>,
    objects: Vec<(usize, AppliedObject)>,
}

impl<'k> Changes<'k> {
    pub(super) fn new(world: &World, known: &'k Known, at: UnixMs) -> Self {
        Self {
            next: world.clone(),
            known,
            needed: Needed::default(),
            at,
            problems: Vec::new(),
            notes: Vec::new(),
            configs_changed: BTreeSet::new(),
            offers_changed: BTreeSet::new(),
            secret_refs_changed: BTreeSet::new(),
            quotas_changed: BTreeSet::new(),
            secrets_renewed: BTreeSet::new(),
            renewing: false,
            workloads_taken: BTreeSet::new(),
            workloads_put: BTreeSet::new(),
            stated: BTreeMap::new(),
            catalog: OnceCell::new(),
            writes: BTreeMap::new(),
            objects: Vec::new(),
        }
    }

    /// A change that resolves nothing, and so has nothing to find out.
    pub(super) fn plain(world: &World, at: UnixMs) -> Changes<'static> {
        static NOTHING: Known = Known {
            tasks: BTreeMap::new(),
            secrets: BTreeMap::new(),
        };
        Changes::new(world, &NOTHING, at)
    }

    /// The decision of a change that resolves nothing.
    pub(super) fn finish_plain(self) -> Result<Decision, ApiError> {
        self.finish().map_err(|undecided| match undecided {
            Undecided::Refused(error) => error,
            Undecided::Needs(_) => internal(&"a change that resolves nothing asks for something"),
        })
    }

    /// What is lent anywhere in the realm, by name. A name means one kind of capability everywhere.
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        let work_out = || {
            let mut catalog = always_offered();
            for (name, offer) in self.next.platforms.values().flat_map(|p| &p.offers) {
                catalog.entry(name.clone()).or_insert_with(|| offer.clone());
            }
            Arc::new(catalog)
        };
        self.catalog.get_or_init(work_out).clone()
    }

    /// Says how a workload is meant after this change, before it is resolved.
    pub(super) fn state(&mut self, id: WorkloadId, stated: Arc<Stated>) {
        self.stated.insert(id, stated);
    }

    /// A workload as it is meant after this change.
    pub(super) fn stated(&mut self, id: &WorkloadId) -> Option<Arc<Stated>> {
        if let Some(stated) = self.stated.get(id) {
            return Some(stated.clone());
        }
        let record = self.next.workloads.get(id)?;
        let Ok(Object::Workload(workload)) = serde_json::from_value(record.manifest.clone()) else {
            return None;
        };
        let stated = Arc::new(Stated {
            workload: *workload,
            artifacts: record.artifacts.clone(),
        });
        self.stated.insert(id.clone(), stated.clone());
        Some(stated)
    }

    /// The components of all workloads of a namespace.
    pub(super) fn artifacts_in(&self, namespace: &Namespace) -> BTreeMap<WorkloadId, Artifacts> {
        let records = self.next.workloads.iter().map(|(id, record)| (id, &record.artifacts));
        let stated = self.stated.iter().map(|(id, stated)| (id, &stated.artifacts));
        let all = records.chain(stated).filter(|(id, _)| id.namespace == *namespace);
        all.map(|(id, artifacts)| (id.clone(), artifacts.clone())).collect()
    }

    /// The names of all workloads of a namespace.
    pub(super) fn names_in(&self, namespace: &Namespace) -> Vec<String> {
        self.artifacts_in(namespace)
            .keys()
            .map(|id| id.name.to_string())
            .collect()
    }

    /// What a workload was resolved to last.
    pub(super) fn template_of(&self, id: &WorkloadId) -> Option<Arc<Template>> {
        let record = self.next.workloads.get(id)?;
        self.next.templates.get(&record.template).cloned()
    }

    /// Notes what became of an object; `order` is its document's place.
    pub(super) fn tell(
        &mut self,
        order: usize,
        kind: &str,
        name: impl ToString,
        generation: Generation,
        change: Change,
    ) {
        let object = AppliedObject {
            kind: kind.to_owned(),
            name: name.to_string(),
            generation,
            change,
        };
        self.objects.push((order, object));
    }

    pub(super) fn put_platform(&mut self, name: &PlatformName, record: PlatformRecord) -> Result<(), ApiError> {
        self.write(Key::Platform(name.clone()), &record)
    }

    pub(super) fn put_workload(
        &mut self,
        id: &WorkloadId,
        record: WorkloadRecord,
        template: Template,
    ) -> Result<(), ApiError> {
        if !self.next.templates.contains_key(&record.template) {
            self.write(Key::Template(record.template), &template)?;
        }
        let bytes = to_json(&record)?;
        self.writes.insert(Key::Workload(id.clone()), Some(bytes));
        self.next.set_workload(id, Some(Arc::new(record)));
        Ok(())
    }

    pub(super) fn take_config(&mut self, order: usize, document: &Document, config: &Config) -> Result<(), ApiError> {
        let id = object_id(&config.metadata.namespace, &config.metadata.name).map_err(bad_name)?;
        let manifest = document.object.canonical_value();
        let before = self.next.configs.get(&id).cloned();
        let (generation, change) = match &before {
            Some(before) if before.manifest == manifest => (before.generation, Change::Unchanged),
            Some(before) => (before.generation.next(), Change::Updated),
            None => (Generation(1), Change::Created),
        };
        self.tell(order, "Config", &id, generation, change);
        if change == Change::Unchanged {
            return Ok(());
        }
        let record = ConfigRecord {
            generation,
            manifest,
            values: config.spec.clone(),
            applied_at: self.at,
        };
        self.configs_changed.insert(id.clone());
        self.write(Key::Config(id), &record)
    }

    pub(super) fn take_secret_ref(
        &mut self,
        order: usize,
        document: &Document,
        secret: &SecretRef,
    ) -> Result<(), ApiError> {
        let id = object_id(&secret.metadata.namespace, &secret.metadata.name).map_err(bad_name)?;
        let manifest = document.object.canonical_value();
        let before = self.next.secret_refs.get(&id).cloned();
        let (generation, change) = match &before {
            Some(before) if before.manifest == manifest => (before.generation, Change::Unchanged),
            Some(before) => (before.generation.next(), Change::Updated),
            None => (Generation(1), Change::Created),
        };
        self.tell(order, "SecretRef", &id, generation, change);
        if change == Change::Unchanged {
            return Ok(());
        }
        let record = SecretRefRecord {
            generation,
            manifest,
            applied_at: self.at,
        };
        self.secret_refs_changed.insert(id.clone());
        self.write(Key::SecretRef(id), &record)
    }

    /// Writes a record, and takes it into the world as it would be.
    pub(super) fn write<T: Serialize>(&mut self, key: Key, record: &T) -> Result<(), ApiError> {
        let bytes = to_json(record)?;
        self.next.apply_record(&key, Some(&bytes)).map_err(|e| internal(&e))?;
        if matches!(key, Key::Platform(_)) {
            self.catalog = OnceCell::new();
        }
        self.writes.insert(key, Some(bytes));
        Ok(())
    }

    /// Deletes a record, and takes it out of the world as it would be.
    pub(super) fn delete(&mut self, key: Key) -> Result<(), ApiError> {
        self.next.apply_record(&key, None).map_err(|e| internal(&e))?;
        if matches!(key, Key::Platform(_)) {
            self.catalog = OnceCell::new();
        }
        self.writes.insert(key, None);
        Ok(())
    }

    /// The outcome of work on artifacts; none if it is not known yet, and is then asked for.
    pub(super) fn outcome(&mut self, task: ArtifactTask) -> Result<Option<Result<ArtifactInfo, String>>, ApiError> {
        let digest = task.digest().map_err(|e| internal(&e))?;
        let outcome = self.known.tasks.get(&digest).cloned();
        if outcome.is_none() && !self.needed.tasks.contains(&task) {
            self.needed.tasks.push(task);
        }
        Ok(outcome)
    }

    /// What a backend says of a secret; none if it was not asked yet, and is then to be asked.
    pub(super) fn answer(&mut self, asked: &SecretUse) -> Option<SecretAnswer> {
        let answer = self.known.secrets.get(&asked.id()).cloned();
        if answer.is_none() && !self.needed.secrets.contains(asked) {
            self.needed.secrets.push(asked.clone());
        }
        answer
    }

    /// The decision, or everything that stands against it, or else everything that must be found out first.
    pub(super) fn finish(mut self) -> Result<Decision, Undecided> {
        if !self.problems.is_empty() {
            self.problems.truncate(PROBLEMS_MAX);
            let all = |rules: &[&str]| self.problems.iter().all(|p| rules.contains(&p.rule.as_ref()));
            let (conflict, unavailable) = (all(CONFLICTS), all(UNAVAILABLE));
            let exceeded = all(&[QUOTA_EXCEEDED]);
            let mut error = ApiError::invalid(self.problems);
            if conflict {
                error.code = ErrorCode::Conflict;
                error.next = "change one of the objects that are in each other's way; nothing was changed".to_owned();
            }
            if exceeded {
                error.next =
                    "ask for less, make room in the namespace, or raise its Quota; nothing was changed".to_owned();
            }
            if unavailable {
                error.code = ErrorCode::Unavailable;
                error.next = "try again once the backend answers, or name a version; nothing was changed".to_owned();
            }
            return Err(error.into());
        }
        if !self.needed.is_empty() {
            return Err(Undecided::Needs(self.needed));
        }
        self.objects.sort_by_key(|(order, _)| *order);
        let objects = self.objects.into_iter().map(|(_, object)| object).collect();
        let writes = self
            .writes
            .into_iter()
            .map(|(key, value)| Write { key, value })
            .collect();
        let applied = Applied {
            commit: 0,
            objects,
            changes: Vec::new(),
            steps: Vec::new(),
            waiting: Vec::new(),
            notes: self.notes,
        };
        Ok(Decision { writes, applied })
    }
}

/// The id of an object in a namespace.
pub(super) fn object_id(namespace: &str, name: &str) -> Result<ObjectId, NameError> {
    ObjectId::parse(&format!("{namespace}/{name}"))
}

/// A name that breaks the rule for names: a document that was not checked before.
pub(super) fn bad_name(error: NameError) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, error.to_string(), "check the name")
}

/// The digest under which a template is kept.
pub(super) fn template_digest(template: &Template) -> Result<Digest, ApiError> {
    Digest::of_json(template).map_err(|e| internal(&e))
}

fn to_json<T: Serialize>(record: &T) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(record).map_err(|e| internal(&e))
}

/// A fault of our own: what we made ourselves cannot be written or read.
pub(super) fn internal(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(
        ErrorCode::Internal,
        format!("failed to write a record: {error}"),
        "report this with the manifest",
    )
}
