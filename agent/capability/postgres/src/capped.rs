//! A stream from which no more than a bounded number of bytes is read per call.
//!
//! In: a stream. Out: the same, which fails once a call's answer is larger than any guest may get: the protocol allows a
//! gigabyte in one cell, and the client's library would keep all of it.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that the server may send in answer to one call, in the protocol's form.
pub(crate) const WIRE_BYTES_MAX: usize = 24 << 20;

/// How many bytes a connection may still read.
#[derive(Debug, Clone)]
pub(crate) struct Left(Arc<AtomicUsize>);

impl Default for Left {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(WIRE_BYTES_MAX)))
    }
}

impl Left {
    /// A new call begins.
    pub(crate) fn refill(&self) {
        self.0.store(WIRE_BYTES_MAX, Ordering::Relaxed);
    }

    /// Whether the call has had all that it may.
    pub(crate) fn is_used_up(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// A stream with a bound.
pub(crate) struct Capped<S> {
    stream: S,
    left: Left,
}

impl<S> Capped<S> {
    pub(crate) fn new(stream: S, left: Left) -> Self {
        Self { stream, left }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Capped<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if self.left.is_used_up() {
            return Poll::Ready(Err(Error::new(ErrorKind::FileTooLarge, "the answer is too large")));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        let left = self.left.0.load(Ordering::Relaxed);
        self.left.0.store(left.saturating_sub(bytes), Ordering::Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Capped<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
