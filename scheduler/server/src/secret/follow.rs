//! Looking for newer versions of the secrets that name none.

use super::SecretPool;
use futures::StreamExt as _;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::SecretUse;
use std::collections::BTreeMap;

/// Secrets asked about at the same time; the service bounds what each backend gets of them.
const AT_ONCE: usize = 32;

impl SecretPool {
    /// The newest version of each secret whose backend says so, by [`SecretUse::id`]. A version counts once its value can
    /// be read: one that was only just written, or deleted again, rolls nothing out.
    pub async fn newest_of(&self, followed: Vec<SecretUse>) -> BTreeMap<Digest, String> {
        let asked: Vec<_> = followed
            .into_iter()
            .map(|secret| self.clone().look_at(secret))
            .collect();
        let asked = futures::stream::iter(asked).buffer_unordered(AT_ONCE);
        asked.filter_map(std::future::ready).collect().await
    }

    async fn look_at(self, secret: SecretUse) -> Option<(Digest, String)> {
        let newest = match self.0.secrets.newest(&secret).await {
            Ok(version) => self.0.secrets.get(&secret, Some(&version)).await,
            Err(e) => Err(e),
        };
        match newest {
            Ok(newest) => Some((secret.id(), newest.version.clone())),
            Err(error) => {
                let (from, path) = (&secret.from, &secret.path);
                tracing::debug!(from, path, %error, "a secret could not be looked at for a newer version");
                None
            }
        }
    }
}
