//! Commits: one in flight, everything that waits goes into the next (group commit).

use super::{Done, Scheduler};
use crate::change::{self, Asker, Batch, Decided, Refused};
use crate::health::Metrics;
use crate::past::{Base, Step};
use crate::store::{Commit, CommitOutcome, StoreError, Write};
use bytes::Bytes;
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::HelloAnswer;
use heddle_protocol::id::{HostId, Version, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::mutant::mutant;
use heddle_protocol::record::AuditRecord;
use heddle_protocol::time::UnixMs;
use heddle_scheduler_core::{Dirty, Fact};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Changes in one commit. The rest goes into the next one, a few milliseconds later.
const BATCH_MAX: usize = 512;
/// Facts noted in one audit record.
pub(super) const FACTS_MAX: usize = 100;
/// How long nothing is planned because of facts alone after a plan, as a multiple of the time that the plan took: a fleet
/// that tells much leaves most of the time for taking it in.
const PLAN_REST: u64 = 3;
/// The longest such rest, in milliseconds.
const PLAN_REST_MS_MAX: u64 = 2_000;
/// Pause after a commit that the store did not take, in milliseconds.
const RETRY_MS: u64 = 500;
/// Longest pause between two attempts to learn the outcome of a commit in doubt.
const SETTLE_PAUSE_MAX: Duration = Duration::from_secs(2);

/// The commit under way.
pub(crate) struct Committing {
    batch: Batch,
    audit: Option<AuditRecord>,
    dirty: Dirty,
    kind: Kind,
    begun: Instant,
    /// Whether its outcome is not known, because the store does not answer.
    pub(super) in_doubt: bool,
}

/// What a commit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Changes and placements.
    Change,
    /// Housekeeping of the store's own: no value changes.
    Fold,
    /// The whole state is replaced.
    Rewrite,
}

/// How a commit ended.
pub(crate) struct CommitEnd {
    result: Result<Option<CommitOutcome>, StoreError>,
}

/// A request that is being carried out.
pub(crate) struct UnderWay {
    pub(super) body_digest: Digest,
    /// Bytes attached to it.
    pub(super) bytes: usize,
    /// Where the same answer goes too: the client asked again.
    pub(super) also: Vec<async_nats::Subject>,
}

/// One client that asks again and again may not take all memory.
const SAME_ASKERS_MAX: usize = 8;

impl UnderWay {
    /// Takes in that the client asked again.
    pub(super) fn also(&mut self, reply: async_nats::Subject) {
        if self.also.len() >= SAME_ASKERS_MAX {
            self.also.remove(0);
        }
        self.also.push(reply);
    }
}

impl Scheduler {
    /// Starts a commit if none is under way and there is anything to commit.
    pub(super) fn start_commit(&mut self) {
        let now = self.now();
        // A state that was just replaced is read again before anything is decided from it.
        let blind = self.keep.reload || !self.link_state.borrow().up;
        if self.committing.is_some() || now < self.commit_after || blind {
            return;
        }
        if self.queue.is_empty() && !self.replan {
            if std::mem::take(&mut self.keep.fold) {
                self.start_fold();
            }
            return;
        }
        // What somebody waits for is decided at once; what hosts said is decided together.
        if self.queue.is_empty() && now < self.plan_after {
            return;
        }
        // A plan goes by how long hosts have been silent. Whoever it takes for lost is said to be lost first: what comes of
        // it is looked at again when such a host is heard while the commit is under way.
        let noted = self.world.apply(Fact::TimePassed { now: self.heard_at });
        self.follow(noted);
        let queue = change::next_changes(&mut self.queue, BATCH_MAX);
        let dirty = std::mem::take(&mut self.dirty);
        self.replan = false;
        self.gathering_since = None;
        let begun = Instant::now();
        let at = self.outside.wall_clock();
        let batch = change::decide(&self.world, queue, dirty.clone(), self.heard_at, at);
        Metrics::add(&self.metrics.plans_total, 1);
        Metrics::add(&self.metrics.plan_us_total, micros(begun.elapsed()));
        let ended = self.now();
        self.plan_after = ended.plus((ended.since(now) * PLAN_REST).min(PLAN_REST_MS_MAX));
        self.send_batch(batch, dirty, at);
    }

