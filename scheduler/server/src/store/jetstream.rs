//! The log in JetStream: one last-value stream for each realm.
//!
//! In: messages. Out: records and answers, with every way in which NATS can answer put into the words of
//! [`BatchAnswer`]. Atomic batches are put on the wire by hand, because what an error code means decides what may be said
//! about a commit. Nothing here ever deletes or recreates a stream.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::client::{Request, RequestError, RequestErrorKind};
use async_nats::connection::State;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{Context, stream};
use async_nats::{Client, HeaderMap, header};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::{Cause, StoreError};
use super::log::{BatchAnswer, FeedItem, Label, Message, Record, Selection};
use super::record::{CommitKind, HEAD};
use super::settings::{self, StoreOptions};

const BATCH_ID: &str = "Nats-Batch-Id";
const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
const BATCH_COMMIT: &str = "Nats-Batch-Commit";
const TTL: &str = "Nats-TTL";
const MARKER_REASON: &str = "Nats-Marker-Reason";
const KV_OPERATION: &str = "KV-Operation";
const SEQUENCE: &str = "Nats-Sequence";
const LAST_SEQUENCE: &str = "Nats-Last-Sequence";
const LABEL_BATCH: &str = "Heddle-Batch";
const LABEL_KIND: &str = "Heddle-Kind";

/// Blocks on their way at once: enough to keep the link busy, little enough to stay far below the client's buffers.
const BLOCKS_IN_FLIGHT: usize = 8;
/// How often a wait for an answer looks whether the connection is still there.
const CONNECTION_LOOK: Duration = Duration::from_millis(20);
/// A reader that hears nothing for this long gives up; the server's own idle heartbeats come every few seconds.
const READ_SILENCE_MAX: Duration = Duration::from_secs(15);

/// A realm's stream on a NATS connection.
#[derive(Debug, Clone)]
pub(crate) struct JetStreamLog {
    client: Client,
    stream: stream::Stream,
    subject_prefix: String,
    feed_prefix: String,
    answer_within: Duration,
}

impl JetStreamLog {
    /// Opens the realm's stream: creates it if it is not there, refuses it if its settings would break the store's promises.
    pub(crate) async fn open_stream(client: Client, options: &StoreOptions) -> Result<Self, StoreError> {
        let context = async_nats::jetstream::ContextBuilder::new()
            .timeout(options.answer_within)
            .build(client.clone());
        let stream = settings::ensure_stream(&context, options).await?;
        Ok(Self {
            client,
            stream,
            subject_prefix: settings::subject_prefix(&options.realm),
            feed_prefix: settings::feed_prefix(&options.realm),
            answer_within: options.answer_within,
        })
    }

