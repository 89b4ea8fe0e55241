//! The bytes of one version of an object, as messages. In: a reader. Out: messages that were acknowledged, a few on their
//! way at a time; or the other way round, one message at a time, as fast as somebody reads.

use super::connection::unavailable;
use crate::backend::Error;
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self};
use bytes::{Bytes, BytesMut};
use futures::stream;
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::io;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt as _};

/// One chunk, in bytes, as all clients have it.
pub(super) const CHUNK_BYTES: usize = 128 << 10;
/// Chunks that are on their way to the server.
const CHUNKS_AT_ONCE: usize = 4;

/// The subject of the chunks of one version.
pub(super) fn subject(bucket: &str, id: &str) -> String {
    format!("$O.{bucket}.C.{id}")
}

/// What was written.
pub(super) struct Written {
    pub(super) id: String,
    pub(super) bytes: usize,
    pub(super) chunks: usize,
    pub(super) sha256: Vec<u8>,
}

impl Written {
    /// An object without bytes has no chunks.
    pub(super) fn nothing() -> Self {
        Self {
            id: uuid::Uuid::new_v4().simple().to_string(),
            bytes: 0,
            chunks: 0,
            sha256: Sha256::digest([]).to_vec(),
        }
    }
}

/// Chunks of a version that nothing speaks of yet: removed unless somebody keeps them.
pub(super) struct Chunks<'a> {
    context: &'a jetstream::Context,
    stream: &'a Stream,
    id: &'a str,
    subject: String,
    keep: bool,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(context: &'a jetstream::Context, stream: &'a Stream, bucket: &str, id: &'a str) -> Self {
        Self {
            context,
            stream,
            id,
            subject: subject(bucket, id),
            keep: false,
        }
    }

    /// Writes all that a reader gives.
    pub(super) async fn write(&self, mut bytes: impl AsyncRead + Send + Unpin) -> Result<Written, Error> {
        let mut written = Written {
            id: self.id.to_owned(),
            ..Written::nothing()
        };
        let (mut sha256, mut sent) = (Sha256::new(), VecDeque::with_capacity(CHUNKS_AT_ONCE));
        while let Some(chunk) = next_chunk(&mut bytes).await? {
            sha256.update(&chunk);
            written.bytes += chunk.len();
            written.chunks += 1;
            if sent.len() >= CHUNKS_AT_ONCE {
                acknowledged(&mut sent).await?;
            }
            sent.push_back(
                self.context
                    .publish(self.subject.clone(), chunk)
                    .await
                    .map_err(unavailable)?,
            );
        }
        while !sent.is_empty() {
            acknowledged(&mut sent).await?;
        }
        written.sha256 = sha256.finalize().to_vec();
        Ok(written)
    }

    /// Something speaks of them now.
    pub(super) fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Chunks<'_> {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let (stream, subject) = (self.stream.clone(), std::mem::take(&mut self.subject));
        // The call may have been dropped in between, so this is left to a task.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = stream.purge().filter(subject).await {
                    tracing::warn!(%error, "chunks of an unfinished object stay in the store");
                }
            });
        }
    }
}

async fn acknowledged(sent: &mut VecDeque<PublishAckFuture>) -> Result<(), Error> {
    match sent.pop_front() {
        Some(sent) => sent.await.map(drop).map_err(unavailable),
        None => Ok(()),
    }
}

/// A full chunk, or the rest; none at the end.
async fn next_chunk(bytes: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
    let mut left = bytes.take(CHUNK_BYTES as u64);
    while left.read_buf(&mut chunk).await? > 0 {}
    Ok(Some(chunk.freeze()).filter(|chunk| !chunk.is_empty()))
}

/// Reads chunks one by one: the next is asked for when the last was read.
pub(super) fn read(stream: Stream, subject: String, chunks: usize) -> impl AsyncBufRead + Send + Unpin {
    let pieces = stream::try_unfold((stream, 1, chunks), move |(stream, from, left)| {
        let subject = subject.clone();
        async move {
            if left == 0 {
                return Ok::<_, io::Error>(None);
            }
            let chunk = stream.direct_get_next_for_subject(subject, Some(from)).await;
            // The object was replaced or removed meanwhile, or the server is gone.
            let chunk = chunk.map_err(|error| io::Error::other(format!("the object cannot be read on: {error}")))?;
            Ok(Some((chunk.payload, (stream, chunk.sequence + 1, left - 1))))
        }
    });
    tokio_util::io::StreamReader::new(Box::pin(pieces))
}
