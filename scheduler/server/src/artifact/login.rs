//! Registry logins, read from a file in the format of docker's `config.json` (D25).

use base64::Engine as _;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The logins that a scheduler has.
#[derive(Clone, Default)]
pub struct Logins(BTreeMap<String, (String, String)>);

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Logins {
    /// Reads the file. What is said of a wrong file never holds any of its text: it has passwords in it.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let text = std::fs::read(path).with_context(|| format!("failed to read registry logins {}", path.display()))?;
        let config: DockerConfig = serde_json::from_slice(&text).map_err(|e| {
            let (line, column) = (e.line(), e.column());
            anyhow::anyhow!(
                "failed to read registry logins {}: no docker config at {line}:{column}",
                path.display()
            )
        })?;
        let mut logins = BTreeMap::new();
        for (registry, auth) in config.auths {
            let host = registry.trim_start_matches("https://").trim_start_matches("http://");
            let host = host.split('/').next().unwrap_or(host).to_owned();
            let login = auth.decode().with_context(|| {
                format!(
                    "failed to read registry logins {}: the login of {host} is malformed",
                    path.display()
                )
            })?;
            logins.insert(host, login);
        }
        Ok(Self(logins))
    }

    /// The login for a registry, by its host and port.
    pub(super) fn of(&self, registry: &str) -> RegistryAuth {
        match self.0.get(registry) {
            Some((user, password)) => RegistryAuth::Basic(user.clone(), password.clone()),
            None => RegistryAuth::Anonymous,
        }
    }
}

impl DockerAuth {
    fn decode(&self) -> anyhow::Result<(String, String)> {
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Ok((user.clone(), password.clone()));
        }
        let encoded = self
            .auth
            .as_deref()
            .ok_or_else(|| anyhow::anyhow!("it has neither `auth` nor a username"))?;
        // The decoder's own error would quote bytes of the secret.
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .map_err(|_| anyhow::anyhow!("`auth` is not base64"))?;
        let text = String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("`auth` is not text"))?;
        let (user, password) = text
            .split_once(':')
            .ok_or_else(|| anyhow::anyhow!("`auth` has no colon"))?;
        Ok((user.to_owned(), password.to_owned()))
    }
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_logins_are_read_and_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        // `dXNlcjpzM2NyZXQ=` is `user:s3cret`.
        std::fs::write(
            &path,
            r#"{"auths":{"https://r.example:5000/v2/":{"auth":"dXNlcjpzM2NyZXQ="}}}"#,
        )
        .unwrap();
        let logins = Logins::read(&path).unwrap();
        assert!(matches!(logins.of("r.example:5000"), RegistryAuth::Basic(u, p) if u == "user" && p == "s3cret"));
        assert!(matches!(logins.of("other"), RegistryAuth::Anonymous));
        assert!(!format!("{logins:?}").contains("s3cret"));
    }

    #[test]
    fn a_wrong_file_is_refused_without_quoting_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"auths":{"r":{"auth":"s3cret!"}}}"#).unwrap();
        let error = format!("{:#}", Logins::read(&path).unwrap_err());
        assert!(error.contains("login of r") && !error.contains("s3cret"), "{error}");
    }
}
