//! Secrets in the environment of the scheduler: for development only.
//!
//! `db/password` with prefix `SECRET_` is the variable `SECRET_DB_PASSWORD`. A version is a digest of the value, so a
//! scheduler that is started again with another value rotates the secret.

use crate::backend::{Ask, Backend, BackendError, Secret};
use crate::field;
use async_trait::async_trait;
use heddle_protocol::digest::Digest;
use std::fmt;
use zeroize::Zeroizing;

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Variables with a prefix.
pub struct EnvBackend {
    prefix: String,
    lookup: Box<Lookup>,
}

impl fmt::Debug for EnvBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvBackend")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl EnvBackend {
    /// The variables of this process that begin with `prefix`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self::with_lookup(prefix, |name| std::env::var(name).ok())
    }

    /// Variables from somewhere else.
    pub fn with_lookup(
        prefix: impl Into<String>,
        lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            prefix: prefix.into(),
            lookup: Box::new(lookup),
        }
    }

    fn variable(&self, path: &str) -> String {
        let upper = path.chars().map(|c| match c {
            c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
            _ => '_',
        });
        self.prefix.chars().chain(upper).collect()
    }

    fn read(&self, ask: &Ask) -> Result<(String, Zeroizing<Vec<u8>>), BackendError> {
        let variable = self.variable(&ask.path);
        let value = (self.lookup)(&variable).map(|text| Zeroizing::new(text.into_bytes()));
        let value = value.ok_or_else(|| BackendError::NotFound(format!("variable {variable} is not set")))?;
        let version = version_of(&value);
        match &ask.version {
            Some(asked) if *asked != version => Err(BackendError::NotFound(format!(
                "variable {variable} holds version {version}, and the environment keeps no others"
            ))),
            _ => Ok((version, value)),
        }
    }
}

/// What tells one value from another: the start of a digest, under a label of its own. Versions stand in records, so it is
/// too short to confirm a guess of the value with, and long enough that a change is nearly always seen.
fn version_of(value: &[u8]) -> String {
    let mut text = Zeroizing::new(b"heddle/v1/secret-version\0".to_vec());
    text.extend_from_slice(value);
    Digest::of(&text).hex().chars().take(5).collect()
}

#[async_trait]
impl Backend for EnvBackend {
    async fn get(&self, ask: &Ask) -> Result<Secret, BackendError> {
        let (version, value) = self.read(ask)?;
        let value = match &ask.field {
            Some(name) => field::read(&value)?.pick(Some(name))?,
            None => value,
        };
        Secret::new(version, value)
    }

    async fn newest(&self, ask: &Ask) -> Result<String, BackendError> {
        let ask = Ask {
            version: None,
            ..ask.clone()
        };
        self.read(&ask).map(|(version, _)| version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &str) -> Ask {
        Ask {
            workload: None,
            path: path.into(),
            field: None,
            version: None,
        }
    }

    fn backend(value: &'static str) -> EnvBackend {
        EnvBackend::with_lookup("SECRET_", move |name| {
            (name == "SECRET_DB_PASS_WORD").then(|| value.to_owned())
        })
    }

    #[tokio::test]
    async fn a_path_becomes_a_variable_and_another_value_another_version() {
        let one = backend("a").get(&ask("db/pass-word")).await.unwrap();
        assert_eq!(one.value.as_slice(), b"a");
        let two = backend("b").newest(&ask("db/pass-word")).await.unwrap();
        assert_ne!(one.version, two);
        let gone = backend("b").get(&ask("db/pass-word").at(one.version)).await;
        assert!(matches!(gone, Err(BackendError::NotFound(_))));
        assert!(matches!(
            backend("a").get(&ask("db")).await,
            Err(BackendError::NotFound(_))
        ));
    }

    #[tokio::test]
    async fn a_field_is_taken_out_of_json() {
        let mut ask = ask("db/pass-word");
        ask.field = Some("user".into());
        let secret = backend(r#"{"user":"ann"}"#).get(&ask).await.unwrap();
        assert_eq!(secret.value.as_slice(), b"ann");
    }
}
