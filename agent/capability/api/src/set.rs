//! The capabilities of one agent: which kinds it was built with, and what the platforms lend under which name.
//!
//! In: offers, as the spec brings them. Out: linked imports. Listeners are not in here: they call exports.

use crate::callable::Callable;
use crate::capability::{Capability, CapabilityError, Guard, Import, Lending, Lent};
use crate::ctx::Ctx;
use heddle_protocol::host_spec::{CapabilityOffer, Consume, Feature, Wasi};
use heddle_protocol::id::CapabilityName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use wasmtime::component::{Linker, LinkerInstance};

/// Every capability of one agent.
pub struct CapabilitySet {
    kinds: BTreeMap<Feature, Arc<dyn Capability>>,
    lent: RwLock<BTreeMap<CapabilityName, Entry>>,
}

struct Entry {
    offer: CapabilityOffer,
    lent: Arc<dyn Lent>,
}

/// Collects the kinds of capability that an agent is built with.
#[derive(Default)]
pub struct CapabilitySetBuilder {
    kinds: BTreeMap<Feature, Arc<dyn Capability>>,
}

impl CapabilitySetBuilder {
    /// Adds a kind; one that was added earlier for the same feature gives way.
    pub fn capability(mut self, capability: impl Capability) -> Self {
        self.kinds.insert(capability.feature(), Arc::new(capability));
        self
    }

    /// The set, with nothing lent yet.
    pub fn build(self) -> CapabilitySet {
        CapabilitySet {
            kinds: self.kinds,
            lent: RwLock::default(),
        }
    }
}

impl CapabilitySet {
    /// Starts an empty set.
    pub fn builder() -> CapabilitySetBuilder {
        CapabilitySetBuilder::default()
    }

    /// Lends what every host has without a platform that says so: `config`, `logging` and `secrets`, under these names.
    pub fn lend_defaults(&self) -> Result<(), CapabilityError> {
        let always = [
            ("config", CapabilityOffer::Config {}),
            ("logging", CapabilityOffer::Logging {}),
            ("secrets", CapabilityOffer::Secrets {}),
        ];
        for (name, offer) in always {
            let Ok(name) = CapabilityName::parse(name) else {
                continue;
            };
            if self.kinds.contains_key(&offer.feature()) {
                self.apply(&name, &offer, &Lending::default())?;
            }
        }
        Ok(())
    }

    /// The features of the kinds in this set.
    pub fn features(&self) -> BTreeSet<Feature> {
        self.kinds.keys().cloned().collect()
    }

    /// Lends an offer under a name. The same offer again changes nothing.
    pub fn apply(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        lending: &Lending,
    ) -> Result<(), CapabilityError> {
        let feature = offer.feature();
        let before = {
            let lent = self.lent.read().unwrap_or_else(PoisonError::into_inner);
            lent.get(name).map(|entry| entry.offer.clone())
        };
        if before.as_ref() == Some(offer) {
            return Ok(());
        }
        let Some(kind) = self.kinds.get(&feature) else {
            return Err(CapabilityError::NoSuchKind {
                name: name.clone(),
                feature,
            });
        };
        // A name that turns into another kind takes nothing of the old kind with it.
        if let Some(before) = before.filter(|before| before.feature() != feature) {
            self.forget(&before, name);
        }
        let entry = Entry {
            offer: offer.clone(),
            lent: kind.configure(name, offer, lending)?,
        };
        self.lent
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone(), entry);
        Ok(())
    }

    /// Takes back what is lent under a name, with the data that it holds.
    pub fn remove(&self, name: &CapabilityName) {
        let entry = self.lent.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(entry) = entry {
            self.forget(&entry.offer, name);
        }
    }

    /// What is lent now, by name.
    pub fn offers(&self) -> BTreeMap<CapabilityName, CapabilityOffer> {
        let lent = self.lent.read().unwrap_or_else(PoisonError::into_inner);
        lent.iter()
            .map(|(name, entry)| (name.clone(), entry.offer.clone()))
            .collect()
    }

    /// Runs the `init` hook of every kind on a linker.
    pub fn init(&self, linker: &mut Linker<Ctx>, wasi: Wasi) -> wasmtime::Result<()> {
        self.kinds.values().try_for_each(|kind| kind.init(linker, wasi))
    }

    /// Meets one import with the capability of that name.
    pub fn prepare(
        &self,
        name: &CapabilityName,
        import: &Import<'_>,
        linker: &mut LinkerInstance<'_, Ctx>,
    ) -> Result<(), CapabilityError> {
        let lent = {
            let lent = self.lent.read().unwrap_or_else(PoisonError::into_inner);
            lent.get(name).map(|entry| Arc::clone(&entry.lent))
        };
        let not_lent = || CapabilityError::NotLent {
            name: name.clone(),
            interface: import.interface.to_owned(),
        };
        lent.ok_or_else(not_lent)?.prepare(import, linker)
    }

    /// Takes messages for a component from the capability of that name, for as long as the guard lives.
    pub fn consume(
        &self,
        name: &CapabilityName,
        consume: &Consume,
        component: Arc<dyn Callable>,
    ) -> Result<Guard, CapabilityError> {
        let lent = {
            let lent = self.lent.read().unwrap_or_else(PoisonError::into_inner);
            lent.get(name).map(|entry| Arc::clone(&entry.lent))
        };
        let not_lent = || CapabilityError::NotLent {
            name: name.clone(),
            interface: format!("messages on {}", consume.subject),
        };
        lent.ok_or_else(not_lent)?.consume(consume, component)
    }

    fn forget(&self, offer: &CapabilityOffer, name: &CapabilityName) {
        if let Some(kind) = self.kinds.get(&offer.feature()) {
            kind.forget(name);
        }
    }
}
