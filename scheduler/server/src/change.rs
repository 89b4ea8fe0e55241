//! Changes that wait for a commit, and the one decision that turns them, and the planning that follows, into a batch.
//!
//! Everything here is a plain function over plain values: the loop hands over what waits, and carries out what comes
//! back.

use crate::serve::{Ask, fit};
use crate::store::{VALUE_BYTES_MAX, Write};
use bytes::Bytes;
use heddle_protocol::api::apply::{Applied, Waiting};
use heddle_protocol::api::hosts::{ForgetHost, JoinToken, SetHost};
use heddle_protocol::api::objects::{Delete, Undo};
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::Hello;
use heddle_protocol::id::{HostId, Version, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::record::{AuditRecord, AuditedChange, AuditedRequest};
use heddle_protocol::report::{PlacementChange, WaitingOn};
use heddle_protocol::time::{Mono, UnixMs};
use heddle_scheduler_core::{Decision, Dirty, PlanReport, ResolvedDocument, World, apply, plan_only};
use std::collections::{BTreeMap, BTreeSet};

/// Placement changes in one answer; the plan itself has no limit.
const CHANGES_MAX: usize = 2_000;
/// Workloads that wait, in one answer.
const WAITING_MAX: usize = 200;

/// A change that somebody asked for.
#[derive(Debug)]
pub enum Change {
    /// Take documents as intent.
    Apply {
        /// The documents, with what their images are.
        documents: Vec<ResolvedDocument>,
        /// The commit that it must be at.
        at: Option<u64>,
    },
    /// Delete objects.
    Delete(Delete),
    /// Take a workload back.
    Undo(Undo),
    /// Say whether a host takes work.
    SetHost(SetHost),
    /// Forget a host.
    ForgetHost(ForgetHost),
    /// Make a join token.
    MakeToken {
        /// The token; only its digest is kept.
        token: String,
        /// How long it is valid, in milliseconds.
        valid_ms: u64,
        /// What its holder is to trust.
        realm_keys: Vec<String>,
    },
    /// Admit a host that introduced itself.
    Admit {
        /// What it said.
        hello: Box<Hello>,
        /// The key that signed it.
        public_key: String,
        /// Whether no token is needed: development only.
        at_first_sight: bool,
    },
    /// Delete these records, if still nothing names them.
    Collect(BTreeSet<Key>),
    /// Write a host's record as it is, so that the head moves: the host's spec changed without a commit (its labels did),
    /// and must have a newer version than the one that it holds.
    Renew(HostId),
}

/// Who waits for the outcome of a change.
#[derive(Debug)]
pub enum Asker {
    /// An API client.
    Client(Box<Ask>),
    /// A host that said hello.
    Host {
        /// Where the answer goes.
        reply: Option<async_nats::Subject>,
        /// What it said.
        hello: Box<Hello>,
    },
    /// Nobody: housekeeping.
    Nobody,
}

/// A change in the queue.
#[derive(Debug)]
pub struct Queued {
    /// Who waits.
    pub asker: Asker,
    /// What is asked.
    pub change: Change,
}

/// A change that was decided.
#[derive(Debug)]
pub struct Decided {
    /// Who waits.
    pub asker: Asker,
    /// What to tell them once it is committed.
    pub answer: serde_json::Value,
}

/// A change that was refused.
#[derive(Debug)]
pub struct Refused {
    /// Who waits.
    pub asker: Asker,
    /// Why not.
    pub error: ApiError,
}

/// One commit's worth.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records that change.
    pub writes: BTreeMap<Key, Option<Bytes>>,
    /// The changes in it.
    pub decided: Vec<Decided>,
    /// The changes that are not.
    pub refused: Vec<Refused>,
    /// What the plan in it could not do.
    pub report: PlanReport,
}

/// Decides the changes in their order, each on what the ones before it leave, and plans once for all of them.
///
/// Planning is part of the same commit, so that a client's change and the placements that follow from it cost one sync
/// of the store (docs/decisions/0003-one-commit-per-apply.md).
pub fn decide(world: &World, queue: Vec<Queued>, mut dirty: Dirty, now: Mono, at: UnixMs) -> Batch {
    let mut batch = Batch::default();
    let mut scratch = world.clone();
    let mut drafts: Vec<(Asker, Draft)> = Vec::new();
    for Queued { asker, change } in queue {
        match decide_one(&scratch, change, now, at) {
            Ok((writes, draft)) => {
                if let Err(error) = take(&mut scratch, &mut batch.writes, &mut dirty, writes) {
                    batch.refused.push(Refused { asker, error });
                    continue;
                }
                drafts.push((asker, draft));
            }
            Err(error) => batch.refused.push(Refused { asker, error }),
        }
    }
    let (plan, report) = plan_only(&scratch, now, &dirty);
    for (workload, place) in plan.places {
        let value = place
            .as_ref()
            .and_then(|place| serde_json::to_vec(place).ok())
            .map(Bytes::from);
        batch.writes.insert(Key::Place(workload), value);
    }
    drop_no_ops(world, &mut batch.writes);
    // What is so already needs no commit: it is as of the newest one.
    let commit = world.head.n + u64::from(!batch.writes.is_empty());
    for (asker, draft) in drafts {
        let answer = draft.finish(commit, &report);
        batch.decided.push(Decided { asker, answer });
    }
    batch.report = report;
    batch
}

