//! Credentials for NATS, made for one workload: a user of an account that may publish and subscribe what the workload's
//! links need, and nothing else.
//!
//! In: the account's signing key and the subjects. Out: the text of a credentials file, with a key made for it alone. It is
//! a secret like any other: it is sealed to one agent and kept nowhere here.

use crate::jwt;
use heddle_protocol::digest::Digest;
use heddle_protocol::id::WorkloadId;
use nkeys::{KeyPair, KeyPairType};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

/// The subjects that a workload may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Permissions {
    /// Where it may publish.
    pub publish: BTreeSet<String>,
    /// What it may subscribe to.
    pub subscribe: BTreeSet<String>,
    /// Whether it may answer each request that reaches it, wherever its asker wants the answer.
    pub answers: bool,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The signing key's file cannot be read.
    #[error("failed to read the signing key {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no account's seed, or the account is no account's key.
    #[error("failed to use the workloads' signing key: {0}; `nk -gen account` makes one")]
    Key(String),
    /// A token cannot be signed.
    #[error("failed to sign credentials: {0}")]
    Sign(String),
}

/// Signs users into existence.
pub struct WorkloadSigner {
    key: KeyPair,
    /// The account, where the key is only one of its signing keys.
    account: Option<String>,
}

impl fmt::Debug for WorkloadSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadSigner")
            .field("key", &self.key.public_key())
            .field("account", &self.account)
            .finish()
    }
}

impl WorkloadSigner {
    /// Signs with an account's seed (`SA…`). `account` is the account's public key where the seed is that of one of its
    /// signing keys.
    ///
    /// # Errors
    /// When either is something else.
    pub fn from_seed(seed: &str, account: Option<String>) -> Result<Self, CredentialsError> {
        let bad = |why: &str| CredentialsError::Key(why.to_owned());
        let key = KeyPair::from_seed(seed.trim()).map_err(|_| bad("it is no seed"))?;
        let is_account = |key: &KeyPair| key.key_pair_type() == KeyPairType::Account;
        if !is_account(&key) {
            return Err(bad("it is not the seed of an account (SA…)"));
        }
        let known = account.as_deref().map(KeyPair::from_public_key);
        if !known.iter().all(|key| key.as_ref().is_ok_and(is_account)) {
            return Err(bad("the account is named by its public key (A…)"));
        }
        let account = account.filter(|account| *account != key.public_key());
        Ok(Self { key, account })
    }

    /// Reads the seed out of a file.
    ///
    /// # Errors
    /// When it cannot be read or is something else.
    pub fn read(path: &Path, account: Option<String>) -> Result<Self, CredentialsError> {
        let text = std::fs::read_to_string(path).map_err(|source| CredentialsError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::from_seed(&Zeroizing::new(text), account)
    }

    /// What credentials with these permissions are known by: who signs them, and what they allow.
    pub fn version(&self, permissions: &Permissions) -> String {
        let text = json!([self.key.public_key(), self.account, permissions]).to_string();
        Digest::of(text.as_bytes()).hex().chars().take(16).collect()
    }

    /// Makes credentials: each time with a key of their own.
    ///
    /// # Errors
    /// When they cannot be signed.
    pub fn sign(
        &self,
        workload: &WorkloadId,
        permissions: &Permissions,
    ) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
        let user = KeyPair::new_user();
        let claims = json!({
            "jti": format!("{:032x}", rand::random::<u128>()),
            "iat": jwt::now(),
            "iss": self.key.public_key(),
            "name": format!("heddle/{workload}"),
            "sub": user.public_key(),
            "nats": self.user(permissions),
        });
        let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
        let token = jwt::sign(&header, &claims, &self.key).map_err(CredentialsError::Sign)?;
        let seed = user.seed().map(Zeroizing::new);
        let seed = seed.map_err(|e| CredentialsError::Sign(e.to_string()))?;
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            seed.as_str()
        );
        Ok(Zeroizing::new(text.into_bytes()))
    }

    fn user(&self, permissions: &Permissions) -> Value {
        let mut user = json!({
            "pub": allow(&permissions.publish),
            "sub": allow(&permissions.subscribe),
            "subs": -1, "data": -1, "payload": -1,
            "type": "user", "version": 2,
        });
        if permissions.answers {
            // One answer for each request, within a minute.
            user["resp"] = json!({ "max": 1, "ttl": 60_000_000_000_u64 });
        }
        if let Some(account) = &self.account {
            user["issuer_account"] = json!(account);
        }
        user
    }
}

/// A list that allows nothing is no list to NATS, and allows everything: nothing must be said by refusing all.
fn allow(subjects: &BTreeSet<String>) -> Value {
    match subjects.is_empty() {
        true => json!({ "deny": [">"] }),
        false => json!({ "allow": subjects }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_accounts_seed_signs() {
        let seed = |key: KeyPair| key.seed().unwrap();
        assert!(WorkloadSigner::from_seed(&seed(KeyPair::new_account()), None).is_ok());
        assert!(WorkloadSigner::from_seed(&seed(KeyPair::new_user()), None).is_err());
        let signing = seed(KeyPair::new_account());
        assert!(WorkloadSigner::from_seed(&signing, Some(KeyPair::new_account().public_key())).is_ok());
        assert!(WorkloadSigner::from_seed(&signing, Some(KeyPair::new_user().public_key())).is_err());
        let error = WorkloadSigner::from_seed("SAsesame", None).unwrap_err().to_string();
        assert!(!error.contains("sesame"), "{error}");
    }

    #[test]
    fn other_permissions_and_another_signer_are_another_version() {
        let signer = || WorkloadSigner::from_seed(&KeyPair::new_account().seed().unwrap(), None).unwrap();
        let (one, two) = (signer(), signer());
        let none = Permissions::default();
        let some = Permissions {
            publish: BTreeSet::from(["a".to_owned()]),
            ..Permissions::default()
        };
        assert_eq!(one.version(&some), one.version(&some));
        assert_ne!(one.version(&some), one.version(&none));
        assert_ne!(one.version(&some), two.version(&some));
        assert!(!format!("{one:?}").contains(&one.key.seed().unwrap()));
    }
}
