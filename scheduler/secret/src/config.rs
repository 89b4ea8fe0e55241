//! The scheduler's file of backends: JSON, one entry for each, by the name that manifests use.
//!
//! In: the file. Out: backends. It holds no secret itself: tokens, seeds and credentials are in files that it names.

use crate::backend::{Backend, BackendError};
use crate::env::EnvBackend;
use crate::file::FileBackend;
use crate::nats::{NatsBackend, NatsSettings};
use crate::vault::{VaultAuth, VaultBackend, VaultSettings};
use async_nats::Client;
use heddle_protocol::digest::Digest;
use heddle_protocol::id::{Realm, WorkloadId};
use nkeys::{KeyPair, KeyPairType};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long one request to a backend may take. The service's own bound is a little longer.
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// The largest file of backends, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// All backends, by name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct SecretsConfig {
    /// The backends.
    pub backends: BTreeMap<String, BackendConfig>,
}

/// One backend.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "lowercase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum BackendConfig {
    /// Files below a folder.
    File {
        /// The folder.
        root: PathBuf,
    },
    /// Variables of the scheduler's environment: development only.
    Env {
        /// What their names begin with.
        #[serde(default = "env_prefix")]
        prefix: String,
    },
    /// OpenBao or Vault.
    Vault {
        /// Its address.
        url: String,
        /// The mount of the engine, where paths do not begin with it.
        #[serde(default)]
        mount: Option<String>,
        /// Its namespace.
        #[serde(default)]
        namespace: Option<String>,
        /// More certificates to trust.
        #[serde(default)]
        ca_file: Option<PathBuf>,
        /// A file with a token.
        #[serde(default)]
        token_file: Option<PathBuf>,
        /// A role to log in as.
        #[serde(default)]
        app_role: Option<AppRoleConfig>,
    },
    /// Another process that speaks wasmCloud's protocol for secrets.
    Nats {
        /// Its name in its subjects.
        backend: String,
        /// What its subjects begin with.
        #[serde(default)]
        subject_prefix: Option<String>,
        /// The server, where it is another than the scheduler's own.
        #[serde(default)]
        url: Option<String>,
        /// A NATS credentials file, for a server of its own.
        #[serde(default)]
        credentials_file: Option<PathBuf>,
        /// Its public xkey.
        #[serde(default)]
        server_xkey: Option<String>,
        /// Whether answers must be sealed with that key.
        #[serde(default)]
        same_reply_key: bool,
        /// A file with the seed of the account that signs who asks.
        #[serde(default)]
        signing_key_file: Option<PathBuf>,
        /// What its own rules need to know.
        #[serde(default)]
        policy: serde_json::Map<String, serde_json::Value>,
    },
}

/// A role to log in as.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppRoleConfig {
    /// Where the method is mounted.
    #[serde(default = "app_role_mount")]
    pub mount: String,
    /// The role's id.
    pub role_id: String,
    /// A file with the role's secret id.
    pub secret_id_file: PathBuf,
}

fn env_prefix() -> String {
    "SECRET_".to_owned()
}

fn app_role_mount() -> String {
    "approle".to_owned()
}

/// Why there are no backends.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read the backends of secrets in {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It says something that makes no sense.
    #[error("failed to read the backends of secrets in {path}: {source}; docs/guides/secrets.md shows one")]
    Json {
        /// The file.
        path: String,
        /// Where, and what.
        #[source]
        source: serde_json::Error,
    },
    /// One backend cannot be set up.
    #[error("failed to set up the backend of secrets {name}: {why}")]
    Backend {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
}

impl SecretsConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or makes no sense.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let shown = || path.display().to_string();
        let unreadable = |source| ConfigError::Read { path: shown(), source };
        let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(unreadable(std::io::Error::other(format!(
                "it has {bytes} bytes, at most {FILE_BYTES_MAX} are read"
            ))));
        }
        let text = std::fs::read(path).map_err(unreadable)?;
        serde_json::from_slice(&text).map_err(|source| ConfigError::Json { path: shown(), source })
    }

    /// Sets the backends up. None is asked anything yet, so one that is away does not keep a scheduler from starting.
    ///
    /// # Errors
    /// When one of them cannot be as it is written.
    pub async fn build(&self, realm: &Realm, nats: &Client) -> Result<BTreeMap<String, Arc<dyn Backend>>, ConfigError> {
        let mut backends = BTreeMap::new();
        for (name, config) in &self.backends {
            let failed = |why: String| ConfigError::Backend {
                name: name.clone(),
                why,
            };
            if !heddle_protocol::id::is_name(name) {
                return Err(failed("a name is made of a-z, 0-9 and `-`".to_owned()));
            }
            if name.starts_with("heddle") {
                return Err(failed("names that begin with heddle are taken".to_owned()));
            }
            backends.insert(name.clone(), config.build(name, realm, nats).await.map_err(failed)?);
        }
        Ok(backends)
    }
}

