//! Changes that wait for a commit, and the one decision that turns them, and the planning that follows, into a batch.
//!
//! Everything here is a plain function over plain values: the loop hands over what waits, and carries out what comes
//! back.

mod audit;

pub use audit::audit;

use crate::planned::{At, Draft, Planned, Told};
use crate::serve::Ask;
use crate::store::{VALUE_BYTES_MAX, Write};
use bytes::Bytes;
use heddle_protocol::api::apply::Applied;
use heddle_protocol::api::hosts::{ForgetHost, JoinToken, SetHost, TaintHost};
use heddle_protocol::api::objects::{Delete, Undo};
use heddle_protocol::api::rebalance::Rebalance;
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::Hello;
use heddle_protocol::id::{HostId, Namespace, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::mutant::mutant;
use heddle_protocol::record::PlaceRecord;
use heddle_protocol::time::{Mono, UnixMs};
use heddle_scheduler_core::{
    Decision, Dirty, Known, Needed, PlanReport, ResolvedDocument, Undecided, World, apply, decide_rebalance, plan_only,
};
use serde::Deserialize as _;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A change that somebody asked for.
#[derive(Debug)]
pub enum Change {
    /// Take documents as intent.
    Apply {
        /// The documents, with what their images are.
        documents: Vec<ResolvedDocument>,
        /// The plan that it is held to.
        at: Option<At>,
    },
    /// Delete objects.
    Delete(Delete),
    /// Take a workload back.
    Undo(Undo),
    /// Move replicas that are better elsewhere.
    Rebalance(Rebalance, Namespace),
    /// Say whether a host takes work.
    SetHost(SetHost),
    /// Put a taint on a host, or take it off.
    TaintHost(TaintHost),
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
    /// Take newer versions of secrets, by the ids of their uses without a version.
    RenewSecrets(BTreeMap<Digest, String>),
    /// Keep for which points in time cron triggers are fired, before they are.
    Fired(Vec<(WorkloadId, u32, UnixMs)>),
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
    /// What was found out for it.
    pub known: Known,
    /// How often something was.
    pub attempts: u32,
}

impl Queued {
    /// A change for which nothing was found out yet.
    pub fn new(asker: Asker, change: Change) -> Self {
        Self {
            asker,
            change,
            known: Known::default(),
            attempts: 0,
        }
    }
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
    /// Those of them that were asked for, before anything was planned.
    pub asked: BTreeMap<Key, Option<Bytes>>,
    /// The world with what was asked for, in which it was planned; none if nothing was.
    pub tried: Option<World>,
    /// Whether there is anything to commit.
    pub commits: bool,
    /// The changes in it.
    pub decided: Vec<Decided>,
    /// The changes that are not.
    pub refused: Vec<Refused>,
    /// The changes for which something must be found out first: nothing of them is in this batch.
    pub undecided: Vec<(Queued, Needed)>,
    /// What the plan in it could not do.
    pub report: PlanReport,
    /// What would have been planned without the changes, if it was asked.
    pub without: Option<PlanReport>,
}

/// Decides the changes in their order, each on what the ones before it leave, and plans once for all of them.
///
/// Planning is part of the same commit, so that a client's change and the placements that follow from it cost one sync
/// of the store (docs/decisions/0003-one-commit-per-apply.md).
pub fn decide(world: &World, queue: Vec<Queued>, dirty: Dirty, now: Mono, at: UnixMs) -> Batch {
    let is_held = |queued: &Queued| matches!(queued.change, Change::Apply { at: Some(_), .. });
    // What was planned is told as it was planned: with all that comes of it.
    let in_full = queue.len() == 1 && queue.iter().all(is_held);
    decide_told(world, queue, dirty, now, at, in_full)
}

/// The same. `in_full` answers say what happens with workloads that no change names, too.
fn decide_told(world: &World, queue: Vec<Queued>, mut dirty: Dirty, now: Mono, at: UnixMs, in_full: bool) -> Batch {
    let mut batch = Batch::default();
    let without = in_full.then(|| plan_only(world, now, &dirty).1);
    // With no change to try out there is nothing to copy the world for.
    let mut scratch = (!queue.is_empty()).then(|| world.clone());
    let mut drafts: Vec<(Asker, Draft)> = Vec::new();
    for queued in queue {
        let Some(scratch) = &mut scratch else { break };
        match decide_one(scratch, &queued.change, &queued.known, &dirty, now, at) {
            Ok((writes, draft)) => {
                let asker = queued.asker;
                if let Err(error) = take(scratch, &mut batch.writes, &mut dirty, writes) {
                    batch.refused.push(Refused { asker, error });
                    continue;
                }
                drafts.push((asker, draft));
            }
            Err(Undecided::Needs(needed)) => batch.undecided.push((queued, needed)),
            Err(Undecided::Refused(error)) => {
                let asker = queued.asker;
                batch.refused.push(Refused { asker, error });
            }
        }
    }
    let base = scratch.as_ref().unwrap_or(world);
    batch.asked = batch.writes.clone();
    let (plan, report) = plan_only(base, now, &dirty);
    for (workload, mut place) in plan.places {
        if mutant("outgoing-goes-before-ready")
            && let Some(place) = &mut place
        {
            Arc::make_mut(place).sets.truncate(1);
        }
        if mutant("surplus-is-not-dropped") && !grows(base, &workload, place.as_deref()) {
            continue;
        }
        let value = place
            .as_ref()
            .and_then(|place| serde_json::to_vec(place).ok())
            .map(Bytes::from);
        batch.writes.insert(Key::Place(workload), value);
    }
    drop_no_ops(world, &mut batch.writes);
    batch.tried = scratch;
    // What nobody asked for and is so already needs no commit. A client's request has one, whatever comes of it: that it was
    // answered must be known to whoever leads next, or the same request, late, would undo what was done meanwhile.
    let asked = drafts.iter().any(|(asker, _)| matches!(asker, Asker::Client(_)));
    batch.commits = !batch.writes.is_empty() || (asked && !mutant("unwritten-requests-are-forgotten"));
    let commit = world.head.n + u64::from(batch.commits);
    let told = Told::new(&report, without.as_ref());
    for (asker, draft) in drafts {
        let answer = draft.finish(commit, world, &told);
        batch.decided.push(Decided { asker, answer });
    }
    (batch.report, batch.without) = (report, without);
    batch
}

/// What a decision and the plan that follows it would do.
fn planned(world: &World, decision: &Decision, dirty: &Dirty, now: Mono) -> Result<Planned, ApiError> {
    let (_, without) = plan_only(world, now, dirty);
    let (mut next, mut dirty) = (world.clone(), dirty.clone());
    take(&mut next, &mut BTreeMap::new(), &mut dirty, decision.writes.clone())?;
    let (_, report) = plan_only(&next, now, &dirty);
    Ok(Planned::new(&decision.applied, &Told::new(&report, Some(&without))))
}

/// The changes of the next commit. One that is held to its plan has a commit to itself, for the others would change what
/// is planned; and so has one that moves replicas, for what it names as their new places must not be of an earlier generation
/// before anything is started there.
pub fn next_changes(queue: &mut VecDeque<Queued>, most: usize) -> Vec<Queued> {
    let alone = |queued: &&Queued| {
        let change = &queued.change;
        matches!(change, Change::Apply { at: Some(_), .. } | Change::Rebalance(..))
    };
    let together = queue.iter().take(most).take_while(|queued| !alone(queued)).count();
    let count = if together == 0 { queue.len().min(1) } else { together };
    queue.drain(..count).collect()
}

/// Whether a plan gives a workload more replicas than it has.
fn grows(world: &World, id: &WorkloadId, place: Option<&PlaceRecord>) -> bool {
    let count = |place: &PlaceRecord| place.sets.iter().flat_map(|set| set.hosts.values()).sum::<u32>();
    place.map_or(0, count) > world.places.get(id).map_or(0, |place| count(place))
}

/// What an apply would do.
#[derive(Debug)]
pub enum Preview {
    /// The answer, and what the apply is held to if it names this plan's commit.
    Answer(Result<(serde_json::Value, Planned), ApiError>),
    /// Something must be found out first.
    Needs(Queued, Needed),
}

/// What an apply would do: the same decision, and nothing is kept of it.
pub fn preview(world: &World, queued: Queued, dirty: Dirty, now: Mono, at: UnixMs) -> Preview {
    let mut batch = decide_told(world, vec![queued], dirty, now, at, true);
    if let Some((queued, needed)) = batch.undecided.pop() {
        return Preview::Needs(queued, needed);
    }
    Preview::Answer(match (batch.decided.pop(), batch.refused.pop()) {
        (Some(mut decided), _) => {
            decided.answer["commit"] = world.head.n.into();
            match Applied::deserialize(&decided.answer) {
                Ok(applied) => {
                    let told = Told::new(&batch.report, batch.without.as_ref());
                    let planned = Planned::new(&applied, &told);
                    Ok((decided.answer, planned))
                }
                Err(e) => Err(ApiError::new(
                    ErrorCode::Internal,
                    format!("failed to plan: {e}"),
                    "report this",
                )),
            }
        }
        (None, Some(refused)) => Err(refused.error),
        (None, None) => Err(ApiError::new(
            ErrorCode::Internal,
            "failed to plan: nothing was decided",
            "report this",
        )),
    })
}

fn decide_one(
    world: &World,
    change: &Change,
    known: &Known,
    dirty: &Dirty,
    now: Mono,
    at: UnixMs,
) -> Result<(Vec<apply::Write>, Draft), Undecided> {
    let applied = |decision: Decision| (decision.writes, Draft::Applied(decision.applied));
    Ok(match change {
        Change::Apply { documents, at: held_to } => {
            let decision = apply::decide_apply(world, documents, known, at)?;
            if let Some(held_to) = held_to {
                held_to.check(world.head.n, || planned(world, &decision, dirty, now))?;
            }
            applied(decision)
        }
        Change::Undo(undo) => applied(apply::decide_undo(world, undo, known, at)?),
        Change::Delete(delete) => applied(apply::decide_delete(world, &delete.objects, delete.ignore_missing, at)?),
        Change::RenewSecrets(newest) => applied(apply::renew_secrets(world, newest, known, at)?),
        Change::Rebalance(asked, namespace) => {
            let (writes, moves) = decide_rebalance(world, asked, namespace, now)?;
            (writes, Draft::Rebalanced(moves))
        }
        Change::SetHost(set) => applied(apply::decide_set_host(world, set, at)?),
        Change::TaintHost(taint) => applied(apply::decide_taint(world, taint, at)?),
        Change::ForgetHost(forget) => applied(apply::decide_forget(world, forget, now, at)?),
        Change::MakeToken {
            token,
            valid_ms,
            realm_keys,
        } => {
            let decision = apply::decide_token(world, token, *valid_ms, at)?;
            let token = JoinToken {
                token: token.clone(),
                realm_keys: realm_keys.clone(),
            };
            (decision.writes, Draft::Token(token))
        }
        Change::Admit {
            hello,
            public_key,
            at_first_sight,
        } => {
            let joining = apply::Joining {
                hello,
                public_key,
                trust_on_first_use: *at_first_sight,
            };
            (apply::decide_join(world, &joining, at)?.writes, Draft::Nothing)
        }
        Change::Renew(host) => {
            let record = world.hosts.get(host).and_then(|record| serde_json::to_vec(record).ok());
            let write = record.map(|value| apply::Write {
                key: Key::Host(host.clone()),
                value: Some(value),
            });
            (write.into_iter().collect(), Draft::Nothing)
        }
        Change::Fired(points) => {
            let writes = heddle_scheduler_core::cron::note_fired(world, points);
            (writes.unwrap_or_default(), Draft::Nothing)
        }
        Change::Collect(keys) => {
            let unnamed = apply::collect_garbage(world, at).into_iter();
            let due = unnamed.filter(|write| keys.contains(&write.key));
            (due.collect(), Draft::Nothing)
        }
    })
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
    use heddle_protocol::artifact::ArtifactInfo;
    use heddle_protocol::host_spec::Wasi;
    use heddle_protocol::id::Version;
    use heddle_protocol::manifest;
    use heddle_scheduler_core::LivenessOptions;
    use heddle_scheduler_core::testing::{fleet, resolve, workload_yaml};
    use std::sync::Arc;

    fn apply(value: &str, at: Option<u64>) -> Queued {
        let text = format!("{{apiVersion: heddle.dev/v1, kind: Config, metadata: {{name: c}}, spec: {{k: {value}}}}}");
        let documents = manifest::load(text.as_bytes(), "test").unwrap();
        let resolved = |document| ResolvedDocument {
            document,
            artifacts: Arc::default(),
        };
        let documents = documents.into_iter().map(resolved).collect();
        let at = at.map(|commit| At { commit, planned: None });
        Queued::new(Asker::Nobody, Change::Apply { documents, at })
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

    #[test]
    fn a_change_that_is_held_to_its_plan_has_a_commit_to_itself() {
        let changes = [("a", None), ("b", None), ("c", Some(0)), ("d", Some(0)), ("e", None)];
        let mut queue: VecDeque<Queued> = changes.iter().map(|(value, at)| apply(value, *at)).collect();
        let turns: Vec<usize> = std::iter::from_fn(|| Some(next_changes(&mut queue, 10).len()))
            .take_while(|count| *count > 0)
            .collect();
        assert_eq!(turns, [2, 1, 1, 1]);
    }

    #[test]
    fn an_apply_does_what_its_plan_said_or_nothing() {
        let world = World::new(LivenessOptions::default());
        let Preview::Answer(Ok((_, planned))) = preview(&world, apply("a", None), Dirty::none(), Mono(0), UnixMs(0))
        else {
            panic!("it is planned")
        };
        let held_to = |planned: &Planned| {
            let mut queued = apply("a", None);
            if let Change::Apply { at, .. } = &mut queued.change {
                let planned = Some(Arc::new(planned.clone()));
                *at = Some(At { commit: 0, planned });
            }
            queued
        };
        // What was committed meanwhile does not matter, unless it changes what would be done.
        let mut later = world.clone();
        later.set_head(Version { epoch: 1, n: 9 });
        let batch = decide_these(&later, vec![held_to(&planned)]);
        assert_eq!((batch.decided.len(), batch.refused.len()), (1, 0));
        land(&mut later, &batch);
        let batch = decide_these(&later, vec![held_to(&planned)]);
        let error = &batch.refused[0].error;
        assert_eq!(error.code, ErrorCode::Conflict);
        assert!(
            error.message.ends_with(
                "it said `Config default/c created at generation 1`, and now it would be `Config default/c unchanged at \
                 generation 1`"
            ),
            "{}",
            error.message
        );
    }

    #[test]
    fn a_plan_tells_of_whoever_finds_a_place_because_of_it_and_of_no_one_else() {
        let mut fleet = fleet();
        fleet.add_host("narrow", &[], 1 << 30, 4);
        let mut fleet = fleet.workload("big", 4).ready();
        fleet.apply(&workload_yaml("late", "replicas: 1")).unwrap();
        // It waits too, and goes on waiting: that is nothing new.
        fleet.apply(&workload_yaml("vast", "replicas: 9")).unwrap();
        let smaller = workload_yaml("big", "replicas: 3");
        let apply = || {
            let documents = resolve(&smaller).unwrap();
            Queued::new(Asker::Nobody, Change::Apply { documents, at: None })
        };
        let planned = preview(&fleet.world, apply(), Dirty::none(), fleet.now, fleet.at());
        let Preview::Answer(Ok((answer, _))) = planned else {
            panic!("it is planned: {planned:?}")
        };
        let steps: Vec<&str> = answer["steps"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|s| s["workload"].as_str())
            .collect();
        assert_eq!(steps, ["default/big", "default/late"], "{answer}");
        assert!(answer.get("waiting").is_none(), "{answer}");
    }

    /// A workload of two components, one of which calls the other.
    fn apply_linked() -> Queued {
        let text = r#"{apiVersion: heddle.dev/v1, kind: Workload, metadata: {name: cart, namespace: shop}, spec: {
            components: [{name: api, image: "oci://r.example/api:1"}, {name: tax, image: "oci://r.example/tax:1"}],
            links: [{from: api, import: "acme:tax/rates", to: {component: tax}}]}}"#;
        let info = |name: &str, imports: &[&str], exports: &[&str]| ArtifactInfo {
            digest: Digest::of(name.as_bytes()),
            bytes: 100,
            imports: imports.iter().map(|i| (*i).to_owned()).collect(),
            exports: exports.iter().map(|e| (*e).to_owned()).collect(),
            wasi: Wasi::P2,
            verified_by: BTreeSet::new(),
        };
        let rates = "acme:tax/rates@1.0.0";
        let artifacts = Arc::new(BTreeMap::from([
            (
                "oci://r.example/api:1".to_owned(),
                info("api", &[rates], &["shop:api/front@1.0.0"]),
            ),
            ("oci://r.example/tax:1".to_owned(), info("tax", &[], &[rates])),
        ]));
        let resolved = |document| ResolvedDocument {
            document,
            artifacts: Arc::clone(&artifacts),
        };
        let documents = manifest::load(text.as_bytes(), "test")
            .unwrap()
            .into_iter()
            .map(resolved)
            .collect();
        Queued::new(Asker::Nobody, Change::Apply { documents, at: None })
    }

    #[test]
    fn a_change_that_needs_something_is_put_aside_and_decided_once_that_is_known() {
        let world = World::new(LivenessOptions::default());
        let mut batch = decide_these(&world, vec![apply_linked(), apply("a", None)]);
        assert_eq!(
            (batch.undecided.len(), batch.refused.len(), batch.decided.len()),
            (1, 0, 1)
        );
        assert!(
            batch.writes.keys().all(|key| matches!(key, Key::Config(_))),
            "nothing of it is in the batch"
        );
        let (mut queued, needed) = batch.undecided.pop().unwrap();
        assert_eq!((needed.tasks.len(), needed.secrets.len()), (1, 0));
        let composed = ArtifactInfo {
            digest: Digest::of(b"whole"),
            bytes: 300,
            imports: BTreeSet::new(),
            exports: BTreeSet::from(["shop:api/front@1.0.0".to_owned()]),
            wasi: Wasi::P2,
            verified_by: BTreeSet::new(),
        };
        queued
            .known
            .tasks
            .insert(needed.tasks[0].digest().unwrap(), Ok(composed));
        // A plan says what an apply would do, and asks for nothing that is known.
        let again = Queued {
            known: queued.known.clone(),
            ..apply_linked()
        };
        let planned = preview(&world, again, Dirty::none(), Mono(0), UnixMs(0));
        assert!(matches!(planned, Preview::Answer(Ok(_))), "{planned:?}");
        let batch = decide_these(&world, vec![queued]);
        assert_eq!(
            (batch.undecided.len(), batch.refused.len(), batch.decided.len()),
            (0, 0, 1)
        );
        let templates = batch.writes.iter().filter(|(key, _)| matches!(key, Key::Template(_)));
        let written: Vec<String> = templates
            .map(|(_, value)| String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned())
            .collect();
        assert!(
            written
                .iter()
                .any(|template| template.contains(&Digest::of(b"whole").to_string())),
            "{written:?}"
        );
    }

    #[test]
    fn parts_that_do_not_fit_refuse_the_change_with_the_reason() {
        let world = World::new(LivenessOptions::default());
        let (mut queued, needed) = decide_these(&world, vec![apply_linked()]).undecided.pop().unwrap();
        let why = "the types differ".to_owned();
        queued
            .known
            .tasks
            .insert(needed.tasks[0].digest().unwrap(), Err(why.clone()));
        let batch = decide_these(&world, vec![queued]);
        let error = serde_json::to_string(&batch.refused[0].error).unwrap();
        assert!(error.contains(&why), "{error}");
    }
}