    pub(crate) async fn publish_batch(&self, batch: &[Message], fence: u64) -> BatchAnswer {
        let Some((last, others)) = batch.split_last() else {
            return BatchAnswer::Again {
                why: "the batch is empty".into(),
            };
        };
        if self.client.connection_state() != State::Connected {
            return BatchAnswer::NotSent {
                why: "the NATS connection is down".into(),
            };
        }
        // A fresh id for every attempt: one that was cut off must not mix with the next.
        let id = uuid::Uuid::new_v4().simple().to_string();
        let deadline = Instant::now() + self.answer_within;
        for (place, message) in (1u64..).zip(others) {
            let mut headers = headers_of(message);
            headers.insert(BATCH_ID, id.as_str());
            headers.insert(BATCH_SEQUENCE, place.to_string());
            let publish = self
                .client
                .publish_with_headers(self.subject(&message.key), headers, message.body.clone());
            match timeout_at(deadline, publish).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return BatchAnswer::NotSent { why: error.into() },
                Err(elapsed) => return BatchAnswer::NotSent { why: elapsed.into() },
            }
        }
        let mut headers = headers_of(last);
        headers.insert(BATCH_ID, id.as_str());
        headers.insert(BATCH_SEQUENCE, batch.len().to_string());
        headers.insert(BATCH_COMMIT, "1");
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, fence.to_string());
        self.commit(last, headers).await
    }

    async fn commit(&self, message: &Message, headers: HeaderMap) -> BatchAnswer {
        match self.request(message, headers).await {
            Err(error) if error.kind() == RequestErrorKind::MaxPayloadExceeded => BatchAnswer::Refused {
                code: 10054,
                description: "message size exceeds maximum allowed".into(),
            },
            // A request that found no responder, like one that got no answer, may follow a batch that did arrive.
            Err(error) => BatchAnswer::Unclear { why: error.into() },
            Ok(body) => read_answer(&body),
        }
    }

    pub(crate) async fn publish_all(&self, messages: Vec<Message>) -> Result<(), StoreError> {
        futures::stream::iter(messages.into_iter().map(Ok))
            .try_for_each_concurrent(BLOCKS_IN_FLIGHT, |message| self.publish_one(message))
            .await
    }

    async fn publish_one(&self, message: Message) -> Result<(), StoreError> {
        let doing = format!("store block {}", message.key);
        let mut last: Cause = "no attempt was made".into();
        // Blocks are named by content, so publishing one twice changes nothing.
        for attempt in 0..4u32 {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
            }
            match self.request(&message, headers_of(&message)).await {
                Err(error) => last = error.into(),
                Ok(body) => match read_answer(&body) {
                    BatchAnswer::Stored { .. } => return Ok(()),
                    BatchAnswer::Refused { code, description } => {
                        return Err(StoreError::Refused {
                            doing,
                            code,
                            description,
                            hint: hint(code),
                        });
                    }
                    BatchAnswer::Unclear { why } | BatchAnswer::NotSent { why } => last = why,
                    BatchAnswer::Again { why } => last = why.into(),
                    BatchAnswer::WrongSequence => last = "an unexpected fence".into(),
                },
            }
        }
        Err(StoreError::unavailable(doing, last))
    }

    async fn request(&self, message: &Message, headers: HeaderMap) -> Result<Bytes, RequestError> {
        let request = Request::new()
            .headers(headers)
            .payload(message.body.clone())
            .timeout(Some(self.answer_within));
        match self
            .while_connected(self.client.send_request(self.subject(&message.key), request))
            .await
        {
            Some(answer) => Ok(answer?.payload),
            None => Err(RequestError::with_source(
                RequestErrorKind::Other,
                "the NATS connection broke meanwhile",
            )),
        }
    }

    /// Waits for an answer for as long as it can come: with its connection an answer is gone, and waiting for the timeout
    /// would only delay finding out what happened.
    async fn while_connected<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let statistics = self.client.statistics();
        let connects = statistics.connects.load(Ordering::Relaxed);
        tokio::pin!(answer);
        loop {
            if let Ok(answer) = timeout(CONNECTION_LOOK, &mut answer).await {
                return Some(answer);
            }
            if self.client.connection_state() != State::Connected
                || statistics.connects.load(Ordering::Relaxed) != connects
            {
                return None;
            }
        }
    }

    pub(crate) async fn last(&self, key: &str) -> Result<Option<Record>, StoreError> {
        let doing = || format!("read {key} at the stream's leader");
        // The client queues requests while it is disconnected; an answer now is worth more than one later.
        if self.client.connection_state() != State::Connected {
            return Err(StoreError::unavailable(doing(), "the NATS connection is down"));
        }
        let subject = self.subject(key);
        match self
            .while_connected(self.stream.get_last_raw_message_by_subject(&subject))
            .await
        {
            None => Err(StoreError::unavailable(doing(), "the NATS connection broke meanwhile")),
            Some(Ok(message)) => Ok(Some(record(
                key.to_owned(),
                message.sequence,
                0,
                millis(message.time.unix_timestamp_nanos()),
                Some(&message.headers),
                message.payload,
            ))),
            Some(Err(error)) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                LastRawMessageErrorKind::JetStream(inner) if inner.error_code().0 == 10037 => Ok(None),
                _ => Err(StoreError::unavailable(doing(), error)),
            },
        }
    }

    pub(crate) async fn open(&self, selection: Selection) -> Result<JetStreamCursor, StoreError> {
        let (filter_subject, deliver_policy) = match selection {
            Selection::All => (self.subject(">"), DeliverPolicy::All),
            Selection::AuditSince { ms } => {
                let start_time = async_nats::datetime::from_nanos(i128::from(ms) * 1_000_000)
                    .map_err(|error| StoreError::Invalid(format!("the time {ms} ms cannot be used: {error}")))?;
                (self.subject("audit.>"), DeliverPolicy::ByStartTime { start_time })
            }
        };
        let config = pull::OrderedConfig {
            filter_subject,
            deliver_policy,
            ..Default::default()
        };
        let open = async {
            let consumer = self.stream.create_consumer(config).await?;
            let pending = consumer.cached_info().num_pending;
            let messages = consumer.messages().await?;
            Ok::<_, async_nats::Error>(JetStreamCursor {
                messages,
                prefix: self.subject_prefix.clone(),
                pending,
                reached: 0,
            })
        };
        match timeout(self.answer_within * 2, open).await {
            Ok(Ok(cursor)) => Ok(cursor),
            Ok(Err(error)) => Err(StoreError::unavailable("start to read the store", error)),
            Err(elapsed) => Err(StoreError::unavailable("start to read the store", elapsed)),
        }
    }

    pub(crate) async fn feed(&self) -> Result<JetStreamFeed, StoreError> {
        let subscribe = self.client.subscribe(format!("{}>", self.feed_prefix));
        let subscriber = match timeout(self.answer_within, subscribe).await {
            Ok(Ok(subscriber)) => subscriber,
            Ok(Err(error)) => return Err(StoreError::unavailable("follow the store", error)),
            Err(elapsed) => return Err(StoreError::unavailable("follow the store", elapsed)),
        };
        // One answer on this connection shows that the server has the subscription: nothing stored from here on is missed.
        self.last(HEAD).await?;
        Ok(JetStreamFeed {
            subscriber,
            prefix: self.feed_prefix.clone(),
        })
    }

    fn subject(&self, key: &str) -> String {
        format!("{}{key}", self.subject_prefix)
    }
}

