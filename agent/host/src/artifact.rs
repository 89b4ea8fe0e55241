//! Artifacts on this host: fetched in chunks, checked by digest, kept by digest.
//!
//! In: a digest and whoever has its bytes. Out: a file with exactly these bytes. Several chunks are asked for at a
//! time; what came is kept when the rest does not come, so that the next attempt goes on from there.

use crate::files;
use crate::source::{ChunkError, Uplink};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use heddle_protocol::api::artifact::ArtifactChunk;
use heddle_protocol::defaults::{ARTIFACT_BYTES_MAX, CHUNK_BYTES, CODE_BYTES_MAX};
use heddle_protocol::digest::Digest;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Chunks asked for at the same time: hides the round trip without filling the link.
const WINDOW: usize = 4;
/// How often one chunk is asked for before the attempt ends.
const CHUNK_ATTEMPTS: u32 = 4;
/// The pause before a chunk is asked for again; doubled each time.
const CHUNK_PAUSE: Duration = Duration::from_millis(100);

/// The folder of artifacts, in a data folder.
#[derive(Debug, Clone)]
pub struct ArtifactFiles {
    folder: PathBuf,
}

/// Why an artifact is not on this host.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// It is larger than an artifact may be.
    #[error("failed to fetch {digest}: it has {bytes} bytes, more than are allowed")]
    TooLarge {
        /// The artifact.
        digest: Digest,
        /// Its size, in bytes.
        bytes: u64,
    },
    /// Nobody gave a chunk of it.
    #[error("failed to fetch {digest} at byte {offset}: {source}")]
    Chunk {
        /// The artifact.
        digest: Digest,
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: ChunkError,
    },
    /// What came is something else.
    #[error("failed to fetch {digest}: {why}")]
    OtherBytes {
        /// The artifact.
        digest: Digest,
        /// What is wrong.
        why: String,
    },
    /// The file cannot be written.
    #[error("failed to write {path}: {source}; check that the disk has room")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ArtifactFiles {
    /// The artifacts in a data folder.
    pub fn new(data: &Path) -> Self {
        Self {
            folder: data.join("artifacts"),
        }
    }

    /// The file of an artifact.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{}.wasm", digest.hex()))
    }

    /// Whether the file is there with the right size. Its bytes are checked when they are read.
    pub fn has(&self, digest: &Digest, bytes: u64) -> bool {
        std::fs::metadata(self.path(digest)).is_ok_and(|file| file.len() == bytes)
    }

    /// The artifact's bytes, if they are there and right. A damaged file is removed.
    pub fn read(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        let bytes = std::fs::read(&path).ok()?;
        if Digest::of(&bytes) == *digest {
            return Some(bytes);
        }
        tracing::warn!(path = %path.display(), "the artifact's file is damaged; it is fetched again");
        if let Err(e) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), error = %e, "the damaged file cannot be removed");
        }
        None
    }

    /// Keeps an artifact's bytes, if they are right.
    pub fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<(), ArtifactError> {
        let found = Digest::of(bytes);
        if found != *digest {
            return Err(ArtifactError::OtherBytes {
                digest: *digest,
                why: format!("the bytes that came are {found}"),
            });
        }
        let path = self.path(digest);
        files::write_quickly(&path, bytes).map_err(|source| ArtifactError::File { path, source })
    }

    fn part_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{}.part", digest.hex()))
    }

    /// What came of an artifact in an earlier attempt.
    fn take_part(&self, digest: &Digest, bytes: u64) -> Vec<u8> {
        let path = self.part_path(digest);
        let part = std::fs::read(&path).unwrap_or_default();
        // It is in memory now. If it was wrong, the attempt fails once and the next one begins without it.
        let _ = std::fs::remove_file(&path);
        if part.len() as u64 <= bytes { part } else { Vec::new() }
    }

    fn keep_part(&self, digest: &Digest, part: &[u8]) {
        if !part.is_empty() {
            // Losing it costs only the bytes again.
            let _ = files::write_quickly(&self.part_path(digest), part);
        }
    }
}

