//! The secrets of one push: which the body names, and each of them sealed to the host's agent, as far as they can be had in
//! a bounded time. What is missing then comes with a later push: a backend never holds up what does not need it.

use super::{OWN_BACKEND, SecretPool, lock};
use futures::StreamExt as _;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{HostSpecBody, SealedSecret, SecretUse};
use heddle_protocol::id::{BootId, HostId};
use heddle_protocol::seal::{SealedFor, seal};
use heddle_secret::{BackendError, Secret};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Secrets of one push that are asked for at the same time; the service bounds what each backend gets of them.
const AT_ONCE: usize = 64;

/// A secret that a host needs, and in which version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Where it is.
    pub secret: SecretUse,
    /// The version, as the use or the spec names it; none is the newest.
    pub version: Option<String>,
}

/// Whom secrets are sealed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The host.
    pub host: HostId,
    /// The start of its agent.
    pub boot_id: BootId,
    /// That start's public key; empty where the agent takes no secrets.
    pub seal_key: String,
    /// Whether it takes deltas.
    pub takes_deltas: bool,
}

/// A secret that could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Which.
    pub secret: SecretUse,
    /// Why not.
    pub why: String,
}

/// What was sealed, and what is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sealing {
    /// The sealed secrets, by id.
    pub sealed: BTreeMap<Digest, SealedSecret>,
    /// The others, by id.
    pub missing: BTreeMap<Digest, Missing>,
}

/// The secrets that a body names, by id.
pub fn needs_of(body: &HostSpecBody) -> BTreeMap<Digest, Need> {
    let components = body.templates.values().flat_map(|template| &template.components);
    let of_components = components.flat_map(|component| {
        let parts = component.parts.values().flat_map(|part| part.secrets.values());
        component.secrets.values().chain(parts)
    });
    let of_capabilities = body.capability_secrets.values().flat_map(BTreeMap::values);
    let all = of_components.chain(of_capabilities).chain(body.credentials.values());
    all.map(|secret| {
        let id = secret.id();
        let version = secret
            .version
            .clone()
            .or_else(|| body.secret_versions.get(&id).cloned());
        let secret = secret.clone();
        (id, Need { secret, version })
    })
    .collect()
}

impl SecretPool {
    /// Seals what a host needs, waiting at most so long for backends. Calls go on after that, so that the next push has
    /// what they bring.
    pub async fn seal_for(&self, to: &Recipient, needs: &BTreeMap<Digest, Need>, within: Duration) -> Sealing {
        let mut sealing = Sealing::default();
        let mut open = BTreeMap::new();
        {
            let mut cache = lock(&self.0.sealed);
            cache.retain(&to.host, |id| needs.contains_key(id));
            for (id, need) in needs {
                let kept = cache.get(&to.host, &to.boot_id, id);
                match kept.filter(|kept| need.version.as_ref().is_none_or(|version| *version == kept.version)) {
                    Some(kept) => drop(sealing.sealed.insert(*id, kept)),
                    None => drop(open.insert(*id, need.clone())),
                }
            }
        }
        let calls: Vec<_> = open
            .clone()
            .into_iter()
            .map(|(id, need)| self.clone().ask(id, need))
            .collect();
        let mut asked = futures::stream::iter(calls).buffer_unordered(AT_ONCE);
        let deadline = tokio::time::Instant::now() + within;
        while let Ok(Some((id, answer))) = tokio::time::timeout_at(deadline, asked.next()).await {
            let sealed = answer
                .map_err(|e| e.to_string())
                .and_then(|secret| self.seal(to, &id, &secret));
            match (sealed, open.get(&id)) {
                (Ok(sealed), _) => {
                    lock(&self.0.sealed).keep(&to.host, &to.boot_id, id, sealed.clone());
                    sealing.sealed.insert(id, sealed);
                }
                (Err(why), Some(need)) => drop(sealing.missing.insert(id, missing(need.clone(), why))),
                (Err(_), None) => {}
            }
        }
        drop(asked);
        for (id, need) in open {
            if !sealing.sealed.contains_key(&id) && !sealing.missing.contains_key(&id) {
                let why = "its backend takes its time to answer".to_owned();
                sealing.missing.insert(id, missing(need, why));
            }
        }
        sealing
    }

    async fn ask(self, id: Digest, need: Need) -> (Digest, Result<Arc<Secret>, BackendError>) {
        (id, self.value_of(&need).await)
    }

    async fn value_of(&self, need: &Need) -> Result<Arc<Secret>, BackendError> {
        let secret = &need.secret;
        if secret.from != OWN_BACKEND {
            return self.0.secrets.get(secret, need.version.as_deref()).await;
        }
        let not_made = || BackendError::NotFound("these credentials are not given out any more".to_owned());
        let (Some(workload), Some(version)) = (&secret.workload, &secret.version) else {
            return Err(not_made());
        };
        let allowed = lock(&self.0.allowed).get(&(workload.clone(), version.clone())).cloned();
        let (Some(signer), Some(allowed)) = (&self.0.signer, allowed) else {
            return Err(not_made());
        };
        let value = signer.sign(workload, &allowed);
        let value: Zeroizing<Vec<u8>> = value.map_err(|e| BackendError::Malformed(e.to_string()))?;
        Secret::new(version.clone(), value).map(Arc::new)
    }

    fn seal(&self, to: &Recipient, id: &Digest, secret: &Secret) -> Result<SealedSecret, String> {
        if to.seal_key.is_empty() {
            return Err("the host's agent takes no secrets; update it".to_owned());
        }
        let what = SealedFor {
            realm: &self.0.realm,
            host: &to.host,
            boot_id: &to.boot_id,
            id,
            version: &secret.version,
        };
        seal(&to.seal_key, &secret.value, &what, &mut rand::rng()).map_err(|e| e.to_string())
    }
}

fn missing(need: Need, why: String) -> Missing {
    Missing {
        secret: need.secret,
        why,
    }
}
