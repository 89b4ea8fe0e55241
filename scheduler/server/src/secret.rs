//! Secrets on the scheduler's side: asked for when something is applied, sealed to one agent when it is pushed, and
//! looked at again for newer versions.
//!
//! In: where secrets are (`SecretUse`). Out: what a backend says of them, and values sealed to one start of one agent.
//! Values are in this process's memory and nowhere else: never in a record, an image, a log line or an audit record.

mod allowed;
mod follow;
mod seal;
mod sealed;

pub use allowed::permissions_of;
pub use seal::{Missing, Need, Recipient, Sealing, needs_of};

use crate::options::SchedulerOptions;
use anyhow::Context as _;
use async_trait::async_trait;
use heddle_protocol::host_spec::{HostSpecBody, SecretUse};
use heddle_protocol::id::{HostId, Realm, WorkloadId};
use heddle_scheduler_core::World;
use heddle_scheduler_core::apply::SecretAnswer;
use heddle_secret::{BackendError, Permissions, Secrets, SecretsConfig, ServiceOptions, WorkloadSigner};
use sealed::SealedCache;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What uses of credentials that this scheduler makes name as their backend. No configured backend can have this name.
const OWN_BACKEND: &str = "heddle-nats";

/// Whoever can tell whether secrets are there. What an apply needs to know is asked here, beside the loop.
#[async_trait]
pub trait SecretAnswers: Send + Sync {
    /// What the backend says of a secret: bounded in time, whatever the backend does.
    async fn answer(&self, secret: &SecretUse) -> SecretAnswer;
}

/// All secrets of a scheduler. Clones share everything.
#[derive(Clone, Debug)]
pub struct SecretPool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    realm: Realm,
    secrets: Secrets,
    signer: Option<WorkloadSigner>,
    sealed: Mutex<SealedCache>,
    /// What the credentials of each version allow, for when they are made.
    allowed: Mutex<BTreeMap<(WorkloadId, String), Permissions>>,
}

impl SecretPool {
    /// A pool over backends. `signer` makes NATS credentials for workloads, where it is wanted.
    pub fn new(realm: Realm, secrets: Secrets, signer: Option<WorkloadSigner>) -> Self {
        Self(Arc::new(Inner {
            realm,
            secrets,
            signer,
            sealed: Mutex::new(SealedCache::default()),
            allowed: Mutex::new(BTreeMap::new()),
        }))
    }

    /// Sets up what the options name. No backend is asked anything yet.
    pub async fn start(options: &SchedulerOptions, nats: &async_nats::Client) -> anyhow::Result<Self> {
        let config = match &options.secrets_config {
            Some(path) => SecretsConfig::read(path)?,
            None => SecretsConfig::default(),
        };
        let backends = config.build(&options.realm, nats).await?;
        let signer = match &options.workload_signing_key {
            Some(path) => {
                let account = options.workload_account.clone();
                Some(WorkloadSigner::read(path, account).context("workloads get no NATS credentials")?)
            }
            None => None,
        };
        let secrets = Secrets::new(backends, ServiceOptions::default());
        Ok(Self::new(options.realm.clone(), secrets, signer))
    }

    /// Forgets what was sealed to a host.
    pub fn forget(&self, host: &HostId) {
        lock(&self.0.sealed).forget(host);
    }

    /// Names, in what a host should run, the credentials with which its workloads' own traffic goes to NATS.
    pub fn add_credentials(&self, world: &World, body: &mut HostSpecBody) {
        let Some(signer) = &self.0.signer else { return };
        let wanted = permissions_of(&self.0.realm, world, body);
        let mut allowed = lock(&self.0.allowed);
        for (workload, permissions) in wanted {
            let version = signer.version(&permissions);
            let secret = SecretUse {
                workload: Some(workload.clone()),
                from: OWN_BACKEND.to_owned(),
                path: workload.to_string(),
                field: None,
                version: Some(version.clone()),
                no_cache: false,
                env: None,
            };
            allowed.insert((workload.clone(), version), permissions);
            body.credentials.insert(workload, secret);
        }
    }

    /// Forgets what credentials allow that no host is to have any more.
    pub fn keep_credentials<'a>(&self, named: impl Iterator<Item = &'a SecretUse>) {
        if self.0.signer.is_none() {
            return;
        }
        let named = named.filter_map(|secret| Some((secret.workload.clone()?, secret.version.clone()?)));
        let named: std::collections::BTreeSet<_> = named.collect();
        lock(&self.0.allowed).retain(|key, _| named.contains(key));
    }
}

#[async_trait]
impl SecretAnswers for SecretPool {
    async fn answer(&self, secret: &SecretUse) -> SecretAnswer {
        let found = async {
            // The value is read too: only that shows that its field is there and that it may be read. It is kept for
            // the push that follows.
            let version = match &secret.version {
                Some(_) => None,
                None => Some(self.0.secrets.newest(secret).await?),
            };
            self.0.secrets.get(secret, version.as_deref()).await
        };
        match found.await {
            Ok(found) => SecretAnswer::Version(found.version.clone()),
            Err(BackendError::Unreachable(why)) => SecretAnswer::Unreachable(why),
            Err(e) => SecretAnswer::Refused(e.to_string()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
