//! The process around this agent as its source: for embedding, `heddle dev`, and tests.
//!
//! In: bodies and artifacts, through a handle. Out: answers and reports, through the same handle.

use super::{ChunkError, CodeAnswer, EVENTS_WAITING_MAX, SourceEvent, Started, Uplink, chunk_of};
use async_trait::async_trait;
use bytes::Bytes;
use heddle_protocol::api::artifact::ArtifactChunk;
use heddle_protocol::api::logs::{LogLines, Logs};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::{Heartbeat, Hello, HostReport, SpecAnswer};
use heddle_protocol::host_spec::HostSpecBody;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};

/// The agent's end.
#[derive(Debug)]
pub struct InProcess {
    events: mpsc::Receiver<SourceEvent>,
    uplink: Arc<Shared>,
}

/// The other end.
#[derive(Debug, Clone)]
pub struct InProcessHandle {
    events: mpsc::Sender<SourceEvent>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    artifacts: Mutex<BTreeMap<Digest, Bytes>>,
    /// Envelopes that describe native code, by artifact and fingerprint.
    compiled: Mutex<BTreeMap<(Digest, String), Bytes>>,
    heartbeat: watch::Sender<Option<Heartbeat>>,
    reports: watch::Sender<u64>,
}

impl InProcess {
    /// A source and its handle.
    pub fn new() -> (Self, InProcessHandle) {
        let (sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
        let shared = Arc::new(Shared {
            artifacts: Mutex::default(),
            compiled: Mutex::default(),
            heartbeat: watch::Sender::new(None),
            reports: watch::Sender::new(0),
        });
        (
            Self {
                events,
                uplink: Arc::clone(&shared),
            },
            InProcessHandle { events: sender, shared },
        )
    }

    pub(crate) fn start(self) -> Started {
        Started {
            events: self.events,
            uplink: self.uplink,
        }
    }
}

impl InProcessHandle {
    /// Has the agent run exactly this; none if the agent is gone.
    pub async fn run(&self, body: HostSpecBody) -> Option<SpecAnswer> {
        self.ask(|reply| SourceEvent::Body {
            body: Box::new(body),
            reply,
        })
        .await
    }

    /// Gives an artifact's bytes, for the agent to fetch.
    pub fn add_artifact(&self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.shared
            .artifacts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(digest, bytes);
        digest
    }

    /// Gives an artifact's native code, as a scheduler would: an envelope of kind `compiled` for the agent to verify. The
    /// code itself is given with [`InProcessHandle::add_artifact`].
    pub fn add_compiled(&self, artifact: Digest, fingerprint: &str, envelope: impl Into<Bytes>) {
        let key = (artifact, fingerprint.to_owned());
        let mut compiled = self.shared.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.insert(key, envelope.into());
    }

    /// Everything that the agent runs; none if the agent is gone.
    pub async fn report(&self) -> Option<HostReport> {
        self.ask(|reply| SourceEvent::ReportWanted { reply }).await
    }

    /// Log lines; none if the agent is gone.
    pub async fn logs(&self, logs: Logs) -> Option<LogLines> {
        self.ask(|reply| SourceEvent::LogsWanted { logs, reply }).await
    }

    /// Changes with each heartbeat.
    pub fn heartbeats(&self) -> watch::Receiver<Option<Heartbeat>> {
        self.shared.heartbeat.subscribe()
    }

    /// Changes with each status message; holds the number of the newest. What runs is asked for with
    /// [`InProcessHandle::report`].
    pub fn reports(&self) -> watch::Receiver<u64> {
        self.shared.reports.subscribe()
    }

    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> SourceEvent) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.events.send(event(reply)).await.ok()?;
        answer.await.ok()
    }
}

#[async_trait]
impl Uplink for Shared {
    /// The process around the agent is right here, and takes over nothing.
    fn is_up(&self) -> bool {
        false
    }

    fn heartbeat(&self, heartbeat: Heartbeat) {
        self.heartbeat.send_replace(Some(heartbeat));
    }

    fn status(&self, reports: Vec<HostReport>) {
        if let Some(last) = reports.last() {
            self.reports.send_replace(last.status_seq);
        }
    }

    fn hello(&self, _: Hello) {}

    async fn artifact_chunk(&self, digest: Digest, offset: u64) -> Result<(ArtifactChunk, Bytes), ChunkError> {
        let whole = self
            .artifacts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&digest)
            .cloned();
        let whole = whole.ok_or_else(|| ChunkError::Refused(format!("nobody added {digest}")))?;
        chunk_of(&whole, offset)
    }

    async fn compiled(&self, artifact: Digest, fingerprint: &str) -> Result<CodeAnswer, ChunkError> {
        let compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match compiled.get(&(artifact, fingerprint.to_owned())) {
            Some(envelope) => CodeAnswer::Signed(envelope.clone()),
            None => CodeAnswer::Unsupported("nobody added its native code".to_owned()),
        })
    }
}
