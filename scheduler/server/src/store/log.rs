//! The stream under the commit chain: a last-value log with atomic batches and one fence.
//!
//! In: messages to store. Out: stored records, and honest answers about what was stored. Two things are behind it:
//! JetStream, and a log in memory that keeps the same rules. Everything above this file is the same for both.

use std::time::Duration;

use bytes::Bytes;

use super::error::{Cause, StoreError};
use super::jetstream::{JetStreamCursor, JetStreamFeed, JetStreamLog};
use super::memory::{MemoryCursor, MemoryFeed, MemoryLog};
use super::record::CommitKind;

/// One message to be stored under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The key below the bucket's subject.
    pub(crate) key: String,
    /// The body; empty for markers.
    pub(crate) body: Bytes,
    /// Whether it is a delete marker.
    pub(crate) marker: bool,
    /// After this time it goes away by itself.
    pub(crate) ttl: Option<Duration>,
    /// On an audit record: the batch it belongs to and why it was made.
    pub(crate) label: Option<Label>,
}

/// What an audit record says about its commit besides its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    /// Our id of the batch, the same in every attempt to store it.
    pub(crate) batch_id: String,
    /// Why the commit was made.
    pub(crate) kind: CommitKind,
}

impl Message {
    pub(crate) fn value(key: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            body: body.into(),
            marker: false,
            ttl: None,
            label: None,
        }
    }

    pub(crate) fn marker(key: impl Into<String>, ttl: Option<Duration>) -> Self {
        Self {
            key: key.into(),
            body: Bytes::new(),
            marker: true,
            ttl,
            label: None,
        }
    }
}

/// One stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The key below the bucket's subject.
    pub(crate) key: String,
    /// Its place in the stream.
    pub(crate) seq: u64,
    /// The place of the record of this key that it replaced; known in the feed only.
    pub(crate) prev_seq: u64,
    /// When it was stored, by the server's clock.
    pub(crate) stored_at_ms: u64,
    /// The body.
    pub(crate) body: Bytes,
    /// Whether it is a delete marker.
    pub(crate) marker: bool,
    /// Whether it goes away by itself.
    pub(crate) timed: bool,
    /// What an audit record says about its commit.
    pub(crate) label: Option<Label>,
    /// The attempt (one atomic batch on the wire) that stored it, and its place in it from 1.
    pub(crate) attempt: Option<(String, u64)>,
}

/// What the server said to an atomic batch.
#[derive(Debug)]
pub(crate) enum BatchAnswer {
    /// All of it is stored; the sequence is that of its last message.
    Stored { seq: u64 },
    /// None of it is stored: the fence is not where it was expected.
    WrongSequence,
    /// None of it is stored, and it may be sent again at once.
    Again { why: String },
    /// None of it is stored, for a reason that trying again does not cure.
    Refused { code: u64, description: String },
    /// Its commit message never left this process.
    NotSent { why: Cause },
    /// It may be stored, or be stored a little later, or never.
    Unclear { why: Cause },
}

/// Which records to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    /// Everything.
    All,
    /// Audit records stored at or after this time.
    AuditSince {
        /// Milliseconds since 1970.
        ms: u64,
    },
}

/// A fault for tests: what to do with the next batches and reads instead of the ordinary thing.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Store the next batch, and lose the answer.
    LoseAnswer,
    /// Lose the next batch on its way, without a word.
    LoseRequest,
    /// Keep the next batch back; it arrives just before the batch after it.
    DelayRequest,
    /// Let the next leader read fail.
    FailRead,
    /// Pass the next batch, so that a later fault can be set behind it.
    Pass,
}

/// The log behind a store.
#[derive(Debug, Clone)]
pub(crate) enum Log {
    JetStream(Box<JetStreamLog>),
    Memory(MemoryLog),
}

impl Log {
    /// Stores all messages in order or none of them. The last one carries the fence: the sequence its key must have now.
    pub(crate) async fn publish_batch(&self, batch: &[Message], fence: u64) -> BatchAnswer {
        match self {
            Self::JetStream(log) => log.publish_batch(batch, fence).await,
            Self::Memory(log) => log.publish_batch(batch, fence).await,
        }
    }

    /// Stores messages that mean nothing by themselves, in any order.
    pub(crate) async fn publish_all(&self, messages: Vec<Message>) -> Result<(), StoreError> {
        match self {
            Self::JetStream(log) => log.publish_all(messages).await,
            Self::Memory(log) => log.publish_all(messages).await,
        }
    }

    /// Reads a key's newest record at the stream's leader.
    pub(crate) async fn last(&self, key: &str) -> Result<Option<Record>, StoreError> {
        match self {
            Self::JetStream(log) => log.last(key).await,
            Self::Memory(log) => log.last(key).await,
        }
    }

    /// Starts to read records from the oldest.
    pub(crate) async fn open(&self, selection: Selection) -> Result<Cursor, StoreError> {
        Ok(match self {
            Self::JetStream(log) => Cursor::JetStream(Box::new(log.open(selection).await?)),
            Self::Memory(log) => Cursor::Memory(log.open(selection)),
        })
    }

    /// Subscribes to records as they are stored.
    pub(crate) async fn feed(&self) -> Result<RecordFeed, StoreError> {
        Ok(match self {
            Self::JetStream(log) => RecordFeed::JetStream(Box::new(log.feed().await?)),
            Self::Memory(log) => RecordFeed::Memory(log.feed()),
        })
    }
}

/// A place in the stream from which reading goes on.
pub(crate) enum Cursor {
    JetStream(Box<JetStreamCursor>),
    Memory(MemoryCursor),
}

impl Cursor {
    /// Reads on to the end of the stream, and at least up to `seq`.
    pub(crate) async fn read_to(&mut self, seq: u64, out: &mut Vec<Record>) -> Result<(), StoreError> {
        match self {
            Self::JetStream(cursor) => cursor.read_to(seq, out).await,
            Self::Memory(cursor) => cursor.read_to(out).await,
        }
    }
}

/// What the feed of records says next.
#[derive(Debug)]
pub(crate) enum FeedItem {
    /// A record was stored.
    Record(Record),
    /// Records were dropped on the way.
    Lost,
    /// The connection is closed for good.
    Closed,
}

/// Records as they are stored. It may lose some: whoever reads it checks sequences.
pub(crate) enum RecordFeed {
    JetStream(Box<JetStreamFeed>),
    Memory(MemoryFeed),
}

impl RecordFeed {
    pub(crate) async fn next(&mut self) -> FeedItem {
        match self {
            Self::JetStream(feed) => feed.next().await,
            Self::Memory(feed) => feed.next().await,
        }
    }
}

impl Log {
    /// A name for a batch that no other batch has.
    pub(crate) fn new_batch_id(&self) -> String {
        match self {
            Self::JetStream(_) => uuid::Uuid::now_v7().simple().to_string(),
            Self::Memory(log) => log.new_batch_id(),
        }
    }

    /// Whether records carry the time of day; the log in memory counts from zero.
    pub(crate) fn has_wall_clock(&self) -> bool {
        matches!(self, Self::JetStream(_))
    }
}
