//! A change while it is worked out: the world as it would be, the writes that make it so, and what stands against it.

use super::{CONFLICTS, Decision, Write};
use crate::desired::always_offered;
use crate::world::World;
use heddle_protocol::api::apply::{Applied, AppliedObject, Change};
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{CapabilityOffer, Template};
use heddle_protocol::id::{CapabilityName, ConfigId, Generation, NameError, ObjectId, PlatformName, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::manifest::{Config, Document, PROBLEMS_MAX, Problem};
use heddle_protocol::record::{ConfigRecord, PlatformRecord, WorkloadRecord};
use heddle_protocol::time::UnixMs;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A change while it is worked out.
pub(super) struct Changes {
    /// The world with everything that was taken so far.
    pub(super) next: World,
    pub(super) at: UnixMs,
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<String>,
    /// Configs that changed: their users get new generations.
    pub(super) configs_changed: BTreeSet<ConfigId>,
    /// Capabilities whose offer changed in a way that their users' templates may show.
    pub(super) offers_changed: BTreeSet<CapabilityName>,
    /// Workloads that the documents themselves hold.
    pub(super) workloads_taken: BTreeSet<WorkloadId>,
    writes: BTreeMap<Key, Option<Vec<u8>>>,
    objects: Vec<(usize, AppliedObject)>,
}

impl Changes {
    pub(super) fn new(world: &World, at: UnixMs) -> Self {
        Self {
            next: world.clone(),
            at,
            problems: Vec::new(),
            notes: Vec::new(),
            configs_changed: BTreeSet::new(),
            offers_changed: BTreeSet::new(),
            workloads_taken: BTreeSet::new(),
            writes: BTreeMap::new(),
            objects: Vec::new(),
        }
    }

    /// What is lent anywhere in the realm, by name. A name means one kind of capability everywhere.
    pub(super) fn catalog(&self) -> BTreeMap<CapabilityName, CapabilityOffer> {
        let mut catalog = always_offered();
        for (name, offer) in self.next.platforms.values().flat_map(|p| &p.offers) {
            catalog.entry(name.clone()).or_insert_with(|| offer.clone());
        }
        catalog
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

    /// Writes a record, and takes it into the world as it would be.
    pub(super) fn write<T: Serialize>(&mut self, key: Key, record: &T) -> Result<(), ApiError> {
        let bytes = to_json(record)?;
        self.next.apply_record(&key, Some(&bytes)).map_err(|e| internal(&e))?;
        self.writes.insert(key, Some(bytes));
        Ok(())
    }

    /// Deletes a record, and takes it out of the world as it would be.
    pub(super) fn delete(&mut self, key: Key) -> Result<(), ApiError> {
        self.next.apply_record(&key, None).map_err(|e| internal(&e))?;
        self.writes.insert(key, None);
        Ok(())
    }

    /// The decision, or everything that stands against it.
    pub(super) fn finish(mut self) -> Result<Decision, ApiError> {
        if !self.problems.is_empty() {
            self.problems.truncate(PROBLEMS_MAX);
            let conflict = self.problems.iter().all(|p| CONFLICTS.contains(&p.rule.as_ref()));
            let mut error = ApiError::invalid(self.problems);
            if conflict {
                error.code = ErrorCode::Conflict;
                error.next = "change one of the objects that are in each other's way; nothing was changed".to_owned();
            }
            return Err(error);
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
