//! The one loop: waits for something that happened, takes it in, decides, and begins what was decided.
//!
//! In: what the source heard, facts from the pools, and time. Out: actions begun, messages sent. All that is known is
//! in here and changed by this loop alone.

use crate::artifact::ArtifactFiles;
use crate::cache::SpecWriter;
use crate::cache::sweep::sweep;
use crate::health::Health;
use crate::logs::LogSink;
use crate::report::Introduction;
use crate::run::execute::Pools;
use crate::run::leave::Leaving;
use crate::run::runner::Runner;
use crate::secrets::SecretIntake;
use crate::source::{SourceEvent, Uplink};
use heddle_agent_core::{Fact, Identity, Jitter, Machine, ReadSpec, Reporter, Running, Sender, accept, reconcile};
use heddle_protocol::host_report::{Accepted, FireAnswer, HostReport, SpecAnswer, SpecRefusal, UnitPhase};
use heddle_protocol::host_spec::HostSpecBody;
use heddle_protocol::id::Version;
use heddle_protocol::time::Mono;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

/// Facts that wait for the loop at most; work that is done waits with its fact.
const FACTS_WAITING_MAX: usize = 1_024;
/// Times that one turn decides anew. What is done at once may allow more, a few times; more is a fault, and the next
/// turn goes on.
const DECISIONS_PER_TURN_MAX: usize = 100;
/// How often the caches are swept.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

/// What the loop is made of.
pub(crate) struct Parts {
    pub(crate) me: Identity,
    pub(crate) machine: Machine,
    pub(crate) introduction: Introduction,
    pub(crate) runner: Arc<dyn Runner>,
    pub(crate) uplink: Arc<dyn Uplink>,
    pub(crate) artifacts: ArtifactFiles,
    pub(crate) writer: SpecWriter,
    pub(crate) logs: LogSink,
    pub(crate) secrets: SecretIntake,
    pub(crate) health: Arc<Health>,
    pub(crate) heartbeat: Duration,
    pub(crate) leaving_deadline: Duration,
    pub(crate) data: PathBuf,
}

pub(crate) struct Control {
    pub(super) me: Identity,
    introduction: Introduction,
    pub(super) runner: Arc<dyn Runner>,
    pub(super) uplink: Arc<dyn Uplink>,
    pools: Pools,
    pub(super) writer: SpecWriter,
    logs: LogSink,
    secrets: SecretIntake,
    health: Arc<Health>,
    heartbeat_every: Duration,
    leaving_deadline: Duration,
    data: PathBuf,
    started: Instant,
    pub(super) spec: Arc<HostSpecBody>,
    accepted: Option<Accepted>,
    pub(super) running: Running,
    reporter: Reporter,
    heartbeat_seq: u64,
    pub(super) leaving: Option<Leaving>,
}

impl Control {
    /// A loop that has nothing yet, and where its facts come in.
    pub(crate) fn new(parts: Parts) -> (Self, mpsc::Receiver<Fact>) {
        let (facts, receiver) = mpsc::channel(FACTS_WAITING_MAX);
        parts.runner.report_to(facts.clone());
        let pools = Pools::new(
            facts,
            Arc::clone(&parts.runner),
            Arc::clone(&parts.uplink),
            parts.artifacts,
        );
        let control = Self {
            reporter: Reporter::new(parts.me.boot_id.clone()),
            me: parts.me,
            introduction: parts.introduction,
            runner: parts.runner,
            uplink: parts.uplink,
            pools,
            writer: parts.writer,
            logs: parts.logs,
            secrets: parts.secrets,
            health: parts.health,
            heartbeat_every: parts.heartbeat,
            leaving_deadline: parts.leaving_deadline,
            data: parts.data,
            started: Instant::now(),
            spec: Arc::default(),
            accepted: None,
            running: Running::new(parts.machine),
            heartbeat_seq: 0,
            leaving: None,
        };
        (control, receiver)
    }

    /// Begins with the spec of an earlier start, before anybody is asked.
    pub(crate) fn restore(&mut self, body: HostSpecBody, accepted: Accepted) {
        self.secrets.restore(&body);
        self.spec = Arc::new(body);
        self.accepted = Some(accepted);
        self.turn(vec![Fact::SpecAccepted]);
    }

