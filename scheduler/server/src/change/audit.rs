//! The audit record of a commit: who asked for what, what they were told, and which records changed.

use super::{Asker, Batch};
use crate::store::VALUE_BYTES_MAX;
use heddle_protocol::digest::Digest;
use heddle_protocol::id::Version;
use heddle_protocol::key::Key;
use heddle_protocol::mutant::mutant;
use heddle_protocol::record::{AuditRecord, AuditedChange, AuditedRequest};
use heddle_protocol::time::UnixMs;
use heddle_scheduler_core::World;

/// The audit record of a batch.
pub fn audit(world: &World, batch: &Batch, version: Version, at: UnixMs, facts: Vec<String>) -> AuditRecord {
    let requests = batch.decided.iter().filter_map(|decided| match &decided.asker {
        Asker::Client(ask) => Some(AuditedRequest {
            request_id: ask.request_id.clone(),
            actor: ask.actor.clone(),
            verb: ask.verb.clone(),
            body_digest: ask.body_digest,
            result: redacted(&ask.verb, &decided.answer),
        }),
        Asker::Host { .. } | Asker::Nobody => None,
    });
    let changes = batch.writes.iter().map(|(key, value)| AuditedChange {
        key: key.to_string(),
        before: before(world, key),
        after: value.as_ref().map(|v| Digest::of(v)),
    });
    let mut record = AuditRecord {
        n: version.n,
        epoch: version.epoch,
        at,
        planner: env!("CARGO_PKG_VERSION").to_owned(),
        requests: requests.collect(),
        facts,
        changes: changes.collect(),
    };
    if mutant("audit-leaves-changes-out") {
        record.changes.pop();
    }
    if mutant("audit-leaves-requests-out") {
        record.requests.clear();
    }
    shrink(&mut record);
    record
}

/// What is remembered of an answer: all but a token's secret, which is shown once.
fn redacted(verb: &str, answer: &serde_json::Value) -> serde_json::Value {
    if verb == <heddle_protocol::api::hosts::MakeJoinToken as heddle_protocol::api::Verb>::NAME {
        return serde_json::json!({ "token": "(shown once)", "realm_keys": answer.get("realm_keys") });
    }
    answer.clone()
}

/// The digest of what a record was. The world keeps values, not bytes, but writes the same bytes for the same value.
fn before(world: &World, key: &Key) -> Option<Digest> {
    match key {
        Key::Workload(id) => world.workloads.get(id).and_then(|r| Digest::of_json(r).ok()),
        Key::Platform(name) => world.platforms.get(name).and_then(|r| Digest::of_json(r).ok()),
        Key::Config(id) => world.configs.get(id).and_then(|r| Digest::of_json(r).ok()),
        Key::SecretRef(id) => world.secret_refs.get(id).and_then(|r| Digest::of_json(r).ok()),
        Key::NamespacePolicy(id) => {
            let record = world.namespace_policies.get(id);
            record.and_then(|r| Digest::of_json(r).ok())
        }
        Key::Quota(id) => world.quotas.get(id).and_then(|r| Digest::of_json(r).ok()),
        Key::Place(id) => world.places.get(id).and_then(|r| Digest::of_json(r).ok()),
        Key::Template(digest) => world.templates.contains_key(digest).then_some(*digest),
        Key::Host(id) => world.hosts.get(id).and_then(|r| Digest::of_json(r).ok()),
        Key::Policy(name) => world.policies.get(name).and_then(|r| Digest::of_json(r).ok()),
    }
}

/// An audit record is one message. What does not fit is left out of it, the least needed first; the records themselves
/// are in the same commit.
fn shrink(record: &mut AuditRecord) {
    let size = |record: &AuditRecord| serde_json::to_vec(record).map_or(0, |bytes| bytes.len());
    if size(record) <= VALUE_BYTES_MAX {
        return;
    }
    for request in &mut record.requests {
        if let Some(answer) = request.result.as_object_mut() {
            answer.remove("changes");
            answer.remove("steps");
            answer.remove("waiting");
            answer.remove("moves");
        }
    }
    if size(record) > VALUE_BYTES_MAX {
        let left_out = record.changes.len();
        record.changes.clear();
        record.facts = vec![format!(
            "{left_out} changed records are not listed: the record would be too large"
        )];
    }
    if size(record) > VALUE_BYTES_MAX {
        // The retry of such a request is answered from the state instead of from memory.
        record.requests.clear();
    }
}
