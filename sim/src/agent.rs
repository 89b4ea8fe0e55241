//! A host: the agent's production core, and a shell that does on a simulated machine what the real one does.
//!
//! In: messages, the ends of what was begun, time. Out: messages, and what really runs, which is what checks look at.

use crate::check::agents::Shown;
use crate::draw::Draw;
use crate::net::{End, Event, Net};
use crate::process::Commons;
use crate::scenario::Pace;
use async_nats::Message;
use bytes::Bytes;
use heddle_agent_core::{
    Action, Fact, Identity, Jitter, Machine, ReadSpec, Reporter, RunId, Running, Sender, accept, read_spec, reconcile,
};
use heddle_protocol::defaults::{CHUNKED_BYTES_MAX, HEARTBEAT_MS, LEAVING_DEADLINE_MS};
use heddle_protocol::digest::Digest;
use heddle_protocol::envelope::{self, Kept, Kind};
use heddle_protocol::host_report::{
    Accepted, Capacity, Heartbeat, Hello, HelloAnswer, HostReport, SpecAnswer, SpecRefusal,
};
use heddle_protocol::host_spec::{CapabilityOffer, Feature, HostSpecBody};
use heddle_protocol::id::{BootId, HostId, UnitId, Version};
use heddle_protocol::sign::SigningKey;
use heddle_protocol::subject::{HostVerb, Subject};
use heddle_protocol::time::Mono;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long a hello waits for its answer.
const HELLO_MS: u64 = 3_000;
/// The pause before a hello is said again, first and at most.
const HELLO_PAUSES_MS: (u64, u64) = (200, 5_000);
/// After so long an end notices a dead link by itself: two lost pings.
pub const NOTICE_MS: u64 = 6_000;
/// How often an agent has forgotten the spec that the next one may be a delta from.
const FORGETS: f64 = 0.05;
/// Times that one turn decides anew.
const DECISIONS_PER_TURN_MAX: usize = 100;

/// A host and what is on it.
pub struct Agent {
    /// Its place in the list.
    pub number: u32,
    /// Its name.
    pub id: HostId,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it has to give.
    pub capacity: Capacity,
    /// Its agent, while one runs.
    pub life: Option<Life>,
    /// Until when its agent stands still.
    pub paused_until: u64,
    /// The images whose components never start, by the digest of their artifact.
    pub bad: Arc<BTreeSet<Digest>>,
    /// Whether steps may fail.
    pub storm: bool,
    boots: u64,
    key: Arc<SigningKey>,
    features: BTreeSet<Feature>,
    pace: Pace,
    draw: Draw,
    forgets: Draw,
    cache: Option<Bytes>,
    fetched: BTreeSet<Digest>,
    loses_artifact: bool,
}

/// One start of an agent.
pub struct Life {
    /// Which start it is.
    pub boot: u64,
    /// What it should run.
    pub spec: HostSpecBody,
    /// Which spec that is.
    pub accepted: Option<Accepted>,
    kept: Kept,
    /// What it runs.
    pub running: Running,
    /// The runs that requests reach.
    pub serving: BTreeMap<UnitId, RunId>,
    /// Whether it was told to stop, and until when it waits.
    pub leaving: Option<u64>,
    me: Identity,
    reporter: Reporter,
    seq: u64,
    link_up: bool,
    hello: u64,
    hello_waits: bool,
    hello_pause: u64,
    wake_at: Option<u64>,
    shown: Shown,
}

/// What checks learn of one turn of an agent.
#[derive(Debug, Default)]
pub struct Seen {
    /// A spec that became what the host runs, and what it held before.
    pub accepted: Option<(ReadSpec, Option<Accepted>)>,
    /// What was served before the turn, where it changed.
    pub served_before: Option<BTreeMap<UnitId, u32>>,
    /// Whether the process ended by itself.
    pub left: bool,
}

