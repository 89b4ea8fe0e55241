//! The shape of the values that a function takes and gives, found once when it is linked.
//!
//! In: component types as wasmtime describes them. Out: a tree that the codec walks without asking wasmtime again, or a
//! sentence about what cannot go over the network.

use std::collections::HashMap;
use wasmtime::component::Type;
use wasmtime::component::types::ComponentFunc;

/// How deep types may be nested: what the component model's own validators allow.
const DEPTH_MAX: usize = 100;

/// What one value is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// `bool`
    Bool,
    /// `s8`
    S8,
    /// `u8`
    U8,
    /// `s16`
    S16,
    /// `u16`
    U16,
    /// `s32`
    S32,
    /// `u32`
    U32,
    /// `s64`
    S64,
    /// `u64`
    U64,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `char`
    Char,
    /// `string`
    String,
    /// `list<_>`
    List(Box<Shape>),
    /// `record`, with its fields in order
    Record(Vec<(String, Shape)>),
    /// `tuple<..>`
    Tuple(Vec<Shape>),
    /// `variant`, with its cases in order
    Variant(Names<Option<Shape>>),
    /// `enum`, with its cases in order
    Enum(Names<()>),
    /// `option<_>`
    Option(Box<Shape>),
    /// `result<_, _>`
    Result {
        /// The type of a success, if it has one.
        ok: Option<Box<Shape>>,
        /// The type of a failure, if it has one.
        err: Option<Box<Shape>>,
    },
    /// `flags`, in order
    Flags(Names<()>),
}

/// Names in the order of their numbers on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names<T> {
    items: Vec<(String, T)>,
    index: HashMap<String, u32>,
}

impl<T> Names<T> {
    /// Names with what belongs to each.
    pub fn new(items: Vec<(String, T)>) -> Self {
        let index = (0..).zip(&items).map(|(at, (name, _))| (name.clone(), at)).collect();
        Self { items, index }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The number of a name, and what belongs to it.
    pub fn find(&self, name: &str) -> Option<(u32, &T)> {
        let at = *self.index.get(name)?;
        let (_, item) = self.items.get(at as usize)?;
        Some((at, item))
    }

    /// The name of a number, and what belongs to it.
    pub fn get(&self, at: u32) -> Option<&(String, T)> {
        self.items.get(usize::try_from(at).ok()?)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &(String, T)> {
        self.items.iter()
    }
}

/// What a function takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Its parameters, in order.
    pub params: Vec<Shape>,
    /// Its result, if it has one.
    pub result: Option<Shape>,
    /// Whether it is an `async func`.
    pub is_async: bool,
}

impl Signature {
    /// The signature of a function, or why it cannot be called over the network.
    pub fn of(ty: &ComponentFunc) -> Result<Self, Unsupported> {
        let params = ty
            .params()
            .map(|(name, ty)| Shape::of(&ty).map_err(|why| Unsupported(format!("its parameter {name:?} {why}"))));
        let params = params.collect::<Result<_, _>>()?;
        let mut results = ty.results();
        let result = results.next().map(|ty| Shape::of(&ty));
        let result = result
            .transpose()
            .map_err(|why| Unsupported(format!("its result {why}")))?;
        if results.next().is_some() {
            return Err(Unsupported("it has more than one result".to_owned()));
        }
        Ok(Self {
            params,
            result,
            is_async: ty.async_(),
        })
    }

    /// Whether a failed call can be told to the guest in words: its result is `result<_, string>`.
    pub fn tells_errors(&self) -> bool {
        matches!(&self.result, Some(Shape::Result { err: Some(err), .. }) if **err == Shape::String)
    }
}

/// Why something cannot go over the network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsupported(pub(crate) String);

impl Shape {
    /// The shape of a type.
    pub fn of(ty: &Type) -> Result<Self, Unsupported> {
        Self::nested(ty, DEPTH_MAX)
    }

    fn nested(ty: &Type, depth: usize) -> Result<Self, Unsupported> {
        let refused = |what: &str| Err(Unsupported(format!("has {what}, which stays inside one host")));
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Unsupported(format!("is nested deeper than {DEPTH_MAX} types")));
        };
        let inner = |ty: &Type| Self::nested(ty, depth);
        let boxed = |ty: Option<Type>| ty.map(|ty| inner(&ty).map(Box::new)).transpose();
        Ok(match ty {
            Type::Bool => Self::Bool,
            Type::S8 => Self::S8,
            Type::U8 => Self::U8,
            Type::S16 => Self::S16,
            Type::U16 => Self::U16,
            Type::S32 => Self::S32,
            Type::U32 => Self::U32,
            Type::S64 => Self::S64,
            Type::U64 => Self::U64,
            Type::Float32 => Self::F32,
            Type::Float64 => Self::F64,
            Type::Char => Self::Char,
            Type::String => Self::String,
            Type::List(list) => Self::List(Box::new(inner(&list.ty())?)),
            Type::Record(record) => {
                let fields = record.fields().map(|f| Ok((f.name.to_owned(), inner(&f.ty)?)));
                Self::Record(fields.collect::<Result<_, _>>()?)
            }
            Type::Tuple(tuple) => Self::Tuple(tuple.types().map(|ty| inner(&ty)).collect::<Result<_, _>>()?),
            Type::Variant(variant) => {
                let case = |name: &str, ty: Option<Type>| Ok((name.to_owned(), ty.map(|ty| inner(&ty)).transpose()?));
                let cases = variant.cases().map(|c| case(c.name, c.ty));
                Self::Variant(Names::new(cases.collect::<Result<_, _>>()?))
            }
            Type::Enum(names) => Self::Enum(plain_names(names.names())),
            Type::Flags(names) => Self::Flags(plain_names(names.names())),
            Type::Option(option) => Self::Option(Box::new(inner(&option.ty())?)),
            Type::Result(result) => Self::Result {
                ok: boxed(result.ok())?,
                err: boxed(result.err())?,
            },
            Type::Own(_) | Type::Borrow(_) => return refused("a resource"),
            Type::Stream(_) => return refused("a stream"),
            Type::Future(_) => return refused("a future"),
            Type::ErrorContext => return refused("an error-context"),
            Type::Map(_) => return refused("a map"),
            Type::FixedLengthList(_) => return refused("a list of fixed length"),
        })
    }
}

fn plain_names<'a>(names: impl Iterator<Item = &'a str>) -> Names<()> {
    Names::new(names.map(|name| (name.to_owned(), ())).collect())
}
