//! A part that was read: what it imports and exports, with types.

use crate::{ComposeError, Part, rename};
use std::collections::{BTreeMap, BTreeSet};
use wac_graph::{CompositionGraph, PackageId};
use wac_types::{InterfaceId, ItemKind, Package, Types, World};

/// A part in a graph.
pub(crate) struct Placed<'a> {
    pub(crate) name: &'a str,
    pub(crate) package: PackageId,
    rename: &'a BTreeMap<String, String>,
}

impl<'a> Placed<'a> {
    /// Reads a part and takes it into a graph.
    pub(crate) fn new(graph: &mut CompositionGraph, name: &'a str, part: &Part<'a>) -> Result<Self, ComposeError> {
        let unreadable = |why: String| ComposeError::Unreadable {
            part: name.to_owned(),
            why,
        };
        let bytes = match part.rename.is_empty() {
            true => part.bytes.to_vec(),
            false => rename::rename_imports(part.bytes, part.rename).map_err(unreadable)?,
        };
        let package =
            Package::from_bytes(name, None, bytes, graph.types_mut()).map_err(|e| unreadable(format!("{e:#}")))?;
        let package = graph.register_package(package).map_err(|e| unreadable(e.to_string()))?;
        Ok(Self {
            name,
            package,
            rename: part.rename,
        })
    }

    pub(crate) fn world<'g>(&self, graph: &'g CompositionGraph) -> &'g World {
        &graph.types()[graph[self.package].ty()]
    }

    /// The name that an import of the component has in the whole.
    pub(crate) fn name_in_whole<'n>(&'n self, import: &'n str) -> &'n str {
        self.rename.get(import).map_or(import, String::as_str)
    }

    /// The name that an import of the whole has in the component.
    pub(crate) fn own_name<'n>(&'n self, in_whole: &'n str) -> &'n str {
        let renamed = self.rename.iter().find(|(_, new)| new.as_str() == in_whole);
        renamed.map_or(in_whole, |(own, _)| own.as_str())
    }

    /// The names of its imports, as the component has them.
    pub(crate) fn imports(&self, graph: &CompositionGraph) -> BTreeSet<String> {
        let world = self.world(graph);
        world
            .imports
            .keys()
            .map(|name| self.own_name(name).to_owned())
            .collect()
    }
}

/// The interface of an import or export; none if it is something else than an instance.
pub(crate) fn interface_of(kind: Option<&ItemKind>) -> Option<InterfaceId> {
    match kind {
        Some(ItemKind::Instance(id)) => Some(*id),
        _ => None,
    }
}

/// What one interface lacks of another: named functions and types.
pub(crate) fn lacking(types: &Types, has: InterfaceId, wants: InterfaceId) -> Vec<String> {
    let names = types[wants].exports.iter();
    names
        .filter(|(name, _)| !types[has].exports.contains_key(*name))
        .map(|(name, kind)| format!("{} `{name}`", kind.desc(types)))
        .collect()
}

/// The names in an interface, for near misses.
pub(crate) fn names_in(types: &Types, interface: InterfaceId) -> Vec<String> {
    types[interface].exports.keys().cloned().collect()
}

/// Names in which a slip is to be looked for: those of the same package first.
pub(crate) fn near(wanted: &str, names: impl IntoIterator<Item = String>) -> Vec<String> {
    let package = |name: &str| name.split_once('/').map_or(name, |(package, _)| package).to_owned();
    let wanted = package(wanted);
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort_by_key(|name| (package(name) != wanted, name.clone()));
    names
}