    /// Loops until `shutdown` has ended and the host's work is taken over, or its time is up.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::Receiver<SourceEvent>,
        mut facts: mpsc::Receiver<Fact>,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut heartbeats = tokio::time::interval(self.heartbeat_every);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweeps = tokio::time::interval(SWEEP_EVERY);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        let (mut shutdown_heard, mut source_open) = (false, true);
        let mut arrived = Vec::new();
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                event = events.recv(), if source_open => match event {
                    Some(event) => arrived.extend(self.take(event)),
                    // Silence stops nothing, and a source that has ended is only silent.
                    None => source_open = false,
                },
                _ = facts.recv_many(&mut arrived, FACTS_WAITING_MAX) => {}
                _ = heartbeats.tick() => self.say_alive(),
                _ = sweeps.tick() => self.begin_sweep(),
                () = tokio::time::sleep_until(wake_at) => arrived.push(Fact::TimePassed),
                () = &mut shutdown, if !shutdown_heard => {
                    shutdown_heard = true;
                    self.begin_to_leave(self.leaving_deadline);
                }
            }
            self.turn(std::mem::take(&mut arrived));
            if self.may_stop() {
                break;
            }
        }
        self.stop().await;
    }

    /// One turn: facts in, actions begun, and what changed said in one go.
    pub(super) fn turn(&mut self, mut facts: Vec<Fact>) {
        let now = self.now();
        for _ in 0..DECISIONS_PER_TURN_MAX {
            let jitter = Jitter(rand::random_range(0..1_000));
            self.running.apply(&self.spec, facts.drain(..), now, jitter);
            let actions = reconcile(&self.spec, &self.running, now);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.running.begin(&action);
                facts.extend(self.pools.execute(action, &self.spec));
            }
        }
        let reports = self.reporter.changes(&self.running, self.accepted);
        if !reports.is_empty() {
            self.note_units(&reports);
            self.uplink.status(reports);
            self.health.note_units(self.reporter.units(), self.accepted);
        }
        self.health.note_turn();
    }

    fn take(&mut self, event: SourceEvent) -> Option<Fact> {
        match event {
            SourceEvent::Spec {
                read,
                sender,
                envelope,
                reply,
            } => {
                let taken = (*read).and_then(|read| self.take_spec(read, sender));
                let (answer, fact) = match taken {
                    Ok((accepted, fact)) => {
                        if let (Some(envelope), Some(_)) = (envelope, &fact) {
                            self.writer.write(envelope);
                        }
                        (SpecAnswer::Accepted(accepted), fact)
                    }
                    Err(reason) => {
                        tracing::warn!(%reason, "a spec is refused");
                        (
                            SpecAnswer::Refused {
                                reason,
                                accepted: self.accepted,
                            },
                            None,
                        )
                    }
                };
                // Answered now, before any work is done. Who does not listen any more asks again.
                let _ = reply.send(answer);
                fact
            }
            SourceEvent::Body { body, reply } => {
                let (answer, fact) = match self.take_body(*body) {
                    Ok((accepted, fact)) => (SpecAnswer::Accepted(accepted), fact),
                    Err(reason) => (
                        SpecAnswer::Refused {
                            reason,
                            accepted: self.accepted,
                        },
                        None,
                    ),
                };
                let _ = reply.send(answer);
                fact
            }
            SourceEvent::HelloWanted => {
                self.uplink
                    .hello(self.introduction.hello(&self.reporter, self.accepted));
                None
            }
            SourceEvent::HelloAnswered => {
                let reports = self.reporter.full(&self.running, self.accepted);
                self.uplink.status(reports);
                None
            }
            SourceEvent::ReportWanted { reply } => {
                let mut reports = self.reporter.full(&self.running, self.accepted).into_iter();
                if let Some(first) = reports.next() {
                    let _ = reply.send(first);
                }
                self.uplink.status(reports.collect());
                None
            }
            SourceEvent::LogsWanted { logs, reply } => {
                // Copying many lines takes time that this loop does not have.
                let sink = self.logs.clone();
                tokio::task::spawn_blocking(move || reply.send(sink.newest(&logs)).is_ok());
                None
            }
            SourceEvent::Fire { fire, reply } => {
                let answer = match fire.boot_id == self.me.boot_id {
                    true => self.runner.fire(&fire),
                    false => FireAnswer::Refused {
                        reason: "it is for another start of this agent".to_owned(),
                    },
                };
                tracing::debug!(unit = %fire.unit, due = fire.due.0, ?answer, "due");
                let _ = reply.send(answer);
                None
            }
            SourceEvent::LinkUp => {
                tracing::info!("the link is up");
                self.health.note_link(true);
                Some(Fact::LinkRestored)
            }
            SourceEvent::LinkDown => {
                tracing::warn!("the link is down; what runs goes on");
                self.health.note_link(false);
                None
            }
        }
    }

    /// Takes a signed spec, if it is the next one; the fact is there only if anything is new.
    fn take_spec(&mut self, read: ReadSpec, sender: Sender) -> Result<(Accepted, Option<Fact>), SpecRefusal> {
        let accepted = accept(&self.me, self.accepted, sender, &read)?;
        // The same spec may come again with secrets that could not be had the first time.
        let new_secrets = self.secrets.take(&read.spec.body, &read.spec.secrets);
        if self.accepted == Some(accepted) {
            return Ok((accepted, new_secrets.then_some(Fact::SecretsArrived)));
        }
        tracing::info!(version = %accepted.version, units = read.spec.body.units.len(), "accepted a spec");
        self.spec = Arc::new(read.spec.body);
        self.accepted = Some(accepted);
        Ok((accepted, Some(Fact::SpecAccepted)))
    }

    /// Takes what the owner of this machine says to run. Each change is one version further.
    fn take_body(&mut self, body: HostSpecBody) -> Result<(Accepted, Option<Fact>), SpecRefusal> {
        let digest = body.digest().map_err(|e| SpecRefusal::Unreadable(e.to_string()))?;
        if let Some(accepted) = self.accepted.filter(|accepted| accepted.digest == digest) {
            return Ok((accepted, None));
        }
        let held = self.accepted.map_or(Version::default(), |accepted| accepted.version);
        let accepted = Accepted {
            version: Version {
                epoch: held.epoch,
                n: held.n.saturating_add(1),
            },
            digest,
        };
        self.spec = Arc::new(body);
        self.accepted = Some(accepted);
        Ok((accepted, Some(Fact::SpecAccepted)))
    }

    pub(super) fn say_alive(&mut self) {
        self.heartbeat_seq += 1;
        let in_flight = self.runner.load().in_flight;
        let leaving = self.leaving.is_some();
        let heartbeat =
            self.introduction
                .heartbeat(self.heartbeat_seq, &self.reporter, self.accepted, leaving, in_flight);
        self.uplink.heartbeat(heartbeat);
        self.health.note_heartbeat();
    }

    fn begin_sweep(&self) {
        let components = self.spec.templates.values().flat_map(|template| &template.components);
        let (wanted, data) = (
            components.map(|component| component.artifact).collect(),
            self.data.clone(),
        );
        tokio::task::spawn_blocking(move || sweep(&data, &wanted));
    }

    fn note_units(&self, reports: &[HostReport]) {
        for report in reports {
            for status in &report.units {
                self.logs.unit_here(&status.unit);
                let (unit, phase) = (&status.unit, status.phase.as_str());
                match status.phase {
                    UnitPhase::Failed | UnitPhase::Refused => {
                        tracing::warn!(%unit, phase, reason = status.reason.as_deref(), attempts = status.attempts);
                    }
                    _ => tracing::debug!(%unit, phase),
                }
            }
            report.removed.iter().for_each(|unit| self.logs.unit_gone(unit));
        }
    }

    pub(super) fn now(&self) -> Mono {
        Mono(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// When the loop has something to do by itself; a day from now if never.
    fn wake_at(&self) -> Instant {
        const DAY_MS: u64 = 86_400_000;
        let now = self.now();
        let leaving = self.leaving.as_ref().map(|leaving| leaving.deadline);
        let at = self
            .running
            .wake_at()
            .into_iter()
            .chain(leaving)
            .min()
            .unwrap_or(now.plus(DAY_MS));
        self.started + Duration::from_millis(at.0.min(now.plus(DAY_MS).0))
    }
}
