//! Signatures: ed25519 with NATS nkeys. The realm key signs specs, a host's key signs its hellos, a person's key signs
//! requests.

use crate::error::ProtocolError;
use nkeys::KeyPair;
use std::fmt;

/// A key pair that signs.
pub struct SigningKey(KeyPair);

impl SigningKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self(KeyPair::new_user())
    }

    /// Reads a seed (`SU…`), as `nk` and our own tools write it.
    pub fn from_seed(seed: &str) -> Result<Self, ProtocolError> {
        KeyPair::from_seed(seed.trim())
            .map(Self)
            .map_err(|e| ProtocolError::Key(e.to_string()))
    }

    /// The seed: the secret half. Only for writing it to a file that its owner alone can read.
    pub fn seed(&self) -> Result<String, ProtocolError> {
        self.0.seed().map_err(|e| ProtocolError::Key(e.to_string()))
    }

    /// The public half (`U…`), which is also the key's id.
    pub fn public(&self) -> String {
        self.0.public_key()
    }

    /// Signs bytes.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        self.0.sign(bytes).map_err(|e| ProtocolError::Key(e.to_string()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

/// Checks a signature by the key whose public half is `public`.
pub fn verify(public: &str, bytes: &[u8], signature: &[u8]) -> Result<(), ProtocolError> {
    let key = KeyPair::from_public_key(public).map_err(|e| ProtocolError::Key(e.to_string()))?;
    key.verify(bytes, signature).map_err(|_| ProtocolError::Signature {
        key_id: public.to_owned(),
    })
}
