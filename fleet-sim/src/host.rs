//! One pretended host: what it holds, what it runs, and what it says.
//!
//! In: messages, time, and what was due. Out: messages and what is due next. Nothing in here waits; a [`Turn`] collects.

#[cfg(test)]
mod tests;
mod units;

use crate::counters::{Counters, add};
use crate::ledger::Shared;
use crate::options::FleetOptions;
use crate::timer::{Due, Timers};
use bytes::Bytes;
use heddle_agent_core::{Identity, Sender, accept, read_spec};
use heddle_protocol::defaults::CHUNKED_BYTES_MAX;
use heddle_protocol::envelope::{self, Kept, Kind};
use heddle_protocol::host_report::{
    Accepted, Engine, Heartbeat, Hello, HelloAnswer, HostReport, SpecAnswer, SpecRefusal,
};
use heddle_protocol::id::{BootId, HostId, NameError};
use heddle_protocol::label::HOST_NAME_LABEL;
use heddle_protocol::sign::SigningKey;
use heddle_protocol::subject::Subject;
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;
use units::Units;

/// How long a hello waits for its answer, in milliseconds, as in the agent.
const HELLO_TIMEOUT_MS: u64 = 3_000;
/// The pause before a hello that had no answer is sent again, first and at most, in milliseconds, as in the agent.
const HELLO_PAUSES_MS: (u64, u64) = (200, 5_000);
/// Units in one status message, so that it stays well below NATS's limit.
const UNITS_PER_REPORT: usize = 2_000;

/// What a host does in one turn.
pub(crate) struct Turn<'a> {
    pub(crate) now: u64,
    pub(crate) options: &'a FleetOptions,
    pub(crate) counters: &'a Counters,
    pub(crate) ledger: &'a Shared,
    pub(crate) timers: &'a mut Timers,
    pub(crate) out: &'a mut Vec<Outgoing>,
}

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) subject: String,
    pub(crate) reply: Option<String>,
    pub(crate) payload: Bytes,
}

impl Turn<'_> {
    fn send<T: Serialize>(&mut self, subject: String, message: &T) {
        match serde_json::to_vec(message) {
            Ok(payload) => self.post(subject, None, payload.into()),
            Err(e) => tracing::error!(%subject, error = %e, "a message cannot be written"),
        }
    }

    fn post(&mut self, subject: String, reply: Option<String>, payload: Bytes) {
        add(&self.counters.bytes_sent, payload.len() as u64);
        self.out.push(Outgoing {
            subject,
            reply,
            payload,
        });
    }
}

/// Whether a host is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// It was not started yet, has left, or died: it says and hears nothing.
    Away,
    /// It lives.
    Here,
    /// It was told to stop, and waits for its work to be taken over.
    Leaving,
}

/// One host.
pub(crate) struct Host {
    number: usize,
    me: Identity,
    key: Arc<SigningKey>,
    presence: Presence,
    /// One more for each start: what was due for an earlier one is not.
    life: u64,
    accepted: Option<Accepted>,
    kept: Kept,
    units: Units,
    seq: u64,
    status_seq: u64,
    hello: HelloState,
    /// Drawn once per life: how long the pauses between hellos are, as the agent's jitter.
    jitter: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HelloState {
    /// Sent or to be sent, with the pause after the next failure.
    Waits { pause: u64 },
    /// Welcomed.
    Done,
}

impl Host {
    pub(crate) fn new(number: usize, options: &FleetOptions) -> Result<Self, NameError> {
        let me = Identity {
            realm: options.realm.clone(),
            host: HostId::parse(&options.host_name(number))?,
            boot_id: BootId::new(""),
        };
        Ok(Self {
            number,
            me,
            key: Arc::new(SigningKey::generate()),
            presence: Presence::Away,
            life: 0,
            accepted: None,
            kept: Kept::default(),
            units: Units::default(),
            seq: 0,
            status_seq: 0,
            hello: HelloState::Done,
            jitter: 1.0,
        })
    }

