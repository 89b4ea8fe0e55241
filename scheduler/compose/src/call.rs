//! Calls over the network: whether only values travel, and whether both sides mean the same functions.

use crate::error::Names;
use crate::guarded;
use crate::part::{interface_of, lacking, names_in, near};
use wac_types::{
    DefinedType, FuncType, InterfaceId, ItemKind, Package, PrimitiveType, SubtypeChecker, Types, ValueType,
};

/// Checks a call from one component's import to another's export, before anybody makes it: every function takes and
/// gives only values, and, where the callee is at hand, is there with the same type.
///
/// # Errors
/// In words: what cannot travel, or what differs.
pub fn check_call(caller: &[u8], import: &str, callee: Option<&[u8]>, export: &str) -> Result<(), String> {
    guarded(|| check(caller, import, callee, export))
        .unwrap_or_else(|why| Err(format!("a component has a shape that cannot be read: {why}")))
}

fn check(caller: &[u8], import: &str, callee: Option<&[u8]>, export: &str) -> Result<(), String> {
    let mut types = Types::new();
    let wanted = {
        let package = read(&mut types, "caller", caller)?;
        let imports = &types[package.ty()].imports;
        interface_of(imports.get(import)).ok_or_else(|| {
            let near = near(import, imports.keys().cloned());
            format!(
                "the calling component does not import {import}; {}",
                Names("it imports", &near)
            )
        })?
    };
    only_values(&types, import, wanted)?;
    let Some(callee) = callee else { return Ok(()) };
    let package = read(&mut types, "callee", callee)?;
    let exports = &types[package.ty()].exports;
    let found = interface_of(exports.get(export)).ok_or_else(|| {
        let near = near(export, exports.keys().cloned());
        format!(
            "the called component does not export {export}; {}",
            Names("it exports", &near)
        )
    })?;
    same_functions(&types, import, wanted, export, found)
}

fn read(types: &mut Types, what: &str, bytes: &[u8]) -> Result<Package, String> {
    Package::from_bytes(what, None, bytes, types).map_err(|e| format!("the {what} cannot be read: {e:#}"))
}

fn only_values(types: &Types, import: &str, interface: InterfaceId) -> Result<(), String> {
    for (name, function) in functions(types, interface) {
        let what = |place: &str, what: Unfit| {
            format!(
                "function `{name}` of {import} {place} {what}, which cannot be sent to another host; link it locally, or \
                 pass plain values"
            )
        };
        for (param, ty) in &function.params {
            if let Some(unfit) = unfit(types, *ty) {
                return Err(what(&format!("takes, in `{param}`,"), unfit));
            }
        }
        if let Some(unfit) = function.result.and_then(|ty| unfit(types, ty)) {
            return Err(what("returns", unfit));
        }
    }
    Ok(())
}

fn same_functions(
    types: &Types,
    import: &str,
    wanted: InterfaceId,
    export: &str,
    found: InterfaceId,
) -> Result<(), String> {
    let missing = lacking(types, found, wanted);
    if !missing.is_empty() {
        return Err(format!(
            "the called component's {export} lacks {}; {}",
            missing.join(", "),
            Names("it has", &names_in(types, found))
        ));
    }
    let mut cache = Default::default();
    let mut checker = SubtypeChecker::new(&mut cache);
    for (name, wants) in &types[wanted].exports {
        let Some(has) = types[found].exports.get(name) else {
            continue;
        };
        if !matches!(wants, ItemKind::Func(_)) {
            continue;
        }
        checker
            .is_subtype(*has, types, *wants, types)
            .map_err(|e| format!("function `{name}` of {import} is not the same in the called component: {e:#}"))?;
    }
    Ok(())
}

fn functions(types: &Types, interface: InterfaceId) -> impl Iterator<Item = (&String, &FuncType)> {
    let items = types[interface].exports.iter();
    items.filter_map(|(name, kind)| match kind {
        ItemKind::Func(id) => Some((name, &types[*id])),
        _ => None,
    })
}

/// What cannot leave the host that it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unfit {
    Resource(String),
    Stream,
    Future,
    ErrorContext,
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Resource(name) => write!(f, "a handle to resource `{name}`"),
            Self::Stream => f.write_str("a stream"),
            Self::Future => f.write_str("a future"),
            Self::ErrorContext => f.write_str("an error context"),
        }
    }
}

/// Types are never deeper than a hundred: the validator sees to that.
fn unfit(types: &Types, ty: ValueType) -> Option<Unfit> {
    match ty {
        ValueType::Primitive(PrimitiveType::ErrorContext) => Some(Unfit::ErrorContext),
        ValueType::Primitive(_) => None,
        ValueType::Borrow(id) | ValueType::Own(id) => Some(Unfit::Resource(types[id].name.clone())),
        ValueType::Defined(id) => match &types[id] {
            DefinedType::Stream(_) => Some(Unfit::Stream),
            DefinedType::Future(_) => Some(Unfit::Future),
            DefinedType::Tuple(inner) => first_unfit(types, inner.iter().copied()),
            DefinedType::List(ty)
            | DefinedType::FixedSizeList(ty, _)
            | DefinedType::Option(ty)
            | DefinedType::Alias(ty) => unfit(types, *ty),
            DefinedType::Map(key, value) => first_unfit(types, [*key, *value]),
            DefinedType::Result { ok, err } => first_unfit(types, [*ok, *err].into_iter().flatten()),
            DefinedType::Variant(variant) => first_unfit(types, variant.cases.values().copied().flatten()),
            DefinedType::Record(record) => first_unfit(types, record.fields.values().copied()),
            DefinedType::Flags(_) | DefinedType::Enum(_) => None,
        },
    }
}

fn first_unfit(types: &Types, all: impl IntoIterator<Item = ValueType>) -> Option<Unfit> {
    all.into_iter().find_map(|ty| unfit(types, ty))
}
