//! Artifacts by digest: the bytes of components, beside the chain that only names them.
//!
//! In: bytes. Out: their SHA-256, and the same bytes again, in chunks, believed only if they still have it. An artifact is
//! stored before the commit that names it, and one that nothing names may be deleted at any time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::object_store::{self, GetErrorKind, InfoErrorKind, ObjectStore};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use heddle_protocol::digest::Digest;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::error::StoreError;
use super::settings::{self, StoreOptions};

/// The size of chunks read, as the object store keeps them.
const CHUNK_BYTES: usize = 128 * 1024;
/// One chunk that takes longer than this means that the server is gone.
const CHUNK_WITHIN: Duration = Duration::from_secs(15);

/// One stored artifact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArtifactInfo {
    /// Its name.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A realm's artifacts. Clones are the same store.
#[derive(Clone)]
pub struct ArtifactStore(Backing);

#[derive(Clone)]
enum Backing {
    JetStream {
        bucket: Box<ObjectStore>,
        answer_within: Duration,
    },
    Memory(Arc<Mutex<BTreeMap<Digest, Bytes>>>),
}

impl fmt::Debug for ArtifactStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Backing::JetStream { .. } => "ArtifactStore(JetStream)",
            Backing::Memory(_) => "ArtifactStore(Memory)",
        })
    }
}

impl ArtifactStore {
    /// Opens the realm's bucket, creating it if there is none.
    pub async fn open(client: async_nats::Client, options: &StoreOptions) -> Result<Self, StoreError> {
        settings::check_realm(&options.realm)?;
        let context = super::jetstream::context(client, options.answer_within);
        let name = format!("{}_artifacts", settings::bucket(&options.realm));
        let bucket = match context.get_object_store(&name).await {
            Ok(bucket) => bucket,
            Err(_) => {
                let config = object_store::Config {
                    bucket: name.clone(),
                    description: Some("heddle: artifacts of a realm, by digest".into()),
                    max_bytes: options.artifact_max_bytes,
                    num_replicas: options.replicas,
                    ..Default::default()
                };
                let created = context.create_object_store(config).await;
                created.map_err(|error| StoreError::unavailable(format!("create bucket {name}"), error))?
            }
        };
        Ok(Self(Backing::JetStream {
            bucket: Box::new(bucket),
            answer_within: options.answer_within,
        }))
    }

    /// An empty store in memory.
    pub fn in_memory() -> Self {
        Self(Backing::Memory(Arc::default()))
    }

