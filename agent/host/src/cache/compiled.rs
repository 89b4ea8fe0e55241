//! Compiled code on the disk: only what this agent wrote is ever loaded again.
//!
//! Compiled code is machine code, so whoever can write it owns the agent. Each file has a seal beside it: a MAC over
//! its name and content, by a random key that never leaves this host. Without the seal, or with a wrong one, the code is
//! made or fetched again. In: code, what it was compiled from and who compiled it. Out: the path of code that may be
//! loaded.

use crate::files;
use heddle_protocol::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// The file that holds the key of the seals, in the data folder.
const KEY_FILE: &str = "compiled.key";
/// The folder of compiled code, in the data folder.
const FOLDER: &str = "compiled";
/// The block size of SHA-256, in bytes.
const BLOCK_BYTES: usize = 64;

/// Who compiled some code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This host itself.
    Own,
    /// The scheduler; the realm key signed it.
    Signed,
}

/// The compiled code of one host.
#[derive(Debug)]
pub(crate) struct CompiledFiles {
    folder: PathBuf,
    key: [u8; 32],
}

impl CompiledFiles {
    /// Opens the folder. A key that is missing or damaged is made anew, and what it sealed is compiled again.
    pub(crate) fn open(data: &Path) -> std::io::Result<Self> {
        let path = data.join(KEY_FILE);
        let kept = std::fs::read(&path)
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = match kept {
            Some(key) => key,
            None => {
                let key: [u8; 32] = rand::random();
                files::write_durably(&path, &key)?;
                key
            }
        };
        Ok(Self {
            folder: data.join(FOLDER),
            key,
        })
    }

    /// The file of an artifact's code for an engine, if it is there and this host wrote it.
    pub(crate) fn find(&self, artifact: &Digest, fingerprint: &str, origin: Origin) -> Option<PathBuf> {
        let path = self.path(artifact, fingerprint, origin);
        let seal = std::fs::read(path.with_extension("seal")).ok()?;
        let code = std::fs::read(&path).ok()?;
        if self.seal(&path, &code)[..] == seal[..] {
            return Some(path);
        }
        tracing::warn!(path = %path.display(), "compiled code was not written by this agent and is made again");
        None
    }

    /// Keeps code that was just compiled, or fetched and checked.
    pub(crate) fn keep(
        &self,
        artifact: &Digest,
        fingerprint: &str,
        origin: Origin,
        code: &[u8],
    ) -> std::io::Result<PathBuf> {
        let path = self.path(artifact, fingerprint, origin);
        files::write_quickly(&path, code)?;
        files::write_quickly(&path.with_extension("seal"), &self.seal(&path, code))?;
        Ok(path)
    }

    fn path(&self, artifact: &Digest, fingerprint: &str, origin: Origin) -> PathBuf {
        let engine = Digest::of(fingerprint.as_bytes()).short();
        // Both may be there: an agent that compiles for itself loads only its own.
        let by = match origin {
            Origin::Own => "own",
            Origin::Signed => "signed",
        };
        self.folder.join(format!("{}-{engine}-{by}.cwasm", artifact.hex()))
    }

    /// HMAC-SHA-256 over the file's name and its content's digest.
    fn seal(&self, path: &Path, code: &[u8]) -> [u8; 32] {
        let mut pad = [0u8; BLOCK_BYTES];
        pad[..self.key.len()].copy_from_slice(&self.key);
        let (inner_pad, outer_pad) = (pad.map(|b| b ^ 0x36), pad.map(|b| b ^ 0x5c));
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let inner = Sha256::new()
            .chain_update(inner_pad)
            .chain_update((name.len() as u64).to_le_bytes())
            .chain_update(name)
            .chain_update(Sha256::digest(code))
            .finalize();
        Sha256::new()
            .chain_update(outer_pad)
            .chain_update(inner)
            .finalize()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_again_by_artifact_and_engine() {
        let data = tempfile::tempdir().unwrap();
        let artifact = Digest::of(b"a");
        let path = CompiledFiles::open(data.path())
            .unwrap()
            .keep(&artifact, "engine", Origin::Own, b"code")
            .unwrap();
        let reopened = CompiledFiles::open(data.path()).unwrap();
        assert_eq!(reopened.find(&artifact, "engine", Origin::Own), Some(path));
        assert_eq!(reopened.find(&artifact, "another engine", Origin::Own), None);
        assert_eq!(reopened.find(&artifact, "engine", Origin::Signed), None);
        assert_eq!(reopened.find(&Digest::of(b"b"), "engine", Origin::Own), None);
    }

    #[test]
    fn code_that_this_host_did_not_write_is_never_loaded() {
        let data = tempfile::tempdir().unwrap();
        let files = CompiledFiles::open(data.path()).unwrap();
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let first = files.keep(&one, "e", Origin::Own, b"code one").unwrap();
        let second = files.keep(&two, "e", Origin::Own, b"code two").unwrap();
        // Changed, exchanged, or sealed by somebody else.
        std::fs::write(&first, b"code 0ne").unwrap();
        assert_eq!(files.find(&one, "e", Origin::Own), None);
        std::fs::copy(&second, &first).unwrap();
        std::fs::copy(second.with_extension("seal"), first.with_extension("seal")).unwrap();
        assert_eq!(files.find(&one, "e", Origin::Own), None);
        std::fs::remove_file(data.path().join(KEY_FILE)).unwrap();
        assert_eq!(
            CompiledFiles::open(data.path()).unwrap().find(&two, "e", Origin::Own),
            None
        );
    }
}