impl Agent {
    /// A host that is switched off.
    pub fn new(number: u32, zone: u32, slots: u32, pace: Pace, seed: u64, keys: &Keys) -> Self {
        let zone = BTreeMap::from([("zone".to_owned(), format!("z{zone}"))]);
        let features = [
            Feature::WASI_P2,
            Feature::WASI_P3,
            Feature::HTTP,
            Feature::KEYVALUE_MEMORY,
            Feature::CONFIG,
            Feature::LOGGING,
            Feature::SECRETS,
            Feature::RUN,
        ];
        Self {
            number,
            id: host_id(number),
            labels: zone,
            capacity: Capacity {
                memory_bytes: 1 << 44,
                replica_slots: slots,
                ..Capacity::default()
            },
            life: None,
            paused_until: 0,
            bad: Arc::clone(&keys.bad),
            storm: true,
            boots: 0,
            key: Arc::clone(&keys.hosts[number as usize % keys.hosts.len()]),
            // Some are of a release that takes whole specs alone.
            features: features
                .into_iter()
                .chain((!number.is_multiple_of(4)).then_some(Feature::SPEC_DELTA))
                .collect(),
            pace,
            draw: Draw::part(seed, "agent", u64::from(number)),
            forgets: Draw::part(seed, "forgets", u64::from(number)),
            cache: None,
            fetched: BTreeSet::new(),
            loses_artifact: false,
        }
    }

    /// Starts the agent, with what its disk holds.
    pub fn start(&mut self, commons: &Commons) -> Seen {
        self.boots += 1;
        let boot = self.boots;
        let me = Identity {
            realm: commons.name.clone(),
            host: self.id.clone(),
            boot_id: BootId::new(format!("{}-{boot}", self.id)),
        };
        let machine = Machine {
            features: self.features.clone(),
            instance_memory_bytes_max: None,
        };
        let mut life = Life {
            boot,
            spec: HostSpecBody::default(),
            accepted: None,
            kept: Kept::default(),
            running: Running::new(machine),
            serving: BTreeMap::new(),
            leaving: None,
            reporter: Reporter::new(me.boot_id.clone()),
            seq: 0,
            link_up: false,
            hello: 0,
            hello_waits: false,
            hello_pause: HELLO_PAUSES_MS.0,
            wake_at: None,
            shown: Shown::default(),
            me,
        };
        let net = &commons.net;
        net.say(|| format!("{} starts, boot {boot}", self.id));
        let cached = self.cache.as_ref().and_then(|envelope| {
            let read = verify(envelope, &commons.key).ok()?;
            let accepted = accept(&life.me, None, Sender::OwnCache, &read).ok()?;
            Some((read, accepted))
        });
        let mut facts = Vec::new();
        if let Some((read, accepted)) = cached {
            life.spec = read.spec.body;
            life.accepted = Some(accepted);
            facts.push(Fact::SpecAccepted);
        }
        self.life = Some(life);
        let seen = self.turn(commons, facts);
        let (host, first) = (self.number, self.draw.between(0, HEARTBEAT_MS));
        net.after(first, Event::Beat { host, boot });
        self.look_at_link(commons);
        seen
    }

    /// Ends the agent in the middle of anything.
    pub fn crash(&mut self, keeps_cache: bool) {
        self.life = None;
        self.paused_until = 0;
        if !keeps_cache {
            self.cache = None;
            self.fetched.clear();
        }
    }

    /// Has the disk lose an artifact when it is looked for next.
    pub fn lose_artifact(&mut self) {
        self.fetched.clear();
        self.loses_artifact = true;
    }

    /// Tells the agent to stop.
    pub fn stop(&mut self, commons: &Commons) {
        let now = commons.net.now();
        if let Some(life) = &mut self.life {
            life.leaving.get_or_insert(now + LEAVING_DEADLINE_MS);
            let (host, boot) = (self.number, life.boot);
            commons.net.after(LEAVING_DEADLINE_MS + 1, Event::Wake { host, boot });
            self.beat(commons);
        }
    }

