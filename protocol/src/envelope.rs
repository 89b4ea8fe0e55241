//! The envelope of every signed message (D9).
//!
//! One header line of JSON, a newline, then the payload's exact bytes. The signature covers
//! `heddle/v1/<kind>\0` and those bytes; they are kept as they came and never serialised again.
//!
//! Where the reader has an earlier payload of the same kind, the bytes may come as a delta from that ([`crate::delta`]). The
//! signature is still that of the whole payload, which the reader makes first ([`Kept`]).

use crate::delta::{self, Outline};
use crate::digest::Digest;
use crate::error::ProtocolError;
use crate::sign::{self, SigningKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The envelope's version.
pub const VERSION: u32 = 1;
/// Longest header line, in bytes; a real one is below 300.
const HEADER_BYTES_MAX: usize = 1024;

/// What kind of payload an envelope holds. A signature for one kind is worth nothing for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A host's whole spec, by the realm key.
    Spec,
    /// An agent's hello, by the host key.
    Hello,
    /// An API request, by a person's key or unsigned.
    Api,
    /// Which native code an artifact has for an engine, by the realm key.
    Compiled,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Spec => "spec",
            Kind::Hello => "hello",
            Kind::Api => "api",
            Kind::Compiled => "compiled",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    v: u32,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
    /// The digest of the payload that this one is a delta from; none where it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delta_from: Option<Digest>,
}

/// An envelope that has been read but not yet trusted.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// What the payload is.
    pub kind: Kind,
    /// The public key that is said to have signed; none for an unsigned request.
    pub key_id: Option<String>,
    signature: Vec<u8>,
    /// The payload's bytes, exactly as they were signed.
    pub payload: &'a [u8],
}

/// Wraps a payload and signs it.
pub fn seal(kind: Kind, payload: &[u8], key: &SigningKey) -> Result<Vec<u8>, ProtocolError> {
    let signature = key.sign(&signed_bytes(kind, payload))?;
    write(
        Header {
            v: VERSION,
            kind,
            key_id: Some(key.public()),
            sig: Some(BASE64.encode(signature)),
            delta_from: None,
        },
        payload,
    )
}

/// Wraps a payload without a signature; only API requests may come so, and only where the scheduler allows it.
pub fn wrap_unsigned(kind: Kind, payload: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    write(
        Header {
            v: VERSION,
            kind,
            key_id: None,
            sig: None,
            delta_from: None,
        },
        payload,
    )
}

