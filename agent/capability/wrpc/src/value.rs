//! Values of any shape, to and from the bytes that wRPC has for them.
//!
//! In: wasmtime's dynamic values with their shape, or bytes of a peer. Out: the other of the two. This way is open to
//! every type but costs some 40 ns a byte of a `list<u8>`; `typed` is the fast one for the shapes that carry bulk.

use crate::shape::{Names, Shape};
use bytes::{BufMut as _, Bytes, BytesMut};
use heddle_wrpc::codec::{
    CodecError, Cursor, DecodeLimits, put_bool, put_char, put_discriminant, put_f32, put_f64, put_flags, put_len,
    put_result, put_signed, put_string, put_unsigned,
};
use wasmtime::component::Val;

/// Memory that the dynamic values of one message may take: a byte on the wire can become a value of dozens.
const VALUES_BYTES_MAX: usize = 128 << 20;
/// Lists are bounded by that memory, and types are nested as deep as the component model allows.
const LIMITS: DecodeLimits = DecodeLimits {
    depth: usize::MAX,
    elements: usize::MAX,
};

/// Why a value cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It is not of the shape that it should have.
    #[error("failed to encode: a value is not of the type that its function says")]
    Type,
    /// It has no bytes.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Writes values one after the other.
pub fn encode<'a>(shapes: impl IntoIterator<Item = &'a Shape>, values: &[Val]) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::new();
    let mut values = values.iter();
    for shape in shapes {
        put(shape, values.next().ok_or(EncodeError::Type)?, &mut out)?;
    }
    match values.next() {
        None => Ok(out.freeze()),
        Some(_) => Err(EncodeError::Type),
    }
}

/// Reads values one after the other; no byte may be left.
pub fn decode<'a>(shapes: impl IntoIterator<Item = &'a Shape>, bytes: Bytes) -> Result<Vec<Val>, CodecError> {
    let mut decoder = Decoder {
        cursor: Cursor::new(bytes, LIMITS),
        memory: VALUES_BYTES_MAX,
    };
    let values = shapes.into_iter().map(|shape| decoder.value(shape));
    let values = values.collect::<Result<_, _>>()?;
    decoder.cursor.finish()?;
    Ok(values)
}

fn put(shape: &Shape, value: &Val, out: &mut BytesMut) -> Result<(), EncodeError> {
    match (shape, value) {
        (Shape::Bool, Val::Bool(v)) => put_bool(out, *v),
        (Shape::S8, Val::S8(v)) => out.put_i8(*v),
        (Shape::U8, Val::U8(v)) => out.put_u8(*v),
        (Shape::S16, Val::S16(v)) => put_signed(out, (*v).into()),
        (Shape::U16, Val::U16(v)) => put_unsigned(out, (*v).into()),
        (Shape::S32, Val::S32(v)) => put_signed(out, (*v).into()),
        (Shape::U32, Val::U32(v)) => put_unsigned(out, (*v).into()),
        (Shape::S64, Val::S64(v)) => put_signed(out, *v),
        (Shape::U64, Val::U64(v)) => put_unsigned(out, *v),
        (Shape::F32, Val::Float32(v)) => put_f32(out, *v),
        (Shape::F64, Val::Float64(v)) => put_f64(out, *v),
        (Shape::Char, Val::Char(v)) => put_char(out, *v),
        (Shape::String, Val::String(v)) => put_string(out, v)?,
        (Shape::List(item), Val::List(items)) => {
            out.reserve(items.len() + 5);
            put_len(out, items.len())?;
            items.iter().try_for_each(|value| put(item, value, out))?;
        }
        (Shape::Record(fields), Val::Record(values)) if fields.len() == values.len() => {
            let mut pairs = fields.iter().zip(values);
            pairs.try_for_each(|((name, shape), (given, value))| match name == given {
                true => put(shape, value, out),
                false => Err(EncodeError::Type),
            })?;
        }
        (Shape::Tuple(shapes), Val::Tuple(values)) if shapes.len() == values.len() => {
            let mut pairs = shapes.iter().zip(values);
            pairs.try_for_each(|(shape, value)| put(shape, value, out))?;
        }
        (Shape::Variant(cases), Val::Variant(name, value)) => {
            let (case, shape) = cases.find(name).ok_or(EncodeError::Type)?;
            put_discriminant(out, case);
            put_payload(shape.as_ref(), value.as_deref(), out)?;
        }
        (Shape::Enum(cases), Val::Enum(name)) => {
            let (case, ()) = cases.find(name).ok_or(EncodeError::Type)?;
            put_discriminant(out, case);
        }
        (Shape::Option(_), Val::Option(None)) => put_bool(out, false),
        (Shape::Option(shape), Val::Option(Some(value))) => {
            put_bool(out, true);
            put(shape, value, out)?;
        }
        (Shape::Result { ok, .. }, Val::Result(Ok(value))) => {
            put_result(out, true);
            put_payload(ok.as_deref(), value.as_deref(), out)?;
        }
        (Shape::Result { err, .. }, Val::Result(Err(value))) => {
            put_result(out, false);
            put_payload(err.as_deref(), value.as_deref(), out)?;
        }
        (Shape::Flags(names), Val::Flags(set)) => put_names(names, set, out)?,
        _ => return Err(EncodeError::Type),
    }
    Ok(())
}

