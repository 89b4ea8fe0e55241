//! A file as the source: a static edge, or a folder that something else fills (a Kubernetes ConfigMap).
//!
//! In: a signed spec's envelope, or the plain JSON of a spec's body; whoever may write the file could change the agent's
//! flags as well, so a plain body needs no signature. The file is read again when it changes. Artifacts lie beside it,
//! as `artifacts/<hex>.wasm`. Out: what to run.

use super::{ChunkError, EVENTS_WAITING_MAX, SourceEvent, Started, Uplink, chunk_of};
use crate::artifact::ArtifactFiles;
use crate::cache;
use async_trait::async_trait;
use bytes::Bytes;
use heddle_agent_core::Sender;
use heddle_protocol::api::artifact::ArtifactChunk;
use heddle_protocol::digest::Digest;
use heddle_protocol::envelope::{self, Kind};
use heddle_protocol::host_report::{Heartbeat, Hello, HostReport, SpecAnswer};
use heddle_protocol::host_spec::HostSpecBody;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How often the file is looked at. Watching would miss what network file systems and ConfigMaps do.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The file in a folder.
const FILE_IN_FOLDER: &str = "spec.json";

/// Starts to look at a file, or at `spec.json` in a folder.
pub(crate) fn start(path: &Path, realm_keys: Vec<String>) -> Started {
    let path = if path.is_dir() {
        path.join(FILE_IN_FOLDER)
    } else {
        path.to_owned()
    };
    start_looking(path, realm_keys, LOOK_EVERY)
}

fn start_looking(path: PathBuf, realm_keys: Vec<String>, every: Duration) -> Started {
    let (sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
    let artifacts = ArtifactFiles::new(path.parent().unwrap_or(Path::new(".")));
    tokio::spawn(look(path, realm_keys, every, sender));
    Started {
        events,
        uplink: Arc::new(Beside { artifacts }),
    }
}

async fn look(path: PathBuf, realm_keys: Vec<String>, every: Duration, events: mpsc::Sender<SourceEvent>) {
    let mut seen = None;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let bytes = match tokio::fs::read(&path).await {
            Ok(bytes) => bytes,
            Err(e) => {
                // Silence stops nothing: what runs goes on until a file says otherwise.
                if seen.replace(Digest::of(b"")) != Some(Digest::of(b"")) {
                    tracing::warn!(path = %path.display(), error = %e, "the spec file cannot be read; what runs goes on");
                }
                continue;
            }
        };
        let digest = Digest::of(&bytes);
        if seen.replace(digest) == Some(digest) {
            continue;
        }
        let (reply, answer) = oneshot::channel();
        let event = match event_of(&bytes, &realm_keys, reply) {
            Ok(event) => event,
            Err(e) => {
                tracing::warn!(path = %path.display(), error = %e, "the spec file is not a spec; what runs goes on");
                continue;
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
        if let Ok(SpecAnswer::Refused { reason, .. }) = answer.await {
            tracing::warn!(path = %path.display(), %reason, "the spec file is refused; what runs goes on");
        }
    }
}

fn event_of(
    bytes: &[u8],
    realm_keys: &[String],
    reply: oneshot::Sender<SpecAnswer>,
) -> Result<SourceEvent, serde_json::Error> {
    if envelope::open(bytes).is_ok_and(|opened| opened.kind == Kind::Spec) {
        let read = Box::new(cache::verify(bytes, realm_keys));
        return Ok(SourceEvent::Spec {
            read,
            sender: Sender::OwnCache,
            envelope: None,
            reply,
        });
    }
    let body: HostSpecBody = serde_json::from_slice(bytes)?;
    Ok(SourceEvent::Body {
        body: Box::new(body),
        reply,
    })
}

/// Serves the artifacts beside the file; there is nobody to report to.
struct Beside {
    artifacts: ArtifactFiles,
}

#[async_trait]
impl Uplink for Beside {
    fn is_up(&self) -> bool {
        false
    }

    fn heartbeat(&self, _: Heartbeat) {}

    fn status(&self, reports: Vec<HostReport>) {
        for status in reports.iter().flat_map(|report| &report.units) {
            tracing::info!(
                unit = %status.unit, phase = status.phase.as_str(), reason = status.reason.as_deref(), "unit changed"
            );
        }
    }

    fn hello(&self, _: Hello) {}

    async fn artifact_chunk(&self, digest: Digest, offset: u64) -> Result<(ArtifactChunk, Bytes), ChunkError> {
        let (artifacts, path) = (self.artifacts.clone(), self.artifacts.path(&digest));
        let read = tokio::task::spawn_blocking(move || artifacts.read(&digest)).await;
        let whole = read.ok().flatten();
        let whole = whole.ok_or_else(|| ChunkError::Refused(format!("there is no good file {}", path.display())))?;
        chunk_of(&Bytes::from(whole), offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::sign::SigningKey;

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_IN_FOLDER);
        let mut started = start_looking(path.clone(), Vec::new(), Duration::from_millis(5));
        let write = |text: &str| crate::files::write_quickly(&path, text.as_bytes()).unwrap();
        let (one, mut two) = (HostSpecBody::default(), HostSpecBody::default());
        let logging = heddle_protocol::id::CapabilityName::parse("logging").unwrap();
        two.capabilities
            .insert(logging, heddle_protocol::host_spec::CapabilityOffer::Logging {});
        for body in [&one, &two, &one] {
            write("{");
            write(&serde_json::to_string(body).unwrap());
            // Whatever was seen of the bad file on the way, the next event is the good one.
            match tokio::time::timeout(Duration::from_secs(10), started.events.recv())
                .await
                .unwrap()
            {
                Some(SourceEvent::Body { body: found, .. }) => assert_eq!(*found, *body),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_signed_file_needs_a_trusted_key() {
        let key = SigningKey::generate();
        let sealed = envelope::seal(Kind::Spec, b"{}", &key).unwrap();
        let (reply, _) = oneshot::channel();
        match event_of(&sealed, &[], reply).unwrap() {
            SourceEvent::Spec { read, .. } => assert!(read.is_err()),
            other => panic!("{other:?}"),
        }
    }
}
