//! Native code, beside the artifacts that it was compiled from, in the same bucket.
//!
//! In: code for one artifact and one engine. Out: the same bytes again, believed only if they still have their digest. One
//! object holds the code and says which it is, so what was compiled is known again after a restart and nothing can be half
//! there.

use super::error::StoreError;
use super::settings::{self, StoreOptions};
use async_nats::jetstream::object_store::{GetErrorKind, ObjectMetadata, ObjectStore};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use heddle_protocol::api::artifact::CompiledCode;
use heddle_protocol::defaults::CODE_BYTES_MAX;
use heddle_protocol::digest::Digest;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// What the names of code begin with; artifacts are named by their digests alone.
const PREFIX: &str = "code.";
/// The size of chunks read.
const CHUNK_BYTES: usize = 128 * 1024;
/// One chunk, or one name, that takes longer than this means that the server is gone.
const CHUNK_WITHIN: Duration = Duration::from_secs(15);
/// The label that says which bytes they are.
const CODE_LABEL: &str = "code";

/// A realm's native code. Clones are the same store.
#[derive(Clone)]
pub struct CodeStore(Backing);

type Kept = BTreeMap<String, (CompiledCode, Bytes)>;

#[derive(Clone)]
enum Backing {
    JetStream {
        bucket: Box<ObjectStore>,
        answer_within: Duration,
    },
    Memory(Arc<Mutex<Kept>>),
}

impl fmt::Debug for CodeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Backing::JetStream { .. } => "CodeStore(JetStream)",
            Backing::Memory(_) => "CodeStore(Memory)",
        })
    }
}

impl CodeStore {
    /// Opens the bucket of a realm's artifacts, which must be there.
    pub async fn open(client: async_nats::Client, options: &StoreOptions) -> Result<Self, StoreError> {
        settings::check_realm(&options.realm)?;
        let context = super::jetstream::context(client, options.answer_within);
        let name = format!("{}_artifacts", settings::bucket(&options.realm));
        let bucket = context.get_object_store(&name).await;
        let bucket = bucket.map_err(|error| StoreError::unavailable(format!("open bucket {name}"), error))?;
        Ok(Self(Backing::JetStream {
            bucket: Box::new(bucket),
            answer_within: options.answer_within,
        }))
    }

    /// An empty store in memory.
    pub fn in_memory() -> Self {
        Self(Backing::Memory(Arc::default()))
    }

    /// Keeps code under its artifact and engine.
    pub async fn put(&self, code: &CompiledCode, bytes: Bytes) -> Result<(), StoreError> {
        let name = name_of(&code.artifact, &code.fingerprint);
        let (bucket, answer_within) = match &self.0 {
            Backing::Memory(kept) => {
                lock(kept).insert(name, (code.clone(), bytes));
                return Ok(());
            }
            Backing::JetStream { bucket, answer_within } => (bucket, answer_within),
        };
        let metadata = ObjectMetadata {
            name,
            description: Some("heddle: native code of an artifact for one engine".to_owned()),
            metadata: [(CODE_LABEL.to_owned(), code.code.to_string())].into(),
            ..ObjectMetadata::default()
        };
        let doing = || format!("store native code of artifact {}", code.artifact.short());
        // Some time for each MiB, since a slow disk syncs every chunk.
        let within = *answer_within * (2 + (bytes.len() >> 20) as u32);
        let mut source = bytes.as_ref();
        match timeout(within, bucket.put(metadata, &mut source)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(StoreError::unavailable(doing(), error)),
            Err(elapsed) => Err(StoreError::unavailable(doing(), elapsed)),
        }
    }