    fn send_batch(&mut self, mut batch: Batch, dirty: Dirty, at: UnixMs) {
        for Refused { asker, error } in std::mem::take(&mut batch.refused) {
            self.refuse(asker, error);
        }
        for (queued, needed) in std::mem::take(&mut batch.undecided) {
            self.find_out(queued, needed);
        }
        if !batch.commits {
            self.world.note_plan(&batch.report);
            for decided in std::mem::take(&mut batch.decided) {
                self.tell(decided);
            }
            return;
        }
        let version = Version {
            epoch: self.world.head.epoch,
            n: self.world.head.n + 1,
        };
        let facts = std::mem::take(&mut self.facts);
        let audit = change::audit(&self.world, &batch, version, at, facts);
        if mutant("ack-before-commit") {
            std::mem::take(&mut batch.decided)
                .into_iter()
                .for_each(|decided| self.tell(decided));
        }
        let commit = Commit {
            writes: change::store_writes(&batch),
            audit: Bytes::from(serde_json::to_vec(&audit).unwrap_or_default()),
        };
        self.keep.fold |= commit.writes.len() > crate::store::DIRECT_WRITES_MAX
            || commit.writes.iter().map(write_bytes).sum::<usize>() > crate::store::DIRECT_BYTES_MAX;
        let (now, step) = (self.now(), self.step_of(&mut batch, version, at));
        self.commit_begins(Kind::Change, batch, Some(audit), dirty);
        let (store, done) = (self.store.clone(), self.done.clone());
        let (past, outside) = (self.past.clone(), Arc::clone(&self.outside));
        self.beside(async move {
            let image = match &step {
                Some((_, Base::Needed)) => store.image().await,
                _ => None,
            };
            let result = store.commit(commit).await.map(Some);
            match (&result, step) {
                (Ok(Some(CommitOutcome::Committed { .. })), Some((mut step, base))) => {
                    image.iter().for_each(|image| step.found(image));
                    if step.base.is_some() || base == Base::Known {
                        past.keep(step, now, &outside);
                    }
                }
                _ => past.miss(),
            }
            let _ = done.send(Done::Committed(CommitEnd { result })).await;
        });
    }

    /// What a batch was decided from, and whether all records belong to it; none if that is not kept.
    fn step_of(&mut self, batch: &mut Batch, version: Version, at: UnixMs) -> Option<(Step, Base)> {
        let tried = batch.tried.take();
        let mut news = self.world.take_news();
        let base = self.past.next(self.now())?;
        let world = tried.as_ref().unwrap_or(&self.world);
        match base {
            Base::Needed => news.extend(world.observed.keys().cloned()),
            Base::Known => news.extend(batch.asked.keys().filter_map(|key| match key {
                Key::Host(host) => Some(host.clone()),
                _ => None,
            })),
        }
        let planned = batch.writes.keys().filter_map(|key| match key {
            Key::Place(id) => Some(id),
            _ => None,
        });
        let looked_at = world.looked_at(planned);
        let premises = world.premises(self.heard_at, &news, &looked_at);
        Some((Step::of(batch, premises, version, at), base))
    }

    fn commit_begins(&mut self, kind: Kind, batch: Batch, audit: Option<AuditRecord>, dirty: Dirty) {
        let begun = Instant::now();
        let workloads = batch.writes.keys().filter_map(|key| match key {
            Key::Workload(id) | Key::Place(id) => Some(id.clone()),
            _ => None,
        });
        self.world.set_under_way(workloads.collect());
        self.committing = Some(Committing {
            batch,
            audit,
            dirty,
            kind,
            begun,
            in_doubt: false,
        });
    }

    fn start_fold(&mut self) {
        self.commit_begins(Kind::Fold, Batch::default(), None, Dirty::none());
        let (store, done) = (self.store.clone(), self.done.clone());
        self.beside(async move {
            let result = store.fold().await;
            let _ = done.send(Done::Committed(CommitEnd { result })).await;
        });
    }

    /// Replaces the whole state by a backup's. The store works out the difference.
    pub(super) fn start_rewrite(&mut self, image: crate::store::Image, batch: Batch) {
        let (store, done, id) = (self.store.clone(), self.done.clone(), self.options.id.clone());
        let step = crate::store::RESTORE_EPOCH_STEP;
        let head = self.world.head;
        let version = Version {
            epoch: head.epoch.max(image.head.epoch).saturating_add(step),
            n: head.n.max(image.head.n).saturating_add(1),
        };
        let facts = vec![format!("restored from the backup of commit {}", image.head.n)];
        let audit = change::audit(&self.world, &batch, version, self.outside.wall_clock(), facts);
        let bytes = Bytes::from(serde_json::to_vec(&audit).unwrap_or_default());
        self.past.miss();
        self.commit_begins(Kind::Rewrite, batch, Some(audit), Dirty::All);
        self.beside(async move {
            let result = store.rewrite(&image, &id, step, bytes).await.map(Some);
            let _ = done.send(Done::Committed(CommitEnd { result })).await;
        });
    }