/// Has an artifact on this host: from the disk, or in chunks from whoever serves it.
pub async fn fetch(
    files: &ArtifactFiles,
    uplink: &dyn Uplink,
    digest: Digest,
    bytes: u64,
) -> Result<(), ArtifactError> {
    if files.has(&digest, bytes) {
        return Ok(());
    }
    if bytes > ARTIFACT_BYTES_MAX {
        return Err(ArtifactError::TooLarge { digest, bytes });
    }
    let mut whole = files.take_part(&digest, bytes);
    let fetched = fetch_rest(uplink, digest, bytes, &mut whole).await;
    let (files, fetched) = (files.clone(), fetched.map(|()| whole.len()));
    let kept = tokio::task::spawn_blocking(move || match fetched {
        Ok(_) => files.keep(&digest, &whole),
        Err(e) => {
            files.keep_part(&digest, &whole);
            Err(e)
        }
    });
    kept.await.unwrap_or_else(|e| {
        Err(ArtifactError::OtherBytes {
            digest,
            why: e.to_string(),
        })
    })
}

/// Native code of an artifact, in chunks from whoever serves it. What came of it is kept as part of an artifact is, but not
/// the whole: that is for the cache of compiled code.
pub(crate) async fn fetch_code(
    files: &ArtifactFiles,
    uplink: &dyn Uplink,
    digest: Digest,
    bytes: u64,
) -> Result<Vec<u8>, ArtifactError> {
    if bytes > CODE_BYTES_MAX {
        return Err(ArtifactError::TooLarge { digest, bytes });
    }
    let mut whole = files.take_part(&digest, bytes);
    if let Err(e) = fetch_rest(uplink, digest, bytes, &mut whole).await {
        files.keep_part(&digest, &whole);
        return Err(e);
    }
    let checked = tokio::task::spawn_blocking(move || (Digest::of(&whole), whole)).await;
    let why = match checked {
        Ok((found, whole)) if found == digest => return Ok(whole),
        Ok((found, _)) => format!("the bytes that came are {found}"),
        Err(e) => e.to_string(),
    };
    Err(ArtifactError::OtherBytes { digest, why })
}

/// Appends what is missing. Chunks may come in any order; `whole` grows only by what follows on.
async fn fetch_rest(uplink: &dyn Uplink, digest: Digest, bytes: u64, whole: &mut Vec<u8>) -> Result<(), ArtifactError> {
    let mut in_flight = FuturesUnordered::new();
    let mut early = std::collections::BTreeMap::new();
    let mut next_offset = whole.len() as u64;
    while (whole.len() as u64) < bytes {
        while in_flight.len() < WINDOW && next_offset < bytes {
            let length = (bytes - next_offset).min(CHUNK_BYTES as u64);
            in_flight.push(fetch_range(uplink, digest, bytes, next_offset, length));
            next_offset += length;
        }
        match in_flight.next().await {
            Some(range) => {
                let (offset, data) = range?;
                early.insert(offset, data);
            }
            None => break,
        }
        while let Some(data) = early.remove(&(whole.len() as u64)) {
            whole.extend_from_slice(&data);
        }
    }
    Ok(())
}

