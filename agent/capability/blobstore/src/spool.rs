//! Files that hold what guests write until it is whole, and the room that all of it may take. In: pieces. Out: a file
//! that somebody keeps, or that is removed with its last holder.

use crate::backend::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::OnceCell;

/// One object, in bytes, where the platform sets no bound: a guest that never stops must not fill the disk.
pub const OBJECT_BYTES_MAX: u64 = 4 << 30;

/// The room of one store, and the folder for unfinished files.
pub struct Spool {
    folder: PathBuf,
    /// What the store may hold; all bits set where nobody says.
    quota: AtomicU64,
    /// What is stored and what is being written, in bytes.
    used: AtomicU64,
    /// Finds out what is stored already, once.
    measure: Box<dyn Fn() -> u64 + Send + Sync>,
    measured: OnceCell<()>,
    next: AtomicU64,
}

/// Tells this process's files from those that one before it left behind.
fn run() -> &'static str {
    static RUN: OnceLock<String> = OnceLock::new();
    RUN.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        format!("{}-{}", std::process::id(), since.map_or(0, |since| since.as_nanos()))
    })
}

impl Spool {
    /// A spool in a folder, which is made, with nothing of what an earlier run left there. `measure` says what is stored
    /// already; it may read files.
    pub fn open(
        folder: PathBuf,
        quota: Option<u64>,
        measure: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Result<Arc<Self>, Error> {
        std::fs::create_dir_all(&folder)?;
        for entry in std::fs::read_dir(&folder)?.flatten() {
            if !entry.file_name().to_string_lossy().starts_with(run()) {
                // What cannot be removed is in nobody's way.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(Arc::new(Self {
            folder,
            quota: AtomicU64::new(quota.unwrap_or(u64::MAX)),
            used: AtomicU64::new(0),
            measure: Box::new(measure),
            measured: OnceCell::new(),
            next: AtomicU64::new(0),
        }))
    }

    /// Another bound for what is stored from now on.
    pub fn set_quota(&self, quota: Option<u64>) {
        self.quota.store(quota.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Knows what is stored.
    pub(crate) async fn ready(self: &Arc<Self>) -> Result<(), Error> {
        let measured = self.measured.get_or_try_init(|| async {
            let spool = Arc::clone(self);
            let stored = tokio::task::spawn_blocking(move || (spool.measure)()).await;
            let stored = stored.map_err(|ended| Error::Unavailable(ended.to_string()))?;
            self.used.fetch_add(stored, Ordering::Relaxed);
            Ok(())
        });
        measured.await.map(drop)
    }

    /// What is stored and what is being written, in bytes.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes room for some bytes of something that has some already.
    pub(crate) fn take(&self, before: u64, bytes: u64) -> Result<(), Error> {
        let quota = self.quota.load(Ordering::Relaxed);
        if quota == u64::MAX && before.saturating_add(bytes) > OBJECT_BYTES_MAX {
            return Err(Error::Full(format!("an object has at most {OBJECT_BYTES_MAX} bytes")));
        }
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= quota);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Full(format!("it holds at most {quota} bytes"))),
        }
    }

    /// Gives room back.
    pub(crate) fn give_back(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        // It always finds a value.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// A new file, empty.
    pub async fn create(self: &Arc<Self>) -> Result<(tokio::fs::File, Spooled), Error> {
        self.ready().await?;
        let path = self
            .folder
            .join(format!("{}-{}", run(), self.next.fetch_add(1, Ordering::Relaxed)));
        let file = tokio::fs::File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .await?;
        let spooled = Spooled {
            spool: Arc::clone(self),
            path,
            bytes: 0,
        };
        Ok((file, spooled))
    }
}

/// A file that is removed, and its room given back, unless somebody keeps it.
pub struct Spooled {
    spool: Arc<Spool>,
    path: PathBuf,
    bytes: u64,
}

impl Spooled {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it takes of the store's room.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes room for more bytes, which are written next.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Error> {
        self.spool.take(self.bytes, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// The file was moved to its place: its room stays taken.
    pub(crate) fn kept(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        // After a rename there is no such file any more.
        let _ = std::fs::remove_file(&self.path);
        self.spool.give_back(self.bytes);
    }
}