    /// Takes in how a commit ended. An error ends this scheduler: another one leads.
    pub(super) fn take_commit_end(&mut self, end: CommitEnd) -> anyhow::Result<()> {
        let Some(mut committing) = self.committing.take() else {
            return Ok(());
        };
        match end.result {
            Ok(Some(CommitOutcome::Committed { n, .. })) => {
                if committing.in_doubt {
                    self.note(
                        "store-back",
                        self.options.id.clone(),
                        format!("the store answers again, commit {n} stands"),
                    );
                }
                self.land(committing, n);
            }
            Ok(None) if committing.kind == Kind::Fold => {}
            Ok(None) => {
                // Only what is still in doubt is settled; if nothing is, somebody else decided over this commit.
                let message = "failed to learn what became of a commit: the store has none in doubt";
                let error = ApiError::new(ErrorCode::Unknown, message, "ask again with the same request id");
                self.give_back(committing, &error);
                anyhow::bail!("{message}; this scheduler stops, and reads the store again when it is started");
            }
            Ok(Some(CommitOutcome::Conflict { head })) => {
                self.give_back(committing, &lost_fence(&head.leader_id));
                anyhow::bail!(
                    "scheduler {} took over at commit {} (epoch {}); this one stops, so that one decides",
                    head.leader_id,
                    head.n,
                    head.epoch
                );
            }
            Err(StoreError::Unknown { .. }) if mutant("unknown-is-failure") => {
                let error = ApiError::new(ErrorCode::Conflict, "failed to commit", "");
                self.give_back(committing, &error);
            }
            Err(e @ (StoreError::Unknown { .. } | StoreError::InDoubt { .. })) => {
                if !committing.in_doubt {
                    committing.in_doubt = true;
                    let message = format!("failed to {e}; nothing is decided until that is known, and agents go on");
                    self.note("store-away", self.options.id.clone(), message);
                }
                self.committing = Some(committing);
                self.settle_later();
            }
            Err(e) if ends_leading(&e) => {
                let message = format!("failed to {e}");
                // The commit may be in the store all the same: only a scheduler that has read it again can tell.
                let error = ApiError::new(
                    ErrorCode::Unknown,
                    message.clone(),
                    "ask again with the same request id",
                );
                self.give_back(committing, &error);
                anyhow::bail!("{message}; this scheduler stops, and reads the store again when it is started");
            }
            Err(e) => {
                let message = format!("failed to {e}");
                tracing::warn!(error = %message, "a commit failed; it is tried again");
                self.commit_after = self.now().plus(RETRY_MS);
                let error = ApiError::new(ErrorCode::Unavailable, message, "try again; nothing was changed");
                self.give_back(committing, &error);
            }
        }
        Ok(())
    }

    fn settle_later(&self) {
        if mutant("doubt-is-never-settled") {
            return;
        }
        let (store, done, outside) = (self.store.clone(), self.done.clone(), Arc::clone(&self.outside));
        self.beside(async move {
            let mut pause = Duration::from_millis(100);
            loop {
                match store.settle().await {
                    Err(StoreError::Unknown { .. } | StoreError::InDoubt { .. } | StoreError::Unavailable { .. }) => {
                        tokio::time::sleep(pause.mul_f64(0.5 + outside.chance() / 2.0)).await;
                        pause = (pause * 2).min(SETTLE_PAUSE_MAX);
                    }
                    result => {
                        let _ = done.send(Done::Committed(CommitEnd { result })).await;
                        return;
                    }
                }
            }
        });
    }

    /// Takes a stored commit into the world, then tells everybody whom it concerns.
    fn land(&mut self, committing: Committing, n: u64) {
        self.world.set_under_way(BTreeSet::new());
        Metrics::add(&self.metrics.commits_total, 1);
        Metrics::add(&self.metrics.commit_us_total, micros(committing.begun.elapsed()));
        let Committing { batch, audit, kind, .. } = committing;
        let head = Version {
            epoch: self.world.head.epoch,
            n,
        };
        match kind {
            Kind::Fold => {
                self.world.set_head(head);
                self.keep.fold = true;
            }
            Kind::Change => self.land_change(batch, audit, head),
            Kind::Rewrite => {
                self.note(
                    "restored",
                    "realm".to_owned(),
                    "the state was replaced by a backup's".to_owned(),
                );
                // Before anybody is told: who asks next sees the restored state.
                self.reload();
                self.keep.committed = true;
                if let Some(audit) = audit {
                    self.requests.learn(&audit);
                }
                for decided in batch.decided {
                    self.tell(decided);
                }
            }
        }
    }

