//! Secrets in OpenBao or Vault: the key-value engine, version 2, over HTTP.
//!
//! A path is `mount/path/below/it`, or only the part below where the settings name the mount. A field picks one key of the
//! secret; without one, the secret must have a single key. Reading needs `read` on `<mount>/data/…`; the newest version is
//! asked of `<mount>/metadata/…`, or read off the data where that is not allowed.

mod session;
mod wire;

use crate::backend::{Ask, Backend, BackendError, Secret};
use async_trait::async_trait;
use reqwest::{Method, Url};
use session::Session;
use std::path::PathBuf;
use std::time::Duration;
use wire::{Data, Metadata, Wire};

/// How a scheduler proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAuth {
    /// A token in a file, read again when it is refused: something else renews it.
    TokenFile(PathBuf),
    /// A role and its secret id, which are traded for a token that is renewed here.
    AppRole {
        /// Where the method is mounted: `approle`.
        mount: String,
        /// The role's id, which is no secret.
        role_id: String,
        /// A file with the role's secret id.
        secret_id_file: PathBuf,
    },
}

/// Where a server is, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSettings {
    /// Its address: `https://bao.example:8200`.
    pub url: String,
    /// The engine's mount, where paths do not begin with it.
    pub mount: Option<String>,
    /// The namespace, for servers that have them.
    pub namespace: Option<String>,
    /// A file of certificates in PEM that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Who asks.
    pub auth: VaultAuth,
    /// How long one request may take.
    pub timeout: Duration,
}

/// An OpenBao or Vault server.
#[derive(Debug)]
pub struct VaultBackend {
    wire: Wire,
    mount: Option<Vec<String>>,
    session: Session,
}

impl VaultBackend {
    /// A server; nothing is asked of it yet.
    ///
    /// # Errors
    /// When the address or the certificates make no sense.
    pub fn new(settings: VaultSettings) -> Result<Self, BackendError> {
        let mount = settings.mount.as_deref().map(segments).transpose()?;
        Ok(Self {
            wire: Wire::new(&settings)?,
            mount,
            session: Session::new(settings.auth)?,
        })
    }

    /// The mount and what is below it.
    fn place(&self, path: &str) -> Result<(Vec<String>, Vec<String>), BackendError> {
        let mut path = segments(path)?;
        if let Some(mount) = &self.mount {
            return Ok((mount.clone(), path));
        }
        let mount = vec![path.remove(0)];
        match path.is_empty() {
            true => Err(BackendError::Malformed(
                "its path names only a mount; write `mount/path`".to_owned(),
            )),
            false => Ok((mount, path)),
        }
    }

    fn url(&self, path: &str, kind: &str) -> Result<Url, BackendError> {
        let (mount, rest) = self.place(path)?;
        let parts = mount.iter().map(String::as_str).chain([kind]);
        self.wire.url(parts.chain(rest.iter().map(String::as_str)))
    }

    /// Asks with a good token; once more with a new one when the first is good no longer.
    async fn ask(&self, url: Url) -> Result<wire::Body, BackendError> {
        let token = self.session.token(&self.wire).await?;
        match self.wire.send(Method::GET, url.clone(), Some(&token), None).await {
            Err(BackendError::Denied(why)) => match self.session.after_denial(&self.wire, &token).await? {
                Some(fresh) => self.wire.send(Method::GET, url, Some(&fresh), None).await,
                None => Err(BackendError::Denied(why)),
            },
            answer => answer,
        }
    }

    async fn data(&self, ask: &Ask, version: Option<u64>) -> Result<Data, BackendError> {
        let mut url = self.url(&ask.path, "data")?;
        if let Some(version) = version {
            url.query_pairs_mut().append_pair("version", &version.to_string());
        }
        self.ask(url).await?.read()
    }
}

#[async_trait]
impl Backend for VaultBackend {
    async fn get(&self, ask: &Ask) -> Result<Secret, BackendError> {
        let version = ask.version.as_deref().map(number).transpose()?;
        let data = self.data(ask, version).await?;
        let found = data.metadata.version;
        if version.is_some_and(|version| version != found) {
            return Err(BackendError::Malformed(format!("it answers with version {found}")));
        }
        Secret::new(found.to_string(), data.data.pick(ask.field.as_deref())?)
    }

    async fn newest(&self, ask: &Ask) -> Result<String, BackendError> {
        let answer = self.ask(self.url(&ask.path, "metadata")?).await;
        let version = match answer {
            Ok(body) => body.read::<Metadata>()?.current_version,
            // Whoever may read the secret may know its version.
            Err(BackendError::Denied(_)) => self.data(ask, None).await?.metadata.version,
            Err(e) => return Err(e),
        };
        match version {
            0 => Err(BackendError::NotFound("it has no version".to_owned())),
            version => Ok(version.to_string()),
        }
    }
}

fn number(version: &str) -> Result<u64, BackendError> {
    // Version 0 would be the newest, whatever that is at the time.
    let number = version.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| BackendError::NotFound(format!("versions are whole numbers from 1, not {version:?}")))
}

/// A path's parts: none of them empty, and none that an URL would resolve.
fn segments(path: &str) -> Result<Vec<String>, BackendError> {
    let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    match parts.iter().all(|part| !matches!(part.as_str(), "" | "." | "..")) {
        true => Ok(parts),
        false => Err(BackendError::Malformed(format!(
            "{path:?} cannot be a path: names between `/`, none of them empty, `.` or `..`"
        ))),
    }
}