/// One range, asked for again and from further on until it is whole.
async fn fetch_range(
    uplink: &dyn Uplink,
    digest: Digest,
    bytes: u64,
    start: u64,
    length: u64,
) -> Result<(u64, Vec<u8>), ArtifactError> {
    let mut data = Vec::with_capacity(length as usize);
    let (mut attempts, mut pause) = (0, CHUNK_PAUSE);
    while (data.len() as u64) < length {
        let offset = start + data.len() as u64;
        match uplink.artifact_chunk(digest, offset).await {
            Ok((chunk, part)) => {
                let part = fitting(digest, bytes, offset, &chunk, part)?;
                let wanted = (length - data.len() as u64) as usize;
                data.extend_from_slice(&part[..part.len().min(wanted)]);
            }
            Err(source) => {
                attempts += 1;
                if attempts >= CHUNK_ATTEMPTS || !source.may_pass() {
                    return Err(ArtifactError::Chunk { digest, offset, source });
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
    Ok((start, data))
}

fn fitting(
    digest: Digest,
    bytes: u64,
    offset: u64,
    chunk: &ArtifactChunk,
    part: Bytes,
) -> Result<Bytes, ArtifactError> {
    let why = if chunk.bytes != bytes {
        format!("it is said to have {} bytes and not {bytes}", chunk.bytes)
    } else if chunk.offset != offset {
        format!("byte {} came when byte {offset} was asked for", chunk.offset)
    } else if part.is_empty() {
        format!("no byte came at {offset}")
    } else {
        return Ok(part);
    };
    Err(ArtifactError::OtherBytes { digest, why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::Server;

    fn bytes_of(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i * 31 % 251) as u8).collect()
    }

    #[tokio::test]
    async fn an_artifact_of_many_chunks_arrives_whole_and_is_found_again() {
        let data = tempfile::tempdir().unwrap();
        let files = ArtifactFiles::new(data.path());
        for size in [0, 1, CHUNK_BYTES, 5 * CHUNK_BYTES + 17] {
            let whole = bytes_of(size);
            let (digest, server) = (Digest::of(&whole), Server::new(&whole));
            fetch(&files, &server, digest, size as u64).await.unwrap();
            assert_eq!(files.read(&digest).unwrap(), whole);
            let asked = server.asked();
            fetch(&files, &server, digest, size as u64).await.unwrap();
            assert_eq!(server.asked(), asked, "it was on the disk already");
        }
    }

    #[tokio::test]
    async fn a_fetch_that_breaks_off_goes_on_where_it_was() {
        let data = tempfile::tempdir().unwrap();
        let files = ArtifactFiles::new(data.path());
        let whole = bytes_of(6 * CHUNK_BYTES);
        let digest = Digest::of(&whole);
        let server = Server::new(&whole).failing_from(2 * CHUNK_BYTES as u64);
        let size = whole.len() as u64;
        assert!(matches!(
            fetch(&files, &server, digest, size).await,
            Err(ArtifactError::Chunk { .. })
        ));
        let server = Server::new(&whole);
        fetch(&files, &server, digest, size).await.unwrap();
        assert!(server.asked() < 6, "{} chunks were asked for again", server.asked());
        assert_eq!(files.read(&digest).unwrap(), whole);
    }

    #[tokio::test]
    async fn wrong_bytes_are_never_kept() {
        let data = tempfile::tempdir().unwrap();
        let files = ArtifactFiles::new(data.path());
        let digest = Digest::of(b"right");
        let refused = fetch(&files, &Server::new(b"wrong"), digest, 5).await;
        assert!(matches!(refused, Err(ArtifactError::OtherBytes { .. })));
        assert!(matches!(
            fetch(&files, &Server::new(b"wrong!"), digest, 5).await,
            Err(ArtifactError::OtherBytes { .. })
        ));
        assert_eq!(files.read(&digest), None);
        let large = fetch(&files, &Server::new(b"x"), digest, ARTIFACT_BYTES_MAX + 1).await;
        assert!(matches!(large, Err(ArtifactError::TooLarge { .. })));
    }

    #[tokio::test]
    async fn a_damaged_file_is_noticed_and_removed() {
        let data = tempfile::tempdir().unwrap();
        let files = ArtifactFiles::new(data.path());
        let digest = Digest::of(b"right");
        files.keep(&digest, b"right").unwrap();
        std::fs::write(files.path(&digest), b"wrong").unwrap();
        assert_eq!(files.read(&digest), None);
        assert!(!files.has(&digest, 5));
    }
}
