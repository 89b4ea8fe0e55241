//! The fast way for the shapes that carry bulk: a `list<u8>` is copied, never taken apart into single values.
//!
//! In: the signature of a function. Out: its Rust types, if it is one of the plain ones, handed to whoever needs types
//! at compile time. Only functions with a `list<u8>` among their parameters or in their result take this way; for all
//! others the dynamic one costs microseconds at most.

use crate::shape::{Shape, Signature};
use bytes::{Bytes, BytesMut};
use heddle_wrpc::codec::{CodecError, Cursor, DecodeLimits, put_bool, put_bytes, put_result, put_string, put_unsigned};
use wasmtime::component::{ComponentNamedList, Lift, Lower};

/// A value of a plain shape.
pub trait Plain: Lift + Lower + Send + Sync + 'static {
    /// Writes it.
    fn put(&self, out: &mut BytesMut) -> Result<(), CodecError>;
    /// Reads it.
    fn take(cursor: &mut Cursor) -> Result<Self, CodecError>;
    /// The value that says in words why there is none, where the type has room for words.
    fn of_error(text: &dyn std::fmt::Display) -> Option<Self> {
        let _ = text;
        None
    }
}

/// Values in a row: parameters, or a result if there is one.
pub trait PlainList: ComponentNamedList + Lift + Lower + Send + Sync + 'static {
    /// Writes them.
    fn put(&self, out: &mut BytesMut) -> Result<(), CodecError>;
    /// Reads them.
    fn take(cursor: &mut Cursor) -> Result<Self, CodecError>;
}

/// What comes back from a call.
pub trait PlainResult: PlainList {
    /// The result that says in words why there is none, where the type has room for words.
    fn of_error(text: &dyn std::fmt::Display) -> Option<Self>;
}

/// The bytes of values in a row.
pub fn encode<L: PlainList>(values: &L) -> Result<Bytes, CodecError> {
    let mut out = BytesMut::new();
    values.put(&mut out)?;
    Ok(out.freeze())
}

/// The values in bytes, of which none may be left.
pub fn decode<L: PlainList>(bytes: Bytes) -> Result<L, CodecError> {
    let mut cursor = Cursor::new(bytes, DecodeLimits::default());
    let values = L::take(&mut cursor)?;
    cursor.finish()?;
    Ok(values)
}

/// Something that needs the Rust types of a plain function.
pub trait Visit {
    /// What comes of it.
    type Out;
    /// Called with the types.
    fn visit<P: PlainList, R: PlainResult>(self) -> Self::Out;
}

/// Calls the visitor with the types of a function, if it is plain and carries bulk.
pub fn visit<V: Visit>(signature: &Signature, visitor: V) -> Option<V::Out> {
    use Kind::{Bytes, Text, U32, U64};
    let kinds: Option<Vec<Kind>> = signature.params.iter().map(Kind::of).collect();
    let result = ResultKind::of(signature.result.as_ref())?;
    Some(match *kinds? {
        [Bytes] => with_any::<V, (Vec<u8>,)>(result, visitor),
        [Bytes, Bytes] => with_any::<V, (Vec<u8>, Vec<u8>)>(result, visitor),
        [Text, Bytes] => with_any::<V, (String, Vec<u8>)>(result, visitor),
        [Bytes, Text] => with_any::<V, (Vec<u8>, String)>(result, visitor),
        [U32, Bytes] => with_any::<V, (u32, Vec<u8>)>(result, visitor),
        [U64, Bytes] => with_any::<V, (u64, Vec<u8>)>(result, visitor),
        [] => return with_bytes::<V, ()>(result, visitor),
        [Text] => return with_bytes::<V, (String,)>(result, visitor),
        [U32] => return with_bytes::<V, (u32,)>(result, visitor),
        [U64] => return with_bytes::<V, (u64,)>(result, visitor),
        [Text, Text] => return with_bytes::<V, (String, String)>(result, visitor),
        [Text, U64] => return with_bytes::<V, (String, u64)>(result, visitor),
        [U64, U64] => return with_bytes::<V, (u64, u64)>(result, visitor),
        _ => return None,
    })
}

/// Any plain result.
fn with_any<V: Visit, P: PlainList>(result: ResultKind, visitor: V) -> V::Out {
    use Kind::{Bytes, Flag, Text, U32, U64};
    match result {
        ResultKind::Nothing => visitor.visit::<P, ()>(),
        ResultKind::Just(Bytes) => visitor.visit::<P, (Vec<u8>,)>(),
        ResultKind::Just(Text) => visitor.visit::<P, (String,)>(),
        ResultKind::Just(U32) => visitor.visit::<P, (u32,)>(),
        ResultKind::Just(U64) => visitor.visit::<P, (u64,)>(),
        ResultKind::Just(Flag) => visitor.visit::<P, (bool,)>(),
        ResultKind::OrText(None) => visitor.visit::<P, (Result<(), String>,)>(),
        ResultKind::OrText(Some(Bytes)) => visitor.visit::<P, (Result<Vec<u8>, String>,)>(),
        ResultKind::OrText(Some(Text)) => visitor.visit::<P, (Result<String, String>,)>(),
        ResultKind::OrText(Some(U32)) => visitor.visit::<P, (Result<u32, String>,)>(),
        ResultKind::OrText(Some(U64)) => visitor.visit::<P, (Result<u64, String>,)>(),
        ResultKind::OrText(Some(Flag)) => visitor.visit::<P, (Result<bool, String>,)>(),
    }
}

