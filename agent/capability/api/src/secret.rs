//! Values of secrets inside an agent: shared by handle, exchanged while they are used, wiped when the last one lets go.
//!
//! In: opened values. Out: handles that always give the newest value. Nothing here prints a value.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroizing;

/// One version of a secret.
pub struct SecretValue {
    version: String,
    bytes: Zeroizing<Vec<u8>>,
}

impl SecretValue {
    /// A value and its version, as the backend names it.
    pub fn new(version: impl Into<String>, bytes: Zeroizing<Vec<u8>>) -> Self {
        Self {
            version: version.into(),
            bytes,
        }
    }

    /// The version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The value. Keep it no longer than it is needed, and print it nowhere.
    pub fn reveal(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValue(version {}, hidden)", self.version)
    }
}

/// Where the newest value of one secret is found, by everything that uses it.
#[derive(Debug, Clone, Default)]
pub struct SecretHandle(Arc<RwLock<Option<Arc<SecretValue>>>>);

impl SecretHandle {
    /// The newest value; none while it has not come.
    pub fn get(&self) -> Option<Arc<SecretValue>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Exchanges the value for all who hold the handle.
    pub fn set(&self, value: SecretValue) {
        self.share(Arc::new(value));
    }

    /// The same with a value that another handle gives too.
    pub fn share(&self, value: Arc<SecretValue>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_holder_of_a_handle_sees_the_newest_value_and_no_printout_shows_it() {
        let handle = SecretHandle::default();
        let held = handle.clone();
        assert!(held.get().is_none());
        handle.set(SecretValue::new("7", Zeroizing::new(b"open sesame".to_vec())));
        let value = held.get().unwrap();
        assert_eq!((value.version(), value.reveal()), ("7", &b"open sesame"[..]));
        assert!(!format!("{value:?} {held:?}").contains("sesame"));
    }
}
