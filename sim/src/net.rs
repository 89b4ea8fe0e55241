//! The simulated network and the queue of all that is going to happen.
//!
//! In: messages with a subject, as NATS takes them. Out: the same messages later, twice, out of order or never, and the
//! events of the world in the order of their times. A link has two ways, and each may be cut by itself.

use crate::draw::Draw;
use crate::scenario::{Cut, Messages};
use async_nats::Message;
use bytes::Bytes;
use heddle_agent_core::Fact;
use heddle_protocol::id::HostId;
use heddle_protocol::subject::{HostVerb, Subject};
use heddle_scheduler::outside::Source;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

/// One end of a link: whoever sends and receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// A scheduler's process.
    Process(u32),
    /// A host's agent, by its place in the list.
    Host(u32),
    /// The people.
    People,
}

/// Something that is going to happen.
#[allow(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Debug)]
pub enum Event {
    /// A message arrives.
    Message { to: End, message: Box<Message> },
    /// What an agent began has ended.
    Work { host: u32, boot: u64, fact: Fact },
    /// An agent says that it lives.
    Beat { host: u32, boot: u64 },
    /// A pause or deadline of an agent is over.
    Wake { host: u32, boot: u64 },
    /// An agent's hello has no answer, or is to be said again.
    HelloAgain { host: u32, boot: u64, number: u64 },
    /// An agent's disk has the spec.
    Cached { host: u32, boot: u64, envelope: Bytes },
    /// An agent starts.
    StartAgent { host: u32 },
    /// An agent's link is looked at: it may have broken or come back.
    LookAtLink { host: u32 },
    /// A scheduler's link is looked at.
    LookAtProcessLink { process: u32 },
    /// A scheduler that stood still goes on.
    Resume { process: u32 },
    /// A fault of the scenario, by its place.
    Fault(usize),
    /// What somebody asks, by its place: now, or again.
    Ask { number: usize, attempt: u32 },
    /// A scheduler's process has ended, with the reason.
    Ended { process: u32, reason: String },
    /// Somebody looks whether a scheduler must be started.
    Supervise,
    /// The store's disk has room again.
    EmptyDisk,
    /// All that is broken is mended.
    Heal,
    /// It is looked whether all has come to rest.
    Look,
}

/// What an answer to a scheduler's request is.
#[derive(Debug)]
pub enum Reply {
    /// A message.
    Message(Message),
    /// Nobody listens there.
    NoResponders,
}

/// How an end's link is.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkOf {
    /// Until when nothing goes out.
    pub out_until: u64,
    /// Until when nothing comes in.
    pub in_until: u64,
    /// Since when it is cut.
    pub since: u64,
    /// Whether its end learns of it at once.
    pub noticed: bool,
}

impl LinkOf {
    /// Whether any way is cut.
    pub fn is_cut(&self, now: u64) -> bool {
        now < self.out_until || now < self.in_until
    }
}

/// What went through.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Events that happened.
    pub events: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that chance lost, doubled or held back.
    pub hurt: u64,
    /// Messages that a cut link lost.
    pub cut: u64,
}

/// The network.
pub struct Net {
    state: Mutex<State>,
    /// Tells the world that something new is in the queue.
    pub wake: Notify,
    started: Instant,
    tracing: bool,
}

struct State {
    queue: BTreeMap<(u64, u64), Event>,
    number: u64,
    draw: Draw,
    messages: Messages,
    links: BTreeMap<End, LinkOf>,
    hosts: BTreeMap<HostId, u32>,
    listening: BTreeMap<u32, mpsc::UnboundedSender<(Source, Message)>>,
    waiting: BTreeMap<u64, oneshot::Sender<Reply>>,
    counts: Counts,
    hash: DefaultHasher,
    trace: Vec<String>,
}