    /// Looks whether the link broke or came back.
    pub fn look_at_link(&mut self, commons: &Commons) {
        let net = &commons.net;
        let (now, link) = (net.now(), net.link(End::Host(self.number)));
        let up = !link.is_cut(now) || !(link.noticed || now >= link.since + NOTICE_MS);
        let Some(life) = &mut self.life else { return };
        if up && !life.link_up {
            life.link_up = true;
            self.turn(commons, vec![Fact::LinkRestored]);
            self.say_hello(commons);
        } else if !up {
            life.link_up = false;
        }
    }

    /// Says that it lives.
    pub fn beat(&mut self, commons: &Commons) {
        let Some(life) = &mut self.life else { return };
        life.seq += 1;
        let heartbeat = Heartbeat {
            boot_id: life.me.boot_id.clone(),
            seq: life.seq,
            accepted: life.accepted,
            running_digest: life.reporter.running_digest(),
            status_seq: life.reporter.status_seq(),
            leaving: life.leaving.is_some(),
            rss_bytes: 0,
            in_flight: 0,
        };
        life.shown.beats(commons, &self.id, &heartbeat);
        self.post(
            commons,
            &Subject::Heartbeat(commons.name.clone(), self.id.clone()),
            &heartbeat,
        );
    }

    /// Takes in the end of something that it began, or that time has passed.
    pub fn learn(&mut self, commons: &Commons, fact: Fact) -> Seen {
        let fact = match fact {
            Fact::ArtifactFetched { digest } => self.fetch_ended(commons, digest),
            fact => fact,
        };
        let mut seen = self.turn(commons, vec![fact]);
        seen.left = self.may_stop(commons.net.now());
        seen
    }

    /// Takes in a message.
    pub fn take(&mut self, commons: &Commons, message: &Message) -> Seen {
        let mut seen = Seen::default();
        let Some(life) = &mut self.life else { return seen };
        if message.subject.starts_with("_INBOX.") {
            if message.subject.rsplit('.').next() == Some(&format!("{}-{}", life.boot, life.hello)) {
                self.hello_answered(commons, &message.payload);
            }
            return seen;
        }
        let reply = message.reply.as_ref().map(|reply| reply.to_string());
        match Subject::parse(&message.subject) {
            Some(Subject::Host(_, _, HostVerb::Spec)) => {
                seen = self.take_spec(commons, &message.payload, reply);
                seen.left = self.may_stop(commons.net.now());
            }
            Some(Subject::Host(_, _, HostVerb::Hello)) => self.say_hello(commons),
            Some(Subject::Host(_, _, HostVerb::Report)) => {
                let reports = life.reporter.full(&life.running, life.accepted);
                life.shown.reports(commons, &self.id, &reports);
                let mut reports = reports.into_iter();
                if let (Some(first), Some(reply)) = (reports.next(), reply) {
                    self.answer(commons, &reply, &first);
                }
                self.tell(commons, reports.collect());
            }
            _ => {}
        }
        seen
    }