    /// Code's bytes. `None` if they are not there.
    pub async fn read(&self, code: &CompiledCode) -> Result<Option<Bytes>, StoreError> {
        let name = name_of(&code.artifact, &code.fingerprint);
        let bytes = match &self.0 {
            Backing::Memory(kept) => lock(kept).get(&name).map(|(_, bytes)| bytes.clone()),
            Backing::JetStream { bucket, .. } => read_object(bucket, &name).await?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let (expected, found) = (code.code, bytes.clone());
        let found = tokio::task::spawn_blocking(move || Digest::of(&found)).await;
        match found {
            Ok(found) if found == expected => Ok(Some(bytes)),
            Ok(found) => Err(StoreError::corrupt(
                format!("native code {name}"),
                format!("its bytes have {found}"),
            )),
            Err(e) => Err(StoreError::unavailable(format!("read {name}"), e)),
        }
    }

    /// Everything that is there.
    pub async fn list(&self) -> Result<Vec<CompiledCode>, StoreError> {
        let bucket = match &self.0 {
            Backing::Memory(kept) => return Ok(lock(kept).values().map(|(code, _)| code.clone()).collect()),
            Backing::JetStream { bucket, .. } => bucket,
        };
        let failed = |error: async_nats::Error| StoreError::unavailable("list native code", error);
        let mut list = bucket.list().await.map_err(|error| failed(error.into()))?;
        let mut found = Vec::new();
        loop {
            let next = timeout(CHUNK_WITHIN, list.next()).await;
            let Some(object) = next.map_err(|error| failed(error.into()))? else {
                return Ok(found);
            };
            let object = object.map_err(|error| failed(error.into()))?;
            let Some((artifact, fingerprint)) = read_name(&object.name) else {
                continue;
            };
            let code = object.metadata.get(CODE_LABEL).and_then(|code| code.parse().ok());
            if let Some(code) = code {
                found.push(CompiledCode {
                    artifact,
                    fingerprint,
                    code,
                    bytes: object.size as u64,
                });
            }
        }
    }

    /// Deletes code.
    pub async fn delete(&self, code: &CompiledCode) -> Result<(), StoreError> {
        let name = name_of(&code.artifact, &code.fingerprint);
        match &self.0 {
            Backing::Memory(kept) => drop(lock(kept).remove(&name)),
            Backing::JetStream { bucket, .. } => {
                let deleted = bucket.delete(&name).await;
                deleted.map_err(|error| StoreError::unavailable(format!("delete {name}"), error))?;
            }
        }
        Ok(())
    }
}

async fn read_object(bucket: &ObjectStore, name: &str) -> Result<Option<Bytes>, StoreError> {
    let doing = || format!("read {name}");
    let mut object = match bucket.get(name).await {
        Ok(object) => object,
        Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::unavailable(doing(), error)),
    };
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(CHUNK_BYTES);
        match timeout(CHUNK_WITHIN, object.read_buf(&mut bytes)).await {
            Ok(Ok(0)) => return Ok(Some(bytes.freeze())),
            Ok(Ok(_)) if bytes.len() as u64 > CODE_BYTES_MAX => {
                return Err(StoreError::Invalid(format!(
                    "{name} has more than {CODE_BYTES_MAX} bytes"
                )));
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(StoreError::corrupt(doing(), error));
            }
            Ok(Err(error)) => return Err(StoreError::unavailable(doing(), error)),
            Err(elapsed) => return Err(StoreError::unavailable(doing(), elapsed)),
        }
    }
}

fn name_of(artifact: &Digest, fingerprint: &str) -> String {
    format!("{PREFIX}{}.{fingerprint}", artifact.hex())
}

fn read_name(name: &str) -> Option<(Digest, String)> {
    let (artifact, fingerprint) = name.strip_prefix(PREFIX)?.split_once('.')?;
    let artifact = format!("sha256:{artifact}").parse().ok()?;
    Some((artifact, fingerprint.to_owned()))
}

/// An insertion is one step, so a panic elsewhere leaves the map whole.
fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_artifact_and_which_engine() {
        let artifact = Digest::of(b"a");
        assert_eq!(
            read_name(&name_of(&artifact, "00ff")),
            Some((artifact, "00ff".to_owned()))
        );
        assert_eq!(read_name(&artifact.to_string()), None);
        assert_eq!(read_name("code.sha256.00ff"), None);
        // The artifacts' own listing passes these over.
        assert!(name_of(&artifact, "00ff").parse::<Digest>().is_err());
    }

    #[tokio::test]
    async fn changed_bytes_are_noticed() {
        let store = CodeStore::in_memory();
        let code = CompiledCode {
            artifact: Digest::of(b"a"),
            fingerprint: "00ff".into(),
            code: Digest::of(b"code"),
            bytes: 4,
        };
        assert_eq!(store.read(&code).await.unwrap(), None);
        store.put(&code, Bytes::from_static(b"code")).await.unwrap();
        assert_eq!(store.list().await.unwrap(), std::slice::from_ref(&code));
        assert_eq!(store.read(&code).await.unwrap().unwrap(), "code");
        store.put(&code, Bytes::from_static(b"c0de")).await.unwrap();
        assert!(store.read(&code).await.is_err());
        store.delete(&code).await.unwrap();
        assert_eq!(store.list().await.unwrap(), []);
    }
}
