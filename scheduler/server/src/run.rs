//! The one loop of a scheduler: wait for a fact, take it in, ask for a decision, carry it out.
//!
//! Nothing in here decides: that is done by `heddle_scheduler_core` and [`crate::change`]. Nothing in here waits for
//! anything but the next fact: commits, pushes, fetches and log requests run beside it and come back as facts.

mod commit;
mod fire;
mod intake;
mod keep;
mod look;
mod secrets;

use crate::artifact::ArtifactPool;
use crate::change::{Change, Queued};
use crate::compile::CompilePool;
use crate::events::EventLog;
use crate::find_out::Finder;
use crate::health::{self, Metrics};
use crate::lead::{self, Ground, Started};
use crate::options::SchedulerOptions;
use crate::outbox::Outbox;
use crate::outside::{Around, Inputs};
use crate::past::Past;
use crate::planned::PlanMemory;
use crate::push::{self, Agenda, Pushed, Pusher};
use crate::requests::RequestMemory;
use crate::secret::{Recipient, SecretPool};
use crate::serve::Ask;
use crate::serve::wait::Waiters;
use crate::store::{Preflight, Store};
use anyhow::Context as _;
use futures::FutureExt as _;
use futures::stream::StreamExt as _;
use heddle_protocol::api::ApiError;
use heddle_protocol::host_report::HostReport;
use heddle_protocol::host_spec::{Feature, HostSpec, HostSpecBody};
use heddle_protocol::id::{HostId, RequestId, Version};
use heddle_protocol::mutant::mutant;
use heddle_protocol::sign::SigningKey;
use heddle_protocol::time::Mono;
use heddle_scheduler_core::authorize::Access;
use heddle_scheduler_core::{Dirty, Fact, Known, Noted, ResolvedDocument, World};
use heddle_wire::chunk::Receiver;
use heddle_wire::connect::LinkState;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// How often time alone is taken in as a fact: a lost host is noticed at most so late.
const TICK: Duration = Duration::from_millis(50);
/// Messages taken in before deciding, so that one commit serves all that is there.
const TURN_MESSAGES_MAX: usize = 1_024;
/// Changes that may wait for a commit. More are refused, and their clients try again.
const QUEUE_MAX: usize = 4_096;
/// Chunked requests being put together at the same time.
const CHUNKED_REQUESTS_MAX: usize = 32;
/// Specs worked out in one turn: some milliseconds' worth. Who else waits has a turn in between.
const SPECS_PER_TURN: usize = 32;
/// How often the hosts that live are counted for the metrics, in milliseconds: that looks at each of them.
const COUNT_EVERY_MS: u64 = 1_000;
/// Results of work beside the loop that may wait to be taken in.
const DONE_MAX: usize = 4_096;

/// A scheduler that leads.
pub(crate) struct Scheduler {
    options: SchedulerOptions,
    outside: Around,
    link_state: watch::Receiver<LinkState>,
    /// The link as it was taken in last.
    link_known: LinkState,
    store: Store,
    pool: ArtifactPool,
    compile: CompilePool,
    finder: Finder,
    secrets: SecretPool,
    past: Past,
    key: Arc<SigningKey>,
    preflight: Preflight,
    access: Access,

    world: World,
    requests: RequestMemory,
    plans: PlanMemory,
    events: EventLog,
    pusher: Pusher,
    waiters: Waiters,
    metrics: Arc<Metrics>,
    outbox: Outbox,
    done: mpsc::Sender<Done>,
    receiver: Receiver,
    started: Instant,