fn put_payload(shape: Option<&Shape>, value: Option<&Val>, out: &mut BytesMut) -> Result<(), EncodeError> {
    match (shape, value) {
        (None, None) => Ok(()),
        (Some(shape), Some(value)) => put(shape, value, out),
        _ => Err(EncodeError::Type),
    }
}

fn put_names(names: &Names<()>, set: &[String], out: &mut BytesMut) -> Result<(), EncodeError> {
    let mut flags = vec![false; names.len()];
    for name in set {
        let (at, ()) = names.find(name).ok_or(EncodeError::Type)?;
        *flags.get_mut(at as usize).ok_or(EncodeError::Type)? = true;
    }
    put_flags(out, &flags);
    Ok(())
}

struct Decoder {
    cursor: Cursor,
    /// Bytes of memory that values may still take.
    memory: usize,
}

impl Decoder {
    /// Counts memory before it is taken.
    fn spend(&mut self, bytes: usize) -> Result<(), CodecError> {
        self.memory = self.memory.checked_sub(bytes).ok_or(CodecError::Limit {
            what: "bytes of memory that values take",
            limit: VALUES_BYTES_MAX,
        })?;
        Ok(())
    }

    fn value(&mut self, shape: &Shape) -> Result<Val, CodecError> {
        let cursor = &mut self.cursor;
        Ok(match shape {
            Shape::Bool => Val::Bool(cursor.bool()?),
            Shape::S8 => Val::S8(cursor.s8()?),
            Shape::U8 => Val::U8(cursor.u8()?),
            Shape::S16 => Val::S16(cursor.s16()?),
            Shape::U16 => Val::U16(cursor.u16()?),
            Shape::S32 => Val::S32(cursor.s32()?),
            Shape::U32 => Val::U32(cursor.u32()?),
            Shape::S64 => Val::S64(cursor.s64()?),
            Shape::U64 => Val::U64(cursor.u64()?),
            Shape::F32 => Val::Float32(cursor.f32()?),
            Shape::F64 => Val::Float64(cursor.f64()?),
            Shape::Char => Val::Char(cursor.char()?),
            Shape::String => Val::String(cursor.string()?),
            Shape::List(item) => Val::List(self.list(item)?),
            Shape::Record(fields) => Val::Record(self.record(fields)?),
            Shape::Tuple(shapes) => {
                self.spend(shapes.len() * size_of::<Val>())?;
                Val::Tuple(shapes.iter().map(|shape| self.value(shape)).collect::<Result<_, _>>()?)
            }
            Shape::Variant(cases) => {
                let (name, shape) = case(cases, cursor)?;
                self.spend(name.len())?;
                Val::Variant(name.clone(), self.payload(shape.as_ref())?)
            }
            Shape::Enum(cases) => {
                let (name, ()) = case(cases, cursor)?;
                self.spend(name.len())?;
                Val::Enum(name.clone())
            }
            Shape::Option(shape) => match cursor.option()? {
                false => Val::Option(None),
                true => Val::Option(self.payload(Some(shape))?),
            },
            Shape::Result { ok, err } => match cursor.result()? {
                true => Val::Result(Ok(self.payload(ok.as_deref())?)),
                false => Val::Result(Err(self.payload(err.as_deref())?)),
            },
            Shape::Flags(names) => Val::Flags(self.flags(names)?),
        })
    }

    fn payload(&mut self, shape: Option<&Shape>) -> Result<Option<Box<Val>>, CodecError> {
        let Some(shape) = shape else { return Ok(None) };
        self.spend(size_of::<Val>())?;
        Ok(Some(Box::new(self.value(shape)?)))
    }

    fn list(&mut self, item: &Shape) -> Result<Vec<Val>, CodecError> {
        // Every value has at least one byte.
        let len = self.cursor.len(1)?;
        self.spend(len.saturating_mul(size_of::<Val>()))?;
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(self.value(item)?);
        }
        Ok(items)
    }

    fn record(&mut self, fields: &[(String, Shape)]) -> Result<Vec<(String, Val)>, CodecError> {
        self.spend(size_of_val(fields))?;
        let field = |(name, shape): &(String, Shape)| {
            self.spend(name.len())?;
            Ok((name.clone(), self.value(shape)?))
        };
        fields.iter().map(field).collect()
    }

    fn flags(&mut self, names: &Names<()>) -> Result<Vec<String>, CodecError> {
        let flags = self.cursor.flags(names.len())?;
        let mut set = Vec::new();
        for ((name, ()), _) in names.iter().zip(flags).filter(|(_, is_set)| *is_set) {
            self.spend(size_of::<String>() + name.len())?;
            set.push(name.clone());
        }
        Ok(set)
    }
}

fn case<'a, T>(cases: &'a Names<T>, cursor: &mut Cursor) -> Result<&'a (String, T), CodecError> {
    let count = u32::try_from(cases.len()).unwrap_or(u32::MAX);
    let case = cursor.discriminant(count)?;
    cases.get(case).ok_or(CodecError::Invalid { what: "a case" })
}