    pub(crate) fn is_here(&self) -> bool {
        self.presence != Presence::Away
    }

    /// Begins a life of its own, `after` milliseconds from now. A host that lives ends first, as if its process had
    /// crashed; with `keeps_spec` it finds the spec of its last life on its disk, and starts what that says again.
    pub(crate) fn start(&mut self, turn: &mut Turn<'_>, after: u64, keeps_spec: bool) {
        let kept = keeps_spec.then(|| (self.accepted, self.units.wanted()));
        self.die(turn);
        self.presence = Presence::Here;
        self.me.boot_id = BootId::new(uuid::Uuid::new_v4().to_string());
        (self.seq, self.status_seq) = (0, 0);
        let drawn = crate::delay::chance(&(turn.options.seed, self.number, self.life));
        self.jitter = 0.5 + (drawn % 1_000) as f64 / 2_000.0;
        self.hello = HelloState::Waits {
            pause: HELLO_PAUSES_MS.0,
        };
        let begins = turn.now + after;
        let period = turn.options.heartbeat.as_millis().max(1) as u64;
        turn.timers.set(begins, self.number, self.life, Due::Hello);
        // Each host's heartbeats are at another point of the period, as those of machines that started at other times.
        turn.timers
            .set(begins + drawn % period, self.number, self.life, Due::Beat);
        if let Some((Some(accepted), wanted)) = kept {
            self.accepted = Some(accepted);
            self.units.take_kept(wanted, &mut self.starting(turn));
        }
    }

    /// Ends without a word: no message in or out until it is started again.
    pub(crate) fn die(&mut self, turn: &mut Turn<'_>) {
        self.presence = Presence::Away;
        self.life += 1;
        self.accepted = None;
        self.kept.forget();
        self.units.end(turn.ledger);
    }

    /// Is told to stop: it says so in every heartbeat, and goes when its work was taken over.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>) {
        if self.presence == Presence::Here {
            self.presence = Presence::Leaving;
            self.beat(turn);
        }
    }

    /// Does what is due.
    pub(crate) fn due(&mut self, turn: &mut Turn<'_>, life: u64, due: Due) {
        if life != self.life || !self.is_here() {
            return;
        }
        match due {
            Due::Beat => {
                self.beat(turn);
                let period = turn.options.heartbeat.as_millis().max(1) as u64;
                turn.timers.set(turn.now + period, self.number, self.life, Due::Beat);
            }
            Due::Hello => self.say_hello(turn),
            Due::Started => {
                let ready = self.units.started(turn.now, turn.ledger);
                self.report(turn, ready);
            }
        }
    }

    fn beat(&mut self, turn: &mut Turn<'_>) {
        self.seq += 1;
        add(&turn.counters.heartbeats, 1);
        let heartbeat = Heartbeat {
            boot_id: self.me.boot_id.clone(),
            seq: self.seq,
            accepted: self.accepted,
            running_digest: self.units.digest(),
            status_seq: self.status_seq,
            leaving: self.presence == Presence::Leaving,
            rss_bytes: 0,
            in_flight: 0,
        };
        let subject = Subject::Heartbeat(self.me.realm.clone(), self.me.host.clone());
        turn.send(subject.to_string(), &heartbeat);
    }

