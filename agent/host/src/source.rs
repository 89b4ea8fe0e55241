//! Where specs come from and where reports go: the scheduler over NATS, a file, or the process around this agent.
//!
//! A source works beside the control loop. It hands over [`SourceEvent`]s through a bounded channel, and takes what the
//! agent says through an [`Uplink`] that never makes the loop wait.

mod file;
mod in_process;
mod nats;

pub use in_process::{InProcess, InProcessHandle};

pub(crate) use file::start as start_file;
pub(crate) use nats::start as start_nats;

use async_trait::async_trait;
use bytes::Bytes;
use heddle_agent_core::{ReadSpec, Sender};
use heddle_protocol::api::artifact::ArtifactChunk;
use heddle_protocol::api::logs::{LogLines, Logs};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::{Fire, FireAnswer, Heartbeat, Hello, HostReport, SpecAnswer, SpecRefusal};
use heddle_protocol::host_spec::HostSpecBody;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Events that wait for the control loop at most; a source that has more waits itself.
pub(crate) const EVENTS_WAITING_MAX: usize = 64;

/// Something that a source heard.
#[derive(Debug)]
pub enum SourceEvent {
    /// A signed spec, opened and verified, or what is wrong with it.
    Spec {
        /// The spec.
        read: Box<Result<ReadSpec, SpecRefusal>>,
        /// Who handed it over.
        sender: Sender,
        /// Its bytes as they came, for the cache; none if the source keeps them itself.
        envelope: Option<Bytes>,
        /// Takes the answer.
        reply: oneshot::Sender<SpecAnswer>,
    },
    /// What to run, from whoever owns this machine: a plain file, or the process around this agent. Needs no signature.
    Body {
        /// What to run.
        body: Box<HostSpecBody>,
        /// Takes the answer.
        reply: oneshot::Sender<SpecAnswer>,
    },
    /// Introduce yourself: the link came up, the scheduler asks, or the last hello had no answer.
    HelloWanted,
    /// The scheduler has taken the hello.
    HelloAnswered,
    /// Say everything that runs.
    ReportWanted {
        /// Takes the answer, the first message of it.
        reply: oneshot::Sender<HostReport>,
    },
    /// Give log lines.
    LogsWanted {
        /// Which.
        logs: Logs,
        /// Takes the answer.
        reply: oneshot::Sender<LogLines>,
    },
    /// Run something once, now.
    Fire {
        /// What.
        fire: Fire,
        /// Takes the answer.
        reply: oneshot::Sender<FireAnswer>,
    },
    /// The link is up.
    LinkUp,
    /// The link is down.
    LinkDown,
}

/// What an agent says. None of these makes the caller wait, but for artifacts.
#[async_trait]
pub trait Uplink: Send + Sync + 'static {
    /// Whether the link is up, and somebody at its other end may take over this host's work.
    fn is_up(&self) -> bool;

    /// Sends a sign of life, if the link is up.
    fn heartbeat(&self, heartbeat: Heartbeat);

    /// Sends what changed, if the link is up. A full report follows each hello, so nothing is lost for good.
    fn status(&self, reports: Vec<HostReport>);

    /// Introduces the agent. [`SourceEvent::HelloAnswered`] follows, or [`SourceEvent::HelloWanted`] after a pause.
    fn hello(&self, hello: Hello);

    /// Returns when everything that was said is on its way, or could not be sent in a short time.
    async fn finish(&self) {}

    /// Bytes of an artifact, from an offset on.
    async fn artifact_chunk(&self, digest: Digest, offset: u64) -> Result<(ArtifactChunk, Bytes), ChunkError>;

    /// Asks for an artifact's native code. Where nobody compiles for this agent, that is the answer.
    async fn compiled(&self, _artifact: Digest, _fingerprint: &str) -> Result<CodeAnswer, ChunkError> {
        Ok(CodeAnswer::Unsupported(
            "its specs come from nobody who compiles".to_owned(),
        ))
    }
}

/// What is said of an artifact's native code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeAnswer {
    /// The envelope that describes it, as it came.
    Signed(Bytes),
    /// It is being compiled; ask again in a moment.
    UnderWay,
    /// Nobody compiles for this engine, and why.
    Unsupported(String),
}

/// Why a chunk of an artifact did not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The link is down or nobody answers; asking again may help.
    #[error("nobody gave it: {0}")]
    NoAnswer(String),
    /// It is not there, or may not be had.
    #[error("{0}")]
    Refused(String),
}

impl ChunkError {
    /// Whether asking again may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::NoAnswer(_))
    }
}

/// A source at work.
pub(crate) struct Started {
    pub(crate) events: mpsc::Receiver<SourceEvent>,
    pub(crate) uplink: Arc<dyn Uplink>,
}

/// The part of some bytes that one chunk holds.
pub(crate) fn chunk_of(whole: &Bytes, offset: u64) -> Result<(ArtifactChunk, Bytes), ChunkError> {
    use heddle_protocol::defaults::CHUNK_BYTES;
    let size = whole.len() as u64;
    if offset > size {
        return Err(ChunkError::Refused(format!(
            "it has {size} bytes, and byte {offset} was asked for"
        )));
    }
    let end = size.min(offset + CHUNK_BYTES as u64);
    Ok((
        ArtifactChunk { bytes: size, offset },
        whole.slice(offset as usize..end as usize),
    ))
}

#[cfg(test)]
pub(crate) mod testing {
    //! An uplink that serves one artifact and drops everything else.

    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    pub(crate) struct Server {
        whole: Bytes,
        fails_from: u64,
        asked: AtomicUsize,
    }

    impl Server {
        pub(crate) fn new(whole: &[u8]) -> Self {
            Self {
                whole: Bytes::copy_from_slice(whole),
                fails_from: u64::MAX,
                asked: AtomicUsize::new(0),
            }
        }

        pub(crate) fn failing_from(self, offset: u64) -> Self {
            Self {
                fails_from: offset,
                ..self
            }
        }

        pub(crate) fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    #[async_trait]
    impl Uplink for Server {
        fn is_up(&self) -> bool {
            true
        }
        fn heartbeat(&self, _: Heartbeat) {}
        fn status(&self, _: Vec<HostReport>) {}
        fn hello(&self, _: Hello) {}
        async fn artifact_chunk(&self, _: Digest, offset: u64) -> Result<(ArtifactChunk, Bytes), ChunkError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if offset >= self.fails_from {
                return Err(ChunkError::NoAnswer("the server is away".into()));
            }
            chunk_of(&self.whole, offset)
        }
    }
}
