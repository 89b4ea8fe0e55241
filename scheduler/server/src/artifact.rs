//! Artifacts: fetched, verified, read, kept by digest, and served to agents. Runs beside the decision loop and never
//! in it.
//!
//! In: an image as a manifest writes it, or bytes that a client uploads. Out: an [`ArtifactInfo`], and the bytes again.

pub mod login;
pub mod oci;
pub mod read;
pub mod serve;
pub mod task;

use crate::outside::off_the_loop;
use crate::signature::Asked;
use crate::store::{ArtifactStore, StoreError};
use bytes::Bytes;
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::defaults::{ARTIFACT_BYTES_MAX, CHUNK_BYTES};
use heddle_protocol::digest::Digest;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of artifacts kept in memory for agents that ask: a few of the largest, or thousands of ordinary ones.
const CACHE_BYTES_MAX: u64 = 256 << 20;
/// How long an artifact that somebody uploaded, asked about or applied with is kept although no record names it: an
/// apply may be on its way to its commit, which waits for as long as the store is away.
const ASKED_FOR: Duration = Duration::from_secs(86_400);
/// Artifacts read from the store at the same time. A fleet that asks for one at once must not fill the memory with it.
const READS_MAX: usize = 4;

/// The artifacts of one realm.
#[derive(Clone)]
pub struct ArtifactPool {
    store: ArtifactStore,
    oci: oci::Fetcher,
    shared: Arc<Mutex<Shared>>,
    reads: Arc<tokio::sync::Semaphore>,
    tasks: task::Tasks,
}

#[derive(Default)]
struct Shared {
    infos: BTreeMap<Digest, ArtifactInfo>,
    /// When each was last uploaded, asked about or applied with. Only of artifacts that are in the store.
    asked: BTreeMap<Digest, Instant>,
    cached: BTreeMap<Digest, Bytes>,
    order: VecDeque<Digest>,
    cached_bytes: u64,
}

impl ArtifactPool {
    /// A pool over a store and a registry client.
    pub fn new(store: ArtifactStore, oci: oci::Fetcher) -> Self {
        Self {
            store,
            oci,
            shared: Arc::default(),
            reads: Arc::new(tokio::sync::Semaphore::new(READS_MAX)),
            tasks: task::Tasks::default(),
        }
    }

    /// What is known of an image without waiting: only of a digest that was read before.
    pub fn known(&self, image: &str) -> Option<ArtifactInfo> {
        let digest = image.parse::<Digest>().ok()?;
        let mut shared = self.lock();
        let info = shared.infos.get(&digest).cloned()?;
        shared.asked.insert(digest, Instant::now());
        Some(info)
    }

    /// Finds out what an image is: by its digest in the store, or from a registry, whose tag is resolved now, once.
    pub async fn resolve(&self, image: &str) -> Result<ArtifactInfo, ApiError> {
        if let Ok(digest) = image.parse::<Digest>() {
            return self.info(&digest).await;
        }
        if let Some(reference) = image.strip_prefix("oci://") {
            let fetched = self.oci.fetch(reference).await?;
            return self.put(None, fetched.component).await;
        }
        Err(no_paths(image))
    }

    /// Finds out what an image is whose namespace asks for signatures, and that it has them: from its registry now, or
    /// from what was verified of the same bytes before.
    pub(crate) async fn resolve_signed(&self, image: &str, asked: &[Asked]) -> Result<ArtifactInfo, ApiError> {
        let Some(reference) = image.strip_prefix("oci://") else {
            let info = self.resolve(image).await?;
            return match asked.iter().find(|asked| !asked.is_met_by(&info.verified_by)) {
                Some(asked) => Err(asked.unsigned(image, "only images that come from a registry can be verified")),
                None => Ok(info),
            };
        };
        let fetched = self.oci.fetch(reference).await?;
        let info = self.put(None, fetched.component).await?;
        let open: Vec<&Asked> = asked
            .iter()
            .filter(|asked| !asked.is_met_by(&info.verified_by))
            .collect();
        if open.is_empty() {
            return Ok(info);
        }
        let claims = self.oci.claims(reference, &fetched.manifests).await?;
        let mut verified_by = BTreeSet::new();
        for asked in open {
            let verified = asked.verify(&claims, &fetched.manifests);
            verified_by.extend(verified.map_err(|why| asked.unsigned(image, &why))?);
        }
        Ok(self.lock().note_verified(info, verified_by))
    }

