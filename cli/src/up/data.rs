//! The folder in which a local fleet keeps everything.
//!
//! ```text
//! lock          held while a fleet runs here
//! keys/         realm.seed, operator.seed
//! nats/         nats.conf and JetStream's files
//! scheduler/    verified images
//! backends.json where secrets come from: as made, from `secrets/` under the name `dev`
//! secrets/      files, each a secret
//! hosts/<id>/   each agent's key and caches
//! logs/         one file per process
//! ```

use crate::exit::Exit;
use crate::failure::Failure;
use heddle_protocol::id::HostId;
use heddle_protocol::sign::SigningKey;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// Above this a log is put aside when its process starts, in bytes.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// The folder, held by this process.
#[derive(Debug)]
pub struct Data {
    folder: PathBuf,
    _lock: File,
}

impl Data {
    /// Makes the folder if it is not there, and takes hold of it.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let folder = std::path::absolute(folder).map_err(|error| Failure::file("find folder", folder, &error))?;
        std::fs::create_dir_all(&folder).map_err(|error| Failure::file("make folder", &folder, &error))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(|error| Failure::file("make lock", &path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!(
                    "failed to start a fleet in {}: one runs there already",
                    folder.display()
                );
                let next = "stop it first, or choose another folder with --data";
                return Err(Failure::new(Exit::Refused, message, next));
            }
            Err(TryLockError::Error(error)) => return Err(Failure::file("lock", &path, &error)),
        }
        let data = Self { folder, _lock: lock };
        // Keys and logs are nobody else's business. A folder that somebody shares on purpose stays as it is.
        for part in ["keys", "nats", "scheduler", "secrets", "hosts", "logs"] {
            let part = data.folder.join(part);
            std::fs::create_dir_all(&part).map_err(|error| Failure::file("make folder", &part, &error))?;
        }
        Ok(data)
    }

    /// A key of the fleet: made the first time, read afterwards.
    pub fn key(&self, name: &str) -> Result<(PathBuf, SigningKey), Failure> {
        let path = self.folder.join("keys").join(format!("{name}.seed"));
        let key = match path.exists() {
            true => crate::fleet::read_key(&path)?,
            false => crate::command::key::make(&path)?,
        };
        Ok((path, key))
    }

    /// The file that names the backends of secrets: made the first time with the folder `secrets` as its only one, and then
    /// whoever runs the fleet may write others into it.
    pub fn backends(&self) -> Result<PathBuf, Failure> {
        let path = self.folder.join("backends.json");
        if !path.exists() {
            let dev = serde_json::json!({ "dev": { "kind": "file", "root": self.folder.join("secrets") } });
            let text = format!("{dev:#}\n");
            std::fs::write(&path, text).map_err(|error| Failure::file("write", &path, &error))?;
        }
        Ok(path)
    }

    /// NATS's folder.
    pub fn nats(&self) -> PathBuf {
        self.folder.join("nats")
    }

    /// The scheduler's folder.
    pub fn scheduler(&self) -> PathBuf {
        self.folder.join("scheduler")
    }

    /// An agent's folder.
    pub fn host(&self, host: &HostId) -> PathBuf {
        self.folder.join("hosts").join(host.as_str())
    }

    /// The folder of the logs.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// The log of one process. One that has grown large is put aside first.
    pub fn log(&self, name: &str) -> PathBuf {
        let path = self.logs().join(format!("{name}.log"));
        if std::fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
            // A log that cannot be moved is appended to.
            let _ = std::fs::rename(&path, path.with_extension("log.old"));
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_holds_one_fleet_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let held = Data::open(folder.path()).unwrap();
        assert_eq!(Data::open(folder.path()).unwrap_err().exit, Exit::Refused);
        drop(held);
        Data::open(folder.path()).unwrap();
    }

    #[test]
    fn the_backends_of_secrets_stay_as_somebody_wrote_them() {
        let folder = tempfile::tempdir().unwrap();
        let data = Data::open(folder.path()).unwrap();
        let path = data.backends().unwrap();
        let made: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            made["dev"]["root"],
            folder.path().join("secrets").to_string_lossy().as_ref()
        );
        std::fs::write(&path, "{}").unwrap();
        data.backends().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
    }

    #[test]
    fn keys_are_made_once_and_only_their_owner_reads_them() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let data = Data::open(folder.path()).unwrap();
        let (path, key) = data.key("realm").unwrap();
        assert_eq!(data.key("realm").unwrap().1.public(), key.public());
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