    fn take_spec(&mut self, commons: &Commons, payload: &Bytes, reply: Option<String>) -> Seen {
        let mut seen = Seen::default();
        let Some(life) = &mut self.life else { return seen };
        let before = life.accepted;
        // As after a restart of the part that listens.
        if self.storm && self.forgets.happens(FORGETS) {
            life.kept.forget();
        }
        let whole = life.kept.whole(payload, CHUNKED_BYTES_MAX);
        let whole = whole.map(|made| {
            let made = made.map(Bytes::from);
            if let Some(made) = &made {
                let (bytes, id) = (payload.len(), &self.id);
                commons
                    .net
                    .say(|| format!("{id} makes {} bytes of a delta of {bytes}", made.len()));
            }
            made.unwrap_or_else(|| payload.clone())
        });
        let payload = whole.as_ref().unwrap_or(payload);
        let opened = match &whole {
            Ok(envelope) => verify(envelope, &commons.key),
            Err(e) => Err(SpecRefusal::NotKept(e.to_string())),
        };
        if opened.is_ok() {
            life.kept.keep(payload);
        }
        let taken = opened.and_then(|read| {
            let accepted = accept(&life.me, life.accepted, Sender::Network, &read)?;
            Ok((read, accepted))
        });
        let (answer, facts) = match taken {
            Ok((_, accepted)) if before == Some(accepted) => (SpecAnswer::Accepted(accepted), Vec::new()),
            Ok((read, accepted)) => {
                life.spec = read.spec.body.clone();
                life.accepted = Some(accepted);
                let (host, boot, envelope) = (self.number, life.boot, payload.clone());
                let written = self.draw.between(1, 30);
                commons.net.after(written, Event::Cached { host, boot, envelope });
                commons.net.say(|| {
                    let units: Vec<String> = read
                        .spec
                        .body
                        .units
                        .iter()
                        .map(|u| format!("{}×{}", u.id(), u.count))
                        .collect();
                    format!("{} accepts {}: {}", self.id, accepted.version, units.join(" "))
                });
                seen.accepted = Some((read, before));
                (SpecAnswer::Accepted(accepted), vec![Fact::SpecAccepted])
            }
            Err(reason) => {
                commons.net.say(|| format!("{} refuses a spec: {reason}", self.id));
                let accepted = life.accepted;
                (SpecAnswer::Refused { reason, accepted }, Vec::new())
            }
        };
        // Answered before any work is done.
        if let Some(reply) = reply {
            self.answer(commons, &reply, &answer);
        }
        let turned = self.turn(commons, facts);
        seen.served_before = turned.served_before;
        seen
    }

    /// The disk has a spec.
    pub fn cached(&mut self, boot: u64, envelope: Bytes) {
        if self.life.as_ref().is_some_and(|life| life.boot == boot) {
            self.cache = Some(envelope);
        }
    }