    fn land_change(&mut self, batch: Batch, audit: Option<AuditRecord>, head: Version) {
        let mut hosts = BTreeSet::new();
        let mut all_hosts = false;
        for (key, value) in &batch.writes {
            let placed = match key {
                Key::Place(id) => self.world.places.get(id).cloned(),
                key => {
                    hosts.extend(self.world.hosts_touched(key));
                    None
                }
            };
            match key {
                Key::Host(host) if value.is_none() => self.push_farewell(host, head),
                Key::Platform(_) => all_hosts = true,
                _ => {}
            }
            if mutant("landed-hosts-forgotten") {
                hosts.clear();
            }
            // What this touches was planned in the same commit; what came in meanwhile is dirty already.
            if let Err(e) = self.world.apply_record(key, value.as_deref()) {
                tracing::error!(error = %e, "a record that was just committed cannot be read");
            }
            match key {
                Key::Place(id) => hosts.extend(self.world.hosts_moved(id, placed.as_deref())),
                key => hosts.extend(self.world.hosts_touched(key)),
            }
        }
        self.world.set_head(head);
        self.world.note_plan(&batch.report);
        if batch
            .writes
            .keys()
            .any(|key| matches!(key, Key::Host(_) | Key::Platform(_)))
        {
            self.world.doubt_plan();
            self.replan = true;
        }
        self.changed = true;
        self.keep.committed = true;
        if let Some(audit) = audit.filter(|_| !mutant("request-ids-are-forgotten")) {
            self.requests.learn(&audit);
        }
        self.note_commit(&batch);
        self.refresh_specs(if all_hosts { None } else { Some(&hosts) });
        for decided in batch.decided {
            self.tell(decided);
        }
    }

    /// The hosts that a workload is placed on.
    pub(super) fn hosts_of(&self, id: &WorkloadId) -> BTreeSet<HostId> {
        let sets = self.world.places.get(id).into_iter().flat_map(|place| &place.sets);
        sets.flat_map(|set| set.hosts.keys().cloned()).collect()
    }

    fn note_commit(&mut self, batch: &Batch) {
        for (key, value) in &batch.writes {
            let (kind, about) = match (key, value.is_some()) {
                (Key::Workload(id), true) => ("workload-applied", id.to_string()),
                (Key::Workload(id), false) => ("workload-deleted", id.to_string()),
                (Key::Platform(name), true) => ("platform-applied", name.to_string()),
                (Key::Platform(name), false) => ("platform-deleted", name.to_string()),
                (Key::Config(id), true) => ("config-applied", id.to_string()),
                (Key::Config(id), false) => ("config-deleted", id.to_string()),
                (Key::SecretRef(id), true) => ("secret-applied", id.to_string()),
                (Key::SecretRef(id), false) => ("secret-deleted", id.to_string()),
                (Key::NamespacePolicy(id), true) => ("policy-applied", id.to_string()),
                (Key::NamespacePolicy(id), false) => ("policy-deleted", id.to_string()),
                (Key::Quota(id), true) => ("quota-applied", id.to_string()),
                (Key::Quota(id), false) => ("quota-deleted", id.to_string()),
                (Key::Host(host), true) => ("host-changed", host.to_string()),
                (Key::Host(host), false) => ("host-forgotten", host.to_string()),
                _ => continue,
            };
            let message = match key {
                Key::Workload(id) => {
                    let generation = self.world.workloads.get(id).map(|w| w.generation);
                    generation.map_or_else(|| "deleted".to_owned(), |g| format!("generation {g}"))
                }
                _ => "committed".to_owned(),
            };
            self.note(kind, about, message);
        }
    }

