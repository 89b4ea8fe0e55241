//! The scheduler over NATS as the source.
//!
//! In: requests on the host's own subjects. Out: hellos (signed, asked until answered), heartbeats, status messages,
//! requests for artifacts. One task listens and one sends, so neither makes the control loop wait. What cannot be sent
//! is dropped: the next hello is followed by a full report.

#[cfg(test)]
mod tests;

use super::{ChunkError, CodeAnswer, EVENTS_WAITING_MAX, SourceEvent, Started, Uplink};
use crate::cache;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use heddle_agent_core::{Identity, Sender};
use heddle_protocol::api;
use heddle_protocol::api::artifact::{ArtifactChunk, ArtifactGet, CompiledAnswer, CompiledGet};
use heddle_protocol::api::logs::Logs;
use heddle_protocol::defaults::CHUNKED_BYTES_MAX;
use heddle_protocol::digest::Digest;
use heddle_protocol::envelope::{self, Kept, Kind};
use heddle_protocol::host_report::{Fire, Heartbeat, Hello, HelloAnswer, HostReport, SpecAnswer, SpecRefusal};
use heddle_protocol::sign::SigningKey;
use heddle_protocol::subject::{self, HostVerb, Subject};
use heddle_wire::chunk::{Received, Receiver};
use heddle_wire::connect::{ConnectError, ConnectOptions, Link, LinkState, connect};
use rand::Rng as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// Messages that wait to be sent at most.
const OUTBOX_MAX: usize = 256;
/// Specs that come in chunks at the same time at most: one scheduler sends one, and a new leader may begin another.
const SPECS_UNFINISHED_MAX: usize = 2;
/// How long a hello waits for its answer.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause before a hello that had no answer is sent again, first and at most.
const HELLO_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How long a request for a chunk waits for its answer.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an agent that ends waits for its last messages to leave.
const FINISH_TIMEOUT: Duration = Duration::from_millis(500);

/// Connects, in the background if the server is not there yet, and listens.
pub(crate) async fn start(
    url: &str,
    credentials: Option<PathBuf>,
    me: &Identity,
    key: Arc<SigningKey>,
    realm_keys: Vec<String>,
) -> Result<Started, ConnectError> {
    let mut options = ConnectOptions::new(url, format!("heddle-agent-{}", me.host));
    options.credentials = credentials;
    options.inbox_prefix = Some(subject::inbox_prefix(&me.host));
    options.retry_first = true;
    let link = connect(&options).await?;
    let (events, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
    let (outbox, unsent) = mpsc::channel(OUTBOX_MAX);
    let uplink = Arc::new(NatsUplink {
        link: link.clone(),
        me: me.clone(),
        key,
        outbox,
        events: events.clone(),
        hello_under_way: Arc::default(),
        hello_hurry: Arc::default(),
    });
    tokio::spawn(send(link.client.clone(), unsent));
    tokio::spawn(listen(link, me.clone(), realm_keys, events));
    Ok(Started {
        events: receiver,
        uplink,
    })
}

enum Outgoing {
    Message {
        subject: String,
        payload: Bytes,
    },
    /// Tells when all before it is with the server.
    Flush(oneshot::Sender<()>),
}

async fn send(client: async_nats::Client, mut unsent: mpsc::Receiver<Outgoing>) {
    while let Some(outgoing) = unsent.recv().await {
        let sent = match outgoing {
            Outgoing::Message { subject, payload } => client.publish(subject, payload).await.map_err(|e| e.to_string()),
            Outgoing::Flush(done) => {
                let flushed = client.flush().await.map_err(|e| e.to_string());
                // Who waited has given up, if nobody takes it.
                let _ = done.send(());
                flushed
            }
        };
        if let Err(e) = sent {
            tracing::debug!(error = %e, "a message was not sent");
        }
    }
}

async fn listen(link: Link, me: Identity, realm_keys: Vec<String>, events: mpsc::Sender<SourceEvent>) {
    let mut state = link.state.clone();
    let mut specs = Receiver::new(CHUNKED_BYTES_MAX, SPECS_UNFINISHED_MAX);
    let mut kept = Kept::default();
    let subjects = subject::all_of_host(&me.realm, &me.host);
    loop {
        // The client subscribes again by itself after a reconnect; this fails only when the client is closed.
        let mut messages = match link.client.subscribe(subjects.clone()).await {
            Ok(messages) => messages,
            Err(e) => {
                tracing::error!(error = %e, "the agent cannot listen to NATS; it goes on with what it has");
                return;
            }
        };
        let mut told = LinkState::default();
        loop {
            let current = *state.borrow_and_update();
            if tell_link(&events, told, current).await.is_err() {
                return;
            }
            told = current;
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                message = messages.next() => match message {
                    Some(message) => take(&link.client, (&mut specs, &mut kept), &realm_keys, &events, message).await,
                    None => break,
                },
            }
        }
    }
}