    /// What waits for the next commit.
    queue: VecDeque<Queued>,
    /// Workloads that may have to be placed differently.
    dirty: Dirty,
    /// Whether to plan although nothing is dirty: something that is short of a place may have one now.
    replan: bool,
    /// The commit under way.
    committing: Option<commit::Committing>,
    /// Not before this is another commit tried, after one failed.
    commit_after: Mono,
    /// Requests whose answer is being worked out: one that comes again waits for the same answer.
    under_way: BTreeMap<RequestId, commit::UnderWay>,
    /// Hosts that may hold something else than they should.
    behind: Agenda,
    /// Hosts that are asked just now for all that they run.
    asking: usize,
    /// Whether hosts are left that wait for nothing but their turn.
    more_pushes: bool,
    /// When planning because of facts alone is due again at the earliest: it takes a share of the time, not all of it.
    plan_after: Mono,
    /// Since when a plan waits for more hosts to be lost.
    gathering_since: Option<Mono>,
    /// When the hosts that live are counted again.
    count_at: Mono,
    /// When everything that had been said was heard: whoever is silent is silent up to then. A loop that is behind would
    /// take its own slowness for the silence of others.
    heard_at: Mono,
    /// Whether a waiting client may have what it waits for.
    changed: bool,
    /// What was learned since the last commit, for its audit record.
    facts: Vec<String>,
    keep: keep::Keep,
    look: look::Look,
    firing: fire::Firing,
    follow: secrets::Follow,
}

/// Documents with what their images are, and the commit that they must be applied at.
pub(crate) type Resolved = Result<(Vec<ResolvedDocument>, Option<u64>), ApiError>;

/// What work beside the loop came to.
pub(crate) enum Done {
    /// A manifest was read and its images resolved.
    Resolved { ask: Box<Ask>, documents: Resolved },
    /// What a change waits for was found out, or cannot be now.
    FoundOut {
        queued: Box<Queued>,
        known: Result<Known, ApiError>,
    },
    /// A host was told what is due, or could not be.
    Fired(fire::Fired),
    /// Backends were asked for the newest versions of secrets.
    SecretsLookedAt {
        newest: BTreeMap<heddle_protocol::digest::Digest, String>,
    },
    /// A commit ended, one way or the other.
    Committed(commit::CommitEnd),
    /// A push ended.
    Pushed(Pushed),
    /// A request was carried out beside the loop.
    Answered {
        ask: Box<Ask>,
        answer: Result<(serde_json::Value, bytes::Bytes), ApiError>,
    },
    /// A host said all that it runs, or did not.
    Reported { host: HostId, report: Option<HostReport> },
    /// An image of the state was made for a client.
    BackedUp {
        ask: Box<Ask>,
        image: Result<keep::BackupImage, String>,
    },
    /// The newest head was read, to see whether this scheduler still leads.
    HeadSeen {
        /// The newest commit that was known when it was asked for.
        known: u64,
        head: Result<Option<crate::store::Head>, crate::store::StoreError>,
    },
    /// A client's backup was read.
    RestoreRead {
        ask: Box<Ask>,
        image: Result<crate::store::Image, String>,
    },
}

/// Runs a scheduler until `shutdown` ends. Agents go on with what they have when it stops.
pub async fn run(options: SchedulerOptions, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    if let Some(address) = options.http {
        let bound = health::serve(address, Arc::clone(&metrics))
            .await
            .with_context(|| format!("failed to serve /metrics on {address}"))?;
        tracing::info!(%bound, "serving /healthz and /metrics");
    }
    let ground = lead::prepare(&options).await?;
    let started = lead::start(ground, &options).await?;
    lead::serve_artifacts(&options, &started.ground).await?;
    work(started, options, metrics, shutdown).await
}

/// Takes over on prepared ground, and leads until `shutdown` ends: what [`run`] does once it is connected.
pub async fn run_on(
    ground: Ground,
    options: SchedulerOptions,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let started = lead::start(ground, &options).await?;
    work(started, options, metrics, shutdown).await
}

async fn work(
    started: Started,
    options: SchedulerOptions,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let inputs = started.ground.outside.listen(&options.realm).await?;
    let (done, results) = mpsc::channel(DONE_MAX);
    let scheduler = Scheduler::new(options, started, metrics, done);
    scheduler.work(inputs, results, shutdown).await
}

