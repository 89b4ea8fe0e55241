//! Large changes: their writes are packed into blocks named by content, and one `change.<n>` record names the blocks.
//!
//! In: the writes of a change too large for one batch. Out: blocks of at most 512 KiB or so, and back again. Blocks are
//! published before the commit; they mean nothing until a committed change names them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::StoreError;
use super::record::{VALUE_BYTES_MAX, Write};

/// A block is closed before it would grow beyond this; a single value of the largest size still fits.
const BLOCK_BYTES: usize = VALUE_BYTES_MAX;
/// A change names at most this many blocks (2 GiB), which keeps `change.<n>` itself below the payload limit.
const BLOCKS_MAX: usize = 4096;

/// The body of `change.<n>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The form of the blocks.
    pub(crate) v: u32,
    /// How many writes all blocks hold together.
    pub(crate) writes: u64,
    /// The blocks by digest, in order.
    pub(crate) blocks: Vec<String>,
}

/// One block and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// SHA-256 of the body, hexadecimal.
    pub(crate) digest: String,
    /// The packed writes.
    pub(crate) body: Bytes,
}

/// Packs writes into blocks, in order.
pub(crate) fn pack(writes: &[Write]) -> Result<(Manifest, Vec<Block>), StoreError> {
    let mut blocks = Vec::new();
    let mut body = BytesMut::new();
    for write in writes {
        let bytes = write.key.len() + write.value.as_ref().map_or(0, Bytes::len) + 12;
        if !body.is_empty() && body.len() + bytes > BLOCK_BYTES {
            blocks.push(close(body.split()));
        }
        encode(write, &mut body);
    }
    if !body.is_empty() {
        blocks.push(close(body));
    }
    if blocks.len() > BLOCKS_MAX {
        let why = format!(
            "the change needs {} blocks of 512 KiB; {BLOCKS_MAX} are allowed (split it)",
            blocks.len()
        );
        return Err(StoreError::Invalid(why));
    }
    let names = blocks.iter().map(|block| block.digest.clone()).collect();
    Ok((
        Manifest {
            v: 1,
            writes: writes.len() as u64,
            blocks: names,
        },
        blocks,
    ))
}

fn close(body: BytesMut) -> Block {
    let body = body.freeze();
    Block {
        digest: name(&body),
        body,
    }
}

fn name(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

fn encode(write: &Write, out: &mut BytesMut) {
    out.put_u32(write.key.len() as u32);
    out.put_slice(write.key.as_bytes());
    match &write.value {
        None => out.put_u8(0),
        Some(value) => {
            out.put_u8(1);
            out.put_u32(value.len() as u32);
            out.put_slice(value);
        }
    }
}

impl Manifest {
    /// Reads the body of a change record.
    pub(crate) fn parse(key: &str, body: &[u8]) -> Result<Self, StoreError> {
        let manifest: Self = serde_json::from_slice(body).map_err(|error| StoreError::corrupt(key, error))?;
        if manifest.v != 1 || manifest.blocks.len() > BLOCKS_MAX {
            return Err(StoreError::corrupt(key, "it is of a form this scheduler does not know"));
        }
        Ok(manifest)
    }

    /// Unpacks blocks, given in the manifest's order, after checking each against its name.
    pub(crate) fn unpack(&self, blocks: &[Bytes]) -> Result<Vec<Write>, StoreError> {
        let mut writes = Vec::new();
        for (digest, body) in self.blocks.iter().zip(blocks) {
            if name(body) != *digest {
                return Err(StoreError::corrupt(
                    format!("stage.{digest}"),
                    "its content does not have that digest",
                ));
            }
            decode(digest, body.clone(), &mut writes)?;
        }
        if writes.len() as u64 != self.writes {
            let why = format!("its blocks hold {} writes, it says {}", writes.len(), self.writes);
            return Err(StoreError::corrupt("a staged change", why));
        }
        Ok(writes)
    }
}

fn decode(digest: &str, mut body: Bytes, writes: &mut Vec<Write>) -> Result<(), StoreError> {
    let cut = || StoreError::corrupt(format!("stage.{digest}"), "it ends in the middle of a write");
    while body.has_remaining() {
        let key = take(&mut body).ok_or_else(cut)?;
        let key = String::from_utf8(key.to_vec())
            .map_err(|_| StoreError::corrupt(format!("stage.{digest}"), "a key in it is not text"))?;
        let value = match (body.has_remaining(), body.first()) {
            (true, Some(0)) => {
                body.advance(1);
                None
            }
            (true, Some(1)) => {
                body.advance(1);
                Some(take(&mut body).ok_or_else(cut)?)
            }
            _ => return Err(cut()),
        };
        writes.push(Write { key, value });
    }
    Ok(())
}

/// Takes one length-prefixed piece, if all of it is there.
fn take(body: &mut Bytes) -> Option<Bytes> {
    if body.remaining() < 4 {
        return None;
    }
    let len = body.get_u32() as usize;
    (body.remaining() >= len).then(|| body.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(count: usize, bytes: usize) -> Vec<Write> {
        (0..count)
            .map(|i| match i % 7 {
                3 => Write::remove(format!("place.shop.w{i}")),
                _ => Write::put(format!("place.shop.w{i}"), vec![i as u8; bytes]),
            })
            .collect()
    }

    #[test]
    fn packed_writes_come_back_in_order() {
        for (count, bytes) in [(0, 0), (1, 0), (2000, 100), (5, VALUE_BYTES_MAX)] {
            let writes = writes(count, bytes);
            let (manifest, blocks) = pack(&writes).unwrap();
            let bodies: Vec<Bytes> = blocks.iter().map(|block| block.body.clone()).collect();
            assert_eq!(manifest.unpack(&bodies).unwrap(), writes);
        }
    }

    #[test]
    fn a_cut_or_altered_block_is_refused() {
        let (manifest, blocks) = pack(&writes(10, 50)).unwrap();
        let body = &blocks[0].body;
        assert!(manifest.unpack(&[body.slice(..body.len() - 1)]).is_err());
        assert!(manifest.unpack(&[]).is_err());
        let mut out = Vec::new();
        for end in 1..body.len() {
            // Every cut either ends between two writes or is noticed; none panics.
            let _ = decode("x", body.slice(..end), &mut out);
        }
    }
}