async fn tell_link(
    events: &mpsc::Sender<SourceEvent>,
    told: LinkState,
    now: LinkState,
) -> Result<(), mpsc::error::SendError<SourceEvent>> {
    // A link that broke and came back between two looks is a new one all the same.
    if now.up && (!told.up || told.connects != now.connects) {
        events.send(SourceEvent::LinkUp).await?;
        events.send(SourceEvent::HelloWanted).await?;
    } else if told.up && !now.up {
        events.send(SourceEvent::LinkDown).await?;
    }
    Ok(())
}

async fn take(
    client: &async_nats::Client,
    (specs, kept): (&mut Receiver, &mut Kept),
    realm_keys: &[String],
    events: &mpsc::Sender<SourceEvent>,
    message: async_nats::Message,
) {
    let Some(Subject::Host(_, _, verb)) = Subject::parse(&message.subject) else {
        tracing::debug!(subject = %message.subject, "a message of a newer release is left alone");
        return;
    };
    let reply_to = message.reply.clone();
    let event = match verb {
        HostVerb::Spec => match specs.take(&message) {
            Received::Reply(headers) => {
                if let Some(reply_to) = reply_to {
                    // The sender asks again if this is lost.
                    let _ = client.publish_with_headers(reply_to, headers, Bytes::new()).await;
                }
                return;
            }
            Received::Bad(e) => {
                tracing::warn!(error = %e, "a spec's chunk cannot be used");
                let reason = SpecRefusal::Unreadable(e.to_string());
                answer_now(client, reply_to, &SpecAnswer::Refused { reason, accepted: None }).await;
                return;
            }
            Received::Whole(envelope) => {
                let envelope = match kept.whole(&envelope, CHUNKED_BYTES_MAX) {
                    Ok(made) => made.map_or(envelope, Bytes::from),
                    Err(e) => {
                        tracing::debug!(error = %e, "a spec has to come whole");
                        let reason = SpecRefusal::NotKept(e.to_string());
                        answer_now(client, reply_to, &SpecAnswer::Refused { reason, accepted: None }).await;
                        return;
                    }
                };
                // Checking a signature and reading a large spec takes time: here, and not in the control loop.
                let read = Box::new(cache::verify(&envelope, realm_keys));
                if read.is_ok() {
                    kept.keep(&envelope);
                }
                let reply = answer_later(client, reply_to);
                SourceEvent::Spec {
                    read,
                    sender: Sender::Network,
                    envelope: Some(envelope),
                    reply,
                }
            }
        },
        HostVerb::Hello => {
            if let Some(reply_to) = reply_to {
                // The hello itself goes to its own subject; this only says that the question was heard.
                let _ = client.publish(reply_to, Bytes::new()).await;
            }
            SourceEvent::HelloWanted
        }
        HostVerb::Report => SourceEvent::ReportWanted {
            reply: answer_later(client, reply_to),
        },
        HostVerb::Fire => match serde_json::from_slice::<Fire>(&message.payload) {
            Ok(fire) => SourceEvent::Fire {
                fire,
                reply: answer_later(client, reply_to),
            },
            Err(e) => {
                tracing::warn!(error = %e, "a request to run something cannot be read");
                return;
            }
        },
        HostVerb::Logs => match serde_json::from_slice::<Logs>(&message.payload) {
            Ok(logs) => SourceEvent::LogsWanted {
                logs,
                reply: answer_later(client, reply_to),
            },
            Err(e) => {
                tracing::warn!(error = %e, "a request for log lines cannot be read");
                return;
            }
        },
    };
    // The control loop is gone only when the agent ends.
    let _ = events.send(event).await;
}