impl Scheduler {
    fn new(options: SchedulerOptions, started: Started, metrics: Arc<Metrics>, done: mpsc::Sender<Done>) -> Self {
        let access = match options.require_signed {
            true => Access::Signed(options.trusted_keys.iter().cloned().collect()),
            false => Access::Open,
        };
        let Started {
            ground,
            world,
            requests,
        } = started;
        let Ground {
            outside,
            link_state,
            store,
            pool,
            compile,
            secrets,
            past,
            key,
            preflight,
        } = ground;
        // A scheduler begins as if its link were up; what differs is told as soon as the loop runs.
        let link_known = LinkState {
            up: true,
            ..*link_state.borrow()
        };
        Self {
            outbox: Outbox::start(Arc::clone(&outside)),
            receiver: Receiver::new(
                heddle_protocol::defaults::CHUNKED_BYTES_MAX + (1 << 20),
                CHUNKED_REQUESTS_MAX,
            ),
            options,
            outside,
            link_state,
            link_known,
            store,
            compile: compile.clone(),
            finder: Finder::new(pool.clone(), compile.clone(), Arc::new(secrets.clone())),
            follow: secrets::Follow::default(),
            secrets,
            past: Past::new(past),
            pool,
            key,
            preflight,
            access,
            world,
            requests,
            plans: PlanMemory::default(),
            events: EventLog::default(),
            pusher: Pusher::default(),
            waiters: Waiters::default(),
            metrics,
            done,
            started: Instant::now(),
            queue: VecDeque::new(),
            dirty: Dirty::All,
            replan: true,
            committing: None,
            commit_after: Mono::default(),
            under_way: BTreeMap::new(),
            behind: Agenda::default(),
            asking: 0,
            more_pushes: false,
            plan_after: Mono::default(),
            gathering_since: None,
            count_at: Mono::default(),
            heard_at: Mono::default(),
            changed: false,
            facts: Vec::new(),
            keep: keep::Keep::new(),
            look: look::Look::default(),
            firing: fire::Firing::default(),
        }
    }

    async fn work(
        mut self,
        mut inputs: Inputs,
        mut results: mpsc::Receiver<Done>,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut link_state = self.link_state.clone();
        let mut tick_due = false;
        self.begin();
        loop {
            tokio::select! {
                // What comes seldom is looked at first, so that nothing keeps it waiting; all else is taken in below.
                biased;
                () = &mut shutdown => return self.end().await,
                _ = tick.tick() => tick_due = true,
                Ok(()) = link_state.changed() => {
                    let state = *link_state.borrow_and_update();
                    self.take_link_state(state);
                }
                Some(done) = results.recv() => self.take_done(done)?,
                Some((source, message)) = inputs.next() => self.take_message(source, message),
                () = std::future::ready(()), if self.more_pushes => {}
            }
            let mut heard_all = false;
            for _ in 0..TURN_MESSAGES_MAX {
                // Out of turn: a task that takes much is told by tokio that nothing is there, and this loop would believe it.
                match tokio::task::unconstrained(inputs.next()).now_or_never() {
                    Some(Some((source, message))) => self.take_message(source, message),
                    _ => {
                        heard_all = true;
                        break;
                    }
                }
            }
            while let Ok(done) = results.try_recv() {
                self.take_done(done)?;
            }
            if heard_all {
                self.heard_at = self.now();
            }
            // A process that stood still has a tick that is due, too: first what was said meanwhile is heard.
            if tick_due && heard_all {
                tick_due = false;
                self.take_tick();
            }
            self.act();
        }
    }

    fn begin(&mut self) {
        let now = self.now();
        self.heard_at = now;
        let noted = self.world.apply(Fact::SchedulerStarted { now });
        self.follow(noted);
        self.refresh_specs(None);
        let head = self.world.head;
        self.note(
            "scheduler-started",
            self.options.id.clone(),
            format!("leads from commit {}", head.n),
        );
        self.measure();
    }