impl Net {
    /// A network on which messages fare so.
    pub fn new(seed: u64, messages: Messages, tracing: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                queue: BTreeMap::new(),
                number: 0,
                draw: Draw::part(seed, "net", 0),
                messages,
                links: BTreeMap::new(),
                hosts: BTreeMap::new(),
                listening: BTreeMap::new(),
                waiting: BTreeMap::new(),
                counts: Counts::default(),
                hash: DefaultHasher::new(),
                trace: Vec::new(),
            }),
            wake: Notify::new(),
            started: Instant::now(),
            tracing,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the start.
    pub fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// When the world began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Puts something into the queue.
    pub fn at(&self, at: u64, event: Event) {
        let mut state = self.lock();
        state.put(at, event);
        drop(state);
        self.wake.notify_one();
    }

    /// The same, so many milliseconds from now.
    pub fn after(&self, ms: u64, event: Event) {
        self.at(self.now() + ms, event);
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<u64> {
        self.lock().queue.keys().next().map(|(at, _)| *at)
    }

    /// How much is going to happen.
    pub fn waiting(&self) -> u64 {
        self.lock().queue.len() as u64
    }

    /// What happens next, if it is due.
    pub fn take_due(&self) -> Option<Event> {
        let now = self.now();
        let mut state = self.lock();
        let first = state.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((at, _), event) = first.remove_entry();
        state.counts.events += 1;
        at.hash(&mut state.hash);
        match &event {
            Event::Message { to, message } => {
                (to, message.subject.as_str(), &message.payload).hash(&mut state.hash);
            }
            event => std::mem::discriminant(event).hash(&mut state.hash),
        }
        Some(event)
    }

    /// Tells which place in the list a host has.
    pub fn know(&self, host: HostId, number: u32) {
        self.lock().hosts.insert(host, number);
    }

    /// Begins to hand a scheduler's process all that is for schedulers.
    pub fn listen(&self, process: u32) -> mpsc::UnboundedReceiver<(Source, Message)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().listening.insert(process, sender);
        receiver
    }

    /// A process is gone.
    pub fn forget(&self, process: u32) {
        let mut state = self.lock();
        state.listening.remove(&process);
        state.links.remove(&End::Process(process));
    }

    /// Whether any scheduler listens, whom an end can reach both ways.
    pub fn reaches_a_scheduler(&self, end: End) -> bool {
        let now = self.now();
        let state = self.lock();
        let is_cut = |end: End| state.links.get(&end).is_some_and(|link| link.is_cut(now));
        !is_cut(end) && state.listening.keys().any(|process| !is_cut(End::Process(*process)))
    }

    /// How an end's link is.
    pub fn link(&self, end: End) -> LinkOf {
        self.lock().links.get(&end).copied().unwrap_or_default()
    }

    /// Cuts a link for a while.
    pub fn cut(&self, end: End, cut: Cut, noticed: bool, ms: u64) {
        let now = self.now();
        let mut state = self.lock();
        let link = state.links.entry(end).or_default();
        if !link.is_cut(now) {
            *link = LinkOf {
                since: now,
                ..LinkOf::default()
            };
        }
        link.noticed |= noticed;
        if cut != Cut::In || noticed {
            link.out_until = link.out_until.max(now + ms);
        }
        if cut != Cut::Out || noticed {
            link.in_until = link.in_until.max(now + ms);
        }
    }

    /// Mends every link, and has messages fare well from now on.
    pub fn heal(&self) {
        let mut state = self.lock();
        let now = self.now();
        for link in state.links.values_mut() {
            link.out_until = link.out_until.min(now);
            link.in_until = link.in_until.min(now);
        }
        state.messages = Messages {
            delay_ms: state.messages.delay_ms,
            ..Messages::default()
        };
    }

    /// Sends a message.
    pub fn send(&self, from: End, subject: &str, reply: Option<String>, payload: Bytes) {
        let now = self.now();
        let mut state = self.lock();
        state.counts.sent += 1;
        if state.links.get(&from).is_some_and(|link| now < link.out_until) {
            state.counts.cut += 1;
            return;
        }
        for to in state.receivers(subject) {
            let message = message(subject, reply.clone(), payload.clone());
            state.carry(now, to, message);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Asks, for a scheduler's process. The number is for [`Net::give_up`].
    pub fn ask(&self, from: End, subject: &str, payload: Bytes) -> (u64, oneshot::Receiver<Reply>) {
        let (sender, receiver) = oneshot::channel();
        let number = {
            let mut state = self.lock();
            state.number += 1;
            let number = state.number;
            state.waiting.insert(number, sender);
            number
        };
        let End::Process(process) = from else {
            return (number, receiver);
        };
        let reply = format!("_INBOX.p.{process}.{number}");
        self.send(from, subject, Some(reply), payload);
        (number, receiver)
    }

    /// Nobody waits for an answer any more.
    pub fn give_up(&self, number: u64) {
        self.lock().waiting.remove(&number);
    }

    /// Gives a process the answer that it waits for.
    pub fn answer(&self, reply_subject: &str, reply: Reply) {
        let number = reply_subject.rsplit('.').next().and_then(|n| n.parse().ok());
        let waiter = number.and_then(|number: u64| self.lock().waiting.remove(&number));
        if let Some(waiter) = waiter {
            // It may have given up.
            let _ = waiter.send(reply);
        }
    }

    /// Hands a message to a process that listens.
    pub fn hand_over(&self, process: u32, message: Message) {
        let source = match Subject::parse(&message.subject) {
            Some(Subject::Hello(..)) => Source::Hello,
            Some(Subject::Heartbeat(..)) => Source::Heartbeat,
            Some(Subject::Status(..)) => Source::Status,
            Some(Subject::Api(..)) => Source::Api,
            _ => return,
        };
        if let Some(listener) = self.lock().listening.get(&process) {
            // A process that ends takes nothing any more.
            let _ = listener.send((source, message));
        }
    }

    /// What went through.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// A number that every event until now has gone into.
    pub fn hash(&self) -> u64 {
        self.lock().hash.finish()
    }

    /// Lets something else go into the hash.
    pub fn mix(&self, value: impl Hash) {
        value.hash(&mut self.lock().hash);
    }

    /// Writes a line of the trace, if anybody reads it.
    pub fn say(&self, line: impl FnOnce() -> String) {
        if self.tracing {
            let line = format!("{:>7} {}", self.now(), line());
            self.lock().trace.push(line);
        }
    }

    /// The trace.
    pub fn take_trace(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().trace)
    }
}