/// Sends an answer when the control loop has it.
fn answer_later<T: Serialize + Send + Sync + 'static>(
    client: &async_nats::Client,
    reply_to: Option<async_nats::Subject>,
) -> oneshot::Sender<T> {
    let (reply, answer) = oneshot::channel();
    let client = client.clone();
    tokio::spawn(async move {
        if let Ok(answer) = answer.await {
            answer_now(&client, reply_to, &answer).await;
        }
    });
    reply
}

async fn answer_now<T: Serialize>(client: &async_nats::Client, reply_to: Option<async_nats::Subject>, answer: &T) {
    let Some(reply_to) = reply_to else { return };
    match serde_json::to_vec(answer) {
        // A lost answer is asked for again.
        Ok(payload) => drop(client.publish(reply_to, payload.into()).await),
        Err(e) => tracing::error!(error = %e, "an answer cannot be written"),
    }
}

struct NatsUplink {
    link: Link,
    me: Identity,
    key: Arc<SigningKey>,
    outbox: mpsc::Sender<Outgoing>,
    events: mpsc::Sender<SourceEvent>,
    hello_under_way: Arc<AtomicBool>,
    hello_hurry: Arc<Notify>,
}

impl NatsUplink {
    fn post<T: Serialize>(&self, subject: &Subject, message: &T) {
        if !self.is_up() {
            return;
        }
        match serde_json::to_vec(message) {
            Ok(payload) => {
                let message = Outgoing::Message {
                    subject: subject.to_string(),
                    payload: payload.into(),
                };
                if self.outbox.try_send(message).is_err() {
                    tracing::warn!(%subject, "a message was dropped because NATS takes none; a full report follows");
                }
            }
            Err(e) => tracing::error!(%subject, error = %e, "a message cannot be written"),
        }
    }
}

impl NatsUplink {
    /// Asks on this host's artifact subject. Out: the answer and what is attached to it.
    async fn ask_artifact<T: DeserializeOwned>(&self, question: &impl Serialize) -> Result<(T, Bytes), ChunkError> {
        if !self.is_up() {
            return Err(ChunkError::NoAnswer("NATS is not connected".to_owned()));
        }
        let subject = Subject::Artifact(self.me.realm.clone(), self.me.host.clone()).to_string();
        let request = serde_json::to_vec(question);
        let request = request.map_err(|e| ChunkError::Refused(e.to_string()))?;
        let reply = heddle_wire::chunk::request(&self.link.client, &subject, request.into(), CHUNK_TIMEOUT).await;
        let payload = reply.map_err(|e| ChunkError::NoAnswer(e.to_string()))?.payload;
        let refused = |e: &dyn std::fmt::Display| ChunkError::Refused(e.to_string());
        let (response, data) = api::split::<api::Response>("artifact answer", &payload).map_err(|e| refused(&e))?;
        match (response.ok, response.error) {
            (Some(answer), None) => {
                let answer = serde_json::from_value::<T>(answer).map_err(|e| refused(&e))?;
                Ok((answer, payload.slice_ref(data)))
            }
            (_, Some(error)) if error.code == api::ErrorCode::Unavailable => Err(ChunkError::NoAnswer(error.message)),
            (_, Some(error)) => Err(ChunkError::Refused(error.message)),
            (None, None) => Err(refused(&"the answer holds neither a result nor an error")),
        }
    }
}

#[async_trait]
impl Uplink for NatsUplink {
    fn is_up(&self) -> bool {
        self.link.state.borrow().up
    }