impl BackendConfig {
    async fn build(&self, name: &str, realm: &Realm, nats: &Client) -> Result<Arc<dyn Backend>, String> {
        let plain = |e: BackendError| e.to_string();
        Ok(match self.clone() {
            Self::File { root } => Arc::new(FileBackend::new(root)),
            Self::Env { prefix } => Arc::new(EnvBackend::new(prefix)),
            Self::Vault {
                url,
                mount,
                namespace,
                ca_file,
                token_file,
                app_role,
            } => {
                let settings = VaultSettings {
                    auth: vault_auth(name, token_file, app_role)?,
                    url,
                    mount,
                    namespace,
                    ca_file,
                    timeout: CALL_WITHIN,
                };
                Arc::new(VaultBackend::new(settings).map_err(plain)?)
            }
            Self::Nats {
                backend,
                subject_prefix,
                url,
                credentials_file,
                server_xkey,
                same_reply_key,
                signing_key_file,
                policy,
            } => {
                let client = nats_client(name, url, credentials_file, nats).await?;
                if server_xkey.is_none() {
                    tracing::warn!(
                        backend = name,
                        "its xkey is not pinned: whoever answers first is taken for it; set serverXkey"
                    );
                }
                let settings = NatsSettings {
                    realm: realm.clone(),
                    prefix: subject_prefix,
                    backend,
                    server_xkey,
                    same_reply_key,
                    signing_key: signing_key_file.map(|path| seed(name, &path)).transpose()?,
                    policy,
                    timeout: CALL_WITHIN,
                };
                Arc::new(NatsBackend::new(client, settings).map_err(plain)?)
            }
        })
    }
}

fn vault_auth(name: &str, token: Option<PathBuf>, role: Option<AppRoleConfig>) -> Result<VaultAuth, String> {
    match (token, role) {
        (Some(path), None) => {
            warn_if_open(name, &path);
            Ok(VaultAuth::TokenFile(path))
        }
        (None, Some(role)) => {
            warn_if_open(name, &role.secret_id_file);
            Ok(VaultAuth::AppRole {
                mount: role.mount,
                role_id: role.role_id,
                secret_id_file: role.secret_id_file,
            })
        }
        _ => Err("it needs one of tokenFile and appRole".to_owned()),
    }
}

async fn nats_client(name: &str, url: Option<String>, creds: Option<PathBuf>, own: &Client) -> Result<Client, String> {
    let Some(url) = url else {
        return match creds {
            None => Ok(own.clone()),
            Some(_) => Err("credentialsFile goes with url".to_owned()),
        };
    };
    let mut options = async_nats::ConnectOptions::new()
        .name(format!("heddle-secrets-{name}"))
        .retry_on_initial_connect();
    if let Some(path) = creds {
        warn_if_open(name, &path);
        let read = options.credentials_file(&path).await;
        options = read.map_err(|e| format!("{}: {e}", path.display()))?;
    }
    options.connect(url.as_str()).await.map_err(|e| e.to_string())
}

fn seed(name: &str, path: &Path) -> Result<KeyPair, String> {
    warn_if_open(name, path);
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|e| format!("{}: {e}", path.display()))?;
    KeyPair::from_seed(text.trim()).map_err(|_| format!("{} holds no seed of an account (SA…)", path.display()))
}

/// A file that everybody on the machine may read keeps no secret. Mounted volumes are often so: it is said, not refused.
fn warn_if_open(name: &str, path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o004 != 0 {
        let path = path.display();
        tracing::warn!(
            backend = name,
            "{path} can be read by everybody on this machine; `chmod 600` it"
        );
    }
}

/// The key that stands for a workload towards backends behind NATS: the same one at every start, so that a backend's rules
/// can name it. It only names; what proves is the signature of the scheduler's account over it.
pub(crate) fn entity_key(realm: &Realm, workload: Option<&WorkloadId>) -> Result<KeyPair, String> {
    let who = workload.map_or_else(|| "platform".to_owned(), ToString::to_string);
    let raw = Digest::of(format!("heddle/v1/entity\0{realm}\0{who}").as_bytes());
    KeyPair::new_from_raw(KeyPairType::Module, *raw.as_bytes()).map_err(|e| e.to_string())
}

/// The public key that names a workload (or, without one, the platforms) to backends behind NATS.
///
/// # Errors
/// When no key can be made.
pub fn entity_of(realm: &Realm, workload: Option<&WorkloadId>) -> Result<String, String> {
    entity_key(realm, workload).map(|key| key.public_key())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SecretsConfig, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        SecretsConfig::read(file.path())
    }

    #[test]
    fn every_kind_is_read_and_what_nobody_knows_is_refused() {
        let all = r#"{
            "dev": {"kind": "file", "root": "secrets"},
            "env": {"kind": "env"},
            "vault": {"kind": "vault", "url": "https://bao:8200", "tokenFile": "token"},
            "role": {"kind": "vault", "url": "https://bao:8200", "appRole": {"roleId": "r", "secretIdFile": "s"}},
            "outside": {"kind": "nats", "backend": "nats-kv", "serverXkey": "X", "policy": {"roleName": "r"}}
        }"#;
        assert_eq!(read(all).unwrap().backends.len(), 5);
        for bad in [
            r#"{"dev": {"kind": "file"}}"#,
            r#"{"dev": {"kind": "ftp", "root": "x"}}"#,
            r#"{"vault": {"kind": "vault", "url": "x", "token": "sesame"}}"#,
            "[]",
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(
                error.contains("docs/guides/secrets.md") && !error.contains("sesame"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_workload_has_the_same_entity_at_every_start_and_another_one_has_another() {
        let realm = Realm::parse("eu").unwrap();
        let (cart, web) = ("shop/cart".parse().unwrap(), "shop/web".parse().unwrap());
        let entity = |workload| entity_of(&realm, workload).unwrap();
        assert_eq!(entity(Some(&cart)), entity(Some(&cart)));
        assert_ne!(entity(Some(&cart)), entity(Some(&web)));
        assert!(entity(None).starts_with('M'));
    }
}
