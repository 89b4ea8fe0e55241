//! Tokens signed with an nkey: three parts in base64url, the third an Ed25519 signature over the first two.
//!
//! In: a header, claims and the key. Out: the token. NATS and the hosts of wasmCloud both read this form, each with a
//! header of its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// Signs claims.
pub(crate) fn sign(header: &Value, claims: &Value, key: &KeyPair) -> Result<String, String> {
    let text = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = key.sign(text.as_bytes()).map_err(|e| e.to_string())?;
    Ok(format!("{text}.{}", encode(signature)))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
