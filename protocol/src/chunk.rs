//! One chunk protocol for everything over 512 KiB (D13): specs, applies and artifacts.
//!
//! The sender asks with one chunk at a time: the same subject, with a header that names the whole's digest and size
//! and the chunk's offset. The receiver answers each with the offset that it wants next; the last answer is the
//! answer to the whole. A sender that lost its way asks with an empty chunk and is told where to go on.

use crate::digest::Digest;
use crate::error::ProtocolError;
use std::collections::BTreeMap;

/// The header that marks a chunk: `<digest>;<size>;<offset>`.
pub const HEADER: &str = "Heddle-Chunk";
/// The header of a receiver's answer to all but the last chunk: the next offset.
pub const NEXT_HEADER: &str = "Heddle-Chunk-Next";

/// Where a chunk belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The digest of the whole.
    pub digest: Digest,
    /// The size of the whole, in bytes.
    pub size: u64,
    /// Where in the whole this chunk starts, in bytes.
    pub offset: u64,
}

impl Chunk {
    /// The header's value.
    pub fn to_header(&self) -> String {
        format!("{};{};{}", self.digest, self.size, self.offset)
    }

    /// Reads the header's value.
    pub fn from_header(text: &str) -> Result<Self, ProtocolError> {
        let bad = || ProtocolError::Frame {
            what: "chunk header",
            why: format!(
                "expected `<digest>;<size>;<offset>`, found {:?}",
                text.chars().take(120).collect::<String>()
            ),
        };
        let mut parts = text.split(';');
        let (Some(digest), Some(size), Some(offset), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        Ok(Self {
            digest: digest.parse().map_err(|_| bad())?,
            size: size.parse().map_err(|_| bad())?,
            offset: offset.parse().map_err(|_| bad())?,
        })
    }
}

/// What came of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// More is wanted, from this offset.
    Next(u64),
    /// The whole is there and has the digest that it was said to have.
    Whole(Vec<u8>),
}

/// Puts chunks together, within bounds: a number of unfinished wholes, and their bytes.
#[derive(Debug)]
pub struct Assembler {
    bytes_max: u64,
    wholes_max: usize,
    wholes: BTreeMap<Digest, Whole>,
    clock: u64,
}

#[derive(Debug)]
struct Whole {
    size: u64,
    bytes: Vec<u8>,
    touched: u64,
}

impl Assembler {
    /// An assembler for wholes of up to `bytes_max` bytes, at most `wholes_max` of them unfinished at a time. When one
    /// more begins, the one that was left alone longest is forgotten; its sender starts again.
    pub fn new(bytes_max: u64, wholes_max: usize) -> Self {
        Self {
            bytes_max,
            wholes_max: wholes_max.max(1),
            wholes: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Takes in one chunk.
    pub fn take(&mut self, chunk: Chunk, bytes: &[u8]) -> Result<Taken, ProtocolError> {
        if chunk.size > self.bytes_max {
            return Err(ProtocolError::TooLarge {
                what: "chunked message",
                bytes: chunk.size,
                bytes_max: self.bytes_max,
            });
        }
        self.clock += 1;
        if !self.wholes.contains_key(&chunk.digest) && self.wholes.len() >= self.wholes_max {
            let oldest = self
                .wholes
                .iter()
                .min_by_key(|(_, w)| w.touched)
                .map(|(digest, _)| *digest);
            if let Some(oldest) = oldest {
                self.wholes.remove(&oldest);
            }
        }
        let clock = self.clock;
        let whole = self.wholes.entry(chunk.digest).or_insert_with(|| Whole {
            size: chunk.size,
            bytes: Vec::new(),
            touched: clock,
        });
        whole.touched = clock;
        let have = whole.bytes.len() as u64;
        // A repeated chunk brings nothing new, and one from further on cannot be used yet.
        if chunk.size == whole.size && chunk.offset == have && have + bytes.len() as u64 <= whole.size {
            whole.bytes.extend_from_slice(bytes);
        }
        let have = whole.bytes.len() as u64;
        if have < whole.size {
            return Ok(Taken::Next(have));
        }
        let bytes = self.wholes.remove(&chunk.digest).map(|w| w.bytes).unwrap_or_default();
        if Digest::of(&bytes) == chunk.digest {
            Ok(Taken::Whole(bytes))
        } else {
            Err(ProtocolError::Frame {
                what: "chunked message",
                why: format!("its {} bytes do not have the digest {}", bytes.len(), chunk.digest),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(whole: &[u8], offset: u64) -> Chunk {
        Chunk {
            digest: Digest::of(whole),
            size: whole.len() as u64,
            offset,
        }
    }

    #[test]
    fn chunks_become_the_whole_even_when_repeated_or_early() {
        let mut assembler = Assembler::new(100, 2);
        let whole = b"0123456789";
        assert_eq!(assembler.take(chunk(whole, 0), b"0123").unwrap(), Taken::Next(4));
        assert_eq!(assembler.take(chunk(whole, 0), b"0123").unwrap(), Taken::Next(4));
        assert_eq!(assembler.take(chunk(whole, 8), b"89").unwrap(), Taken::Next(4));
        assert_eq!(
            assembler.take(chunk(whole, 4), b"456789").unwrap(),
            Taken::Whole(whole.to_vec())
        );
    }

    #[test]
    fn wrong_bytes_and_large_wholes_are_refused() {
        let mut assembler = Assembler::new(4, 2);
        assert!(assembler.take(chunk(b"12345", 0), b"1").is_err());
        assert!(assembler.take(chunk(b"1234", 0), b"4321").is_err());
    }

    #[test]
    fn unfinished_wholes_are_bounded() {
        let mut assembler = Assembler::new(100, 2);
        for i in 0..50u8 {
            let whole = [i; 10];
            assert_eq!(assembler.take(chunk(&whole, 0), &whole[..5]).unwrap(), Taken::Next(5));
            assert!(assembler.wholes.len() <= 2);
        }
    }

    #[test]
    fn headers_round_trip() {
        let c = chunk(b"x", 7);
        assert_eq!(Chunk::from_header(&c.to_header()).unwrap(), c);
        for bad in ["", ";;", "sha256:00;1;2", "a;b;c;d"] {
            assert!(Chunk::from_header(bad).is_err());
        }
    }
}
