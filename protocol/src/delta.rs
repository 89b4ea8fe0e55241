//! Deltas: a document said as what differs, byte for byte, from one that its reader has.
//!
//! In: an outline of the document that the reader has, and the next one. Out: a delta, from which the reader makes exactly
//! the bytes of the next one. The sender keeps the outline alone: a few bytes for each piece of the document. A delta is only
//! a way to carry bytes: what comes out of it is trusted no more than if it had come whole.
//!
//! A delta is one line of JSON, a newline, and the bytes that are new. The line lists, in order, what the document is made
//! of: `[offset,bytes]` is copied from the old one, a number is so many of the new bytes.

use crate::digest::Digest;
use crate::error::ProtocolError;
use serde::{Deserialize, Serialize};

/// Documents that are smaller, in bytes, are always said whole: there is little to save.
pub const DELTA_BYTES_MIN: usize = 1_024;
/// Pieces of one outline, about: of larger documents several of what could be a piece make one.
const PIECES_MAX: usize = 1_024;
/// The longest first line of a delta, in bytes. What [`Outline::delta`] makes is far below it.
const LINE_BYTES_MAX: usize = 256 << 10;
/// The bytes of what could be a piece, about: one unit of a spec.
const PIECE_BYTES: usize = 128;

/// What is remembered of a document that a reader has, so that the next one can be said as a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    digest: Digest,
    /// Which hashes end a piece: those that have none of these bits.
    mask: u32,
    pieces: Box<[Piece]>,
}

/// A part of a document: two with the same are taken for equal. If they are not, what is made of the delta has another
/// signature, and is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    hash: u32,
    bytes: u32,
}

/// What a part of the document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Part {
    /// Bytes of the old one: the offset, and how many.
    Old(u32, u32),
    /// So many of the new bytes.
    New(u32),
}

impl Outline {
    /// The outline of a document; none if it is so small, or so large, that it is always said whole.
    pub fn of(document: &[u8]) -> Option<Self> {
        if document.len() < DELTA_BYTES_MIN || u32::try_from(document.len()).is_err() {
            return None;
        }
        let together = document.len() / PIECE_BYTES / PIECES_MAX;
        let mask = u32::try_from(together.checked_next_power_of_two()?.saturating_sub(1)).ok()?;
        Some(Self {
            digest: Digest::of(document),
            mask,
            pieces: pieces(document, mask).collect(),
        })
    }

    /// The digest of the document.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What makes the next document of this one; none if that is not less than half of it.
    pub fn delta(&self, next: &[u8]) -> Option<Vec<u8>> {
        let mut known: Vec<(Piece, u32)> = Vec::with_capacity(self.pieces.len());
        let mut offset = 0;
        for piece in &self.pieces {
            known.push((*piece, offset));
            offset += piece.bytes;
        }
        let in_order = known.clone();
        known.sort_unstable();
        let (mut parts, mut new): (Vec<Part>, Vec<u8>) = (Vec::new(), Vec::new());
        // The piece of the old one that would go on with what was copied last.
        let mut following = 0;
        let mut at: usize = 0;
        for piece in pieces(next, self.mask) {
            let end = at + piece.bytes as usize;
            let goes_on = in_order.get(following).filter(|(old, _)| *old == piece);
            let found = goes_on.map(|(_, offset)| *offset).or_else(|| {
                let first = known.partition_point(|(old, _)| *old < piece);
                known
                    .get(first)
                    .filter(|(old, _)| *old == piece)
                    .map(|(_, offset)| *offset)
            });
            match (found, parts.last_mut()) {
                (Some(offset), Some(Part::Old(from, bytes))) if *from + *bytes == offset => *bytes += piece.bytes,
                (Some(offset), _) => parts.push(Part::Old(offset, piece.bytes)),
                (None, Some(Part::New(bytes))) => *bytes += piece.bytes,
                (None, _) => parts.push(Part::New(piece.bytes)),
            }
            match found {
                Some(offset) => following = in_order.partition_point(|(_, o)| *o <= offset),
                None => new.extend_from_slice(next.get(at..end)?),
            }
            if new.len() * 2 >= next.len() {
                return None;
            }
            at = end;
        }
        let mut delta = serde_json::to_vec(&parts).ok()?;
        delta.push(b'\n');
        delta.extend_from_slice(&new);
        (delta.len() * 2 < next.len()).then_some(delta)
    }
}

