//! Secrets in files of the scheduler's machine: for development, and for whatever already puts files there.
//!
//! `<root>/<path>` is the newest version, named after the time at which the file was last written. `<root>/<path>@<v>` is
//! version `v`; where only such files are, the highest number is the newest. A value is the file's bytes as they are.
//! Nothing outside of `root` is ever read, whatever a path says or a link points to.

use crate::backend::{Ask, Backend, BackendError, Secret};
use crate::field;
use async_trait::async_trait;
use heddle_protocol::defaults::SECRET_BYTES_MAX;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use zeroize::Zeroizing;

/// Files looked at to find the highest version of one secret.
const VERSIONS_MAX: usize = 1_000;

/// Files below a folder.
#[derive(Debug, Clone)]
pub struct FileBackend {
    root: PathBuf,
}

impl FileBackend {
    /// The files below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn read(&self, ask: &Ask) -> Result<Secret, BackendError> {
        let (version, file, meta) = self.find(ask)?;
        let value = read_bounded(file, &meta)?;
        let value = match &ask.field {
            Some(name) => field::read(&value)?.pick(Some(name))?,
            None => value,
        };
        Secret::new(version, value)
    }

    /// The file that holds the version that is asked for, and that version's name.
    fn find(&self, ask: &Ask) -> Result<(String, File, Metadata), BackendError> {
        let path = checked(&ask.path)?;
        let newest = self.open(path)?;
        let Some(asked) = &ask.version else {
            if let Some((file, meta)) = newest {
                return Ok((written_at(&meta), file, meta));
            }
            let version = self.highest(path)?;
            let found = self.open(&format!("{path}@{version}"))?;
            let (file, meta) = found.ok_or_else(|| not_found(path))?;
            return Ok((version.to_string(), file, meta));
        };
        checked_segment(asked)?;
        if let Some((file, meta)) = newest
            && written_at(&meta) == *asked
        {
            return Ok((asked.clone(), file, meta));
        }
        let (file, meta) = self
            .open(&format!("{path}@{asked}"))?
            .ok_or_else(|| BackendError::NotFound(format!("there is no version {asked} of {path}")))?;
        Ok((asked.clone(), file, meta))
    }

    /// Opens a file below the root; none if there is none.
    fn open(&self, path: &str) -> Result<Option<(File, Metadata)>, BackendError> {
        let root = self
            .root
            .canonicalize()
            .map_err(|e| io(&self.root.to_string_lossy(), &e))?;
        let real = match root.join(path).canonicalize() {
            Ok(real) => real,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(io(path, &e)),
        };
        if !real.starts_with(&root) {
            return Err(BackendError::Denied(format!(
                "{path} leads out of the folder of secrets"
            )));
        }
        // Asked before it is opened: opening a pipe would wait for a writer.
        if !std::fs::metadata(&real).map_err(|e| io(path, &e))?.is_file() {
            return Err(BackendError::NotFound(format!("{path} is no file")));
        }
        let file = File::open(&real).map_err(|e| io(path, &e))?;
        let meta = file.metadata().map_err(|e| io(path, &e))?;
        Ok(Some((file, meta)))
    }

    fn highest(&self, path: &str) -> Result<u64, BackendError> {
        let (folder, name) = match path.rsplit_once('/') {
            Some((folder, name)) => (self.root.join(folder), name),
            None => (self.root.clone(), path),
        };
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(not_found(path)),
            Err(e) => return Err(io(path, &e)),
        };
        let of_it = entries.filter_map(|entry| {
            let file = entry.ok()?.file_name();
            let version = file.to_str()?.strip_prefix(name)?.strip_prefix('@')?;
            version.parse::<u64>().ok()
        });
        of_it.take(VERSIONS_MAX).max().ok_or_else(|| not_found(path))
    }
}

fn not_found(path: &str) -> BackendError {
    BackendError::NotFound(format!("there is no file {path}"))
}

/// A path that stays below the root by its words alone.
fn checked(path: &str) -> Result<&str, BackendError> {
    path.split('/').try_for_each(checked_segment)?;
    Ok(path)
}

fn checked_segment(segment: &str) -> Result<(), BackendError> {
    let bad = segment.is_empty()
        || segment == "."
        || segment == ".."
        || Path::new(segment).is_absolute()
        || segment.contains(['/', '\\', '@', '\0']);
    match bad {
        true => Err(BackendError::Denied(format!(
            "{segment:?} cannot be part of a path: names between `/`, without `.`, `..`, `@` and `\\`"
        ))),
        false => Ok(()),
    }
}

/// The name of a version that has none: when it was written, in microseconds since 1970.
fn written_at(meta: &Metadata) -> String {
    let at = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("t{}", since.as_micros())
}