/// What an apply would do: the same decision, and nothing is kept of it.
///
/// # Errors
/// Whatever the apply would be refused for.
pub fn preview(
    world: &World,
    documents: Vec<ResolvedDocument>,
    dirty: Dirty,
    now: Mono,
    at: UnixMs,
) -> Result<serde_json::Value, ApiError> {
    let queued = Queued {
        asker: Asker::Nobody,
        change: Change::Apply { documents, at: None },
    };
    let mut batch = decide(world, vec![queued], dirty, now, at);
    match (batch.decided.pop(), batch.refused.pop()) {
        (Some(mut decided), _) => {
            decided.answer["commit"] = world.head.n.into();
            Ok(decided.answer)
        }
        (None, Some(refused)) => Err(refused.error),
        (None, None) => Err(ApiError::new(
            ErrorCode::Internal,
            "failed to plan: nothing was decided",
            "report this",
        )),
    }
}

/// What a client is told, before the plan is known.
enum Draft {
    Applied(Applied),
    Token(JoinToken),
    Nothing,
}

impl Draft {
    fn finish(self, commit: u64, report: &PlanReport) -> serde_json::Value {
        match self {
            Self::Applied(applied) => {
                let workloads: BTreeSet<String> = applied
                    .objects
                    .iter()
                    .filter(|o| o.kind == "Workload")
                    .map(|o| o.name.clone())
                    .collect();
                let concerns = |id: &WorkloadId| workloads.contains(&id.to_string());
                let applied = with_plan(applied, commit, report, &concerns);
                serde_json::to_value(applied).unwrap_or_default()
            }
            Self::Token(token) => serde_json::to_value(token).unwrap_or_default(),
            Self::Nothing => serde_json::Value::Null,
        }
    }
}

/// Adds to an answer what the plan does.
fn with_plan(
    mut applied: Applied,
    commit: u64,
    report: &PlanReport,
    concerns: &dyn Fn(&WorkloadId) -> bool,
) -> Applied {
    applied.commit = commit;
    let changes: Vec<PlacementChange> = report.changes().into_iter().filter(|c| concerns(&c.workload)).collect();
    if changes.len() > CHANGES_MAX {
        applied.notes.push(format!(
            "{} placements change; the first {CHANGES_MAX} are listed",
            changes.len()
        ));
    }
    applied.changes = changes.into_iter().take(CHANGES_MAX).collect();
    // Replicas that are about to start are no hindrance; what has no place is.
    let hinders = |on: &WaitingOn| !matches!(on, WaitingOn::Units { .. });
    let waiting = report
        .waiting()
        .into_iter()
        .filter(|(id, on)| concerns(id) && hinders(on))
        .take(WAITING_MAX);
    applied.waiting = waiting.map(|(workload, on)| Waiting { workload, on }).collect();
    fit::applied(applied)
}

fn decide_one(world: &World, change: Change, now: Mono, at: UnixMs) -> Result<(Vec<apply::Write>, Draft), ApiError> {
    let applied = |decision: Decision| (decision.writes, Draft::Applied(decision.applied));
    match change {
        Change::Apply { at: Some(wanted), .. } if wanted != world.head.n => Err(ApiError::new(
            ErrorCode::Conflict,
            format!(
                "failed to apply at commit {wanted}: the newest commit is {}",
                world.head.n
            ),
            "look at `heddle plan` again, then apply at its commit",
        )),
        Change::Apply { documents, .. } => apply::decide_apply(world, &documents, at).map(applied),
        Change::Delete(delete) => apply::decide_delete(world, &delete.objects, delete.ignore_missing, at).map(applied),
        Change::Undo(undo) => apply::decide_undo(world, &undo, at).map(applied),
        Change::SetHost(set) => apply::decide_set_host(world, &set, at).map(applied),
        Change::ForgetHost(forget) => apply::decide_forget(world, &forget, now, at).map(applied),
        Change::MakeToken {
            token,
            valid_ms,
            realm_keys,
        } => {
            let decision = apply::decide_token(world, &token, valid_ms, at)?;
            Ok((decision.writes, Draft::Token(JoinToken { token, realm_keys })))
        }
        Change::Admit {
            hello,
            public_key,
            at_first_sight,
        } => {
            let joining = apply::Joining {
                hello: &hello,
                public_key: &public_key,
                trust_on_first_use: at_first_sight,
            };
            Ok((apply::decide_join(world, &joining, at)?.writes, Draft::Nothing))
        }
        Change::Renew(host) => {
            let record = world
                .hosts
                .get(&host)
                .and_then(|record| serde_json::to_vec(record).ok());
            let write = record.map(|value| apply::Write {
                key: Key::Host(host),
                value: Some(value),
            });
            Ok((write.into_iter().collect(), Draft::Nothing))
        }
        Change::Collect(keys) => {
            let unnamed = apply::collect_garbage(world, at).into_iter();
            Ok((
                unnamed.filter(|write| keys.contains(&write.key)).collect(),
                Draft::Nothing,
            ))
        }
    }
}

