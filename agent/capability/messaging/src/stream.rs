//! Taking messages from a JetStream stream: each stays there until it was handled or is given up.
//!
//! In: a durable consumer that all replicas of the workload share. Out: messages, asked for only as far as there is room
//! for them, so nothing waits in this process. What happens to one message is in `work`.

use crate::backoff::pause;
use crate::connection::Link;
use crate::consume::{Consumer, LAST_TIMEOUT, LOOK_AGAIN, RETRY_PAUSES};
use crate::dead::DeadLetters;
use crate::subject::{Subjects, covers, is_literal, is_reserved, overlap};
use crate::work;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::{self, Context, ErrorCode, stream};
use async_nats::{StatusCode, Subscriber};
use futures::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

/// Messages asked for at once at most: what a request brings is in memory until there is a task for it.
const PULL_MAX: u32 = 256;
/// How long one request for messages stays open.
const PULL_EXPIRES: Duration = Duration::from_secs(20);
/// How much later than its end a request is taken for lost.
const PULL_GRACE: Duration = Duration::from_secs(2);
/// How long nothing may come for a request that nobody needs any more until it is taken for idle.
const QUIET: Duration = Duration::from_secs(1);
/// When a message whose taker is not heard of goes to another one.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(12);
/// Messages in work over all replicas of a workload.
const ACKS_PENDING_MAX: i64 = 65_536;
/// A consumer that nobody used for so long is removed by the server.
const CONSUMER_INACTIVE: Duration = Duration::from_secs(30 * 86_400);
/// How long a stream that is made here keeps a message.
const STREAM_AGE: Duration = Duration::from_secs(7 * 86_400);
/// How long a stream of dead letters that is made here keeps one.
const DEAD_LETTERS_AGE: Duration = Duration::from_secs(30 * 86_400);

/// The stream of one offer.
pub(crate) struct StreamOffer {
    name: String,
    subjects: Vec<String>,
    pub(crate) dead_letters: Option<String>,
    /// The way to it, once it was found or made.
    ready: Mutex<Option<Context>>,
}

impl StreamOffer {
    pub(crate) fn new(name: &str, subjects: &Subjects, dead_letters: Option<&str>) -> Result<Self, String> {
        let fit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 200 || !name.chars().all(fit) {
            return Err(format!("stream {name:?} is no name; use letters, digits, `-` and `_`"));
        }
        if let Some(prefix) = dead_letters {
            if !is_literal(prefix) || is_reserved(prefix) {
                return Err(format!(
                    "dead letters cannot go to {prefix:?}; name a subject without wildcards"
                ));
            }
            let all = format!("{prefix}.>");
            if let Some(own) = subjects.patterns().iter().find(|own| overlap(own, &all)) {
                return Err(format!(
                    "dead letters below {prefix} would come back as messages, because the capability lends {own}"
                ));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            subjects: subjects.patterns().to_vec(),
            dead_letters: dead_letters.map(ToOwned::to_owned),
            ready: Mutex::default(),
        })
    }

    /// The way to the stream, which is made if nobody made it.
    pub(crate) async fn ensure(&self, link: &Link) -> Result<Context, String> {
        let mut ready = self.ready.lock().await;
        if let Some(context) = &*ready {
            return Ok(context.clone());
        }
        let context = self.make(link).await?;
        Ok(ready.insert(context).clone())
    }

    /// Has the next one who needs the stream look whether it is still there.
    pub(crate) async fn doubt(&self) {
        *self.ready.lock().await = None;
    }

    async fn make(&self, link: &Link) -> Result<Context, String> {
        let context = jetstream::new(link.client.clone());
        make_stream(&context, &self.name, self.subjects.clone(), STREAM_AGE).await?;
        if let Some(prefix) = &self.dead_letters {
            let name = format!("{}_dead_letters", self.name);
            make_stream(&context, &name, vec![format!("{prefix}.>")], DEAD_LETTERS_AGE).await?;
        }
        Ok(context)
    }

    /// The durable consumer of one trigger: made, or found as it was left.
    async fn consumer(&self, context: &Context, consumer: &Consumer) -> Result<String, String> {
        let name = consumer.group();
        let config = pull::Config {
            durable_name: Some(name.clone()),
            description: Some(format!("workload {}", consumer.handler.component.unit().workload)),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            // Attempts are counted here, where a message that is given up becomes a dead letter.
            max_deliver: -1,
            max_ack_pending: ACKS_PENDING_MAX,
            filter_subject: consumer.consume.subject.clone(),
            inactive_threshold: CONSUMER_INACTIVE,
            ..pull::Config::default()
        };
        let made = context.create_consumer_on_stream(config, &self.name).await;
        made.map(|_| name)
            .map_err(|e| format!("failed to make its consumer: {e}"))
    }
}