/// Makes the next document of the old one and a delta.
///
/// # Errors
/// If the delta cannot be read, does not fit the old document, or makes more than `bytes_max` bytes.
pub fn apply(old: &[u8], delta: &[u8], bytes_max: u64) -> Result<Vec<u8>, ProtocolError> {
    let frame = |why: &str| ProtocolError::Frame {
        what: "delta",
        why: why.to_owned(),
    };
    let end = delta.iter().take(LINE_BYTES_MAX).position(|b| *b == b'\n');
    let (line, mut new) = end
        .and_then(|end| Some((delta.get(..end)?, delta.get(end + 1..)?)))
        .ok_or_else(|| frame("its first line does not end, or is too long"))?;
    let parts: Vec<Part> =
        serde_json::from_slice(line).map_err(|source| ProtocolError::Json { what: "delta", source })?;
    let mut document = Vec::new();
    for part in parts {
        let bytes = match part {
            Part::Old(offset, bytes) => {
                let (offset, bytes) = (offset as usize, bytes as usize);
                let copied = offset.checked_add(bytes).and_then(|end| old.get(offset..end));
                copied.ok_or_else(|| frame("it copies what the old document does not have"))?
            }
            Part::New(bytes) => {
                let (taken, rest) = new
                    .split_at_checked(bytes as usize)
                    .ok_or_else(|| frame("it has fewer new bytes than it says"))?;
                new = rest;
                taken
            }
        };
        let whole = document.len().saturating_add(bytes.len()) as u64;
        if whole > bytes_max {
            return Err(ProtocolError::TooLarge {
                what: "document of a delta",
                bytes: whole,
                bytes_max,
            });
        }
        document.extend_from_slice(bytes);
    }
    match new.is_empty() {
        true => Ok(document),
        false => Err(frame("it has more new bytes than it says")),
    }
}

/// The pieces of a document: one ends with each object of a list, or, of large documents, with some of them. Which, what is
/// in it alone decides, so that pieces that did not change are the same wherever they are.
fn pieces(document: &[u8], mask: u32) -> impl Iterator<Item = Piece> {
    let mut rest = document;
    std::iter::from_fn(move || {
        let (mut hash, mut bytes) = (0_u32, 0_u32);
        while !rest.is_empty() {
            let end = rest.windows(2).position(|two| two == b"},").map(|at| at + 2);
            let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            let own = hash_of(part);
            hash = hash.rotate_left(7).wrapping_mul(0x9e37_79b1) ^ own;
            bytes = bytes.saturating_add(u32::try_from(part.len()).unwrap_or(u32::MAX));
            if own & mask == 0 {
                break;
            }
        }
        (bytes > 0).then_some(Piece { hash, bytes })
    })
}