    async fn end(self) -> anyhow::Result<()> {
        tracing::info!("stopping; agents go on with what they have");
        self.metrics.leading.store(false, std::sync::atomic::Ordering::Relaxed);
        // A commit under way either lands or not; the next scheduler reads which.
        if self.committing.is_some() {
            tracing::info!("a commit is under way; its outcome is in the store");
        }
        // Bounded: NATS may be away.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.outside.flush()).await;
        Ok(())
    }

    fn take_done(&mut self, done: Done) -> anyhow::Result<()> {
        match done {
            Done::Resolved { ask, documents } => self.take_resolved(ask, documents),
            Done::FoundOut { queued, known } => self.take_found_out(*queued, known),
            Done::SecretsLookedAt { newest } => self.take_newest_secrets(newest),
            Done::Committed(end) => self.take_commit_end(end)?,
            Done::HeadSeen { known, head } => self.take_head(known, head)?,
            Done::Pushed(pushed) => self.take_pushed(&pushed),
            Done::Fired(fired) => self.take_fired(fired),
            Done::Answered { ask, answer } => self.answer(&ask, answer),
            Done::Reported { host, report } => {
                self.asking = self.asking.saturating_sub(1);
                if let Some(report) = report {
                    self.take_report(host, report);
                }
            }
            Done::BackedUp { ask, image } => self.take_backup(&ask, image),
            Done::RestoreRead { ask, image } => self.take_restore(ask, image),
        }
        Ok(())
    }

    fn take_link_state(&mut self, state: LinkState) {
        let now = self.now();
        let known = std::mem::replace(&mut self.link_known, state);
        if state.dropped != known.dropped {
            let noted = self.world.apply(Fact::MessagesMissed { now });
            self.follow(noted);
        }
        if (state.up, state.connects) == (known.up, known.connects) {
            return;
        }
        let fact = if state.up {
            Fact::LinkUp { now }
        } else {
            Fact::LinkDown { now }
        };
        let noted = self.world.apply(fact);
        self.follow(noted);
    }

    fn take_tick(&mut self) {
        let now = self.heard_at;
        let noted = self.world.apply(Fact::TimePassed { now });
        self.follow(noted);
        for host in self.pusher.retries(now) {
            self.behind.insert(host);
        }
        self.keep_house();
        self.look_at_head();
        self.fire_due();
        self.look_at_secrets();
        self.measure();
    }

    fn take_pushed(&mut self, pushed: &Pushed) {
        let now = self.now();
        let jitter = self.outside.chance();
        self.note_missing_secrets(pushed);
        Metrics::add(&self.metrics.pushes_as_deltas_total, u64::from(pushed.as_delta));
        if self.pusher.note(pushed, self.world.head, now, jitter) {
            Metrics::add(&self.metrics.pushes_failed_total, 1);
            tracing::debug!(host = %pushed.host, answer = ?pushed.answer, "a push was not accepted");
        }
        if self.pusher.needs_newer_head(pushed, self.world.head) && self.committing.is_none() && !self.keep.reload {
            let host = pushed.host.clone();
            let waits = self
                .queue
                .iter()
                .any(|queued| matches!(&queued.change, Change::Renew(h) if *h == host));
            if !waits {
                // A full queue moves the head without this one.
                let _ = self.queue(Change::Renew(host).unasked());
            }
        }
        if let Ok(heddle_protocol::host_report::SpecAnswer::Accepted(accepted)) = &pushed.answer {
            let (host, boot_id) = (pushed.host.clone(), pushed.boot_id.clone());
            let noted = self.world.apply(Fact::HostAcceptedSpec {
                host,
                boot_id,
                accepted: *accepted,
            });
            self.follow(noted);
        }
        self.behind.insert(pushed.host.clone());
    }