impl State {
    fn put(&mut self, at: u64, event: Event) {
        self.number += 1;
        let number = self.number;
        self.queue.insert((at, number), event);
    }

    fn receivers(&self, subject: &str) -> Vec<End> {
        if let Some(inbox) = subject.strip_prefix("_INBOX.") {
            let mut tokens = inbox.split('.');
            let (kind, number) = (tokens.next(), tokens.next().and_then(|n| n.parse().ok()));
            return match (kind, number) {
                (Some("p"), Some(process)) => vec![End::Process(process)],
                (Some("h"), Some(host)) => vec![End::Host(host)],
                _ => vec![End::People],
            };
        }
        match Subject::parse(subject) {
            Some(Subject::Host(_, host, _)) => self.hosts.get(&host).map(|n| End::Host(*n)).into_iter().collect(),
            Some(_) => self.listening.keys().map(|process| End::Process(*process)).collect(),
            None => Vec::new(),
        }
    }

    fn carry(&mut self, now: u64, to: End, message: Message) {
        let Messages {
            lost,
            twice,
            late,
            delay_ms,
        } = self.messages;
        if self.draw.happens(lost) {
            self.counts.hurt += 1;
            return;
        }
        let mut delay = self.draw.between(0, delay_ms);
        if self.draw.happens(late) {
            self.counts.hurt += 1;
            delay += self.draw.between(1, 2_000);
        }
        if self.draw.happens(twice) {
            self.counts.hurt += 1;
            let again = delay + self.draw.between(0, 500);
            let message = Box::new(message.clone());
            self.put(now + again, Event::Message { to, message });
        }
        let message = Box::new(message);
        self.put(now + delay, Event::Message { to, message });
    }
}

/// A message as NATS hands it over.
pub fn message(subject: &str, reply: Option<String>, payload: Bytes) -> Message {
    Message {
        subject: subject.into(),
        reply: reply.map(Into::into),
        length: payload.len(),
        payload,
        headers: None,
        status: None,
        description: None,
    }
}

/// The host and the verb of a subject that is for one host.
pub fn host_verb(subject: &str) -> Option<(HostId, HostVerb)> {
    match Subject::parse(subject) {
        Some(Subject::Host(_, host, verb)) => Some((host, verb)),
        _ => None,
    }
}
