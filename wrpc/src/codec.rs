//! Plain values on the wire.
//!
//! In: numbers, texts, lengths, discriminants. Out: their bytes as the specification of wRPC has them, and back from
//! bytes of a peer that is not trusted: a length is compared with what is there before anything is allocated, depth
//! and number of values are bounded, and no input panics.
//!
//! Integers of 16 bits and more are LEB128 (signed ones sign-extended), those of 8 bits are one byte; floats are
//! little-endian; a char is its UTF-8; a text or a list is its length as u32 and then its elements; an option is a
//! byte and then the value; a result is a byte (0 is ok) and then the value; a variant or an enum is its discriminant
//! as u32; flags are as many little-endian bytes as they need.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Why bytes are not the expected value, or a value cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end too early.
    #[error("failed to decode {what}: the bytes end too early; check that both sides have the same interface")]
    End {
        /// What was read.
        what: &'static str,
    },
    /// The bytes are no such value.
    #[error("failed to decode {what}: the bytes are none; check that both sides have the same interface")]
    Invalid {
        /// What was read.
        what: &'static str,
    },
    /// There are more values, or deeper ones, than are allowed.
    #[error("failed to decode: {what} exceed the limit of {limit}; send smaller values")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// Bytes are left over.
    #[error("failed to decode: {bytes} bytes are left over; check that both sides have the same interface")]
    Rest {
        /// How many.
        bytes: usize,
    },
    /// A text or list has more than 2^32 - 1 elements.
    #[error("failed to encode: {len} elements do not fit in one list; send fewer at once")]
    TooLong {
        /// How many.
        len: usize,
    },
}

/// What a decoder takes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Values inside values.
    pub depth: usize,
    /// Elements of all lists together, except those of `list<u8>`: they become values that are larger than their
    /// bytes.
    pub elements: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            depth: 64,
            elements: 1 << 20,
        }
    }
}

/// Writes an unsigned integer (u16, u32, u64, a length, a discriminant).
pub fn put_unsigned(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes a signed integer (s16, s32, s64).
pub fn put_signed(out: &mut BytesMut, mut value: i64) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        let is_last = (value == 0 && byte & 0x40 == 0) || (value == -1 && byte & 0x40 != 0);
        out.put_u8(if is_last { byte } else { byte | 0x80 });
        if is_last {
            return;
        }
    }
}

/// Writes a bool, and the byte before an option's value.
pub fn put_bool(out: &mut BytesMut, value: bool) {
    out.put_u8(u8::from(value));
}

/// Writes an f32.
pub fn put_f32(out: &mut BytesMut, value: f32) {
    out.put_f32_le(value);
}

/// Writes an f64.
pub fn put_f64(out: &mut BytesMut, value: f64) {
    out.put_f64_le(value);
}

