//! What a namespace asks of the images that run in it (`Policy`).

use super::object::{ApiVersion, Metadata};
use crate::digest::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_END: &str = "-----END PUBLIC KEY-----";
/// A key on P-256 has less than 200 bytes; whatever is much longer is none.
const PEM_BYTES_MAX: usize = 4 << 10;

/// What a namespace asks of the images that run in it. Where several Policies are in one namespace, an image must keep
/// all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Policy {
    /// The version of the manifest's shape.
    pub api_version: ApiVersion,
    /// Its name and namespace.
    pub metadata: Metadata,
    /// What is asked.
    pub spec: PolicySpec,
}

/// What is asked of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PolicySpec {
    /// Whose signature an image needs.
    pub signatures: Signatures,
}

/// Whose signature an image needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Signatures {
    /// Keys of cosign; a signature by any one of them is enough.
    #[schemars(length(min = 1, max = 16))]
    pub cosign: Vec<CosignKey>,
}

/// A key that cosign signs with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CosignKey {
    /// The public key on P-256, as `cosign.pub` holds it: PEM, from `-----BEGIN PUBLIC KEY-----` on.
    pub public_key: String,
}

impl CosignKey {
    /// The digest of the key itself, whatever the text around it looks like; none if the text is no PEM of a public key.
    pub fn fingerprint(&self) -> Option<Digest> {
        let text = Some(self.public_key.trim()).filter(|text| text.len() <= PEM_BYTES_MAX)?;
        let body = text.strip_prefix(PEM_BEGIN)?.strip_suffix(PEM_END)?;
        let body: String = body.split_whitespace().collect();
        let key = BASE64.decode(body).ok().filter(|key| !key.is_empty())?;
        Some(Digest::of(&key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_fingerprint_however_its_text_is_broken_into_lines() {
        let key = |text: &str| CosignKey {
            public_key: text.to_owned(),
        };
        let one = key("-----BEGIN PUBLIC KEY-----\nAAEC\nAwQF\n-----END PUBLIC KEY-----\n");
        let other = key("-----BEGIN PUBLIC KEY-----\r\nAAECAwQF\r\n-----END PUBLIC KEY-----");
        assert_eq!(one.fingerprint(), Some(Digest::of(&[0, 1, 2, 3, 4, 5])));
        assert_eq!(one.fingerprint(), other.fingerprint());
        for wrong in [
            "",
            "AAECAwQF",
            "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----",
        ] {
            assert_eq!(key(wrong).fingerprint(), None, "{wrong}");
        }
    }
}