    /// Does what follows from a fact.
    fn follow(&mut self, noted: Noted) {
        if noted.replan && !mutant("news-do-not-replan") {
            self.replan = true;
            self.dirty.join(noted.dirty);
        }
        if let Some(until) = noted.more_lost_until {
            // Hosts that fall silent one after the other must not put it off for ever.
            let since = *self.gathering_since.get_or_insert(self.heard_at);
            let most = since.plus(self.world.watch.options.lost_after_ms / 2);
            self.plan_after = self.plan_after.max(until.min(most));
        }
        if !noted.events.is_empty() {
            self.changed = true;
        }
        for event in noted.events {
            if self.facts.len() < commit::FACTS_MAX && event.kind.starts_with("host-") {
                self.facts
                    .push(format!("{} {}: {}", event.kind, event.about, event.message));
            }
            self.note(event.kind, event.about, event.message);
        }
        if let Some(host) = noted.ask_report {
            self.ask_report(host);
        }
        if let Some(host) = noted.ask_hello {
            self.ask_hello(&host);
        }
    }

    /// Carries out what is due after a turn.
    fn act(&mut self) {
        // Before anybody is answered: who was told that something runs may look how it came to be.
        Metrics::set(&self.metrics.compiles_total, self.compile.workers_started());
        self.start_commit();
        self.push_due();
        let now = self.now();
        let changed = std::mem::take(&mut self.changed);
        if !self.waiters.is_empty() {
            for (reply, answer) in self.waiters.due(&self.world, changed, now, self.heard_at) {
                self.outbox.answer(reply, answer);
            }
        }
    }

    fn push_due(&mut self) {
        let now = self.now();
        let mut worked_out = 0;
        self.more_pushes = false;
        while let Some(host) = self.behind.pop() {
            self.more_pushes = worked_out >= SPECS_PER_TURN;
            if !self.pusher.has_room() || self.more_pushes {
                // The answer to any push under way makes room, and brings the loop here again.
                self.behind.insert(host);
                break;
            }
            let Some(observed) = self.world.observed.get(&host) else {
                continue;
            };
            let (Some(boot_id), Some(hello), accepted) = (&observed.boot_id, &observed.hello, observed.accepted) else {
                continue;
            };
            // One that is silent is looked at again when it is heard.
            let silent = self.heard_at.since(observed.last_heard) > self.options.host_lost_after_ms;
            if silent || !self.pusher.may_be_due(&host, boot_id, accepted, now) {
                continue;
            }
            // A key is only good for the start that named it.
            let seal_key = match hello.boot_id == *boot_id {
                true => hello.seal_key.clone(),
                false => String::new(),
            };
            let to = Recipient {
                host,
                boot_id: boot_id.clone(),
                seal_key,
                takes_deltas: hello.features.contains(&Feature::SPEC_DELTA),
            };
            if self.pusher.must_work_out(&to.host, &to.boot_id, accepted) {
                worked_out += 1;
                self.work_out(&to.host);
            }
            let Some(due) = self.pusher.due(&self.options.realm, &to, accepted, now) else {
                continue;
            };
            Metrics::add(&self.metrics.pushes_total, 1);
            let (outside, key, done) = (Arc::clone(&self.outside), Arc::clone(&self.key), self.done.clone());
            let secrets = self.secrets.clone();
            self.beside(async move {
                let pushed = push::push(outside, key, secrets, due).await;
                // The loop is gone only when the process ends.
                let _ = done.send(Done::Pushed(pushed)).await;
            });
        }
        if worked_out > 0 && !self.more_pushes {
            self.secrets.keep_credentials(self.pusher.secrets());
        }
    }

    /// Works out what a host should hold.
    fn work_out(&mut self, host: &HostId) {
        let mut body = heddle_scheduler_core::host_spec(&self.world, host);
        self.secrets.add_credentials(&self.world, &mut body);
        if let Err(e) = self.pusher.want(host, body, self.world.head) {
            tracing::error!(%host, error = %e, "a spec could not be written");
        }
    }

