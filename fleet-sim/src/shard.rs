//! One task with its share of the hosts: takes their messages, does what is due, and sends what they say.

use crate::counters::{Counters, add};
use crate::host::{Host, Outgoing, Turn};
use crate::ledger::Shared;
use crate::options::FleetOptions;
use crate::timer::Timers;
use async_nats::{Client, HeaderMap, Message};
use heddle_protocol::defaults::CHUNKED_BYTES_MAX;
use heddle_protocol::subject::{HostVerb, Subject};
use heddle_wire::chunk::{Received, Receiver};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Messages taken before what is due is looked at: reading a large spec takes a while, and heartbeats must not wait.
const MESSAGES_PER_TURN: usize = 16;
/// What is done of what is due before messages are looked at.
const DUE_PER_TURN: usize = 256;
/// Specs that come in chunks at the same time, for all hosts of a shard.
const SPECS_UNFINISHED_MAX: usize = 256;

/// What a shard is told.
pub(crate) enum Input {
    /// A message for one of its hosts.
    Message { host: usize, message: Message },
    /// The answer to a hello of one of its hosts.
    Welcome { host: usize, message: Message },
    /// Something to do with some hosts.
    Order(Order),
}

/// Something to do with some hosts.
pub(crate) struct Order {
    pub(crate) hosts: Vec<usize>,
    pub(crate) what: What,
    /// Told when it is done.
    pub(crate) done: oneshot::Sender<()>,
}

/// What hosts are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Start, or start again; spread over so many milliseconds.
    Start { over_ms: u64, keeps_spec: bool },
    /// End without a word.
    Die,
    /// Be told to stop.
    Leave,
}

pub(crate) struct Shard {
    pub(crate) options: Arc<FleetOptions>,
    pub(crate) client: Client,
    pub(crate) counters: Arc<Counters>,
    pub(crate) ledger: Shared,
    /// The number of its first host; they are numbered without gaps.
    pub(crate) first: usize,
    pub(crate) hosts: Vec<Host>,
    pub(crate) began: Instant,
}

impl Shard {
    /// Works until nobody can tell it anything any more.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let mut timers = Timers::default();
        let mut specs = Receiver::new(CHUNKED_BYTES_MAX, SPECS_UNFINISHED_MAX);
        let (mut arrived, mut out) = (Vec::new(), Vec::new());
        loop {
            let wake = match timers.next() {
                Some(at) => self.began + Duration::from_millis(at),
                None => Instant::now() + Duration::from_secs(3_600),
            };
            tokio::select! {
                took = inputs.recv_many(&mut arrived, MESSAGES_PER_TURN) => if took == 0 { return },
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            for input in arrived.drain(..) {
                if let Some((to, headers)) = self.take(input, &mut specs, &mut timers, &mut out) {
                    // The sender asks again if this is lost.
                    let _ = self.client.publish_with_headers(to, headers, bytes::Bytes::new()).await;
                }
            }
            self.do_due(&mut timers, &mut out);
            for Outgoing {
                subject,
                reply,
                payload,
            } in out.drain(..)
            {
                let sent = match reply {
                    Some(reply) => self.client.publish_with_reply(subject, reply, payload).await,
                    None => self.client.publish(subject, payload).await,
                };
                if let Err(e) = sent {
                    tracing::debug!(error = %e, "a message was not sent");
                }
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn do_due(&mut self, timers: &mut Timers, out: &mut Vec<Outgoing>) {
        let now = self.now();
        for _ in 0..DUE_PER_TURN {
            let Some((number, life, due)) = timers.pop(now) else {
                return;
            };
            self.with(number, timers, out, |host, turn| host.due(turn, life, due));
        }
    }

    /// Lets a host do something.
    fn with(
        &mut self,
        number: usize,
        timers: &mut Timers,
        out: &mut Vec<Outgoing>,
        act: impl FnOnce(&mut Host, &mut Turn<'_>),
    ) {
        let now = self.now();
        let Some(host) = number.checked_sub(self.first).and_then(|at| self.hosts.get_mut(at)) else {
            return;
        };
        let mut turn = Turn {
            now,
            options: &self.options,
            counters: &self.counters,
            ledger: &self.ledger,
            timers,
            out,
        };
        act(host, &mut turn);
    }

    /// Takes one input. Out: what to answer to one chunk of several.
    fn take(
        &mut self,
        input: Input,
        specs: &mut Receiver,
        timers: &mut Timers,
        out: &mut Vec<Outgoing>,
    ) -> Option<(async_nats::Subject, HeaderMap)> {
        match input {
            Input::Message { host, message } => return self.take_message(host, message, specs, timers, out),
            Input::Welcome { host, message } => {
                self.with(host, timers, out, |host, turn| {
                    host.take_welcome(turn, &message.payload);
                });
            }
            Input::Order(order) => self.carry_out(order, timers, out),
        }
        None
    }

    fn take_message(
        &mut self,
        number: usize,
        message: Message,
        specs: &mut Receiver,
        timers: &mut Timers,
        out: &mut Vec<Outgoing>,
    ) -> Option<(async_nats::Subject, HeaderMap)> {
        let here = number.checked_sub(self.first).and_then(|at| self.hosts.get(at));
        if !here.is_some_and(Host::is_here) {
            add(&self.counters.unheard, 1);
            return None;
        }
        let Some(Subject::Host(_, _, verb)) = Subject::parse(&message.subject) else {
            return None;
        };
        let reply = message.reply.as_ref().map(ToString::to_string);
        match verb {
            HostVerb::Spec => match specs.take(&message) {
                Received::Whole(envelope) => self.with(number, timers, out, |host, turn| {
                    host.take_spec(turn, &envelope, reply);
                }),
                Received::Reply(headers) => {
                    add(&self.counters.chunks, 1);
                    return message.reply.map(|to| (to, headers));
                }
                Received::Bad(e) => self.with(number, timers, out, |host, turn| {
                    host.take_bad_chunk(turn, e.to_string(), reply);
                }),
            },
            HostVerb::Hello => self.with(number, timers, out, Host::take_hello_wanted),
            HostVerb::Report => self.with(number, timers, out, |host, turn| host.take_report_wanted(turn, reply)),
            // Nothing runs here that could say anything, or be fired.
            HostVerb::Logs | HostVerb::Fire => {}
        }
        None
    }

    fn carry_out(&mut self, order: Order, timers: &mut Timers, out: &mut Vec<Outgoing>) {
        let seed = self.options.seed;
        for number in order.hosts {
            self.with(number, timers, out, |host, turn| match order.what {
                What::Start { over_ms, keeps_spec } => {
                    let after = crate::delay::chance(&(seed, number, "start")) % (over_ms + 1);
                    host.start(turn, after, keeps_spec);
                }
                What::Die => host.die(turn),
                What::Leave => host.leave(turn),
            });
        }
        // Who ordered it may have gone.
        let _ = order.done.send(());
    }
}