/// Writes a char.
pub fn put_char(out: &mut BytesMut, value: char) {
    out.put_slice(value.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Writes the number of elements of a list or the number of bytes of a text.
pub fn put_len(out: &mut BytesMut, len: usize) -> Result<(), CodecError> {
    let len = u32::try_from(len).map_err(|_| CodecError::TooLong { len })?;
    put_unsigned(out, u64::from(len));
    Ok(())
}

/// Writes a `list<u8>` in one piece.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) -> Result<(), CodecError> {
    out.reserve(bytes.len() + 5);
    put_len(out, bytes.len())?;
    out.put_slice(bytes);
    Ok(())
}

/// Writes a text.
pub fn put_string(out: &mut BytesMut, text: &str) -> Result<(), CodecError> {
    put_bytes(out, text.as_bytes())
}

/// Writes the discriminant of a variant or an enum.
pub fn put_discriminant(out: &mut BytesMut, discriminant: u32) {
    put_unsigned(out, u64::from(discriminant));
}

/// Writes the byte before the value of a result.
pub fn put_result(out: &mut BytesMut, is_ok: bool) {
    out.put_u8(u8::from(!is_ok));
}

/// Writes flags: `set` says for each in order whether it is set.
pub fn put_flags(out: &mut BytesMut, set: &[bool]) {
    for eight in set.chunks(8) {
        out.put_u8(
            eight
                .iter()
                .enumerate()
                .fold(0, |byte, (bit, set)| byte | (u8::from(*set) << bit)),
        );
    }
    if set.is_empty() {
        out.put_u8(0);
    }
}

/// Reads values from the bytes of a peer.
#[derive(Debug, Clone)]
pub struct Cursor {
    bytes: Bytes,
    limits: DecodeLimits,
    depth: usize,
    elements: usize,
}

impl Cursor {
    /// A cursor at the start of the bytes.
    pub fn new(bytes: Bytes, limits: DecodeLimits) -> Self {
        Self {
            bytes,
            limits,
            depth: 0,
            elements: 0,
        }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// All values were read: nothing may be left.
    pub fn finish(self) -> Result<(), CodecError> {
        match self.bytes.len() {
            0 => Ok(()),
            bytes => Err(CodecError::Rest { bytes }),
        }
    }

    /// Goes into a value that holds values; `leave` when it is read.
    pub fn enter(&mut self) -> Result<(), CodecError> {
        if self.depth >= self.limits.depth {
            return Err(CodecError::Limit {
                what: "values inside values",
                limit: self.limits.depth,
            });
        }
        self.depth += 1;
        Ok(())
    }

    /// Goes out of a value that holds values.
    pub fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn take(&mut self, len: usize, what: &'static str) -> Result<Bytes, CodecError> {
        if len > self.bytes.len() {
            return Err(CodecError::End { what });
        }
        Ok(self.bytes.split_to(len))
    }

    /// Reads a u8.
    pub fn u8(&mut self) -> Result<u8, CodecError> {
        self.byte("a u8")
    }

    /// Reads an s8.
    pub fn s8(&mut self) -> Result<i8, CodecError> {
        self.byte("an s8").map(|byte| i8::from_le_bytes([byte]))
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, CodecError> {
        self.bytes.try_get_u8().map_err(|_| CodecError::End { what })
    }

    fn unsigned(&mut self, bits: u32, what: &'static str) -> Result<u64, CodecError> {
        let mut value = 0_u64;
        let mut shift = 0;
        loop {
            let byte = self.byte(what)?;
            let digit = u64::from(byte & 0x7f);
            let room = bits - shift;
            if room < 7 && digit >> room != 0 {
                return Err(CodecError::Invalid { what });
            }
            value |= digit << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
            if shift >= bits {
                return Err(CodecError::Invalid { what });
            }
        }
    }

    fn signed(&mut self, bits: u32, what: &'static str) -> Result<i64, CodecError> {
        let mut value = 0_i128;
        let mut shift = 0;
        loop {
            let byte = self.byte(what)?;
            value |= i128::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                if byte & 0x40 != 0 {
                    value -= 1 << shift;
                }
                let most = 1_i128 << (bits - 1);
                let fits = (-most..most).contains(&value);
                return if fits {
                    Ok(value as i64)
                } else {
                    Err(CodecError::Invalid { what })
                };
            }
            if shift >= bits {
                return Err(CodecError::Invalid { what });
            }
        }
    }

    /// Reads a u16.
    pub fn u16(&mut self) -> Result<u16, CodecError> {
        self.unsigned(16, "a u16").map(|value| value as u16)
    }

    /// Reads a u32.
    pub fn u32(&mut self) -> Result<u32, CodecError> {
        self.unsigned(32, "a u32").map(|value| value as u32)
    }

    /// Reads a u64.
    pub fn u64(&mut self) -> Result<u64, CodecError> {
        self.unsigned(64, "a u64")
    }

    /// Reads an s16.
    pub fn s16(&mut self) -> Result<i16, CodecError> {
        self.signed(16, "an s16").map(|value| value as i16)
    }

    /// Reads an s32.
    pub fn s32(&mut self) -> Result<i32, CodecError> {
        self.signed(32, "an s32").map(|value| value as i32)
    }

    /// Reads an s64.
    pub fn s64(&mut self) -> Result<i64, CodecError> {
        self.signed(64, "an s64")
    }

    /// Reads an f32.
    pub fn f32(&mut self) -> Result<f32, CodecError> {
        self.bytes
            .try_get_f32_le()
            .map_err(|_| CodecError::End { what: "an f32" })
    }

    /// Reads an f64.
    pub fn f64(&mut self) -> Result<f64, CodecError> {
        self.bytes
            .try_get_f64_le()
            .map_err(|_| CodecError::End { what: "an f64" })
    }

    fn two(&mut self, what: &'static str) -> Result<bool, CodecError> {
        match self.byte(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Invalid { what }),
        }
    }

    /// Reads a bool.
    pub fn bool(&mut self) -> Result<bool, CodecError> {
        self.two("a bool")
    }

    /// Reads whether an option has a value.
    pub fn option(&mut self) -> Result<bool, CodecError> {
        self.two("an option")
    }

    /// Reads whether a result is ok.
    pub fn result(&mut self) -> Result<bool, CodecError> {
        self.two("a result").map(|is_err| !is_err)
    }

    /// Reads a char.
    pub fn char(&mut self) -> Result<char, CodecError> {
        let what = "a char";
        let len = match self.bytes.first().ok_or(CodecError::End { what })? {
            0x00..=0x7f => 1,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => return Err(CodecError::Invalid { what }),
        };
        let bytes = self.take(len, what)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| CodecError::Invalid { what })?;
        text.chars().next().ok_or(CodecError::Invalid { what })
    }

    /// Reads a `list<u8>` in one piece, without copying it.
    pub fn bytes(&mut self) -> Result<Bytes, CodecError> {
        let len = self.unsigned(32, "a length")? as usize;
        self.take(len, "a list of bytes")
    }

    /// Reads a text.
    pub fn string(&mut self) -> Result<String, CodecError> {
        let what = "a text";
        let len = self.unsigned(32, "a length")? as usize;
        let bytes = self.take(len, what)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| CodecError::Invalid { what })?;
        Ok(text.to_owned())
    }

    /// Reads the number of elements of a list whose elements have at least `element_bytes_min` bytes each.
    pub fn len(&mut self, element_bytes_min: usize) -> Result<usize, CodecError> {
        let len = self.unsigned(32, "a length")? as usize;
        if len.saturating_mul(element_bytes_min) > self.bytes.len() {
            return Err(CodecError::End { what: "a list" });
        }
        self.elements = self.elements.saturating_add(len);
        if self.elements > self.limits.elements {
            return Err(CodecError::Limit {
                what: "elements of lists",
                limit: self.limits.elements,
            });
        }
        Ok(len)
    }

    /// Reads the discriminant of a variant or an enum with this many cases.
    pub fn discriminant(&mut self, cases: u32) -> Result<u32, CodecError> {
        let what = "a case";
        let case = self.unsigned(32, what)? as u32;
        if case < cases {
            Ok(case)
        } else {
            Err(CodecError::Invalid { what })
        }
    }

    /// Reads flags: for each of `count` in order whether it is set.
    pub fn flags(&mut self, count: usize) -> Result<Vec<bool>, CodecError> {
        let bytes = self.take(count.div_ceil(8).max(1), "flags")?;
        let set = |flag: usize| bytes[flag / 8] & (1 << (flag % 8)) != 0;
        if (count..bytes.len() * 8).any(set) {
            return Err(CodecError::Invalid { what: "flags" });
        }
        Ok((0..count).map(set).collect())
    }
}

#[cfg(test)]
mod tests;