fn read_bounded(file: File, meta: &Metadata) -> Result<Zeroizing<Vec<u8>>, BackendError> {
    let bytes_max = SECRET_BYTES_MAX as u64;
    if meta.len() > bytes_max {
        return Err(BackendError::Malformed(format!(
            "the file has {} bytes, at most {bytes_max} are allowed",
            meta.len()
        )));
    }
    // The room is made first: a vector that grows leaves copies behind that are not wiped.
    let mut value = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 1));
    file.take(bytes_max + 1)
        .read_to_end(&mut value)
        .map_err(|e| io("the file", &e))?;
    Ok(value)
}

fn io(path: &str, error: &std::io::Error) -> BackendError {
    let text = format!("{path}: {error}");
    match error.kind() {
        ErrorKind::PermissionDenied => BackendError::Denied(text),
        ErrorKind::NotFound => BackendError::Unreachable(text),
        ErrorKind::InvalidInput | ErrorKind::InvalidFilename => BackendError::Malformed(text),
        _ => BackendError::Unreachable(text),
    }
}

#[async_trait]
impl Backend for FileBackend {
    async fn get(&self, ask: &Ask) -> Result<Secret, BackendError> {
        let (backend, ask) = (self.clone(), ask.clone());
        blocking(move || backend.read(&ask)).await
    }

    async fn newest(&self, ask: &Ask) -> Result<String, BackendError> {
        let (backend, mut ask) = (self.clone(), ask.clone());
        ask.version = None;
        blocking(move || backend.find(&ask).map(|(version, ..)| version)).await
    }
}

/// Runs file work beside the loop: a folder may lie on a network that hangs.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackendError> + Send + 'static,
) -> Result<T, BackendError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(BackendError::Unreachable("reading the file was broken off".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &str, version: Option<&str>) -> Ask {
        Ask {
            workload: None,
            path: path.into(),
            field: None,
            version: version.map(str::to_owned),
        }
    }

    fn folder() -> (tempfile::TempDir, FileBackend) {
        let folder = tempfile::tempdir().unwrap();
        let backend = FileBackend::new(folder.path());
        (folder, backend)
    }

    #[tokio::test]
    async fn the_newest_is_the_bare_file_and_older_ones_carry_their_version() {
        let (folder, backend) = folder();
        std::fs::create_dir(folder.path().join("db")).unwrap();
        std::fs::write(folder.path().join("db/password"), "new").unwrap();
        std::fs::write(folder.path().join("db/password@1"), "old").unwrap();
        let newest = backend.get(&ask("db/password", None)).await.unwrap();
        assert_eq!(newest.value.as_slice(), b"new");
        assert_eq!(
            backend.newest(&ask("db/password", Some("1"))).await.unwrap(),
            newest.version
        );
        let again = backend.get(&ask("db/password", Some(&newest.version))).await.unwrap();
        assert_eq!(again.value.as_slice(), b"new");
        let old = backend.get(&ask("db/password", Some("1"))).await.unwrap();
        assert_eq!((old.version.as_str(), old.value.as_slice()), ("1", b"old".as_slice()));
        assert!(matches!(
            backend.get(&ask("db/password", Some("2"))).await,
            Err(BackendError::NotFound(_))
        ));
    }

    #[tokio::test]
    async fn where_all_files_carry_versions_the_highest_number_is_the_newest() {
        let (folder, backend) = folder();
        for version in ["9", "10", "x"] {
            std::fs::write(folder.path().join(format!("key@{version}")), version).unwrap();
        }
        assert_eq!(backend.newest(&ask("key", None)).await.unwrap(), "10");
    }

    #[tokio::test]
    async fn no_path_leads_out_of_the_folder() {
        let (folder, backend) = folder();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("x"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path().join("x"), folder.path().join("link")).unwrap();
        let absolute = outside.path().join("x");
        for path in [
            "../x",
            "a/../../x",
            "/etc/passwd",
            absolute.to_str().unwrap(),
            "link",
            "a//b",
            "x@1",
            ".",
        ] {
            let answer = backend.get(&ask(path, None)).await;
            assert!(matches!(answer, Err(BackendError::Denied(_))), "{path}: {answer:?}");
        }
        let answer = backend.get(&ask("x", Some("../../x"))).await;
        assert!(matches!(answer, Err(BackendError::Denied(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn what_is_no_small_file_is_refused() {
        let (folder, backend) = folder();
        std::fs::write(folder.path().join("large"), vec![b'x'; SECRET_BYTES_MAX + 1]).unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(matches!(
            backend.get(&ask("large", None)).await,
            Err(BackendError::Malformed(_))
        ));
        assert!(matches!(
            backend.get(&ask("folder", None)).await,
            Err(BackendError::NotFound(_))
        ));
        assert!(matches!(
            backend.get(&ask("none", None)).await,
            Err(BackendError::NotFound(_))
        ));
        let gone = FileBackend::new(folder.path().join("gone"));
        assert!(gone.get(&ask("x", None)).await.unwrap_err().is_retryable());
    }
}
