//! What every backend of secrets does: give a value at a version, and say which version is the newest.

use async_trait::async_trait;
use heddle_protocol::defaults::SECRET_BYTES_MAX;
use heddle_protocol::host_spec::SecretUse;
use heddle_protocol::id::WorkloadId;
use std::fmt;
use zeroize::Zeroizing;

/// Which secret is asked for, and in whose name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    /// The workload that is to have it; none where a platform asks.
    pub workload: Option<WorkloadId>,
    /// The secret's path in the backend.
    pub path: String,
    /// One field of a secret that has several.
    pub field: Option<String>,
    /// The version; none is the newest.
    pub version: Option<String>,
}

impl Ask {
    /// What a use of a secret asks for.
    pub fn of(secret: &SecretUse) -> Self {
        Self {
            workload: secret.workload.clone(),
            path: secret.path.clone(),
            field: secret.field.clone(),
            version: secret.version.clone(),
        }
    }

    /// The same secret at a version.
    #[must_use]
    pub fn at(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }
}

/// A secret's value, wiped when it is dropped.
#[derive(Clone)]
pub struct Secret {
    /// The version that it is, as the backend names it.
    pub version: String,
    /// The value.
    pub value: Zeroizing<Vec<u8>>,
}

impl Secret {
    /// A value, unless it is larger than a secret may be.
    ///
    /// # Errors
    /// When it is.
    pub fn new(version: impl Into<String>, value: Zeroizing<Vec<u8>>) -> Result<Self, BackendError> {
        if value.len() > SECRET_BYTES_MAX {
            return Err(BackendError::Malformed(format!(
                "it has {} bytes, at most {SECRET_BYTES_MAX} are allowed",
                value.len()
            )));
        }
        Ok(Self {
            version: version.into(),
            value,
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("version", &self.version)
            .field("bytes", &self.value.len())
            .finish_non_exhaustive()
    }
}

/// Why there is no value. The text never holds any part of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// There is no such secret, version or field.
    #[error("not found: {0}")]
    NotFound(String),
    /// The backend does not let it be read.
    #[error("denied: {0}")]
    Denied(String),
    /// The backend cannot be asked now: worth trying again.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// What the backend says makes no sense, or what it is asked for cannot be.
    #[error("malformed: {0}")]
    Malformed(String),
}

impl BackendError {
    /// Whether the same question may have another answer in a moment.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// Where secrets are. A backend bounds the time of each of its calls; [`crate::Secrets`] bounds it once more.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug {
    /// The value at the version that is asked for, or the newest.
    async fn get(&self, ask: &Ask) -> Result<Secret, BackendError>;

    /// The name of the newest version.
    async fn newest(&self, ask: &Ask) -> Result<String, BackendError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_its_size_and_never_its_value() {
        let secret = Secret::new("3", Zeroizing::new(b"sesame".to_vec())).unwrap();
        let shown = format!("{secret:?}");
        assert!(
            shown.contains("bytes: 6") && !shown.contains("sesame") && !shown.contains("115"),
            "{shown}"
        );
    }

    #[test]
    fn a_value_larger_than_a_secret_may_be_is_refused() {
        let large = Zeroizing::new(vec![0; SECRET_BYTES_MAX + 1]);
        assert!(matches!(Secret::new("1", large), Err(BackendError::Malformed(_))));
    }
}