/// Reads records in stream order through an ordered consumer, which the client recreates by itself after a break.
pub(crate) struct JetStreamCursor {
    messages: pull::Ordered,
    prefix: String,
    pending: u64,
    reached: u64,
}

impl JetStreamCursor {
    pub(crate) async fn read_to(&mut self, seq: u64, out: &mut Vec<Record>) -> Result<(), StoreError> {
        while self.pending > 0 || self.reached < seq {
            let message = match timeout(READ_SILENCE_MAX, self.messages.next()).await {
                Err(elapsed) => return Err(StoreError::unavailable("read the store", elapsed)),
                Ok(None) => return Err(StoreError::unavailable("read the store", "the reader ended early")),
                Ok(Some(Err(error))) => return Err(StoreError::unavailable("read the store", error)),
                Ok(Some(Ok(message))) => message,
            };
            let info = message
                .info()
                .map_err(|error| StoreError::unavailable("read the store", error))?;
            self.pending = info.pending;
            self.reached = info.stream_sequence;
            let (at, stored_at_ms) = (info.stream_sequence, millis(info.published.unix_timestamp_nanos()));
            let Some(key) = message.subject.strip_prefix(&self.prefix) else {
                continue;
            };
            let key = key.to_owned();
            let message = message.message;
            out.push(record(
                key,
                at,
                0,
                stored_at_ms,
                message.headers.as_ref(),
                message.payload,
            ));
        }
        Ok(())
    }
}

/// Records as the server republishes them.
pub(crate) struct JetStreamFeed {
    subscriber: async_nats::Subscriber,
    prefix: String,
}

impl JetStreamFeed {
    pub(crate) async fn next(&mut self) -> FeedItem {
        let Some(message) = self.subscriber.next().await else {
            return FeedItem::Closed;
        };
        let headers = message.headers.as_ref();
        let number = |name: &str| {
            headers
                .and_then(|h| h.get(name))
                .and_then(|value| value.as_str().parse::<u64>().ok())
        };
        // Whoever may publish on the feed's subject could send anything; without its headers it is no record.
        match (
            message.subject.strip_prefix(&self.prefix),
            number(SEQUENCE),
            number(LAST_SEQUENCE),
        ) {
            (Some(key), Some(seq), Some(prev_seq)) => FeedItem::Record(record(
                key.to_owned(),
                seq,
                prev_seq,
                0,
                headers,
                message.payload.clone(),
            )),
            _ => FeedItem::Lost,
        }
    }
}

fn headers_of(message: &Message) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if message.marker {
        headers.insert(KV_OPERATION, "DEL");
    }
    if let Some(ttl) = message.ttl {
        headers.insert(TTL, ttl.as_secs().max(1).to_string());
    }
    if let Some(label) = &message.label {
        headers.insert(LABEL_BATCH, label.batch_id.as_str());
        headers.insert(LABEL_KIND, label.kind.as_str());
    }
    headers
}

