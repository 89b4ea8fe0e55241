//! Where the past is kept: a stream beside the realm's own, of which a week stays, and a gibibyte at most.
//!
//! In: parts, in order. Out: the same, by number. Nothing here is needed to lead: what cannot be kept is told, and missed by
//! whoever wants to replay a decision.

use super::error::StoreError;
use super::settings::{self, StoreOptions};
use async_nats::jetstream::stream::{self, DiscardPolicy, RawMessageErrorKind, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, context::CreateStreamErrorKind};
use bytes::Bytes;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::timeout;

/// How much of the past is kept: the oldest goes first.
const BYTES_MAX: i64 = 1 << 30;
/// How much of it is kept in memory, in bytes.
const MEMORY_BYTES_MAX: usize = 64 << 20;

/// The parts of the past. A handle; clones share them.
#[derive(Clone)]
pub struct PastStore(Backing);

#[derive(Clone)]
enum Backing {
    JetStream {
        context: Box<Context>,
        options: Box<StoreOptions>,
    },
    Memory(Arc<Mutex<Parts>>),
}

#[derive(Default)]
struct Parts {
    /// How many went before the first of them.
    before: u64,
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl fmt::Debug for PastStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Backing::JetStream { .. } => "PastStore(JetStream)",
            Backing::Memory(_) => "PastStore(Memory)",
        })
    }
}

impl PastStore {
    /// Opens the stream of a realm's past, creating it if there is none.
    pub async fn open(client: async_nats::Client, options: &StoreOptions) -> Result<Self, StoreError> {
        settings::check_realm(&options.realm)?;
        let context = super::jetstream::context(client, options.answer_within);
        let config = wanted(options);
        let name = config.name.clone();
        let doing = || format!("open stream {name}");
        if let Err(error) = context.get_or_create_stream(config).await {
            match error.kind() {
                // 10058: it is there with other settings, which its operator may have chosen.
                CreateStreamErrorKind::JetStream(inner) if inner.error_code().0 == 10058 => {}
                _ => return Err(StoreError::unavailable(doing(), error)),
            }
        }
        Ok(Self(Backing::JetStream {
            context: Box::new(context),
            options: Box::new(options.clone()),
        }))
    }

    /// An empty one in memory.
    pub fn in_memory() -> Self {
        Self(Backing::Memory(Arc::default()))
    }

    /// Adds a part after all others.
    pub async fn append(&self, part: Bytes) -> Result<(), StoreError> {
        let (context, options) = match &self.0 {
            Backing::Memory(parts) => {
                let mut parts = lock(parts);
                parts.bytes += part.len();
                parts.parts.push_back(part);
                while parts.bytes > MEMORY_BYTES_MAX
                    && let Some(oldest) = parts.parts.pop_front()
                {
                    parts.bytes -= oldest.len();
                    parts.before += 1;
                }
                return Ok(());
            }
            Backing::JetStream { context, options } => (context, options),
        };
        let doing = || "keep what a decision was made from".to_owned();
        let sent = context.publish(subject(&options.realm), part).await;
        let ack = sent.map_err(|error| StoreError::unavailable(doing(), error))?;
        match timeout(options.answer_within, ack).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(StoreError::unavailable(doing(), error)),
            Err(elapsed) => Err(StoreError::unavailable(doing(), elapsed)),
        }
    }

    /// The numbers of the first part and of the one after the last.
    pub async fn range(&self) -> Result<std::ops::Range<u64>, StoreError> {
        match &self.0 {
            Backing::Memory(parts) => {
                let parts = lock(parts);
                Ok(parts.before..parts.before + parts.parts.len() as u64)
            }
            Backing::JetStream { .. } => {
                let stream = self.stream().await?;
                let state = &stream.cached_info().state;
                let end = state.last_sequence + 1;
                // Where there is none, the first is not said.
                Ok(if state.messages == 0 { end } else { state.first_sequence }..end)
            }
        }
    }

    /// The part of a number; none if it is not kept.
    pub async fn read(&self, number: u64) -> Result<Option<Bytes>, StoreError> {
        match &self.0 {
            Backing::Memory(parts) => {
                let parts = lock(parts);
                let place = number.checked_sub(parts.before);
                Ok(place.and_then(|place| parts.parts.get(usize::try_from(place).ok()?).cloned()))
            }
            Backing::JetStream { .. } => match self.stream().await?.get_raw_message(number).await {
                Ok(message) => Ok(Some(message.payload)),
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
                Err(error) => Err(StoreError::unavailable(
                    format!("read part {number} of the past"),
                    error,
                )),
            },
        }
    }

    async fn stream(&self) -> Result<stream::Stream, StoreError> {
        let Backing::JetStream { context, options } = &self.0 else {
            return Err(StoreError::Invalid("the past in memory has no stream".into()));
        };
        let name = name(&options.realm);
        let stream = context.get_stream(&name).await;
        stream.map_err(|error| StoreError::unavailable(format!("open stream {name}"), error))
    }
}

fn name(realm: &str) -> String {
    format!("{}_past", settings::bucket(realm))
}

fn subject(realm: &str) -> String {
    format!("heddle.v1.{realm}.past")
}

fn wanted(options: &StoreOptions) -> stream::Config {
    stream::Config {
        name: name(&options.realm),
        description: Some("heddle: what decisions of a realm were made from".into()),
        subjects: vec![subject(&options.realm)],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: options.replicas,
        max_bytes: BYTES_MAX,
        max_age: options.audit_ttl,
        discard: DiscardPolicy::Old,
        ..Default::default()
    }
}

fn lock(parts: &Mutex<Parts>) -> MutexGuard<'_, Parts> {
    parts.lock().unwrap_or_else(PoisonError::into_inner)
}
