//! Who this agent is: its host's key, this start of it, and what it says of the machine.
//!
//! In: the data folder. Out: a key that signs hellos (made once, readable by its owner alone), a new boot id, labels,
//! memory.

use crate::files;
use heddle_protocol::error::ProtocolError;
use heddle_protocol::id::{BootId, HostId};
use heddle_protocol::label::HOST_NAME_LABEL;
use heddle_protocol::sign::SigningKey;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file that holds the host's key, in the data folder.
const KEY_FILE: &str = "host.nk";

/// Why there is no host key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("failed to use host key {path}: {source}; check that the agent may write its data folder")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file does not hold a key.
    #[error("failed to read host key {path}: {source}; put the right file back, or delete it and join again")]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ProtocolError,
    },
}

/// Reads the host's key, or makes one if there is none.
pub fn host_key(data: &Path) -> Result<SigningKey, KeyError> {
    let path = data.join(KEY_FILE);
    let file_error = |source| KeyError::File {
        path: path.clone(),
        source,
    };
    let content_error = |source| KeyError::Content {
        path: path.clone(),
        source,
    };
    match std::fs::read_to_string(&path) {
        Ok(seed) => SigningKey::from_seed(&seed).map_err(content_error),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key = SigningKey::generate();
            let seed = key.seed().map_err(content_error)?;
            files::write_durably(&path, seed.as_bytes()).map_err(file_error)?;
            Ok(key)
        }
        Err(e) => Err(file_error(e)),
    }
}

/// A boot id that no other start has.
pub fn new_boot_id() -> BootId {
    BootId::new(uuid::Uuid::now_v7().to_string())
}

/// The host's labels: those that were given, and what the agent knows itself. A given label wins.
pub fn labels(host: &HostId, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let own = [
        ("heddle.dev/arch", std::env::consts::ARCH.to_owned()),
        ("heddle.dev/os", std::env::consts::OS.to_owned()),
        (HOST_NAME_LABEL, host.to_string()),
    ];
    let mut labels: BTreeMap<String, String> = own.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    labels.extend(given.iter().map(|(k, v)| (k.clone(), v.clone())));
    labels
}

/// Memory for instances when none was named: three quarters of the machine's, in bytes. The rest is for the agent
/// itself, compiled code and the system.
pub fn default_memory_bytes() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = total.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok());
    // Where there is no such file, a small machine is assumed: too little is refused with a reason, too much kills.
    kib.map_or(1 << 30, |kib| kib * 1024 / 4 * 3)
}

/// Memory that this process uses, in bytes; 0 where that cannot be read.
pub fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_host_keeps_its_key_and_nobody_else_may_read_it() {
        let data = tempfile::tempdir().unwrap();
        let first = host_key(data.path()).unwrap().public();
        assert_eq!(host_key(data.path()).unwrap().public(), first);
        let mode = std::fs::metadata(data.path().join(KEY_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_an_error_and_is_never_replaced() {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join(KEY_FILE), "nonsense").unwrap();
        assert!(matches!(host_key(data.path()), Err(KeyError::Content { .. })));
        assert_eq!(std::fs::read_to_string(data.path().join(KEY_FILE)).unwrap(), "nonsense");
    }

    #[test]
    fn given_labels_win() {
        let host = HostId::parse("h-1").unwrap();
        let given = [("heddle.dev/arch".to_owned(), "toaster".to_owned())]
            .into_iter()
            .collect();
        let labels = labels(&host, &given);
        assert_eq!(labels["heddle.dev/arch"], "toaster");
        assert_eq!(labels["heddle.dev/host"], "h-1");
    }

    #[test]
    fn the_machine_has_memory_and_this_process_uses_some() {
        assert!(default_memory_bytes() > 64 << 20);
        assert!(rss_bytes() > 0);
    }
}
