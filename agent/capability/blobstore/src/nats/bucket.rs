//! One object store, in the layout that all clients of NATS share: a message for what is known of an object, and messages
//! for its chunks under an id of this version of it. In: names and readers. Out: names, what is known, readers.
//!
//! A version becomes the object when the message about it is stored behind the one that its writer saw: of two writers
//! each removes the chunks of exactly the version that it replaced.

use super::chunks::{self, Chunks};
use super::connection::unavailable;
use crate::backend::Error;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::object_store::{ObjectInfo, ObjectOptions};
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self};
use async_nats::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::AsyncRead;

/// Attempts at replacing an object that others replace at the same time.
const ATTEMPTS_MAX: usize = 16;

/// A bucket.
pub(super) struct Bucket {
    name: String,
    context: jetstream::Context,
    stream: Stream,
    failed: AtomicBool,
}

/// What is known of an object, and where that is said.
pub(super) struct Found {
    pub(super) info: ObjectInfo,
    pub(super) created_at: Option<u64>,
    sequence: u64,
}

impl Bucket {
    pub(super) fn new(name: &str, context: jetstream::Context, stream: Stream) -> Self {
        Self {
            name: name.to_owned(),
            context,
            stream,
            failed: AtomicBool::new(false),
        }
    }

    /// Whether no call has failed yet.
    pub(super) fn is_fine(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    fn failed(&self, error: impl std::error::Error) -> Error {
        self.failed.store(true, Ordering::Relaxed);
        unavailable(error)
    }

    fn about(&self, object: &str) -> String {
        format!("$O.{}.M.{}", self.name, URL_SAFE.encode(object))
    }

    /// What is known of an object; none if there is no such object.
    pub(super) async fn find(&self, object: &str) -> Result<Option<Found>, Error> {
        Ok(self.look(object).await?.filter(|found| !found.info.deleted))
    }

    /// The same, with the trace of one that another client removed.
    async fn look(&self, object: &str) -> Result<Option<Found>, Error> {
        let message = match self.stream.get_last_raw_message_by_subject(&self.about(object)).await {
            Ok(message) => message,
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let info = serde_json::from_slice(&message.payload).map_err(unavailable)?;
        Ok(Some(Found {
            info,
            created_at: u64::try_from(message.time.unix_timestamp()).ok(),
            sequence: message.sequence,
        }))
    }

    /// Stores an object with nothing in it, unless there is one of that name.
    pub(super) async fn create_empty(&self, object: &str) -> Result<bool, Error> {
        let before = self.look(object).await?;
        if before.as_ref().is_some_and(|found| !found.info.deleted) {
            return Ok(false);
        }
        let info = self.info(object, chunks::Written::nothing());
        self.say(&info, before.map_or(0, |found| found.sequence)).await
    }

    /// Stores an object, in place of one of that name.
    pub(super) async fn put(&self, object: &str, bytes: impl AsyncRead + Send + Unpin) -> Result<(), Error> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let chunks = Chunks::new(&self.context, &self.stream, &self.name, &id);
        let written = chunks.write(bytes).await?;
        let info = self.info(object, written);
        for _ in 0..ATTEMPTS_MAX {
            let before = self.look(object).await?;
            if !self
                .say(&info, before.as_ref().map_or(0, |found| found.sequence))
                .await?
            {
                continue;
            }
            chunks.keep();
            if let Some(before) = before.filter(|found| found.info.chunks > 0) {
                self.purge(&before.info.nuid).await;
            }
            return Ok(());
        }
        Err(Error::Unavailable(
            "others replaced the object each time; try again".to_owned(),
        ))
    }

    fn info(&self, object: &str, written: chunks::Written) -> ObjectInfo {
        ObjectInfo {
            name: object.to_owned(),
            description: None,
            metadata: std::collections::HashMap::new(),
            headers: None,
            options: Some(ObjectOptions {
                link: None,
                max_chunk_size: Some(chunks::CHUNK_BYTES),
            }),
            bucket: self.name.clone(),
            nuid: written.id,
            size: written.bytes,
            chunks: written.chunks,
            modified: None,
            digest: Some(format!("SHA-256={}", URL_SAFE.encode(written.sha256))),
            deleted: false,
        }
    }

    /// Says what an object is now, if nothing else was said since a message.
    async fn say(&self, info: &ObjectInfo, after: u64) -> Result<bool, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_ROLLUP, "sub");
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, after.to_string());
        let payload = serde_json::to_vec(info).map_err(unavailable)?;
        let sent = self
            .context
            .publish_with_headers(self.about(&info.name), headers, payload.into())
            .await;
        match sent.map_err(|e| self.failed(e))?.await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Removes an object; it need not be there.
    pub(super) async fn delete(&self, object: &str) -> Result<(), Error> {
        let Some(found) = self.look(object).await? else {
            return Ok(());
        };
        // This one message: a version that was stored meanwhile stays.
        if let Err(error) = self.stream.delete_message(found.sequence).await {
            return match self.look(object).await? {
                Some(now) if now.sequence == found.sequence => Err(self.failed(error)),
                _ => Ok(()),
            };
        }
        if found.info.chunks > 0 {
            self.purge(&found.info.nuid).await;
        }
        Ok(())
    }

    /// Removes chunks that nothing speaks of any more. What cannot be removed now takes room and does no other harm.
    async fn purge(&self, id: &str) {
        let chunks = chunks::subject(&self.name, id);
        if let Err(error) = self.stream.purge().filter(chunks).await {
            tracing::warn!(%error, bucket = self.name, "chunks of a replaced object stay in the store");
        }
    }

    /// An object's bytes.
    pub(super) fn read(&self, info: ObjectInfo) -> impl AsyncRead + Send + Unpin + use<> {
        chunks::read(
            self.stream.clone(),
            chunks::subject(&self.name, &info.nuid),
            info.chunks,
        )
    }

    /// The names of all objects that begin with something, without it. The server knows objects by whole names only, so
    /// this reads what is known of every object in the bucket.
    pub(super) async fn names(&self, prefix: String) -> Result<BoxStream<'static, Result<String, Error>>, Error> {
        let mut consumer = self
            .stream
            .create_consumer(pull::OrderedConfig {
                filter_subject: format!("$O.{}.M.>", self.name),
                deliver_policy: DeliverPolicy::All,
                headers_only: true,
                ..pull::OrderedConfig::default()
            })
            .await
            .map_err(|e| self.failed(e))?;
        if consumer.info().await.map_err(|e| self.failed(e))?.num_pending == 0 {
            return Ok(stream::empty().boxed());
        }
        let messages = consumer.messages().await.map_err(|e| self.failed(e))?;
        let all = stream::try_unfold((messages, false), |(mut messages, last)| async move {
            if last {
                return Ok(None);
            }
            let Some(message) = messages.next().await else {
                return Ok(None);
            };
            let message = message.map_err(unavailable)?;
            let last = message.info().map_err(|e| Error::Unavailable(e.to_string()))?.pending == 0;
            let name = message.subject.rsplit('.').next().and_then(decode);
            Ok(Some((name, (messages, last))))
        });
        let mine = all.try_filter_map(move |name: Option<String>| {
            let mine = name
                .as_deref()
                .and_then(|name| name.strip_prefix(&prefix))
                .map(str::to_owned);
            futures::future::ready(Ok(mine))
        });
        Ok(mine.boxed())
    }
}

fn decode(token: &str) -> Option<String> {
    String::from_utf8(URL_SAFE.decode(token).ok()?).ok()
}
