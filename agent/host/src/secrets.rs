//! The secrets of this host: opened as they come, shared by handle, sealed again for the next start.
//!
//! In: the sealed secrets of a spec. Out: handles, shared by everything that uses a secret. They were sealed to a key that
//! lives as long as this process, so what is kept on the disk is sealed again, to a key of this host's own; what must not
//! be kept is not.

mod kept;

use heddle_agent_core::Identity;
use heddle_capability::{SecretHandle, SecretValue};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{HostSpecBody, SealedSecret, SecretUse};
use heddle_protocol::id::CapabilityName;
use heddle_protocol::seal::{OpeningKey, SealedFor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

pub(crate) use kept::KeptSecrets;

/// Every secret that something on this host uses. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SecretStore(Arc<Mutex<Store>>);

#[derive(Debug, Default)]
struct Store {
    held: BTreeMap<Digest, Held>,
    /// What capabilities hold, by capability and by the name that it knows the secret by: one handle for as long as it is
    /// lent, whichever version the spec names.
    lent: BTreeMap<(CapabilityName, String), SecretHandle>,
}

#[derive(Debug, Default)]
struct Held {
    handle: SecretHandle,
    /// What it was last opened from: the same bytes need no opening again.
    opened_from: Option<Digest>,
}

impl SecretStore {
    /// The handle of a secret; it may have no value yet.
    pub fn handle(&self, used: &SecretUse) -> SecretHandle {
        self.lock().held.entry(used.id()).or_default().handle.clone()
    }

    /// The handles of a capability's secrets. Each goes on to give the newest value when the spec names another version:
    /// the offer is the same then, and nobody sets the capability up again.
    pub fn lent(
        &self,
        capability: &CapabilityName,
        used: &BTreeMap<String, SecretUse>,
    ) -> BTreeMap<String, SecretHandle> {
        let mut store = self.lock();
        let each = used
            .iter()
            .map(|(name, used)| (name.clone(), store.lend(capability, name, used)));
        each.collect()
    }

    /// Lets capabilities have what the spec names for them now; one whose value has not come yet keeps the one before.
    fn lend(&self, body: &HostSpecBody) {
        let mut store = self.lock();
        let named = |capability: &CapabilityName, name: &str| {
            let secrets = body.capability_secrets.get(capability);
            secrets.is_some_and(|secrets| secrets.contains_key(name))
        };
        store.lent.retain(|(capability, name), _| named(capability, name));
        for (capability, secrets) in &body.capability_secrets {
            for (name, used) in secrets {
                store.lend(capability, name, used);
            }
        }
    }

    /// The handles of several, by the names that their user knows them by.
    pub fn handles(&self, used: &BTreeMap<String, SecretUse>) -> BTreeMap<String, SecretHandle> {
        used.iter()
            .map(|(name, used)| (name.clone(), self.handle(used)))
            .collect()
    }

    /// Takes a value that needs no opening.
    pub fn set(&self, id: Digest, value: SecretValue) {
        self.lock().held.entry(id).or_default().handle.set(value);
    }

    /// Lets go of what the spec does not name. Units that end take the last of it with them.
    fn retain(&self, named: &BTreeSet<Digest>) {
        self.lock().held.retain(|id, _| named.contains(id));
    }

    fn is_opened_from(&self, id: &Digest, sealed: &SealedSecret) -> bool {
        let digest = Digest::of(sealed.sealed.as_bytes());
        self.lock().held.get(id).and_then(|held| held.opened_from) == Some(digest)
    }

    fn set_opened(&self, id: Digest, sealed: &SealedSecret, value: SecretValue) {
        let mut store = self.lock();
        let held = store.held.entry(id).or_default();
        held.opened_from = Some(Digest::of(sealed.sealed.as_bytes()));
        held.handle.set(value);
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    fn lend(&mut self, capability: &CapabilityName, name: &str, used: &SecretUse) -> SecretHandle {
        let handle = self.lent.entry((capability.clone(), name.to_owned())).or_default();
        if let Some(value) = self.held.get(&used.id()).and_then(|held| held.handle.get()) {
            handle.share(value);
        }
        handle.clone()
    }
}

/// Opens what specs bring, and keeps it for the next start.
#[derive(Debug)]
pub(crate) struct SecretIntake {
    me: Identity,
    key: OpeningKey,
    store: SecretStore,
    kept: KeptSecrets,
}

impl SecretIntake {
    /// An intake with a key of its own, and what an earlier start kept in the data folder.
    pub(crate) fn open(data: &Path, me: &Identity, store: SecretStore) -> std::io::Result<Self> {
        let seed = Zeroizing::new(rand::random::<[u8; 32]>());
        Ok(Self {
            me: me.clone(),
            key: OpeningKey::from_seed(&seed),
            store,
            kept: KeptSecrets::open(data, me)?,
        })
    }

    /// The public half of the key that this start's secrets are sealed to.
    pub(crate) fn seal_key(&self) -> &str {
        self.key.public()
    }

    /// Brings back what an earlier start kept of the secrets that a spec names.
    pub(crate) fn restore(&self, body: &HostSpecBody) {
        let named = named(body);
        for (id, value) in self.kept.read(&named.keys().copied().collect()) {
            self.store.set(id, value);
        }
        self.store.lend(body);
    }

    /// Takes in what a spec brings. Returns whether any value is new.
    pub(crate) fn take(&self, body: &HostSpecBody, sealed: &BTreeMap<Digest, SealedSecret>) -> bool {
        let named = named(body);
        self.store.retain(&named.keys().copied().collect());
        let mut fresh = Vec::new();
        for (id, sealed) in sealed {
            let Some(used) = named.get(id) else { continue };
            if self.store.is_opened_from(id, sealed) {
                continue;
            }
            match self.open_one(id, sealed) {
                Ok(bytes) => {
                    if !used.no_cache {
                        fresh.push((*id, sealed.version.clone(), bytes.clone()));
                    }
                    self.store
                        .set_opened(*id, sealed, SecretValue::new(sealed.version.clone(), bytes));
                }
                Err(error) => tracing::warn!(secret = %id.short(), %error, "a secret cannot be opened"),
            }
        }
        self.store.lend(body);
        let keep: BTreeSet<Digest> = named.iter().filter(|(_, u)| !u.no_cache).map(|(id, _)| *id).collect();
        let any = !fresh.is_empty();
        self.kept.write(&keep, fresh);
        any || named.iter().any(|(id, used)| used.no_cache && sealed.contains_key(id))
    }

    fn open_one(
        &self,
        id: &Digest,
        sealed: &SealedSecret,
    ) -> Result<Zeroizing<Vec<u8>>, heddle_protocol::error::ProtocolError> {
        let what = SealedFor {
            realm: &self.me.realm,
            host: &self.me.host,
            boot_id: &self.me.boot_id,
            id,
            version: &sealed.version,
        };
        self.key.open(sealed, &what)
    }
}

/// Every secret that a spec names, by id.
fn named(body: &HostSpecBody) -> BTreeMap<Digest, &SecretUse> {
    let components = body.templates.values().flat_map(|template| &template.components);
    let of_components = components.flat_map(|component| {
        let parts = component.parts.values().flat_map(|part| part.secrets.values());
        component.secrets.values().chain(parts)
    });
    let of_capabilities = body.capability_secrets.values().flat_map(BTreeMap::values);
    let all = of_components.chain(of_capabilities).chain(body.credentials.values());
    all.map(|used| (used.id(), used)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::host_spec::{Template, TemplateComponent, Wasi};
    use heddle_protocol::id::{BootId, HostId, Realm};
    use heddle_protocol::seal::seal;

    fn me(boot: &str) -> Identity {
        Identity {
            realm: Realm::parse("eu").unwrap(),
            host: HostId::parse("h-1").unwrap(),
            boot_id: BootId::new(boot),
        }
    }

    fn used(path: &str, no_cache: bool) -> SecretUse {
        SecretUse {
            workload: None,
            from: "vault".into(),
            path: path.into(),
            field: None,
            version: Some("7".into()),
            no_cache,
            env: None,
        }
    }

    fn body(uses: &[SecretUse]) -> HostSpecBody {
        let mut component = TemplateComponent::new("api".parse().unwrap(), Digest::of(b"artifact"), 8, Wasi::P2);
        component.secrets = uses.iter().map(|used| (used.path.clone(), used.clone())).collect();
        let template: Template = serde_json::from_value(serde_json::json!({
            "requires": [], "components": [component],
            "limits": { "memory_bytes": 1, "time_ms": 1, "concurrency": 1 },
            "instances": { "reuse": 1, "concurrency": 1 },
        }))
        .unwrap();
        HostSpecBody {
            templates: [(Digest::of(b"template"), Arc::new(template))].into(),
            ..HostSpecBody::default()
        }
    }

    fn sealed(intake: &SecretIntake, used: &SecretUse, value: &[u8]) -> (Digest, SealedSecret) {
        let id = used.id();
        let what = SealedFor {
            realm: &intake.me.realm,
            host: &intake.me.host,
            boot_id: &intake.me.boot_id,
            id: &id,
            version: "7",
        };
        (id, seal(intake.seal_key(), value, &what, &mut rand::rng()).unwrap())
    }

    #[test]
    fn what_a_spec_brings_is_there_after_a_restart_but_for_what_must_not_be_kept() {
        let data = tempfile::tempdir().unwrap();
        let store = SecretStore::default();
        let intake = SecretIntake::open(data.path(), &me("first"), store.clone()).unwrap();
        let (kept, passing) = (used("kept", false), used("passing", true));
        let body = body(&[kept.clone(), passing.clone()]);
        let held_before = store.handle(&kept);
        let brought = [
            sealed(&intake, &kept, b"canary-1"),
            sealed(&intake, &passing, b"canary-2"),
        ]
        .into();
        assert!(intake.take(&body, &brought));
        assert!(
            !intake.take(&body, &BTreeMap::new()),
            "nothing new, and nothing is lost"
        );
        assert_eq!(held_before.get().unwrap().reveal(), b"canary-1");
        assert_eq!(store.handle(&passing).get().unwrap().reveal(), b"canary-2");

        let store = SecretStore::default();
        let restarted = SecretIntake::open(data.path(), &me("second"), store.clone()).unwrap();
        restarted.restore(&body);
        assert_eq!(store.handle(&kept).get().unwrap().reveal(), b"canary-1");
        assert!(store.handle(&passing).get().is_none());
        for file in std::fs::read_dir(data.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(
                !bytes.windows(6).any(|window| window == b"canary"),
                "no file holds a value"
            );
        }
    }

    #[test]
    fn what_a_capability_holds_follows_the_version_that_the_spec_names() {
        let data = tempfile::tempdir().unwrap();
        let store = SecretStore::default();
        let intake = SecretIntake::open(data.path(), &me("first"), store.clone()).unwrap();
        let db = CapabilityName::parse("db").unwrap();
        let at = |version: &str| SecretUse {
            version: Some(version.into()),
            ..used("password", false)
        };
        let naming = |version: &str| HostSpecBody {
            capability_secrets: [(db.clone(), [("password".to_owned(), at(version))].into())].into(),
            ..HostSpecBody::default()
        };
        intake.take(&naming("1"), &[sealed(&intake, &at("1"), b"old")].into());
        let held = store
            .lent(&db, &naming("1").capability_secrets[&db])
            .remove("password")
            .unwrap();
        assert_eq!(held.get().unwrap().reveal(), b"old");
        intake.take(&naming("2"), &BTreeMap::new());
        assert_eq!(held.get().unwrap().reveal(), b"old", "until the new one comes");
        intake.take(&naming("2"), &[sealed(&intake, &at("2"), b"new")].into());
        assert_eq!(held.get().unwrap().reveal(), b"new");
        intake.take(&HostSpecBody::default(), &BTreeMap::new());
        assert!(store.lock().lent.is_empty(), "what is lent no more is let go");
    }

    #[test]
    fn what_was_sealed_to_another_start_or_is_not_named_is_left_alone() {
        let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = SecretStore::default();
        let intake = SecretIntake::open(data.path(), &me("first"), store.clone()).unwrap();
        let elsewhere = SecretIntake::open(other.path(), &me("first"), SecretStore::default()).unwrap();
        let (named, unnamed) = (used("named", false), used("unnamed", false));
        let body = body(std::slice::from_ref(&named));
        assert!(!intake.take(&body, &[sealed(&elsewhere, &named, b"x")].into()));
        assert!(!intake.take(&body, &[sealed(&intake, &unnamed, b"x")].into()));
        assert!(store.handle(&named).get().is_none());
    }
}