fn take(
    scratch: &mut World,
    batch: &mut BTreeMap<Key, Option<Bytes>>,
    dirty: &mut Dirty,
    writes: Vec<apply::Write>,
) -> Result<(), ApiError> {
    let too_large = writes
        .iter()
        .find(|w| w.value.as_ref().is_some_and(|v| v.len() > VALUE_BYTES_MAX));
    if let Some(write) = too_large {
        return Err(ApiError::new(
            ErrorCode::TooLarge,
            format!(
                "failed to store {}: it has more than {VALUE_BYTES_MAX} bytes",
                write.key
            ),
            "split the object",
        ));
    }
    for write in writes {
        match scratch.apply_record(&write.key, write.value.as_deref()) {
            Ok(touched) => dirty.join(touched),
            Err(e) => return Err(ApiError::new(ErrorCode::Internal, e.to_string(), "report this")),
        }
        batch.insert(write.key, write.value.map(Bytes::from));
    }
    Ok(())
}

/// A write that leaves a record as it is would cost a message and an audit line for nothing.
fn drop_no_ops(world: &World, writes: &mut BTreeMap<Key, Option<Bytes>>) {
    writes.retain(|key, value| match (key, value) {
        (Key::Template(digest), Some(_)) => !world.templates.contains_key(digest),
        (Key::Place(id), None) => world.places.contains_key(id),
        _ => true,
    });
}

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
            answer.remove("waiting");
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

/// The batch's writes as the store takes them.
pub fn store_writes(batch: &Batch) -> Vec<Write> {
    batch
        .writes
        .iter()
        .map(|(key, value)| Write {
            key: key.to_string(),
            value: value.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::manifest;
    use heddle_scheduler_core::LivenessOptions;
    use std::sync::Arc;

    fn apply(value: &str, at: Option<u64>) -> Queued {
        let text = format!("{{apiVersion: heddle.dev/v1, kind: Config, metadata: {{name: c}}, spec: {{k: {value}}}}}");
        let documents = manifest::load(text.as_bytes(), "test").unwrap();
        let resolved = |document| ResolvedDocument {
            document,
            artifacts: Arc::default(),
        };
        let documents = documents.into_iter().map(resolved).collect();
        Queued {
            asker: Asker::Nobody,
            change: Change::Apply { documents, at },
        }
    }

    fn decide_these(world: &World, queue: Vec<Queued>) -> Batch {
        decide(world, queue, Dirty::none(), Mono(0), UnixMs(0))
    }

    fn land(world: &mut World, batch: &Batch) {
        for (key, value) in &batch.writes {
            world.apply_record(key, value.as_deref()).unwrap();
        }
        world.set_head(Version {
            epoch: 1,
            n: world.head.n + 1,
        });
    }

    #[test]
    fn changes_of_one_batch_are_decided_each_on_what_the_one_before_leaves() {
        let mut world = World::new(LivenessOptions::default());
        let batch = decide_these(&world, vec![apply("a", None), apply("b", None)]);
        let generations = batch
            .decided
            .iter()
            .map(|d| d.answer["objects"][0]["generation"].as_u64());
        assert_eq!(generations.collect::<Vec<_>>(), [Some(1), Some(2)]);
        assert_eq!(batch.writes.len(), 1, "one record, once");
        land(&mut world, &batch);
        assert_eq!(world.configs.values().next().map(|c| c.values["k"].as_str()), Some("b"));
    }

    #[test]
    fn what_is_so_already_is_answered_as_of_the_newest_commit_without_a_new_one() {
        let mut world = World::new(LivenessOptions::default());
        let first = decide_these(&world, vec![apply("a", None)]);
        assert_eq!(first.decided[0].answer["commit"], 1);
        land(&mut world, &first);
        let again = decide_these(&world, vec![apply("a", None)]);
        assert!(again.writes.is_empty());
        assert_eq!(again.decided[0].answer["commit"], 1);
    }

    #[test]
    fn a_change_for_another_commit_is_refused_and_holds_up_no_other() {
        let world = World::new(LivenessOptions::default());
        let batch = decide_these(&world, vec![apply("a", Some(7)), apply("b", Some(0))]);
        assert_eq!(batch.refused[0].error.code, ErrorCode::Conflict);
        assert_eq!((batch.refused.len(), batch.decided.len()), (1, 1));
    }
}