    /// Says hello, and sets when it is said again without an answer.
    fn say_hello(&mut self, turn: &mut Turn<'_>) {
        let HelloState::Waits { pause } = self.hello else {
            return;
        };
        add(&turn.counters.hellos, 1);
        let zones = turn.options.zones;
        let mut labels = turn.options.labels.clone();
        labels.insert(HOST_NAME_LABEL.to_owned(), self.me.host.to_string());
        if zones > 0 {
            labels.insert("zone".to_owned(), format!("zone-{}", self.number % zones));
        }
        let hello = Hello {
            realm: self.me.realm.clone(),
            host: self.me.host.clone(),
            boot_id: self.me.boot_id.clone(),
            join_token: None,
            labels,
            capacity: turn.options.capacity.clone(),
            features: turn.options.features.clone(),
            engine: Engine::default(),
            seal_key: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bound: self.units.bound().clone(),
            accepted: self.accepted,
        };
        let sealed = serde_json::to_vec(&hello)
            .map_err(|e| e.to_string())
            .and_then(|payload| envelope::seal(Kind::Hello, &payload, &self.key).map_err(|e| e.to_string()));
        let subject = Subject::Hello(self.me.realm.clone(), self.me.host.clone()).to_string();
        match sealed {
            Ok(sealed) => turn.post(
                subject,
                Some(answer_subject(&turn.options.prefix, self.number)),
                sealed.into(),
            ),
            Err(e) => tracing::error!(error = %e, "a hello cannot be signed"),
        }
        let again = HELLO_TIMEOUT_MS + (pause as f64 * self.jitter) as u64;
        self.hello = HelloState::Waits {
            pause: (pause * 2).min(HELLO_PAUSES_MS.1),
        };
        turn.timers.set(turn.now + again, self.number, self.life, Due::Hello);
    }

    /// Takes the answer to a hello.
    pub(crate) fn take_welcome(&mut self, turn: &mut Turn<'_>, payload: &[u8]) {
        if !self.is_here() || self.hello == HelloState::Done {
            return;
        }
        match serde_json::from_slice::<HelloAnswer>(payload) {
            Ok(HelloAnswer::Welcome { .. }) => {
                add(&turn.counters.welcomes, 1);
                self.hello = HelloState::Done;
                let reports = self.full(turn.ledger);
                self.post_reports(turn, reports, None);
            }
            // It is said again when the time for an answer is over.
            Ok(HelloAnswer::Refused { reason, next }) => {
                add(&turn.counters.hellos_refused, 1);
                tracing::warn!(host = %self.me.host, %reason, %next, "the scheduler does not admit this host");
            }
            // Such as that nobody listens.
            Err(e) => tracing::debug!(error = %e, "the answer to a hello cannot be read"),
        }
    }

    /// Is asked for a hello.
    pub(crate) fn take_hello_wanted(&mut self, turn: &mut Turn<'_>) {
        add(&turn.counters.hellos_asked, 1);
        if self.hello == HelloState::Done {
            self.hello = HelloState::Waits {
                pause: HELLO_PAUSES_MS.0,
            };
            self.say_hello(turn);
        }
    }

    /// Is asked for all that it runs.
    pub(crate) fn take_report_wanted(&mut self, turn: &mut Turn<'_>, reply: Option<String>) {
        add(&turn.counters.reports_asked, 1);
        let reports = self.full(turn.ledger);
        self.post_reports(turn, reports, reply);
    }

    /// Takes a spec, or refuses it, and answers before it does any work.
    pub(crate) fn take_spec(&mut self, turn: &mut Turn<'_>, envelope: &[u8], reply: Option<String>) {
        let begun = Instant::now();
        add(&turn.counters.pushes, 1);
        add(&turn.counters.push_bytes, envelope.len() as u64);
        let whole = self.kept.whole(envelope, CHUNKED_BYTES_MAX);
        let whole = whole.map_err(|e| SpecRefusal::NotKept(e.to_string()));
        let read = whole.and_then(|made| {
            let envelope = made.as_deref().unwrap_or(envelope);
            add(&turn.counters.deltas, u64::from(made.is_some()));
            let read = verified(envelope, &turn.options.realm_keys).and_then(read_spec)?;
            self.kept.keep(envelope);
            Ok(read)
        });
        let taken = read.and_then(|read| {
            let accepted = accept(&self.me, self.accepted, Sender::Network, &read)?;
            Ok((accepted, read.spec.body))
        });
        add(
            &turn.counters.verify_us,
            u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        );
        let (answer, body) = match taken {
            Ok((accepted, _)) if self.accepted == Some(accepted) => {
                add(&turn.counters.accepted_again, 1);
                (SpecAnswer::Accepted(accepted), None)
            }
            Ok((accepted, body)) => {
                add(&turn.counters.accepted, 1);
                self.accepted = Some(accepted);
                (SpecAnswer::Accepted(accepted), Some(body))
            }
            Err(reason) => {
                add(&turn.counters.refused, 1);
                tracing::debug!(host = %self.me.host, %reason, "a spec is refused");
                let accepted = self.accepted;
                (SpecAnswer::Refused { reason, accepted }, None)
            }
        };
        if let Some(reply) = reply {
            turn.send(reply, &answer);
        }
        if let Some(body) = body {
            let changed = self.units.take(&body, &mut self.starting(turn));
            self.report(turn, changed);
            if self.presence == Presence::Leaving && self.units.is_empty() {
                self.die(turn);
            }
        }
    }

