//! The capabilities that this host lends: what each is set to, and how far it is.

use crate::backoff::{Jitter, pause_ms};
use heddle_protocol::host_spec::CapabilityOffer;
use heddle_protocol::id::CapabilityName;
use heddle_protocol::time::Mono;
use std::collections::BTreeMap;

/// How far a capability is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CapabilityPhase {
    /// It is being set up.
    Setting,
    /// It can be used.
    Set {
        /// The address that it is bound to, if it listens.
        bound: Option<String>,
    },
    /// It could not be set up.
    Failed {
        /// Why.
        reason: String,
        /// When it is tried again; none if that would end the same way.
        retry_at: Option<Mono>,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Capability {
    pub(crate) offer: CapabilityOffer,
    pub(crate) phase: CapabilityPhase,
    attempts: u32,
}

/// All capabilities that were set up, or tried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Capabilities(BTreeMap<CapabilityName, Capability>);

impl Capabilities {
    pub(crate) fn get(&self, name: &CapabilityName) -> Option<&Capability> {
        self.0.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&CapabilityName, &Capability)> {
        self.0.iter()
    }

    /// Whether it must be set up now: it is new, it is described differently, or its pause after a failure is over.
    pub(crate) fn must_set(&self, name: &CapabilityName, offer: &CapabilityOffer, now: Mono) -> bool {
        match self.0.get(name) {
            None => true,
            Some(held) if held.offer != *offer => held.phase != CapabilityPhase::Setting,
            Some(held) => {
                matches!(held.phase, CapabilityPhase::Failed { retry_at: Some(retry_at), .. } if retry_at <= now)
            }
        }
    }

    pub(crate) fn begin(&mut self, name: &CapabilityName, offer: &CapabilityOffer) {
        let attempts = self
            .0
            .get(name)
            .filter(|held| held.offer == *offer)
            .map_or(0, |held| held.attempts);
        let setting = Capability {
            offer: offer.clone(),
            phase: CapabilityPhase::Setting,
            attempts,
        };
        self.0.insert(name.clone(), setting);
    }

    pub(crate) fn refuse(&mut self, name: &CapabilityName, offer: &CapabilityOffer, reason: String) {
        let phase = CapabilityPhase::Failed { reason, retry_at: None };
        self.0.insert(
            name.clone(),
            Capability {
                offer: offer.clone(),
                phase,
                attempts: 0,
            },
        );
    }

    pub(crate) fn apply_set(&mut self, name: &CapabilityName, offer: &CapabilityOffer, bound: Option<String>) {
        if let Some(held) = self.awaited(name, offer) {
            held.phase = CapabilityPhase::Set { bound };
            held.attempts = 0;
        }
    }

    pub(crate) fn apply_failed(
        &mut self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        reason: String,
        now: Mono,
        jitter: Jitter,
    ) {
        if let Some(held) = self.awaited(name, offer) {
            held.attempts = held.attempts.saturating_add(1);
            let retry_at = Some(now.plus(pause_ms(held.attempts, jitter)));
            held.phase = CapabilityPhase::Failed { reason, retry_at };
        }
    }

    pub(crate) fn remove(&mut self, name: &CapabilityName) {
        self.0.remove(name);
    }

    /// The earliest end of a pause.
    pub(crate) fn wake_at(&self) -> Option<Mono> {
        let retry = |held: &Capability| match held.phase {
            CapabilityPhase::Failed { retry_at, .. } => retry_at,
            _ => None,
        };
        self.0.values().filter_map(retry).min()
    }

    fn awaited(&mut self, name: &CapabilityName, offer: &CapabilityOffer) -> Option<&mut Capability> {
        self.0
            .get_mut(name)
            .filter(|held| held.offer == *offer && held.phase == CapabilityPhase::Setting)
    }
}
