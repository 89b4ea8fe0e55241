//! Whose a resource is. Two parts may speak of one resource only if it is the same one for both: a bucket of the one's
//! key-value capability is none of the other's.

use crate::error::Ends;
use crate::part::{Placed, interface_of};
use crate::{ComposeError, Link};
use std::collections::BTreeMap;
use wac_graph::CompositionGraph;
use wac_types::{InterfaceId, ItemKind, Type};

/// Where a resource is defined.
#[derive(Debug, Clone)]
enum Origin {
    /// Outside of the whole, in an import of it.
    Outside {
        in_whole: String,
        resource: String,
        part: String,
        own_name: String,
    },
    /// In a part, in one of its exports.
    Part {
        part: String,
        export: String,
        resource: String,
    },
}

impl Origin {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Outside { in_whole, resource, .. },
                Self::Outside {
                    in_whole: other,
                    resource: other_resource,
                    ..
                },
            ) => in_whole == other && resource == other_resource,
            (
                Self::Part { part, resource, .. },
                Self::Part {
                    part: other,
                    resource: other_resource,
                    ..
                },
            ) => part == other && resource == other_resource,
            _ => false,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Outside { part, own_name, .. } => write!(f, "the {own_name} that {part} is given"),
            Self::Part { part, export, .. } => write!(f, "{part}'s own {export}"),
        }
    }
}

/// The parts and what links them.
pub(crate) struct Origins<'a> {
    pub(crate) graph: &'a CompositionGraph,
    pub(crate) parts: &'a BTreeMap<&'a str, Placed<'a>>,
    pub(crate) links: &'a [Link<'a>],
}

impl Origins<'_> {
    /// Checks the resources that pass over a link. There is no cycle of links.
    pub(crate) fn check(&self, link: &Link<'_>) -> Result<(), ComposeError> {
        let types = self.graph.types();
        let (Some(from), Some(to)) = (self.parts.get(link.from), self.parts.get(link.to)) else {
            return Ok(());
        };
        let Some(wanted) = interface_of(from.world(self.graph).imports.get(from.name_in_whole(link.import))) else {
            return Ok(());
        };
        for (name, used) in &types[wanted].uses {
            if !matches!(types[wanted].exports.get(name), Some(ItemKind::Type(Type::Resource(_)))) {
                continue;
            }
            let Some(interface) = types[used.interface].id.as_deref() else {
                continue;
            };
            let resource = used.name.as_deref().unwrap_or(name);
            let ours = self.of_import(from, interface, resource);
            let theirs = self.of_export(to, link.export, name);
            if !ours.is(&theirs) {
                return Err(differ(link, name, &ours, &theirs));
            }
        }
        Ok(())
    }

    /// Of a resource in an import of a part. The import goes by its name in the whole.
    fn of_import(&self, part: &Placed<'_>, in_whole: &str, resource: &str) -> Origin {
        let own_name = part.own_name(in_whole);
        let link = self
            .links
            .iter()
            .find(|link| link.from == part.name && link.import == own_name);
        if let Some((link, to)) = link.and_then(|link| Some((link, self.parts.get(link.to)?))) {
            return self.of_export(to, link.export, resource);
        }
        // An import that uses a resource of another one passes it on.
        let interface = interface_of(part.world(self.graph).imports.get(in_whole));
        if let Some((used, name)) = interface.and_then(|interface| self.used(interface, resource)) {
            return self.of_import(part, &used, &name);
        }
        Origin::Outside {
            in_whole: in_whole.to_owned(),
            resource: resource.to_owned(),
            part: part.name.to_owned(),
            own_name: own_name.to_owned(),
        }
    }

    /// Of a resource in an export of a part.
    fn of_export(&self, part: &Placed<'_>, export: &str, resource: &str) -> Origin {
        let world = part.world(self.graph);
        let interface = interface_of(world.exports.get(export));
        if let Some((used, name)) = interface.and_then(|interface| self.used(interface, resource)) {
            // What a part both imports and exports under one name was imported first; its resources are those of the
            // import unless the export defines them itself, and then it uses nothing.
            return match world.imports.contains_key(&used) {
                true => self.of_import(part, &used, &name),
                false if used != export => self.of_export(part, &used, &name),
                false => self.own(part, export, &name),
            };
        }
        self.own(part, export, resource)
    }

    fn own(&self, part: &Placed<'_>, export: &str, resource: &str) -> Origin {
        Origin::Part {
            part: part.name.to_owned(),
            export: export.to_owned(),
            resource: resource.to_owned(),
        }
    }

    /// The interface that a resource of this one is taken from, and its name there.
    fn used(&self, interface: InterfaceId, resource: &str) -> Option<(String, String)> {
        let types = self.graph.types();
        let used = types[interface].uses.get(resource)?;
        let id = types[used.interface].id.clone()?;
        Some((id, used.name.clone().unwrap_or_else(|| resource.to_owned())))
    }
}

fn differ(link: &Link<'_>, resource: &str, ours: &Origin, theirs: &Origin) -> ComposeError {
    let next = match (ours, theirs) {
        (Origin::Outside { own_name, .. }, Origin::Part { part, export, .. }) => {
            format!("link {own_name} of {} to {export} of {part} too", link.from)
        }
        (Origin::Outside { .. }, Origin::Outside { .. }) => {
            "each component has its own binding to a capability, so handles cannot pass a link; pass names or values"
                .to_owned()
        }
        _ => "link every interface that has this resource to the same component".to_owned(),
    };
    ComposeError::Resource {
        link: Ends::of(link),
        resource: resource.to_owned(),
        from_origin: ours.to_string(),
        to_origin: theirs.to_string(),
        next,
    }
}