    /// Answers what a pretended host has nothing for.
    pub(crate) fn take_bad_chunk(&mut self, turn: &mut Turn<'_>, why: String, reply: Option<String>) {
        add(&turn.counters.refused, 1);
        if let Some(reply) = reply {
            let reason = SpecRefusal::Unreadable(why);
            let accepted = self.accepted;
            turn.send(reply, &SpecAnswer::Refused { reason, accepted });
        }
    }

    fn starting<'t>(&self, turn: &'t mut Turn<'_>) -> units::Starting<'t> {
        units::Starting {
            now: turn.now,
            host: self.number,
            life: self.life,
            seed: turn.options.seed,
            delay: &turn.options.delay,
            ledger: turn.ledger,
            timers: &mut *turn.timers,
        }
    }

    /// Says what changed.
    fn report(&mut self, turn: &mut Turn<'_>, changed: units::Changed) {
        let parts = changed.in_parts(UNITS_PER_REPORT);
        let reports = parts.into_iter().map(|part| self.message(false, part)).collect();
        self.post_reports(turn, reports, None);
    }

    /// Messages that say everything.
    fn full(&mut self, ledger: &Shared) -> Vec<HostReport> {
        let parts = self.units.all(ledger).in_parts(UNITS_PER_REPORT);
        let mut first = true;
        let message = |part| self.message(std::mem::take(&mut first), part);
        parts.into_iter().map(message).collect()
    }

    fn message(&mut self, full: bool, part: units::Changed) -> HostReport {
        self.status_seq += 1;
        HostReport {
            boot_id: self.me.boot_id.clone(),
            status_seq: self.status_seq,
            full,
            accepted: self.accepted,
            units: part.units,
            removed: part.removed,
            running_digest: self.units.digest(),
            bound: self.units.bound().clone(),
            capability_errors: std::collections::BTreeMap::new(),
        }
    }

    /// Sends reports as status messages, the first of them as an answer if somebody asked.
    fn post_reports(&self, turn: &mut Turn<'_>, reports: Vec<HostReport>, mut reply: Option<String>) {
        let subject = Subject::Status(self.me.realm.clone(), self.me.host.clone()).to_string();
        add(&turn.counters.reports, reports.len() as u64);
        for report in reports {
            turn.send(reply.take().unwrap_or_else(|| subject.clone()), &report);
        }
    }
}

/// Where the answers to a host's hellos go.
fn answer_subject(prefix: &str, number: usize) -> String {
    format!("_INBOX_{prefix}.hello.{number}")
}

/// Where the answers to all hosts' hellos go.
pub(crate) fn answers_subject(prefix: &str) -> String {
    format!("_INBOX_{prefix}.hello.*")
}

fn verified<'e>(envelope: &'e [u8], trusted: &[String]) -> Result<&'e [u8], SpecRefusal> {
    let opened = envelope::open(envelope).map_err(|e| SpecRefusal::Unreadable(e.to_string()))?;
    opened
        .verified(Kind::Spec, trusted)
        .map_err(|e| SpecRefusal::Signature(e.to_string()))
}