    /// Which of some digests the store lacks.
    pub async fn missing(&self, digests: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>, ApiError> {
        let mut missing = BTreeSet::new();
        for digest in digests {
            if self.known(&digest.to_string()).is_none() && !self.contains(digest).await? {
                missing.insert(*digest);
            }
        }
        Ok(missing)
    }

    async fn contains(&self, digest: &Digest) -> Result<bool, ApiError> {
        let size = self.store.size_of(digest).await;
        let found = size.map_err(|e| unavailable("look for", digest, &e))?.is_some();
        if found {
            self.lock().asked.insert(*digest, Instant::now());
        }
        Ok(found)
    }

    /// Keeps bytes under their digest, after checking that they are a component.
    pub async fn put(&self, expected: Option<Digest>, bytes: Bytes) -> Result<ArtifactInfo, ApiError> {
        let info = check(expected, bytes.clone()).await?;
        if let Some(known) = self.known(&info.digest.to_string()) {
            return Ok(known);
        }
        let digest = info.digest;
        // Before it is there: collecting may look at the store at any time.
        self.lock().asked.insert(digest, Instant::now());
        self.store
            .put(bytes.clone())
            .await
            .map_err(|e| unavailable("store", &digest, &e))?;
        self.remember(info.clone(), bytes);
        Ok(info)
    }

    async fn info(&self, digest: &Digest) -> Result<ArtifactInfo, ApiError> {
        if let Some(info) = self.known(&digest.to_string()) {
            return Ok(info);
        }
        let bytes = self.bytes(digest).await?;
        let info = check(Some(*digest), bytes.clone()).await?;
        self.remember(info.clone(), bytes);
        Ok(info)
    }

    /// An artifact's bytes, from memory or from the store, verified.
    pub async fn bytes(&self, digest: &Digest) -> Result<Bytes, ApiError> {
        if let Some(bytes) = self.lock().cached.get(digest).cloned() {
            return Ok(bytes);
        }
        // The semaphore is never closed.
        let _turn = self.reads.acquire().await.ok();
        if let Some(bytes) = self.lock().cached.get(digest).cloned() {
            return Ok(bytes);
        }
        let read = self.store.read(digest, ARTIFACT_BYTES_MAX as usize).await;
        let bytes = read.map_err(|e| unavailable("fetch", digest, &e))?;
        let bytes = bytes.ok_or_else(|| {
            ApiError::new(
                ErrorCode::Artifact,
                format!("failed to find artifact {digest}: it is not in the store"),
                "apply the manifest again with the `heddle` CLI, which uploads what is missing",
            )
        })?;
        self.lock().cache(*digest, bytes.clone());
        Ok(bytes)
    }

    /// At most [`CHUNK_BYTES`] of an artifact from an offset, and its whole size.
    pub async fn chunk(&self, digest: &Digest, offset: u64) -> Result<(u64, Bytes), ApiError> {
        let bytes = self.bytes(digest).await?;
        let start = (offset.min(bytes.len() as u64)) as usize;
        let end = (start + CHUNK_BYTES).min(bytes.len());
        Ok((bytes.len() as u64, bytes.slice(start..end)))
    }

    /// Deletes what nobody names, and nobody asked for lately. Returns how many went.
    pub async fn collect(&self, named: &BTreeSet<Digest>) -> Result<usize, ApiError> {
        let stored = self.store.list().await.map_err(|e| {
            ApiError::new(
                ErrorCode::Unavailable,
                format!("failed to list artifacts: {e}"),
                "try again",
            )
        })?;
        let mut gone = 0;
        for kept in stored {
            let digest = kept.digest;
            if named.contains(&digest) || self.lock().is_asked_for(&digest, Instant::now()) {
                continue;
            }
            self.store
                .delete(&kept.digest)
                .await
                .map_err(|e| unavailable("delete", &digest, &e))?;
            self.lock().forget(&digest);
            gone += 1;
        }
        Ok(gone)
    }

    fn remember(&self, info: ArtifactInfo, bytes: Bytes) {
        let mut shared = self.lock();
        shared.asked.insert(info.digest, Instant::now());
        shared.cache(info.digest, bytes);
        shared.note_verified(info, BTreeSet::new());
    }

    /// Puts back what records say of artifacts, so that a restarted scheduler need not read them again.
    pub fn recall<'a>(&self, infos: impl IntoIterator<Item = &'a ArtifactInfo>) {
        let mut shared = self.lock();
        for info in infos {
            shared.note_verified(info.clone(), BTreeSet::new());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        // The map is whole whatever a panicking holder did: every change is a single insert or remove.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Remembers an artifact, and with which keys it was found to be signed: now, or at any time before.
    fn note_verified(&mut self, mut info: ArtifactInfo, verified_by: BTreeSet<Digest>) -> ArtifactInfo {
        info.verified_by.extend(verified_by);
        if let Some(before) = self.infos.get(&info.digest) {
            info.verified_by.extend(before.verified_by.iter().copied());
        }
        self.infos.insert(info.digest, info.clone());
        info
    }

    fn cache(&mut self, digest: Digest, bytes: Bytes) {
        let size = bytes.len() as u64;
        if self.cached.insert(digest, bytes).is_none() {
            self.order.push_back(digest);
            self.cached_bytes += size;
        }
        while self.cached_bytes > CACHE_BYTES_MAX && self.order.len() > 1 {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(bytes) = self.cached.remove(&oldest) {
                self.cached_bytes -= bytes.len() as u64;
            }
        }
    }

    fn is_asked_for(&self, digest: &Digest, now: Instant) -> bool {
        self.asked
            .get(digest)
            .is_some_and(|at| now.saturating_duration_since(*at) < ASKED_FOR)
    }

    fn forget(&mut self, digest: &Digest) {
        self.infos.remove(digest);
        self.asked.remove(digest);
        self.order.retain(|d| d != digest);
        if let Some(bytes) = self.cached.remove(digest) {
            self.cached_bytes -= bytes.len() as u64;
        }
    }
}

/// Reads a component off the decision loop's threads: a large one takes tens of milliseconds.
async fn check(expected: Option<Digest>, bytes: Bytes) -> Result<ArtifactInfo, ApiError> {
    if bytes.len() as u64 > ARTIFACT_BYTES_MAX {
        return Err(ApiError::new(
            ErrorCode::TooLarge,
            format!(
                "failed to take an artifact of {} bytes: at most {ARTIFACT_BYTES_MAX} are allowed",
                bytes.len()
            ),
            "build it smaller: strip debug information, optimise for size",
        ));
    }
    let read = off_the_loop(move || {
        let digest = Digest::of(&bytes);
        if let Some(expected) = expected.filter(|e| *e != digest) {
            return Err(ApiError::new(
                ErrorCode::Artifact,
                format!("failed to verify artifact {expected}: the bytes have digest {digest}"),
                "upload it again; if it comes from a store, that store has lost or changed bytes",
            ));
        }
        read::read_component(&bytes).map_err(|why| {
            ApiError::new(
                ErrorCode::Artifact,
                format!("failed to read artifact {}: {why}", digest.short()),
                "build a WebAssembly component, for example with `wasm-tools component new`",
            )
        })
    });
    match read.await {
        Ok(result) => result,
        Err(e) => Err(ApiError::new(
            ErrorCode::Internal,
            format!("failed to read an artifact: {e}"),
            "report this",
        )),
    }
}

fn no_paths(image: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Artifact,
        format!("failed to resolve image {image:?}: the scheduler opens no paths"),
        "apply with the `heddle` CLI, which uploads `file:` images, or use `oci://…` or `sha256:…`",
    )
}

fn unavailable(doing: &str, digest: &Digest, error: &StoreError) -> ApiError {
    ApiError::new(
        ErrorCode::Unavailable,
        format!("failed to {doing} artifact {}: {error}", digest.short()),
        "check that nats-server is up, then try again",
    )
}

#[cfg(test)]
mod tests;