    /// Tells a host that is forgotten, if it lives, to stop everything. Once: nothing is known of it from then on.
    fn push_farewell(&mut self, host: &HostId, version: Version) {
        let Some(observed) = self.world.observed.get(host) else {
            return;
        };
        let (Some(boot_id), body) = (observed.boot_id.clone(), HostSpecBody::default()) else {
            return;
        };
        let Ok(body_digest) = body.digest() else { return };
        let realm = self.options.realm.clone();
        let spec = HostSpec {
            realm,
            host: host.clone(),
            boot_id,
            version,
            body_digest,
            body,
            secrets: BTreeMap::new(),
        };
        let (outside, key, secrets) = (Arc::clone(&self.outside), Arc::clone(&self.key), self.secrets.clone());
        let farewell = push::Push::farewell(host.clone(), spec);
        self.beside(async move {
            let pushed = push::push(outside, key, secrets, farewell).await;
            tracing::info!(host = %pushed.host, answer = ?pushed.answer, "a forgotten host was told to stop everything");
        });
    }

    /// Has worked out again what hosts should hold, when it is their turn: all of them, or some.
    fn refresh_specs(&mut self, hosts: Option<&BTreeSet<HostId>>) {
        let all: BTreeSet<HostId>;
        let hosts = match hosts {
            Some(hosts) => hosts,
            None => {
                // Those that are known no longer are forgotten below.
                all = self.world.hosts.keys().chain(self.pusher.hosts()).cloned().collect();
                &all
            }
        };
        for host in hosts {
            if self.world.hosts.contains_key(host) {
                self.pusher.doubt(host);
                self.behind.insert(host.clone());
            } else {
                self.pusher.forget(host);
                self.forget_secrets_of(host);
            }
        }
    }

    fn queue(&mut self, queued: Queued) -> Result<(), Box<(Queued, ApiError)>> {
        if self.queue.len() >= QUEUE_MAX {
            Metrics::add(&self.metrics.requests_shed_total, 1);
            let error = ApiError::new(
                heddle_protocol::api::ErrorCode::Unavailable,
                format!("failed to take the change: {QUEUE_MAX} others wait"),
                "try again in a moment",
            );
            return Err(Box::new((queued, error)));
        }
        self.queue.push_back(queued);
        Ok(())
    }

    /// Has work done beside the loop.
    fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.outside.spawn(Box::pin(work));
    }

    fn note(&mut self, kind: &str, about: String, message: String) {
        self.events
            .note(self.outside.wall_clock(), self.world.head.n, kind, about, message);
    }

    fn now(&self) -> Mono {
        Mono(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn measure(&mut self) {
        let now = self.now();
        let count = now >= self.count_at;
        let metrics = &self.metrics;
        metrics
            .leading
            .store(self.is_leading(), std::sync::atomic::Ordering::Relaxed);
        Metrics::set(&metrics.epoch, self.world.head.epoch);
        Metrics::set(&metrics.commit, self.world.head.n);
        Metrics::set(&metrics.workloads, self.world.workloads.len() as u64);
        Metrics::set(&metrics.hosts, self.world.hosts.len() as u64);
        if count {
            Metrics::set(&metrics.hosts_ready, self.hosts_ready());
        }
        Metrics::set(&metrics.waiters, self.waiters.len() as u64);
        if count {
            self.count_at = now.plus(COUNT_EVERY_MS);
        }
    }

    fn hosts_ready(&self) -> u64 {
        let now = self.heard_at;
        let live = self.world.observed.iter().filter(|(host, observed)| {
            self.world.hosts.contains_key(*host)
                && observed.hello.is_some()
                && now.since(observed.last_heard) <= self.options.host_lost_after_ms
        });
        live.count() as u64
    }

    fn is_leading(&self) -> bool {
        self.link_state.borrow().up && self.committing.as_ref().is_none_or(|c| !c.in_doubt)
    }
}

impl Change {
    /// A change that nobody waits for.
    fn unasked(self) -> Queued {
        Queued::new(crate::change::Asker::Nobody, self)
    }
}