    /// Undoes the bookkeeping of a commit that is not stored, and tells whoever asked.
    fn give_back(&mut self, committing: Committing, error: &ApiError) {
        self.world.set_under_way(BTreeSet::new());
        match committing.kind {
            Kind::Fold => self.keep.fold = true,
            Kind::Change | Kind::Rewrite if mutant("failed-commit-is-not-planned-again") => {}
            Kind::Change | Kind::Rewrite => {
                self.dirty.join(committing.dirty);
                self.replan = true;
            }
        }
        if let (Kind::Change, Some(audit)) = (committing.kind, committing.audit) {
            // What was learned before that commit belongs into the record of the next one.
            let later = std::mem::replace(&mut self.facts, audit.facts);
            self.facts.extend(later);
            self.facts.truncate(FACTS_MAX);
        }
        for decided in committing
            .batch
            .decided
            .into_iter()
            .filter(|_| !mutant("refused-clients-hear-nothing"))
        {
            self.refuse(decided.asker, error.clone());
        }
    }

    /// Tells somebody that what they asked for is so.
    pub(super) fn tell(&mut self, decided: Decided) {
        match decided.asker {
            Asker::Client(ask) => self.answer(&ask, Ok((decided.answer, Bytes::new()))),
            Asker::Host { reply, hello } => {
                let now = self.now();
                let host = hello.host.clone();
                self.compile.know(&hello.engine);
                let noted = self.world.apply(Fact::HostSaidHello { hello, now });
                self.follow(noted);
                self.refresh_specs(Some(&BTreeSet::from([host])));
                self.welcome(reply);
            }
            Asker::Nobody => {}
        }
    }

    /// Tells somebody that what they asked for is not done.
    pub(super) fn refuse(&mut self, asker: Asker, error: ApiError) {
        match asker {
            Asker::Client(ask) => self.answer(&ask, Err(error)),
            Asker::Host {
                reply: Some(reply),
                hello,
            } => {
                tracing::warn!(host = %hello.host, reason = error.message, "a host was not admitted");
                self.outbox.json(
                    reply,
                    &HelloAnswer::Refused {
                        reason: error.message,
                        next: error.next,
                    },
                );
            }
            Asker::Nobody => tracing::warn!(reason = error.message, "a change of the scheduler's own was refused"),
            Asker::Host { reply: None, .. } => {}
        }
    }

    pub(super) fn welcome(&self, reply: Option<async_nats::Subject>) {
        if let Some(reply) = reply {
            let answer = HelloAnswer::Welcome {
                scheduler: self.options.id.clone(),
                epoch: self.world.head.epoch,
            };
            self.outbox.json(reply, &answer);
        }
    }

    /// Answers a client, and everybody who asked the same meanwhile.
    pub(super) fn answer(&mut self, ask: &crate::serve::Ask, answer: Result<(serde_json::Value, Bytes), ApiError>) {
        let also = self
            .under_way
            .remove(&ask.request_id)
            .map(|u| u.also)
            .unwrap_or_default();
        for reply in also.into_iter().chain([ask.reply.clone()]) {
            self.outbox.answer(reply, answer.clone());
        }
    }
}

/// Whether an error of the store means that what this scheduler knows of it is not sure any more. Deciding on would be
/// deciding from the wrong state, and trying again would fail for ever.
fn ends_leading(error: &StoreError) -> bool {
    match error {
        StoreError::NotLoaded
        | StoreError::NotLeading
        | StoreError::Diverged { .. }
        | StoreError::Corrupt { .. }
        | StoreError::RolledBack { .. } => true,
        StoreError::Unavailable { .. }
        | StoreError::Unknown { .. }
        | StoreError::InDoubt { .. }
        | StoreError::Invalid(_)
        | StoreError::Refused { .. }
        | StoreError::Settings { .. }
        | StoreError::Unfit(_)
        | StoreError::File { .. } => false,
    }
}

fn lost_fence(leader: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Unavailable,
        format!("failed to commit: scheduler {leader} took over meanwhile"),
        "try again; the new scheduler answers",
    )
}

fn write_bytes(write: &Write) -> usize {
    write.value.as_ref().map_or(0, Bytes::len)
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_whose_store_is_not_sure_any_more_stops_and_one_that_is_refused_goes_on() {
        let rolled_back = StoreError::RolledBack {
            expected: 9,
            found: "missing".into(),
        };
        for error in [
            StoreError::NotLoaded,
            StoreError::NotLeading,
            StoreError::corrupt("head", "?"),
            rolled_back,
        ] {
            assert!(ends_leading(&error), "{error}");
        }
        for error in [
            StoreError::unavailable("commit 3", "away"),
            StoreError::Invalid("too large".into()),
        ] {
            assert!(!ends_leading(&error), "{error}");
        }
    }
}