/// A hash of some bytes, eight at a time.
fn hash_of(bytes: &[u8]) -> u32 {
    let mut hash: u64 = bytes.len() as u64;
    for part in bytes.chunks(8) {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(part) {
            *to = *from;
        }
        hash = (hash.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BYTES_MAX: u64 = 1 << 20;

    fn unit(name: u32, count: u32) -> String {
        format!(
            "{{\"workload\":\"shop/w-{name:05}\",\"generation\":1,\"template\":\"sha256:{name:064x}\",\"count\":{count}}}"
        )
    }

    fn document(units: &[(u32, u32)]) -> Vec<u8> {
        let units: Vec<String> = units.iter().map(|(name, count)| unit(*name, *count)).collect();
        format!("{{\"version\":{},\"units\":[{}]}}", units.len(), units.join(",")).into_bytes()
    }

    fn many(count: u32) -> Vec<(u32, u32)> {
        (0..count).map(|n| (n, 1)).collect()
    }

    #[test]
    fn one_unit_more_of_a_hundred_is_a_small_delta() {
        let (old, mut units) = (document(&many(100)), many(100));
        units.insert(40, (1_000, 3));
        let next = document(&units);
        let delta = Outline::of(&old).unwrap().delta(&next).unwrap();
        assert_eq!(apply(&old, &delta, BYTES_MAX).unwrap(), next);
        // Its own bytes, those of the head of the document, and what says where they go.
        assert!(delta.len() < 500, "{} of {}", delta.len(), next.len());
    }

    #[test]
    fn one_unit_of_ten_thousand_is_a_small_delta_and_its_outline_is_bounded() {
        let (old, mut units) = (document(&many(10_000)), many(10_000));
        units.remove(5_000);
        let outline = Outline::of(&old).unwrap();
        let next = document(&units);
        let delta = outline.delta(&next).unwrap();
        assert_eq!(apply(&old, &delta, 1 << 22).unwrap(), next);
        assert!(delta.len() * 50 < next.len(), "{} of {}", delta.len(), next.len());
        assert!(outline.pieces.len() < 2 * PIECES_MAX, "{}", outline.pieces.len());
    }

    #[test]
    fn what_differs_much_or_is_small_is_said_whole() {
        assert_eq!(Outline::of(&document(&many(3))), None);
        let other: Vec<(u32, u32)> = (500..600).map(|n| (n, 1)).collect();
        assert_eq!(
            Outline::of(&document(&many(100))).unwrap().delta(&document(&other)),
            None
        );
    }

    #[test]
    fn a_delta_that_does_not_fit_is_refused() {
        let old = document(&many(100));
        for bad in [
            &b""[..],
            b"[]",
            b"[[0,99999999]]\n",
            b"[[4294967295,4294967295]]\n",
            b"[5]\nabc",
            b"[2]\nabc",
            b"[-1]\n",
            b"{}\n",
        ] {
            assert!(apply(&old, bad, BYTES_MAX).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        // One that lists more than any document has, and one that makes a huge document of a small one.
        let long = format!("[{}]\n", vec!["0"; 200_000].join(","));
        assert!(matches!(
            apply(&old, long.as_bytes(), BYTES_MAX),
            Err(ProtocolError::Frame { .. })
        ));
        let bomb = format!("[{}]\n", vec!["[0,10000]"; 1_000].join(","));
        assert!(matches!(
            apply(&old, bomb.as_bytes(), BYTES_MAX),
            Err(ProtocolError::TooLarge { .. })
        ));
    }

    proptest! {
        #[test]
        fn what_is_made_of_a_delta_is_the_next_document(
            old in proptest::collection::vec((0_u32..60, 1_u32..3), 0..200),
            next in proptest::collection::vec((0_u32..60, 1_u32..3), 0..200),
        ) {
            let (old, next) = (document(&old), document(&next));
            if let Some(delta) = Outline::of(&old).and_then(|outline| outline.delta(&next)) {
                prop_assert!(delta.len() < next.len());
                prop_assert_eq!(apply(&old, &delta, BYTES_MAX).unwrap(), next);
            }
        }

        #[test]
        fn any_bytes_are_a_delta_or_refused(old in any::<Vec<u8>>(), line in "[0-9,\\[\\]]{0,40}", new in any::<Vec<u8>>()) {
            let mut delta = line.into_bytes();
            delta.push(b'\n');
            delta.extend(new);
            if let Ok(made) = apply(&old, &delta, 10_000) {
                prop_assert!(made.len() <= 10_000);
            }
        }
    }
}