/// Only results that are bulk.
fn with_bytes<V: Visit, P: PlainList>(result: ResultKind, visitor: V) -> Option<V::Out> {
    match result {
        ResultKind::Just(Kind::Bytes) => Some(visitor.visit::<P, (Vec<u8>,)>()),
        ResultKind::OrText(Some(Kind::Bytes)) => Some(visitor.visit::<P, (Result<Vec<u8>, String>,)>()),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bytes,
    Text,
    U32,
    U64,
    Flag,
}

impl Kind {
    fn of(shape: &Shape) -> Option<Self> {
        Some(match shape {
            Shape::List(item) if **item == Shape::U8 => Self::Bytes,
            Shape::String => Self::Text,
            Shape::U32 => Self::U32,
            Shape::U64 => Self::U64,
            Shape::Bool => Self::Flag,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResultKind {
    Nothing,
    Just(Kind),
    /// `result<_, string>`
    OrText(Option<Kind>),
}

impl ResultKind {
    fn of(shape: Option<&Shape>) -> Option<Self> {
        Some(match shape {
            None => Self::Nothing,
            Some(Shape::Result { ok, err: Some(err) }) if **err == Shape::String => match ok {
                None => Self::OrText(None),
                Some(ok) => Self::OrText(Some(Kind::of(ok)?)),
            },
            Some(shape) => Self::Just(Kind::of(shape)?),
        })
    }
}

impl Plain for Vec<u8> {
    fn put(&self, out: &mut BytesMut) -> Result<(), CodecError> {
        put_bytes(out, self)
    }

    fn take(cursor: &mut Cursor) -> Result<Self, CodecError> {
        Ok(cursor.bytes()?.into())
    }
}

impl Plain for String {
    fn put(&self, out: &mut BytesMut) -> Result<(), CodecError> {
        put_string(out, self)
    }

    fn take(cursor: &mut Cursor) -> Result<Self, CodecError> {
        cursor.string()
    }
}

impl Plain for u32 {
    fn put(&self, out: &mut BytesMut) -> Result<(), CodecError> {
        put_unsigned(out, (*self).into());
        Ok(())
    }

    fn take(cursor: &mut Cursor) -> Result<Self, CodecError> {
        cursor.u32()
    }
}

impl Plain for u64 {
    fn put(&self, out: &mut BytesMut) -> Result<(), CodecError> {
        put_unsigned(out, *self);
        Ok(())
    }

    fn take(cursor: &mut Cursor) -> Result<Self, CodecError> {
        cursor.u64()
    }
}

impl Plain for bool {
    fn put(&self, out: &mut BytesMut) -> Result<(), CodecError> {
        put_bool(out, *self);
        Ok(())
    }

    fn take(cursor: &mut Cursor) -> Result<Self, CodecError> {
        cursor.bool()
    }
}

impl PlainList for () {
    fn put(&self, _out: &mut BytesMut) -> Result<(), CodecError> {
        Ok(())
    }

    fn take(_cursor: &mut Cursor) -> Result<Self, CodecError> {
        Ok(())
    }
}

impl<A: Plain> PlainList for (A,) {
    fn put(&self, out: &mut BytesMut) -> Result<(), CodecError> {
        self.0.put(out)
    }

    fn take(cursor: &mut Cursor) -> Result<Self, CodecError> {
        Ok((A::take(cursor)?,))
    }
}

impl<A: Plain, B: Plain> PlainList for (A, B) {
    fn put(&self, out: &mut BytesMut) -> Result<(), CodecError> {
        self.0.put(out)?;
        self.1.put(out)
    }

    fn take(cursor: &mut Cursor) -> Result<Self, CodecError> {
        Ok((A::take(cursor)?, B::take(cursor)?))
    }
}

impl PlainResult for () {
    fn of_error(_text: &dyn std::fmt::Display) -> Option<Self> {
        None
    }
}

impl<A: Plain> PlainResult for (A,) {
    fn of_error(text: &dyn std::fmt::Display) -> Option<Self> {
        Some((A::of_error(text)?,))
    }
}

impl<T: Payload + Lift + Lower + Send + Sync + 'static> Plain for Result<T, String> {
    fn put(&self, out: &mut BytesMut) -> Result<(), CodecError> {
        put_result(out, self.is_ok());
        match self {
            Ok(value) => value.put_payload(out),
            Err(text) => text.put(out),
        }
    }

    fn take(cursor: &mut Cursor) -> Result<Self, CodecError> {
        Ok(match cursor.result()? {
            true => Ok(T::take_payload(cursor)?),
            false => Err(String::take(cursor)?),
        })
    }

    fn of_error(text: &dyn std::fmt::Display) -> Option<Self> {
        Some(Err(text.to_string()))
    }
}

/// What a success holds; nothing is a payload too.
trait Payload: Sized {
    fn put_payload(&self, out: &mut BytesMut) -> Result<(), CodecError>;
    fn take_payload(cursor: &mut Cursor) -> Result<Self, CodecError>;
}

impl Payload for () {
    fn put_payload(&self, _out: &mut BytesMut) -> Result<(), CodecError> {
        Ok(())
    }

    fn take_payload(_cursor: &mut Cursor) -> Result<Self, CodecError> {
        Ok(())
    }
}

impl<T: Plain> Payload for T {
    fn put_payload(&self, out: &mut BytesMut) -> Result<(), CodecError> {
        self.put(out)
    }

    fn take_payload(cursor: &mut Cursor) -> Result<Self, CodecError> {
        T::take(cursor)
    }
}
