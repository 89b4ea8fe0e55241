//! What was sealed lately, by host: pushed again without asking a backend again, so that one that is dead later costs only
//! what was never had.
//!
//! Nothing in here can be read by anybody but the one start of the one agent that it was sealed to.

use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::SealedSecret;
use heddle_protocol::id::{BootId, HostId};
use std::collections::BTreeMap;

/// Bytes of all that is kept. What does not fit is sealed again when it is pushed again.
const BYTES_MAX: usize = 64 << 20;

/// Sealed secrets by host.
#[derive(Debug, Default)]
pub(super) struct SealedCache {
    hosts: BTreeMap<HostId, Held>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    boot_id: BootId,
    sealed: BTreeMap<Digest, SealedSecret>,
}

impl SealedCache {
    /// What is kept for this start of a host's agent. What was for an earlier one is dropped.
    pub(super) fn get(&mut self, host: &HostId, boot_id: &BootId, id: &Digest) -> Option<SealedSecret> {
        if self.hosts.get(host)?.boot_id != *boot_id {
            self.forget(host);
            return None;
        }
        self.hosts.get(host)?.sealed.get(id).cloned()
    }

    pub(super) fn keep(&mut self, host: &HostId, boot_id: &BootId, id: Digest, sealed: SealedSecret) {
        if self.bytes + bytes_of(&sealed) > BYTES_MAX {
            *self = Self::default();
        }
        if self.hosts.get(host).is_some_and(|held| held.boot_id != *boot_id) {
            self.forget(host);
        }
        let held = self.hosts.entry(host.clone()).or_insert_with(|| Held {
            boot_id: boot_id.clone(),
            sealed: BTreeMap::new(),
        });
        self.bytes += bytes_of(&sealed);
        if let Some(before) = held.sealed.insert(id, sealed) {
            self.bytes -= bytes_of(&before);
        }
    }

    /// Drops what the host is not to have any more.
    pub(super) fn retain(&mut self, host: &HostId, is_wanted: impl Fn(&Digest) -> bool) {
        let Some(held) = self.hosts.get_mut(host) else { return };
        let bytes = &mut self.bytes;
        held.sealed.retain(|id, sealed| {
            let keep = is_wanted(id);
            if !keep {
                *bytes -= bytes_of(sealed);
            }
            keep
        });
    }

    pub(super) fn forget(&mut self, host: &HostId) {
        if let Some(held) = self.hosts.remove(host) {
            self.bytes -= held.sealed.values().map(bytes_of).sum::<usize>();
        }
    }
}

fn bytes_of(sealed: &SealedSecret) -> usize {
    sealed.sealed.len() + sealed.version.len()
}
