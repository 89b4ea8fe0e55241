//! Secrets that outlive this start of the agent, so that a restart while cut off brings the work back.
//!
//! In: opened values. Out, at the next start: the same values. On the disk each is sealed to a key of this host that its
//! owner alone can read; the file is worth nothing on another machine, and may be deleted at any time.

use crate::files;
use heddle_agent_core::Identity;
use heddle_capability::SecretValue;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::SealedSecret;
use heddle_protocol::id::BootId;
use heddle_protocol::seal::{OpeningKey, SealedFor, seal};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// The key that kept secrets are sealed to, in the data folder.
const KEY_FILE: &str = "secrets.key";
/// The kept secrets, in the data folder.
const FILE: &str = "secrets.json";
/// What kept secrets are sealed for, where those on the wire name a start of the agent.
const KEPT: &str = "kept";

type Sealed = BTreeMap<Digest, SealedSecret>;

/// The kept secrets of one host.
#[derive(Debug)]
pub(crate) struct KeptSecrets {
    me: Identity,
    key: OpeningKey,
    path: PathBuf,
    sealed: Mutex<Sealed>,
}

impl KeptSecrets {
    /// Opens the file. A key that is missing or damaged is made anew, and what it sealed is forgotten.
    pub(crate) fn open(data: &Path, me: &Identity) -> std::io::Result<Self> {
        let (key_path, path) = (data.join(KEY_FILE), data.join(FILE));
        let seed = match std::fs::read(&key_path).map(Zeroizing::new) {
            Ok(bytes) => <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new),
            Err(_) => None,
        };
        let seed = match seed {
            Some(seed) => seed,
            None => {
                let seed = Zeroizing::new(rand::random::<[u8; 32]>());
                files::write_durably(&key_path, seed.as_slice())?;
                seed
            }
        };
        let sealed = std::fs::read(&path).ok();
        let sealed = sealed.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let me = Identity {
            boot_id: BootId::new(KEPT),
            ..me.clone()
        };
        Ok(Self {
            me,
            key: OpeningKey::from_seed(&seed),
            path,
            sealed: Mutex::new(sealed.unwrap_or_default()),
        })
    }

    /// The values of those of these that were kept.
    pub(crate) fn read(&self, wanted: &BTreeSet<Digest>) -> Vec<(Digest, SecretValue)> {
        let kept = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |(id, sealed): (&Digest, &SealedSecret)| {
            let bytes = self.key.open(sealed, &self.what(id, &sealed.version)).ok()?;
            Some((*id, SecretValue::new(sealed.version.clone(), bytes)))
        };
        kept.iter()
            .filter(|(id, _)| wanted.contains(*id))
            .filter_map(open)
            .collect()
    }

    /// Keeps new values, and forgets what is not to be kept. Writes the file only if anything changed.
    pub(crate) fn write(&self, keep: &BTreeSet<Digest>, fresh: Vec<(Digest, String, Zeroizing<Vec<u8>>)>) {
        let mut kept = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.len();
        kept.retain(|id, _| keep.contains(id));
        if fresh.is_empty() && kept.len() == before {
            return;
        }
        for (id, version, bytes) in fresh {
            match seal(self.key.public(), &bytes, &self.what(&id, &version), &mut rand::rng()) {
                Ok(sealed) => drop(kept.insert(id, sealed)),
                Err(error) => tracing::warn!(secret = %id.short(), %error, "a secret cannot be kept for a restart"),
            }
        }
        let written = serde_json::to_vec(&*kept)
            .map_err(std::io::Error::other)
            .and_then(|bytes| files::write_quickly(&self.path, &bytes));
        if let Err(error) = written {
            tracing::warn!(%error, "secrets cannot be kept: a restart while cut off waits for the scheduler");
        }
    }

    fn what<'a>(&'a self, id: &'a Digest, version: &'a str) -> SealedFor<'a> {
        SealedFor {
            realm: &self.me.realm,
            host: &self.me.host,
            boot_id: &self.me.boot_id,
            id,
            version,
        }
    }
}
