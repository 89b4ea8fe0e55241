//! One signature that a registry has of an image, and whether it is one.
//!
//! In: the payload that was signed ("simple signing", JSON), the signature (ECDSA on P-256 over SHA-256, DER in base64), and
//! keys. Out: the key that signed, or in words why none did.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use heddle_protocol::digest::Digest;
use heddle_protocol::manifest::CosignKey;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey as _;
use serde::Deserialize;

/// A public key that signatures are verified with.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// Its fingerprint.
    pub(crate) fingerprint: Digest,
    key: VerifyingKey,
}

impl Key {
    /// Reads a key from a manifest.
    pub(crate) fn read(written: &CosignKey) -> Result<Self, String> {
        let not_one = "this is no public key on P-256, the curve that cosign signs on";
        let fingerprint = written.fingerprint().ok_or(not_one)?;
        let key = VerifyingKey::from_public_key_pem(written.public_key.trim()).map_err(|_| not_one)?;
        Ok(Self { fingerprint, key })
    }
}

/// What a registry says: that somebody signed a payload.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    /// The signature.
    pub(crate) signature: String,
    /// What was signed.
    pub(crate) payload: Bytes,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    manifest_digest: String,
}

/// What cosign calls such a payload.
const KIND: &str = "cosign container image signature";

impl Claim {
    /// The key, of some, that made this claim about one of some manifests.
    pub(crate) fn signer(&self, keys: &[Key], manifests: &[String]) -> Result<Digest, String> {
        let bytes = BASE64.decode(self.signature.trim());
        let bytes = bytes.map_err(|_| "its signature is not base64".to_owned())?;
        let signature = Signature::from_der(&bytes).map_err(|_| "its signature is no ECDSA signature".to_owned())?;
        // What was not signed is not even read.
        let signer = keys
            .iter()
            .find(|key| key.key.verify(&self.payload, &signature).is_ok())
            .ok_or("its signature is of none of the policy's keys, or what was signed was changed")?;
        let payload: Payload = serde_json::from_slice(&self.payload)
            .map_err(|_| "what was signed is no statement about an image".to_owned())?;
        if payload.critical.kind != KIND {
            return Err("what was signed is no statement about an image".to_owned());
        }
        let about = payload.critical.image.manifest_digest;
        match manifests.contains(&about) {
            true => Ok(signer.fingerprint),
            false => Err(format!(
                "its signature is of another image, with digest {}",
                about.chars().take(80).collect::<String>()
            )),
        }
    }
}
