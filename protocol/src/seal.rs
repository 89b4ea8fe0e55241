//! Secrets on their way to one agent: sealed with HPKE (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305) to a key that
//! lives as long as one start of that agent.
//!
//! In: a value and what it belongs to. Out: bytes that only the agent can open, and only as what they were sealed as: the
//! realm, the host, its boot and the secret's id and version are bound into the seal.

use crate::digest::Digest;
use crate::error::ProtocolError;
use crate::host_spec::SealedSecret;
use crate::id::{BootId, HostId, Realm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use rand_core::CryptoRng;
use std::fmt;
use zeroize::Zeroizing;

/// What is said before every seal, so that it cannot be taken for anything else.
const INFO: &[u8] = b"heddle/v1/secret";

/// What a sealed value belongs to. All of it must be the same when it is opened.
#[derive(Debug, Clone, Copy)]
pub struct SealedFor<'a> {
    /// The realm.
    pub realm: &'a Realm,
    /// The host.
    pub host: &'a HostId,
    /// The start of its agent.
    pub boot_id: &'a BootId,
    /// The secret's id ([`crate::host_spec::SecretUse::id`]).
    pub id: &'a Digest,
    /// Its version.
    pub version: &'a str,
}

impl SealedFor<'_> {
    fn bytes(&self) -> Vec<u8> {
        let parts = [
            self.realm.as_str(),
            self.host.as_str(),
            &self.boot_id.0,
            &self.id.hex(),
            self.version,
        ];
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// The private half of a key that secrets are sealed to. It is never written anywhere.
pub struct OpeningKey {
    private: <X25519HkdfSha256 as Kem>::PrivateKey,
    public: String,
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningKey({})", self.public)
    }
}

impl OpeningKey {
    /// The key that comes of 32 random bytes.
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        let (private, public) = X25519HkdfSha256::derive_keypair(seed.as_slice());
        let public = BASE64.encode(public.to_bytes());
        Self { private, public }
    }

    /// The public half, as a hello carries it.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Opens a sealed value.
    pub fn open(&self, sealed: &SealedSecret, what: &SealedFor<'_>) -> Result<Zeroizing<Vec<u8>>, ProtocolError> {
        let failed = || {
            ProtocolError::Seal(format!(
                "failed to open secret {}: it was not sealed for this",
                what.id.short()
            ))
        };
        let bytes = BASE64.decode(&sealed.sealed).map_err(|_| failed())?;
        let key_bytes = <X25519HkdfSha256 as Kem>::EncappedKey::size();
        let (key, text) = bytes.split_at_checked(key_bytes).ok_or_else(failed)?;
        let key = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(key).map_err(|_| failed())?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.private,
            &key,
            INFO,
            text,
            &what.bytes(),
        )
        .map(Zeroizing::new)
        .map_err(|_| failed())
    }
}

/// Seals a value to an agent's public key.
pub fn seal(
    public: &str,
    value: &[u8],
    what: &SealedFor<'_>,
    random: &mut impl CryptoRng,
) -> Result<SealedSecret, ProtocolError> {
    let failed = |why: &str| ProtocolError::Seal(format!("failed to seal secret {}: {why}", what.id.short()));
    let key = BASE64
        .decode(public)
        .map_err(|_| failed("the host's key is not base64"))?;
    let key = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&key)
        .map_err(|_| failed("the host's key is no X25519 key"))?;
    let sealed = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256, _>(
        &OpModeS::Base,
        &key,
        INFO,
        value,
        &what.bytes(),
        random,
    );
    let (key, text) = sealed.map_err(|e| failed(&e.to_string()))?;
    let mut bytes = key.to_bytes().to_vec();
    bytes.extend_from_slice(&text);
    Ok(SealedSecret {
        version: what.version.to_owned(),
        sealed: BASE64.encode(bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    fn key(n: u8) -> OpeningKey {
        OpeningKey::from_seed(&Zeroizing::new([n; 32]))
    }

    #[test]
    fn only_the_one_agent_opens_it_and_only_as_what_it_was_sealed_as() {
        let (realm, host, other) = (
            Realm::parse("eu").unwrap(),
            HostId::parse("h-1").unwrap(),
            HostId::parse("h-2").unwrap(),
        );
        let (boot, id) = (BootId("b-1".into()), Digest::of(b"id"));
        let what = SealedFor {
            realm: &realm,
            host: &host,
            boot_id: &boot,
            id: &id,
            version: "7",
        };
        let mut random = StdRng::seed_from_u64(1);
        let sealed = seal(key(1).public(), b"open sesame", &what, &mut random).unwrap();
        assert_eq!(key(1).open(&sealed, &what).unwrap().as_slice(), b"open sesame");
        assert!(!sealed.sealed.contains("sesame"));
        assert!(key(2).open(&sealed, &what).is_err(), "another start of the agent");
        assert!(key(1).open(&sealed, &SealedFor { host: &other, ..what }).is_err());
        assert!(key(1).open(&sealed, &SealedFor { version: "8", ..what }).is_err());
        let mut cut = sealed.clone();
        cut.sealed.truncate(20);
        assert!(key(1).open(&cut, &what).is_err());
    }

    #[test]
    fn the_same_value_sealed_twice_differs() {
        let (realm, host) = (Realm::parse("eu").unwrap(), HostId::parse("h-1").unwrap());
        let (boot, id) = (BootId("b-1".into()), Digest::of(b"id"));
        let what = SealedFor {
            realm: &realm,
            host: &host,
            boot_id: &boot,
            id: &id,
            version: "7",
        };
        let mut random = StdRng::seed_from_u64(1);
        let one = seal(key(1).public(), b"x", &what, &mut random).unwrap();
        assert_ne!(one, seal(key(1).public(), b"x", &what, &mut random).unwrap());
    }
}