    /// One turn, as the real control loop does it.
    fn turn(&mut self, commons: &Commons, mut facts: Vec<Fact>) -> Seen {
        let now_ms = commons.net.now();
        let now = Mono(now_ms);
        let before = self.served();
        for _ in 0..DECISIONS_PER_TURN_MAX {
            let jitter = Jitter(self.draw.below(1_000) as u16);
            let Some(life) = &mut self.life else {
                return Seen::default();
            };
            life.running.apply(&life.spec, facts.drain(..), now, jitter);
            let actions = reconcile(&life.spec, &life.running, now);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                if let Some(life) = &mut self.life {
                    life.running.begin(&action);
                    life.shown.begins(commons, &self.id, &action);
                }
                facts.extend(self.begin(commons, action));
            }
        }
        let Some(life) = &mut self.life else {
            return Seen::default();
        };
        let reports = life.reporter.changes(&life.running, life.accepted);
        life.shown.reports(commons, &self.id, &reports);
        let wake_at = life.running.wake_at().map(|at| at.0.max(now_ms + 1));
        if let Some(at) = wake_at.filter(|at| life.wake_at.is_none_or(|set| *at < set || set <= now_ms)) {
            life.wake_at = Some(at);
            let (host, boot) = (self.number, life.boot);
            commons.net.at(at, Event::Wake { host, boot });
        }
        self.tell(commons, reports);
        let after = self.served();
        Seen {
            served_before: (before != after).then_some(before),
            ..Seen::default()
        }
    }

    /// Begins an action. The fact of one that is done at once is returned.
    fn begin(&mut self, commons: &Commons, action: Action) -> Option<Fact> {
        let fails = self.storm && self.draw.happens(self.pace.fails);
        let step = self.draw.between(1, self.pace.step_ms.max(1));
        let fact = match action {
            Action::SetCapability { name, offer } => {
                let bound = match &offer {
                    CapabilityOffer::Http { listen, .. } => Some(listen.clone()),
                    _ => None,
                };
                return Some(match fails {
                    true => Fact::CapabilityFailed {
                        name,
                        offer,
                        reason: "the address is taken".to_owned(),
                    },
                    false => Fact::CapabilitySet { name, offer, bound },
                });
            }
            Action::FetchArtifact { digest, .. } => match fails {
                true => Fact::ArtifactFetchFailed {
                    digest,
                    reason: "the bytes were damaged".to_owned(),
                },
                false => Fact::ArtifactFetched { digest },
            },
            Action::CompileArtifact { digest, wasi, .. } => {
                if std::mem::take(&mut self.loses_artifact) {
                    Fact::ArtifactLost { digest, wasi }
                } else if fails {
                    Fact::ComponentCompileFailed {
                        digest,
                        wasi,
                        reason: "out of memory".to_owned(),
                        for_good: false,
                    }
                } else {
                    Fact::ComponentCompiled { digest, wasi }
                }
            }
            Action::PrepareUnit {
                run,
                unit,
                template,
                count,
            } => {
                let is_bad = template.components.iter().any(|c| self.bad.contains(&c.artifact));
                match is_bad || fails {
                    true => Fact::UnitPrepareFailed {
                        run,
                        reason: "it trapped".to_owned(),
                        for_good: false,
                        lacks_secret: false,
                    },
                    false => Fact::UnitPrepared { run, unit, count },
                }
            }
            Action::SetRoutes { serving } => {
                if let Some(life) = &mut self.life {
                    life.serving = serving;
                }
                return None;
            }
            Action::DrainUnit { run, .. } => {
                let (host, ms) = (self.number, self.draw.between(0, self.pace.drain_ms));
                let boot = self.life.as_ref().map_or(0, |life| life.boot);
                let fact = Fact::UnitDrained { run };
                commons.net.after(ms, Event::Work { host, boot, fact });
                return None;
            }
            Action::ResizeUnit { .. }
            | Action::DropUnit { .. }
            | Action::RemoveCapability { .. }
            | Action::ForgetComponent { .. } => return None,
        };
        let (host, boot) = (self.number, self.life.as_ref().map_or(0, |life| life.boot));
        commons.net.after(step, Event::Work { host, boot, fact });
        None
    }

    /// Bytes come from a scheduler, if they are not on the disk.
    fn fetch_ended(&mut self, commons: &Commons, digest: Digest) -> Fact {
        if self.fetched.contains(&digest) || commons.net.reaches_a_scheduler(End::Host(self.number)) {
            self.fetched.insert(digest);
            return Fact::ArtifactFetched { digest };
        }
        Fact::ArtifactFetchFailed {
            digest,
            reason: "no answer".to_owned(),
        }
    }

    fn may_stop(&self, now: u64) -> bool {
        let Some(life) = &self.life else { return false };
        let Some(deadline) = life.leaving else { return false };
        let empty = life.spec.units.is_empty() && life.running.runs().next().is_none();
        empty || now >= deadline || !life.link_up
    }

    /// Says who it is.
    pub fn say_hello(&mut self, commons: &Commons) {
        let Some(life) = &mut self.life else { return };
        if !life.link_up {
            return;
        }
        if life.hello_waits {
            // Asked for: the pause of the one under way need not end first.
            life.hello_pause = HELLO_PAUSES_MS.0;
        }
        let hello = Hello {
            realm: commons.name.clone(),
            host: self.id.clone(),
            boot_id: life.me.boot_id.clone(),
            join_token: None,
            labels: self.labels.clone(),
            capacity: self.capacity.clone(),
            features: self.features.clone(),
            engine: Default::default(),
            seal_key: String::new(),
            version: "0.1.0".to_owned(),
            bound: life.reporter.bound().clone(),
            accepted: life.accepted,
        };
        life.hello += 1;
        life.hello_waits = true;
        let (boot, number) = (life.boot, life.hello);
        let payload = serde_json::to_vec(&hello).unwrap_or_default();
        let sealed = envelope::seal(Kind::Hello, &payload, &self.key).unwrap_or_default();
        let subject = Subject::Hello(commons.name.clone(), self.id.clone()).to_string();
        let host = self.number;
        let reply = format!("_INBOX.h.{host}.{boot}-{number}");
        commons.net.send(End::Host(host), &subject, Some(reply), sealed.into());
        commons.net.after(HELLO_MS, Event::HelloAgain { host, boot, number });
    }

    /// A hello had no answer in time, or its pause is over.
    pub fn hello_again(&mut self, commons: &Commons, number: u64) {
        if self
            .life
            .as_ref()
            .is_some_and(|life| life.hello_waits && life.hello == number)
        {
            self.say_hello(commons);
        }
    }

    fn hello_answered(&mut self, commons: &Commons, payload: &Bytes) {
        let Some(life) = &mut self.life else { return };
        match serde_json::from_slice::<HelloAnswer>(payload) {
            Ok(HelloAnswer::Welcome { .. }) => {
                life.hello_waits = false;
                life.hello_pause = HELLO_PAUSES_MS.0;
                let reports = life.reporter.full(&life.running, life.accepted);
                life.shown.reports(commons, &self.id, &reports);
                self.tell(commons, reports);
            }
            _ => {
                let (host, boot, number, pause) = (self.number, life.boot, life.hello, life.hello_pause);
                life.hello_pause = (pause * 2).min(HELLO_PAUSES_MS.1);
                commons.net.after(pause, Event::HelloAgain { host, boot, number });
            }
        }
    }

    fn tell(&self, commons: &Commons, reports: Vec<HostReport>) {
        let subject = Subject::Status(commons.name.clone(), self.id.clone());
        for report in &reports {
            self.post(commons, &subject, report);
        }
    }

    fn post<T: Serialize>(&self, commons: &Commons, subject: &Subject, message: &T) {
        if self.life.as_ref().is_some_and(|life| life.link_up) {
            let payload = serde_json::to_vec(message).unwrap_or_default();
            let net: &Net = &commons.net;
            net.send(End::Host(self.number), &subject.to_string(), None, payload.into());
        }
    }

    fn answer<T: Serialize>(&self, commons: &Commons, reply: &str, answer: &T) {
        let payload = serde_json::to_vec(answer).unwrap_or_default();
        commons.net.send(End::Host(self.number), reply, None, payload.into());
    }

    /// Replicas that requests reach, by unit.
    pub fn served(&self) -> BTreeMap<UnitId, u32> {
        let Some(life) = &self.life else { return BTreeMap::new() };
        let held: BTreeMap<RunId, u32> = life.running.runs().map(|(id, run)| (id, run.held_count)).collect();
        let served = life.serving.iter();
        served
            .filter_map(|(unit, run)| Some((unit.clone(), *held.get(run)?)))
            .collect()
    }

    /// The version of the spec that it holds.
    pub fn version(&self) -> Option<Version> {
        Some(self.life.as_ref()?.accepted?.version)
    }
}

/// Opens a spec's envelope, checks its signature and reads it, as the agent's shell does.
fn verify(payload: &[u8], key: &SigningKey) -> Result<ReadSpec, SpecRefusal> {
    let opened = envelope::open(payload).map_err(|e| SpecRefusal::Unreadable(e.to_string()))?;
    let payload = opened
        .verified(Kind::Spec, &[key.public()])
        .map_err(|e| SpecRefusal::Signature(e.to_string()))?;
    read_spec(payload)
}

/// The keys of a realm and of its hosts, made once.
pub struct Keys {
    /// The realm's.
    pub realm: Arc<SigningKey>,
    /// The hosts', which they share where there are many.
    pub hosts: Vec<Arc<SigningKey>>,
    /// The artifacts that never start.
    pub bad: Arc<BTreeSet<Digest>>,
}

/// The name of a host by its place.
pub fn host_id(number: u32) -> HostId {
    // The name is made of letters and digits: it always is one.
    HostId::parse(&format!("h-{number}")).unwrap_or_else(|_| unreachable!())
}
