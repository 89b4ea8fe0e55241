//! A guest's stdout and stderr as log lines.
//!
//! In: bytes, in pieces as the guest writes them. Out: whole lines in the component's log. Nothing is buffered beyond
//! one line, and a guest that never writes costs nothing.

use crate::log::{Level, Log};
use bytes::Bytes;
use heddle_protocol::defaults::LOG_LINE_BYTES_MAX;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Bytes that a guest may write at once.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// One of the two output streams of an instance.
pub(crate) struct LineStream {
    log: Arc<Log>,
    level: Level,
    line: OnceLock<Arc<Mutex<Line>>>,
}

impl LineStream {
    pub(crate) fn new(log: Arc<Log>, level: Level) -> Self {
        Self {
            log,
            level,
            line: OnceLock::new(),
        }
    }

    /// All handles of one stream write to one line.
    fn writer(&self) -> Writer {
        let line = self.line.get_or_init(|| {
            Arc::new(Mutex::new(Line {
                log: Arc::clone(&self.log),
                level: self.level,
                bytes: Vec::new(),
            }))
        });
        Writer(Arc::clone(line))
    }
}

impl IsTerminal for LineStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.writer())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.writer())
    }
}

/// The line that is being written.
struct Line {
    log: Arc<Log>,
    level: Level,
    bytes: Vec<u8>,
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            // What would make the line too long starts a new one.
            for part in piece.chunks(LOG_LINE_BYTES_MAX) {
                if self.bytes.len() + part.len() > LOG_LINE_BYTES_MAX {
                    self.end();
                }
                self.bytes.extend_from_slice(part);
            }
            if pieces.peek().is_some() {
                self.end();
            }
        }
    }

    fn end(&mut self) {
        if !self.bytes.is_empty() {
            self.log.write(self.level, &String::from_utf8_lossy(&self.bytes));
            self.bytes.clear();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.end();
    }
}

/// One handle to the stream.
struct Writer(Arc<Mutex<Line>>);

impl Writer {
    fn push(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogLines;
    use heddle_protocol::id::{ComponentName, Generation, UnitId, WorkloadId};

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl LogLines for Kept {
        fn line(&self, _: &UnitId, _: &ComponentName, level: &str, text: &str) {
            self.0.lock().unwrap().push(format!("{level} {text}"));
        }
    }

    #[test]
    fn pieces_become_lines_and_the_last_one_needs_no_line_break() {
        let kept = Arc::new(Kept::default());
        let unit = UnitId {
            workload: WorkloadId::parse("cart").unwrap(),
            generation: Generation(1),
        };
        let log = Arc::new(Log::new(
            unit,
            ComponentName::parse("api").unwrap(),
            Arc::clone(&kept) as _,
        ));
        let stream = LineStream::new(log, Level::Warn);
        for piece in ["he", "llo\nwor", "ld\n", "", "end"] {
            stream.writer().push(piece.as_bytes());
        }
        stream.writer().push("x".repeat(LOG_LINE_BYTES_MAX).as_bytes());
        drop(stream);
        let kept = kept.0.lock().unwrap();
        assert_eq!(kept[..3], ["warn hello", "warn world", "warn end"]);
        assert_eq!(kept[3].len(), "warn ".len() + LOG_LINE_BYTES_MAX);
    }
}
