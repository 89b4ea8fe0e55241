//! What an agent keeps so that a restart while cut off brings its work back. Disposable: every file in here may be
//! deleted or damaged at any time, and costs at most doing the work again.
//!
//! In: accepted specs, as they were signed. Out, at the next start: the last of them, verified like one from the
//! network.

pub(crate) mod compiled;
pub(crate) mod sweep;

use crate::files;
use bytes::Bytes;
use heddle_agent_core::{Identity, ReadSpec, Sender, accept};
use heddle_protocol::host_report::{Accepted, SpecRefusal};
use std::path::{Path, PathBuf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The file that holds the last accepted spec's envelope, in the data folder.
const SPEC_FILE: &str = "spec.json";

/// Reads the spec that was accepted last, if it is there, whole, and signed by one of the keys.
pub(crate) fn load_spec(data: &Path, me: &Identity, realm_keys: &[String]) -> Option<(ReadSpec, Accepted)> {
    let path = data.join(SPEC_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        Err(e) => {
            tracing::warn!(path = %path.display(), error = %e, "the cached spec cannot be read and is ignored");
            return None;
        }
    };
    match verify(&bytes, realm_keys).and_then(|read| Ok((accept(me, None, Sender::OwnCache, &read)?, read))) {
        Ok((accepted, read)) => Some((read, accepted)),
        Err(refusal) => {
            tracing::warn!(path = %path.display(), %refusal, "the cached spec is ignored");
            None
        }
    }
}

/// Opens a spec's envelope, checks its signature and reads it.
pub(crate) fn verify(envelope: &[u8], realm_keys: &[String]) -> Result<ReadSpec, SpecRefusal> {
    use heddle_protocol::envelope::{self, Kind};
    let opened = envelope::open(envelope).map_err(|e| SpecRefusal::Unreadable(e.to_string()))?;
    let payload = opened
        .verified(Kind::Spec, realm_keys)
        .map_err(|e| SpecRefusal::Signature(e.to_string()))?;
    heddle_agent_core::read_spec(payload)
}

/// Writes accepted specs, one after the other and never twice the same, beside the control loop. When specs come
/// faster than the disk takes them, only the newest is written.
#[derive(Debug)]
pub(crate) struct SpecWriter {
    newest: watch::Sender<Bytes>,
    task: JoinHandle<()>,
}

impl SpecWriter {
    pub(crate) fn start(data: &Path) -> Self {
        let path = data.join(SPEC_FILE);
        let (newest, written) = watch::channel(Bytes::new());
        Self {
            newest,
            task: tokio::spawn(write_newest(path, written)),
        }
    }

    pub(crate) fn write(&self, envelope: Bytes) {
        self.newest.send_replace(envelope);
    }

    /// Waits until the newest spec is on the disk.
    pub(crate) async fn finish(self) {
        drop(self.newest);
        if let Err(e) = self.task.await {
            tracing::warn!(error = %e, "the last spec may not be cached");
        }
    }
}

async fn write_newest(path: PathBuf, mut newest: watch::Receiver<Bytes>) {
    // A sender that is gone is reported only after its last value was seen.
    while newest.changed().await.is_ok() {
        let (path, envelope) = (path.clone(), newest.borrow_and_update().clone());
        let written = tokio::task::spawn_blocking(move || files::write_durably(&path, &envelope)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!(error = %e, "the spec cannot be cached: a restart while cut off starts empty"),
            Err(e) => tracing::warn!(error = %e, "writing the spec's cache ended early"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::envelope::{Kind, seal};
    use heddle_protocol::host_spec::{HostSpec, HostSpecBody};
    use heddle_protocol::id::{BootId, HostId, Realm, Version};
    use heddle_protocol::sign::SigningKey;

    fn me() -> Identity {
        Identity {
            realm: Realm::parse("eu").unwrap(),
            host: HostId::parse("h-1").unwrap(),
            boot_id: BootId::new("second"),
        }
    }

    fn envelope(key: &SigningKey, n: u64) -> Bytes {
        let body = HostSpecBody::default();
        let spec = HostSpec {
            realm: me().realm,
            host: me().host,
            boot_id: BootId::new("first"),
            version: Version { epoch: 1, n },
            body_digest: body.digest().unwrap(),
            body,
            secrets: std::collections::BTreeMap::new(),
        };
        seal(Kind::Spec, &serde_json::to_vec(&spec).unwrap(), key)
            .unwrap()
            .into()
    }

    #[tokio::test]
    async fn the_newest_spec_of_an_earlier_start_comes_back() {
        let (data, key) = (tempfile::tempdir().unwrap(), SigningKey::generate());
        assert!(load_spec(data.path(), &me(), &[key.public()]).is_none());
        let writer = SpecWriter::start(data.path());
        for n in 1..=20 {
            writer.write(envelope(&key, n));
        }
        writer.finish().await;
        let (_, accepted) = load_spec(data.path(), &me(), &[key.public()]).unwrap();
        assert_eq!(accepted.version.n, 20);
    }

    #[test]
    fn a_damaged_or_forged_cache_is_ignored() {
        let (data, key) = (tempfile::tempdir().unwrap(), SigningKey::generate());
        let path = data.path().join(SPEC_FILE);
        let good = envelope(&key, 1);
        for bad in [
            &good[..good.len() - 1],
            b"",
            b"\n\n",
            &envelope(&SigningKey::generate(), 9)[..],
        ] {
            std::fs::write(&path, bad).unwrap();
            assert!(load_spec(data.path(), &me(), &[key.public()]).is_none());
        }
        std::fs::write(&path, &good).unwrap();
        assert!(load_spec(data.path(), &me(), &[key.public()]).is_some());
        assert!(load_spec(data.path(), &me(), &[]).is_none());
    }
}