    /// Stores bytes under their digest; storing the same bytes again changes nothing.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, StoreError> {
        let digest = Digest::of(&bytes);
        let name = digest.to_string();
        if self.size_of(&digest).await? == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        match &self.0 {
            Backing::Memory(artifacts) => drop(lock(artifacts).insert(digest, bytes)),
            Backing::JetStream { bucket, answer_within } => {
                let doing = || format!("store artifact {digest}");
                // Some time for each MiB, since a slow disk syncs every chunk.
                let within = *answer_within * (2 + (bytes.len() >> 20) as u32);
                let mut source = bytes.as_ref();
                match timeout(within, bucket.put(name.as_str(), &mut source)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Err(StoreError::unavailable(doing(), error)),
                    Err(elapsed) => return Err(StoreError::unavailable(doing(), elapsed)),
                }
            }
        }
        Ok(digest)
    }

    /// The size of an artifact, if it is there.
    pub async fn size_of(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        match &self.0 {
            Backing::Memory(artifacts) => Ok(lock(artifacts).get(digest).map(|bytes| bytes.len() as u64)),
            Backing::JetStream { bucket, .. } => match bucket.info(&digest.to_string()).await {
                Ok(info) if info.deleted => Ok(None),
                Ok(info) => Ok(Some(info.size as u64)),
                Err(error) if error.kind() == InfoErrorKind::NotFound => Ok(None),
                Err(error) => Err(StoreError::unavailable(format!("look for artifact {digest}"), error)),
            },
        }
    }

    /// Starts to read an artifact. `None` if it is not there.
    pub async fn get(&self, digest: &Digest) -> Result<Option<ArtifactReader>, StoreError> {
        let source = match &self.0 {
            Backing::Memory(artifacts) => match lock(artifacts).get(digest) {
                Some(bytes) => Source::Memory(bytes.clone()),
                None => return Ok(None),
            },
            Backing::JetStream { bucket, .. } => match bucket.get(&digest.to_string()).await {
                Ok(object) => Source::JetStream(Box::new(object)),
                Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(StoreError::unavailable(format!("read artifact {digest}"), error)),
            },
        };
        Ok(Some(ArtifactReader {
            digest: *digest,
            source,
            sum: Sha256::new(),
            ended: false,
        }))
    }

    /// Reads a whole artifact of at most `bytes_max` bytes, verified.
    pub async fn read(&self, digest: &Digest, bytes_max: usize) -> Result<Option<Bytes>, StoreError> {
        let Some(mut reader) = self.get(digest).await? else {
            return Ok(None);
        };
        let mut bytes = BytesMut::new();
        while let Some(chunk) = reader.next_chunk().await? {
            if bytes.len() + chunk.len() > bytes_max {
                return Err(StoreError::Invalid(format!(
                    "artifact {digest} has more than {bytes_max} bytes"
                )));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes.freeze()))
    }

    /// All artifacts, sorted by digest. Objects that others put into the bucket are passed over.
    pub async fn list(&self) -> Result<Vec<ArtifactInfo>, StoreError> {
        let mut infos = Vec::new();
        match &self.0 {
            Backing::Memory(artifacts) => {
                let artifacts = lock(artifacts);
                let info = |(digest, bytes): (&Digest, &Bytes)| ArtifactInfo {
                    digest: *digest,
                    size: bytes.len() as u64,
                };
                infos.extend(artifacts.iter().map(info));
            }
            Backing::JetStream { bucket, .. } => {
                let failed = |error: async_nats::Error| StoreError::unavailable("list artifacts", error);
                let mut list = bucket.list().await.map_err(|error| failed(error.into()))?;
                loop {
                    let next = timeout(CHUNK_WITHIN, list.next())
                        .await
                        .map_err(|error| failed(error.into()))?;
                    let Some(object) = next else { break };
                    let object = object.map_err(|error| failed(error.into()))?;
                    if let Ok(digest) = object.name.parse::<Digest>() {
                        infos.push(ArtifactInfo {
                            digest,
                            size: object.size as u64,
                        });
                    }
                }
            }
        }
        infos.sort();
        Ok(infos)
    }

    /// Deletes an artifact; one that is not there is no error.
    pub async fn delete(&self, digest: &Digest) -> Result<(), StoreError> {
        match &self.0 {
            Backing::Memory(artifacts) => drop(lock(artifacts).remove(digest)),
            Backing::JetStream { bucket, .. } => {
                if self.size_of(digest).await?.is_some() {
                    let deleted = bucket.delete(&digest.to_string()).await;
                    deleted.map_err(|error| StoreError::unavailable(format!("delete artifact {digest}"), error))?;
                }
            }
        }
        Ok(())
    }
}

/// An insertion is one step, so a panic elsewhere leaves the map whole.
fn lock(artifacts: &Mutex<BTreeMap<Digest, Bytes>>) -> MutexGuard<'_, BTreeMap<Digest, Bytes>> {
    artifacts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An artifact being read, chunk by chunk.
pub struct ArtifactReader {
    digest: Digest,
    source: Source,
    sum: Sha256,
    ended: bool,
}

enum Source {
    JetStream(Box<object_store::Object>),
    Memory(Bytes),
}

impl ArtifactReader {
    /// The next chunk; `None` after the last, and only if the whole had the digest it was asked for by.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let chunk = match &mut self.source {
            Source::Memory(bytes) => bytes.split_to(bytes.len().min(CHUNK_BYTES)),
            Source::JetStream(object) => {
                let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
                let doing = || format!("read artifact {}", self.digest);
                match timeout(CHUNK_WITHIN, object.read_buf(&mut chunk)).await {
                    Ok(Ok(_)) => chunk.freeze(),
                    // The client checks the object's own digest and reports a difference as bad data.
                    Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                        return Err(StoreError::corrupt(doing(), error));
                    }
                    Ok(Err(error)) => return Err(StoreError::unavailable(doing(), error)),
                    Err(elapsed) => return Err(StoreError::unavailable(doing(), elapsed)),
                }
            }
        };
        if !chunk.is_empty() {
            self.sum.update(&chunk);
            return Ok(Some(chunk));
        }
        self.ended = true;
        let found = Digest::from_bytes(std::mem::take(&mut self.sum).finalize().into());
        match found == self.digest {
            true => Ok(None),
            false => Err(StoreError::corrupt(
                format!("artifact {}", self.digest),
                format!("its bytes have {found}"),
            )),
        }
    }
}