/// Makes a stream, unless it is there, or another one keeps its subjects already.
async fn make_stream(context: &Context, name: &str, subjects: Vec<String>, age: Duration) -> Result<(), String> {
    match context.get_stream(name).await {
        Ok(found) => {
            let kept = &found.cached_info().config.subjects;
            let missing = subjects
                .iter()
                .find(|subject| !kept.iter().any(|kept| covers(kept, subject)));
            return match missing {
                None => Ok(()),
                Some(missing) => Err(format!(
                    "stream {name} is there but does not keep {missing}; add the subject to it, or lend another stream"
                )),
            };
        }
        Err(e) if is_missing(&e) => {}
        Err(e) => return Err(format!("failed to find stream {name}: {e}")),
    }
    let config = stream::Config {
        name: name.to_owned(),
        subjects,
        max_age: age,
        discard: stream::DiscardPolicy::Old,
        ..stream::Config::default()
    };
    match context.create_stream(config).await {
        Ok(_) => Ok(()),
        Err(e) => match e.kind() {
            // Two agents at once, or a stream of the operator's own that keeps these subjects under another name.
            CreateStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NAME_EXIST => Ok(()),
            CreateStreamErrorKind::JetStream(e)
                if name.ends_with("_dead_letters") && e.error_code() == ErrorCode::STREAM_SUBJECT_OVERLAP =>
            {
                Ok(())
            }
            _ => Err(format!("failed to make stream {name}: {e}")),
        },
    }
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Takes messages until the guard is dropped.
pub(crate) async fn run(consumer: Arc<Consumer>, offer: Arc<StreamOffer>, mut stopped: watch::Receiver<()>) {
    let mut failures = 0;
    loop {
        let session = tokio::select! {
            session = Session::begin(&consumer, &offer) => session,
            _ = stopped.changed() => return,
        };
        let ended = match session {
            Ok(session) => {
                failures = 0;
                session.take(&mut stopped).await
            }
            Err(why) => Err(why),
        };
        let Err(why) = ended else { return };
        failures += 1;
        offer.doubt().await;
        tracing::warn!(
            unit = %consumer.handler.component.unit(), stream = offer.name, subject = consumer.consume.subject, %why,
            "messages are not taken; trying again"
        );
        tokio::select! {
            _ = stopped.changed() => return,
            () = tokio::time::sleep(pause(failures, RETRY_PAUSES.0, RETRY_PAUSES.1)) => {}
        }
    }
}

/// One subscription to an inbox of its own, and the request that is open.
struct Session {
    consumer: Arc<Consumer>,
    link: Link,
    context: Context,
    dead_letters: Option<Arc<DeadLetters>>,
    next: String,
    inbox: String,
    messages: Subscriber,
    request: u64,
    /// Messages that the open request may still bring.
    outstanding: u32,
    /// When the open request is taken for lost.
    lost_at: Instant,
}

impl Session {
    async fn begin(consumer: &Arc<Consumer>, offer: &Arc<StreamOffer>) -> Result<Self, String> {
        let link = consumer.connection.link().await.map_err(|e| e.to_string())?;
        let context = offer.ensure(&link).await?;
        let durable = offer.consumer(&context, consumer).await?;
        let inbox = link.client.new_inbox();
        let subscribed = link.client.subscribe(format!("{inbox}.*")).await;
        let dead_letters = offer.dead_letters.as_ref();
        Ok(Self {
            dead_letters: dead_letters.map(|prefix| Arc::new(DeadLetters::new(context.clone(), prefix))),
            next: format!("$JS.API.CONSUMER.MSG.NEXT.{}.{durable}", offer.name),
            messages: subscribed.map_err(|e| e.to_string())?,
            consumer: Arc::clone(consumer),
            link,
            context,
            inbox,
            request: 0,
            outstanding: 0,
            lost_at: Instant::now(),
        })
    }

    /// Takes messages until it is told to stop, or cannot go on.
    async fn take(mut self, stopped: &mut watch::Receiver<()>) -> Result<(), String> {
        let ended = self.take_on(stopped).await;
        self.give_back().await;
        ended
    }

    async fn take_on(&mut self, stopped: &mut watch::Receiver<()>) -> Result<(), String> {
        let mut state = self.link.state.clone();
        let connects = state.borrow_and_update().connects;
        loop {
            let free = self.consumer.free();
            if self.outstanding == 0 && free > 0 {
                self.ask(free.min(PULL_MAX)).await?;
            }
            let full = self.outstanding == 0;
            let look_again = match full {
                true => Instant::now() + LOOK_AGAIN,
                false => self.lost_at,
            };
            let room = Arc::clone(&self.consumer.room);
            tokio::select! {
                biased;
                _ = stopped.changed() => return Ok(()),
                message = self.messages.next() => match message {
                    Some(message) => self.heard(message)?,
                    None => return Err("the subscription ended".to_owned()),
                },
                // A request does not outlive the link that it was made over.
                _ = state.wait_for(|now| now.up && now.connects != connects) => {
                    return Err("the link to NATS was made anew".to_owned());
                }
                () = room.freed.notified(), if full => {}
                () = tokio::time::sleep_until(look_again) => self.outstanding = 0,
            }
        }
    }

    /// Asks for so many messages.
    async fn ask(&mut self, messages: u32) -> Result<(), String> {
        self.request += 1;
        let expires = PULL_EXPIRES.as_nanos();
        let payload = format!("{{\"batch\":{messages},\"expires\":{expires}}}");
        let reply = format!("{}.{}", self.inbox, self.request);
        let client = &self.link.client;
        let asked = client
            .publish_with_reply(self.next.clone(), reply, payload.into())
            .await;
        asked.map_err(|e| e.to_string())?;
        self.outstanding = messages;
        self.lost_at = Instant::now() + PULL_EXPIRES + PULL_GRACE;
        Ok(())
    }

    /// Takes what came: a message, or word of the request.
    fn heard(&mut self, message: async_nats::Message) -> Result<(), String> {
        let Some(status) = message.status else {
            self.outstanding = self.outstanding.saturating_sub(1);
            self.begin_work(message);
            return Ok(());
        };
        let current = format!("{}.{}", self.inbox, self.request);
        if status == StatusCode::IDLE_HEARTBEAT || message.subject.as_str() != current {
            return Ok(());
        }
        match status {
            // Nothing there, or its time is up: the next one is asked.
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => self.outstanding = 0,
            status => {
                let what = message.description.as_deref().unwrap_or("no description");
                return Err(format!("the server ended the request: {status} {what}"));
            }
        }
        Ok(())
    }

    fn begin_work(&self, message: async_nats::Message) {
        let message = jetstream::Message {
            message,
            context: self.context.clone(),
        };
        let (consumer, dead_letters) = (Arc::clone(&self.consumer), self.dead_letters.clone());
        let place = self.consumer.room.take();
        tokio::spawn(async move {
            let _place = place;
            work::carry_out(&consumer, dead_letters.as_deref(), message).await;
        });
    }

    /// Takes nothing new, and hands back at once what came and was not begun.
    async fn give_back(&mut self) {
        let last = async {
            // The server may be sending already for the open request, and what it sends to an inbox that is gone waits
            // until its taker is given up. So the inbox stays until the request is used up or nothing more comes.
            while self.outstanding > 0 {
                let Ok(Some(message)) = tokio::time::timeout(QUIET, self.messages.next()).await else {
                    break;
                };
                match message.status {
                    None => self.outstanding -= 1,
                    Some(StatusCode::IDLE_HEARTBEAT) => {}
                    Some(_) => self.outstanding = 0,
                }
                self.hand_back(message).await;
            }
            if self.messages.drain().await.is_err() {
                return;
            }
            while let Some(message) = self.messages.next().await {
                self.hand_back(message).await;
            }
        };
        // What is not handed back in time goes to another taker when the server has waited for long enough.
        let _ = tokio::time::timeout(LAST_TIMEOUT, last).await;
    }

    /// Gives a message to whoever takes it next; word of the request is none.
    async fn hand_back(&self, message: async_nats::Message) {
        if message.status.is_none() {
            let context = self.context.clone();
            work::hand_back(&jetstream::Message { message, context }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(stream: &str, dead_letters: Option<&str>) -> Result<(), String> {
        let subjects = Subjects::new(&["orders.>".to_owned()])?;
        StreamOffer::new(stream, &subjects, dead_letters).map(drop)
    }

    #[test]
    fn dead_letters_must_not_come_back_as_messages() {
        assert_eq!(offer("ORDERS", None), Ok(()));
        assert_eq!(offer("ORDERS", Some("dead.orders")), Ok(()));
        for refused in ["orders.dead", "orders", "dead.*", "heddle.v1", "$JS.dead", ""] {
            assert!(offer("ORDERS", Some(refused)).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_stream_has_a_plain_name() {
        for refused in ["", "a.b", "a b", "a*", "a/b"] {
            assert!(offer(refused, None).is_err(), "{refused}");
        }
    }
}