fn write(header: Header, payload: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    let mut bytes = serde_json::to_vec(&header).map_err(|source| ProtocolError::Json {
        what: "envelope header",
        source,
    })?;
    bytes.reserve(payload.len() + 1);
    bytes.push(b'\n');
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

fn signed_bytes(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let prefix = format!("heddle/v1/{}\0", kind.as_str());
    let mut bytes = Vec::with_capacity(prefix.len() + payload.len());
    bytes.extend_from_slice(prefix.as_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// An envelope again, its payload as a delta from the one that a reader has; none if that would save little.
pub fn as_delta(envelope: &[u8], from: &Outline) -> Option<Vec<u8>> {
    let (mut header, payload) = split(envelope).ok()?;
    header.delta_from = Some(from.digest());
    write(header, &from.delta(payload)?).ok()
}

/// The envelope that a reader of deltas took last.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    last: Option<(Digest, Vec<u8>)>,
}

/// An envelope whose payload is a delta from one that is not kept, or does not fit it.
#[derive(Debug, thiserror::Error)]
#[error("failed to make a whole of a delta: {0}")]
pub struct NotKept(String);

impl Kept {
    /// The whole envelope of one that may be a delta: `None` where it is whole as it is, or cannot be read at all.
    ///
    /// # Errors
    /// If it is a delta from something else than what is kept.
    pub fn whole(&self, envelope: &[u8], bytes_max: u64) -> Result<Option<Vec<u8>>, NotKept> {
        let Ok((mut header, payload)) = split(envelope) else {
            return Ok(None);
        };
        let Some(from) = header.delta_from.take() else {
            return Ok(None);
        };
        let kept = self.last.as_ref().filter(|(digest, _)| *digest == from);
        let (_, old) = kept.ok_or_else(|| NotKept(format!("{} is not held here", from.short())))?;
        let made = delta::apply(old, payload, bytes_max).and_then(|payload| write(header, &payload));
        made.map(Some).map_err(|e| NotKept(e.to_string()))
    }

    /// Keeps the payload of an envelope that is whole and trusted, instead of the one before.
    pub fn keep(&mut self, envelope: &[u8]) {
        let payload = split(envelope).ok().filter(|(header, _)| header.delta_from.is_none());
        let worth_it = payload.filter(|(_, payload)| payload.len() >= delta::DELTA_BYTES_MIN);
        self.last = worth_it.map(|(_, payload)| (Digest::of(payload), payload.to_vec()));
    }

    /// Keeps nothing any more.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

fn split(bytes: &[u8]) -> Result<(Header, &[u8]), ProtocolError> {
    let end = bytes.iter().take(HEADER_BYTES_MAX).position(|b| *b == b'\n');
    let halves = end.and_then(|end| Some((bytes.get(..end)?, bytes.get(end + 1..)?)));
    let (line, payload) = halves.ok_or_else(|| ProtocolError::Frame {
        what: "envelope",
        why: "no header line ends within its first 1024 bytes".to_owned(),
    })?;
    let header = serde_json::from_slice(line).map_err(|source| ProtocolError::Json {
        what: "envelope header",
        source,
    })?;
    Ok((header, payload))
}

/// Reads an envelope without trusting it.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>, ProtocolError> {
    let frame = |why: &str| ProtocolError::Frame {
        what: "envelope",
        why: why.to_owned(),
    };
    let (header, payload) = split(bytes)?;
    if header.v != VERSION {
        return Err(ProtocolError::Version {
            what: "envelope",
            found: header.v,
            known: VERSION,
        });
    }
    if header.delta_from.is_some() {
        return Err(frame("it is a delta, and what it is a delta from is not at hand"));
    }
    let signature = match &header.sig {
        Some(text) => BASE64.decode(text).map_err(|_| frame("the signature is not base64"))?,
        None => Vec::new(),
    };
    if header.key_id.is_some() != header.sig.is_some() {
        return Err(frame("a key id and a signature come together or not at all"));
    }
    Ok(Envelope {
        kind: header.kind,
        key_id: header.key_id,
        signature,
        payload,
    })
}

impl<'a> Envelope<'a> {
    /// The payload, if it is of `kind` and one of `trusted` public keys signed it.
    pub fn verified(&self, kind: Kind, trusted: &[String]) -> Result<&'a [u8], ProtocolError> {
        let key_id = self.key_id.as_deref().unwrap_or("none");
        if self.kind != kind || !trusted.iter().any(|key| key == key_id) {
            return Err(ProtocolError::Signature {
                key_id: key_id.to_owned(),
            });
        }
        sign::verify(key_id, &signed_bytes(kind, self.payload), &self.signature)?;
        Ok(self.payload)
    }

    /// The payload and the public key that signed it, whoever that is. The caller decides whether to trust the key.
    pub fn self_signed(&self, kind: Kind) -> Result<(&'a [u8], &str), ProtocolError> {
        let key_id = self.key_id.as_deref().unwrap_or("none");
        if self.kind != kind {
            return Err(ProtocolError::Signature {
                key_id: key_id.to_owned(),
            });
        }
        sign::verify(key_id, &signed_bytes(kind, self.payload), &self.signature)?;
        Ok((self.payload, key_id))
    }
}

/// Reads a payload as JSON.
pub fn read<T: DeserializeOwned>(what: &'static str, payload: &[u8]) -> Result<T, ProtocolError> {
    serde_json::from_slice(payload).map_err(|source| ProtocolError::Json { what, source })
}

/// Writes a value as JSON.
pub fn to_bytes<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, ProtocolError> {
    serde_json::to_vec(value).map_err(|source| ProtocolError::Json { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_payload_opens_for_its_key_and_kind_only() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        let sealed = seal(Kind::Spec, b"{\"a\":1}", &key).unwrap();
        let envelope = open(&sealed).unwrap();
        assert_eq!(
            envelope.verified(Kind::Spec, &[other.public(), key.public()]).unwrap(),
            b"{\"a\":1}"
        );
        assert!(envelope.verified(Kind::Hello, &[key.public()]).is_err());
        assert!(envelope.verified(Kind::Spec, &[other.public()]).is_err());
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let key = SigningKey::generate();
        let sealed = seal(Kind::Spec, b"0123456789", &key).unwrap();
        for i in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[i] ^= 1;
            let accepted = open(&forged).and_then(|e| e.verified(Kind::Spec, &[key.public()]).map(<[u8]>::to_vec));
            assert!(accepted.is_err(), "byte {i} may be changed");
        }
    }

    #[test]
    fn an_unsigned_envelope_is_never_verified() {
        let bytes = wrap_unsigned(Kind::Api, b"{}").unwrap();
        let envelope = open(&bytes).unwrap();
        assert_eq!(envelope.payload, b"{}");
        assert!(envelope.verified(Kind::Api, &["none".to_owned()]).is_err());
    }

    #[test]
    fn a_delta_becomes_the_whole_envelope_for_who_kept_the_one_before() {
        let key = SigningKey::generate();
        let payload = |n: u32| {
            let units: Vec<String> = (0..100)
                .map(|i| format!("{{\"unit\":{i},\"count\":{}}}", i / n))
                .collect();
            format!("[{}]", units.join(",")).into_bytes()
        };
        let (first, second) = (payload(1_000), payload(90));
        let outline = Outline::of(&first).unwrap();
        let (first, second) = (
            seal(Kind::Spec, &first, &key).unwrap(),
            seal(Kind::Spec, &second, &key).unwrap(),
        );
        let delta = as_delta(&second, &outline).unwrap();
        assert!(delta.len() * 2 < second.len());
        assert!(open(&delta).is_err(), "nobody takes it for a whole one");
        let mut kept = Kept::default();
        assert!(kept.whole(&delta, 10_000).is_err(), "nothing is kept yet");
        assert_eq!(kept.whole(&first, 10_000).unwrap(), None, "it is whole");
        kept.keep(&first);
        assert_eq!(kept.whole(&delta, 10_000).unwrap().unwrap(), second);
        assert!(kept.whole(&delta, 100).is_err(), "more than may be");
        kept.keep(&second);
        assert!(kept.whole(&delta, 10_000).is_err(), "something else is kept now");
        // Bytes that were changed on the way make another document, or none; its signature tells.
        kept.keep(&first);
        for i in 0..delta.len() {
            let mut forged = delta.clone();
            forged[i] ^= 1;
            let whole = kept.whole(&forged, 10_000).ok().flatten();
            let taken = whole.is_some_and(|whole| {
                open(&whole).is_ok_and(|envelope| envelope.verified(Kind::Spec, &[key.public()]).is_ok())
            });
            assert!(!taken, "byte {i} may be changed");
        }
    }

    #[test]
    fn garbage_is_refused_without_a_panic() {
        for bad in [
            &b""[..],
            b"\n",
            b"{}\n",
            b"{\"v\":9,\"kind\":\"spec\"}\n",
            &[0xff; 4096],
        ] {
            assert!(open(bad).is_err());
        }
    }
}