    fn heartbeat(&self, heartbeat: Heartbeat) {
        self.post(
            &Subject::Heartbeat(self.me.realm.clone(), self.me.host.clone()),
            &heartbeat,
        );
    }

    fn status(&self, reports: Vec<HostReport>) {
        let subject = Subject::Status(self.me.realm.clone(), self.me.host.clone());
        for report in &reports {
            self.post(&subject, report);
        }
    }

    fn hello(&self, hello: Hello) {
        // A link that comes up later asks for a hello itself.
        if !self.is_up() {
            return;
        }
        if self.hello_under_way.swap(true, Ordering::AcqRel) {
            // A scheduler that asks is there now: the pause of the one under way need not end first.
            self.hello_hurry.notify_one();
            return;
        }
        let sealed = serde_json::to_vec(&hello)
            .map_err(|e| e.to_string())
            .and_then(|payload| envelope::seal(Kind::Hello, &payload, &self.key).map_err(|e| e.to_string()));
        let subject = Subject::Hello(self.me.realm.clone(), self.me.host.clone()).to_string();
        let (link, events) = (self.link.clone(), self.events.clone());
        let (under_way, hurry) = (Arc::clone(&self.hello_under_way), Arc::clone(&self.hello_hurry));
        tokio::spawn(async move {
            let answered = match sealed {
                Ok(sealed) => say_hello(&link, &subject, sealed.into(), &hurry).await,
                Err(e) => {
                    tracing::error!(error = %e, "the hello cannot be signed");
                    false
                }
            };
            under_way.store(false, Ordering::Release);
            let next = if answered {
                SourceEvent::HelloAnswered
            } else {
                SourceEvent::HelloWanted
            };
            let _ = events.send(next).await;
        });
    }

    async fn finish(&self) {
        let (done, flushed) = oneshot::channel();
        if self.is_up() && self.outbox.try_send(Outgoing::Flush(done)).is_ok() {
            // Too slow is as good as not at all: the scheduler then notices the silence.
            let _ = tokio::time::timeout(FINISH_TIMEOUT, flushed).await;
        }
    }

    async fn artifact_chunk(&self, digest: Digest, offset: u64) -> Result<(ArtifactChunk, Bytes), ChunkError> {
        self.ask_artifact(&ArtifactGet { digest, offset }).await
    }

    async fn compiled(&self, artifact: Digest, fingerprint: &str) -> Result<CodeAnswer, ChunkError> {
        let fingerprint = fingerprint.to_owned();
        let (answer, envelope) = self.ask_artifact(&CompiledGet { artifact, fingerprint }).await?;
        Ok(match answer {
            CompiledAnswer::Signed => CodeAnswer::Signed(envelope),
            CompiledAnswer::UnderWay => CodeAnswer::UnderWay,
            CompiledAnswer::Unsupported { reason } => CodeAnswer::Unsupported(reason),
        })
    }
}

/// Asks until the scheduler answers, as long as the link is up; whether it did. Gives up at times, so that the next
/// hello says what is true by then.
async fn say_hello(link: &Link, subject: &str, payload: Bytes, hurry: &Notify) -> bool {
    let mut pause = HELLO_PAUSES.0;
    while link.state.borrow().up {
        match heddle_wire::chunk::request(&link.client, subject, payload.clone(), HELLO_TIMEOUT).await {
            Ok(reply) => match serde_json::from_slice::<HelloAnswer>(&reply.payload) {
                Ok(HelloAnswer::Welcome { .. }) => return true,
                Ok(HelloAnswer::Refused { reason, next }) => {
                    tracing::warn!(%reason, %next, "the scheduler does not admit this host");
                }
                Err(e) => tracing::warn!(error = %e, "the answer to the hello cannot be read"),
            },
            Err(e) => tracing::debug!(error = %e, "the hello has no answer yet"),
        }
        let jitter = rand::rng().random_range(0.5..1.0);
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
            () = hurry.notified() => {}
        }
        if pause >= HELLO_PAUSES.1 {
            return false;
        }
        pause = (pause * 2).min(HELLO_PAUSES.1);
    }
    false
}