fn record(key: String, seq: u64, prev_seq: u64, stored_at_ms: u64, headers: Option<&HeaderMap>, body: Bytes) -> Record {
    let text = |name: &str| headers.and_then(|h| h.get(name)).map(|value| value.as_str());
    let marker = text(MARKER_REASON).is_some() || matches!(text(KV_OPERATION), Some("DEL" | "PURGE"));
    let label = match (text(LABEL_BATCH), text(LABEL_KIND).and_then(CommitKind::parse)) {
        (Some(batch_id), Some(kind)) => Some(Label {
            batch_id: batch_id.to_owned(),
            kind,
        }),
        _ => None,
    };
    let attempt = match (
        text(BATCH_ID),
        text(BATCH_SEQUENCE).and_then(|place| place.parse().ok()),
    ) {
        (Some(id), Some(place)) => Some((id.to_owned(), place)),
        _ => None,
    };
    Record {
        key,
        seq,
        prev_seq,
        stored_at_ms,
        body,
        marker,
        timed: text(TTL).is_some(),
        label,
        attempt,
    }
}

fn millis(nanos: i128) -> u64 {
    u64::try_from(nanos / 1_000_000).unwrap_or(0)
}

#[derive(Deserialize)]
struct Answer {
    error: Option<AnswerError>,
    #[serde(default)]
    seq: u64,
}

#[derive(Deserialize)]
struct AnswerError {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// What a publish acknowledgement means for the commit.
fn read_answer(body: &[u8]) -> BatchAnswer {
    let answer: Answer = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(error) => return BatchAnswer::Unclear { why: error.into() },
    };
    let Some(error) = answer.error else {
        return BatchAnswer::Stored { seq: answer.seq };
    };
    let why = format!("nats error {} ({})", error.err_code, error.description);
    match error.err_code {
        // Two codes with one text: 10071 compares with what is stored, 10164 with what is on its way.
        10071 => BatchAnswer::WrongSequence,
        10164 | 10176 => BatchAnswer::Again { why },
        // Full disks, accounts and streams are answers; any other 503 is a server that may have done it all the same.
        10002 | 10023 | 10028 | 10077 => BatchAnswer::Refused {
            code: error.err_code,
            description: error.description,
        },
        _ if error.code >= 500 => BatchAnswer::Unclear { why: why.into() },
        code => BatchAnswer::Refused {
            code,
            description: error.description,
        },
    }
}

/// What a person can do about an error code of NATS.
pub(crate) fn hint(code: u64) -> &'static str {
    match code {
        10002 | 10028 => "raise the JetStream limits of the account, or free space in it",
        10023 => "the server is out of resources: free disk or memory on it, nothing was lost",
        10047 => "look at the server's log and its disk",
        10054 => "raise max_payload on the server to 1 MiB or more",
        10077 => "the realm's stream is full: raise its max_bytes",
        10174 => "the stream does not allow atomic batches: set allow_atomic",
        10199 => "the server allows fewer messages in a batch than the 1,000 this store relies on",
        _ => "look the code up in the documentation of nats-server",
    }
}

/// The context that made this log's stream, for other helpers on the same connection.
pub(crate) fn context(client: Client, answer_within: Duration) -> Context {
    async_nats::jetstream::ContextBuilder::new()
        .timeout(answer_within)
        .build(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u64, err_code: u64) -> BatchAnswer {
        let body = format!(r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"x"}},"seq":0}}"#);
        read_answer(body.as_bytes())
    }

    #[test]
    fn every_answer_says_no_more_than_it_knows() {
        assert!(matches!(
            read_answer(br#"{"stream":"S","seq":7}"#),
            BatchAnswer::Stored { seq: 7 }
        ));
        assert!(matches!(answer(400, 10071), BatchAnswer::WrongSequence));
        assert!(matches!(answer(400, 10164), BatchAnswer::Again { .. }));
        assert!(matches!(answer(400, 10176), BatchAnswer::Again { .. }));
        assert!(matches!(answer(400, 10199), BatchAnswer::Refused { code: 10199, .. }));
        assert!(matches!(answer(503, 10023), BatchAnswer::Refused { code: 10023, .. }));
        assert!(matches!(answer(503, 10008), BatchAnswer::Unclear { .. }));
        assert!(matches!(answer(503, 10047), BatchAnswer::Unclear { .. }));
        assert!(matches!(read_answer(b"what?"), BatchAnswer::Unclear { .. }));
    }
}
