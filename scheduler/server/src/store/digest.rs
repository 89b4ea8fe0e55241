//! The set digest: one number for all live values, whatever their order.
//!
//! In: key and value. Out: a 256-bit sum to which a value is added and from which it is taken away in constant time.
//! It shows silent loss and rot. It is not meant to stop a forger who can choose many values: signatures are for that.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The sum, lane by lane and wrapping, of SHA-256(key, 0, value) over a set of values.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct SetDigest([u64; 4]);

impl SetDigest {
    /// The digest of the empty set.
    pub const EMPTY: SetDigest = SetDigest([0; 4]);

    /// Computes the digest of a whole set.
    pub fn of<'a, K, V>(values: impl IntoIterator<Item = (&'a K, &'a V)>) -> Self
    where
        K: AsRef<str> + ?Sized + 'a,
        V: AsRef<[u8]> + ?Sized + 'a,
    {
        let mut digest = Self::EMPTY;
        for (key, value) in values {
            digest.add(key.as_ref(), value.as_ref());
        }
        digest
    }

    /// Adds one value.
    pub fn add(&mut self, key: &str, value: &[u8]) {
        for (lane, part) in self.0.iter_mut().zip(leaf(key, value)) {
            *lane = lane.wrapping_add(part);
        }
    }

    /// Takes one value away.
    pub fn remove(&mut self, key: &str, value: &[u8]) {
        for (lane, part) in self.0.iter_mut().zip(leaf(key, value)) {
            *lane = lane.wrapping_sub(part);
        }
    }

    /// Reads the hexadecimal form that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(lanes(bytes)))
    }
}

/// Keys hold no zero byte, so the separator keeps (`ab`, `c`) and (`a`, `bc`) apart.
fn leaf(key: &str, value: &[u8]) -> [u64; 4] {
    let mut hash = Sha256::new();
    hash.update(key.as_bytes());
    hash.update([0]);
    hash.update(value);
    lanes(hash.finalize().into())
}

fn lanes(bytes: [u8; 32]) -> [u64; 4] {
    let mut out = [0u64; 4];
    for (lane, chunk) in out.iter_mut().zip(bytes.chunks_exact(8)) {
        *lane = chunk.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    }
    out
}

impl fmt::Display for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|lane| write!(f, "{lane:016x}"))
    }
}

impl fmt::Debug for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetDigest({self})")
    }
}

impl Serialize for SetDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SetDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a digest is 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_reads_back() {
        let mut digest = SetDigest::EMPTY;
        digest.add("workload.shop.cart", b"{}");
        assert_eq!(SetDigest::parse(&digest.to_string()), Some(digest));
        assert_eq!(SetDigest::parse("abc"), None);
    }

    #[test]
    fn a_key_and_its_value_cannot_trade_bytes() {
        let mut one = SetDigest::EMPTY;
        one.add("ab", b"c");
        let mut other = SetDigest::EMPTY;
        other.add("a", b"bc");
        assert_ne!(one, other);
    }
}
