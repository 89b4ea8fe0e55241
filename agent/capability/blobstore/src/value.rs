//! What a guest writes and reads: `outgoing-value` and `incoming-value`. In: a stream of bytes of the guest's, into a file
//! in pieces that wait for each other. Out: a file that is whole, or why it is not.

use crate::backend::{Error, Reader};
use crate::spool::{Spool, Spooled};
use bytes::Bytes;
use std::sync::{Arc, OnceLock};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// One piece, in bytes, as streams of WASI usually have.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces of one value that may wait for the disk.
const PIECES: usize = 4;

/// Why writing failed, for the stream and for whoever finishes the value.
type Failure = Arc<OnceLock<String>>;

/// A value that a guest writes.
pub(crate) struct Outgoing {
    /// The stream, until the guest takes it.
    body: Option<Body>,
    failure: Failure,
    writer: JoinHandle<Result<Spooled, Error>>,
    /// Where it goes when it is whole.
    pub(crate) to: Option<(String, String)>,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // A value that was not finished is not stored; its file goes with the task.
        self.writer.abort();
    }
}

impl Outgoing {
    /// Begins a value in a store's spool.
    pub(crate) fn new(spool: &Arc<Spool>) -> Self {
        let (pieces, mut waiting) = mpsc::channel(PIECES);
        let failure = Failure::default();
        let writer = {
            let (spool, failure) = (Arc::clone(spool), Arc::clone(&failure));
            tokio::spawn(async move {
                // The channel closes after the reason is there: a guest that finds it closed is told why.
                let written = write(&spool, &mut waiting).await;
                written.inspect_err(|error| {
                    let _ = failure.set(error.to_string());
                })
            })
        };
        Self {
            body: Some(Body {
                pieces,
                failure: Arc::clone(&failure),
            }),
            failure,
            writer,
            to: None,
        }
    }

    /// The stream; there is one.
    pub(crate) fn take_body(&mut self) -> Option<Body> {
        self.body.take()
    }

    /// Waits until all of it is on disk. The guest has let go of its stream.
    pub(crate) async fn whole(&mut self) -> Result<Spooled, Error> {
        self.body = None;
        match (&mut self.writer).await {
            Ok(spooled) => spooled,
            Err(ended) => {
                let why = self.failure.get().cloned().unwrap_or_else(|| ended.to_string());
                Err(Error::Unavailable(why))
            }
        }
    }
}

async fn write(spool: &Arc<Spool>, pieces: &mut mpsc::Receiver<Bytes>) -> Result<Spooled, Error> {
    let (mut file, mut spooled) = spool.create().await?;
    while let Some(piece) = pieces.recv().await {
        spooled.grow(piece.len() as u64)?;
        file.write_all(&piece).await?;
    }
    file.flush().await?;
    file.sync_data().await?;
    Ok(spooled)
}

/// The stream of a value that a guest writes.
pub(crate) struct Body {
    pieces: mpsc::Sender<Bytes>,
    failure: Failure,
}

impl Body {
    /// What went wrong; none while the file takes what comes.
    fn failed(&self) -> StreamError {
        match self.failure.get() {
            Some(why) => StreamError::LastOperationFailed(wasmtime::Error::msg(why.clone())),
            None => StreamError::Closed,
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Body {
    async fn ready(&mut self) {
        // The permit is given back at once: this stream is the only one that sends, so the room stays.
        let _ = self.pieces.reserve().await;
    }
}

#[async_trait::async_trait]
impl OutputStream for Body {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        match self.pieces.try_send(bytes) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(StreamError::trap("wrote more than the stream permits")),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(self.failed()),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        // Nothing is promised before the value is finished, and then all of it is on disk.
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.pieces.is_closed() {
            return Err(self.failed());
        }
        Ok(if self.pieces.capacity() > 0 { PIECE_BYTES } else { 0 })
    }
}

/// A value that a guest reads.
pub(crate) struct Incoming(pub(crate) Reader);
