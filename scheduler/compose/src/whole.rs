//! The whole: parts in a graph, links wired, encoded, and looked at again.

use crate::error::Ends;
use crate::outcome;
use crate::part::{Placed, interface_of, lacking, names_in, near};
use crate::resource::Origins;
use crate::{ComposeError, Link, Part};
use heddle_protocol::wit;
use std::collections::{BTreeMap, BTreeSet};
use wac_graph::{CompositionGraph, EncodeError, EncodeOptions, InstantiationArgumentError, NodeId};

pub(crate) fn compose(
    entry: &str,
    parts: &BTreeMap<&str, Part<'_>>,
    links: &[Link<'_>],
) -> Result<Vec<u8>, ComposeError> {
    check_ends(entry, parts, links)?;
    refuse_cycles(parts, links)?;
    let mut graph = CompositionGraph::new();
    let mut placed: BTreeMap<&str, Placed<'_>> = BTreeMap::new();
    for (name, part) in parts {
        placed.insert(name, Placed::new(&mut graph, name, part)?);
    }
    let mut whole = Whole {
        graph,
        placed,
        instances: BTreeMap::new(),
    };
    for (name, part) in &whole.placed {
        whole.instances.insert(*name, whole.graph.instantiate(part.package));
    }
    for link in links {
        whole.check(link)?;
    }
    let origins = Origins {
        graph: &whole.graph,
        parts: &whole.placed,
        links,
    };
    for link in links {
        origins.check(link)?;
    }
    for link in links {
        whole.wire(link)?;
    }
    let exports = whole.export(entry)?;
    let expected = whole.unmet(links);
    let bytes = whole.encode()?;
    outcome::check(&bytes, &expected, &exports)?;
    Ok(bytes)
}

fn check_ends(entry: &str, parts: &BTreeMap<&str, Part<'_>>, links: &[Link<'_>]) -> Result<(), ComposeError> {
    let ends = links.iter().flat_map(|link| [link.from, link.to]);
    match ends.chain([entry]).find(|name| !parts.contains_key(name)) {
        Some(name) => Err(ComposeError::NoPart(name.to_owned())),
        None => Ok(()),
    }
}

/// Goes from each part along its links; a part that is met again on the way closes a circle.
fn refuse_cycles(parts: &BTreeMap<&str, Part<'_>>, links: &[Link<'_>]) -> Result<(), ComposeError> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for link in links {
        next.entry(link.from).or_default().insert(link.to);
    }
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in parts.keys() {
        find_cycle(start, &next, &mut Vec::new(), &mut done)?;
    }
    Ok(())
}

/// At most as deep as there are parts.
fn find_cycle<'a>(
    part: &'a str,
    next: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Result<(), ComposeError> {
    if let Some(at) = way.iter().position(|name| *name == part) {
        let circle = way[at..].iter().chain([&part]);
        return Err(ComposeError::Cycle(circle.map(|name| (*name).to_owned()).collect()));
    }
    if done.contains(part) {
        return Ok(());
    }
    way.push(part);
    for to in next.get(part).into_iter().flatten() {
        find_cycle(to, next, way, done)?;
    }
    way.pop();
    done.insert(part);
    Ok(())
}

struct Whole<'a> {
    graph: CompositionGraph,
    placed: BTreeMap<&'a str, Placed<'a>>,
    instances: BTreeMap<&'a str, NodeId>,
}

impl Whole<'_> {
    fn part(&self, name: &str) -> Result<(&Placed<'_>, NodeId), ComposeError> {
        let found = self.placed.get(name).zip(self.instances.get(name).copied());
        found.ok_or_else(|| ComposeError::NoPart(name.to_owned()))
    }

    /// Checks that both ends of a link are there, and that nothing is missing at the far one.
    fn check(&self, link: &Link<'_>) -> Result<(), ComposeError> {
        let ((from, _), (to, _)) = (self.part(link.from)?, self.part(link.to)?);
        let (imports, exports) = (&from.world(&self.graph).imports, &to.world(&self.graph).exports);
        let Some(import) = imports.get(from.name_in_whole(link.import)) else {
            return Err(ComposeError::NoImport {
                part: link.from.to_owned(),
                import: link.import.to_owned(),
                near: near(link.import, from.imports(&self.graph)),
            });
        };
        let Some(export) = exports.get(link.export) else {
            return Err(ComposeError::NoExport {
                link: Ends::of(link),
                near: near(link.export, exports.keys().cloned()),
            });
        };
        let (Some(wants), Some(has)) = (interface_of(Some(import)), interface_of(Some(export))) else {
            return Ok(());
        };
        let missing = lacking(self.graph.types(), has, wants);
        match missing.is_empty() {
            true => Ok(()),
            false => Err(ComposeError::Lacks {
                link: Ends::of(link),
                missing,
                near: names_in(self.graph.types(), has),
            }),
        }
    }

    /// Gives an export of one part to another as its import; the types are compared on the way.
    fn wire(&mut self, link: &Link<'_>) -> Result<(), ComposeError> {
        let ((from, importer), (_, exporter)) = (self.part(link.from)?, self.part(link.to)?);
        let import = from.name_in_whole(link.import).to_owned();
        let alias = self.graph.alias_instance_export(exporter, link.export);
        let alias = alias.map_err(|e| ComposeError::Invalid(e.to_string()))?;
        let wired = self.graph.set_instantiation_argument(importer, &import, alias);
        wired.map_err(|e| match e {
            InstantiationArgumentError::ArgumentTypeMismatch { source, .. } => ComposeError::Types {
                link: Ends::of(link),
                why: format!("{source:#}"),
            },
            InstantiationArgumentError::ArgumentAlreadyPassed { .. } => ComposeError::Twice {
                part: link.from.to_owned(),
                import: link.import.to_owned(),
            },
            e => ComposeError::Invalid(e.to_string()),
        })
    }

    /// Exports the entry's interfaces. Functions under plain names are for nobody: only interfaces can be called.
    fn export(&mut self, entry: &str) -> Result<BTreeSet<String>, ComposeError> {
        let (part, instance) = self.part(entry)?;
        let names = part.world(&self.graph).exports.keys();
        let names: BTreeSet<String> = names.filter(|name| wit::parse(name).is_some()).cloned().collect();
        for name in &names {
            let invalid = |why: String| ComposeError::Invalid(format!("export {name}: {why}"));
            let alias = self.graph.alias_instance_export(instance, name);
            let alias = alias.map_err(|e| invalid(e.to_string()))?;
            self.graph.export(alias, name).map_err(|e| invalid(e.to_string()))?;
        }
        Ok(names)
    }

    /// What the whole will import, by its names there.
    fn unmet(&self, links: &[Link<'_>]) -> BTreeSet<String> {
        let imports = self.placed.values().flat_map(|part| {
            let names = part.world(&self.graph).imports.keys();
            names.filter(|name| {
                let own = part.own_name(name);
                !links.iter().any(|link| link.from == part.name && link.import == own)
            })
        });
        imports.cloned().collect()
    }

    fn encode(&self) -> Result<Vec<u8>, ComposeError> {
        let options = EncodeOptions {
            // The outcome is validated as agents will do it.
            validate: false,
            ..EncodeOptions::default()
        };
        self.graph.encode(options).map_err(|e| match e {
            EncodeError::ImportTypeMergeConflict {
                import,
                first,
                second,
                source,
            } => ComposeError::Merge {
                import,
                first: self.name_of(first),
                second: self.name_of(second),
                why: format!("{source:#}"),
            },
            e => ComposeError::Invalid(e.to_string()),
        })
    }

    fn name_of(&self, node: NodeId) -> String {
        let named = self.instances.iter().find(|(_, instance)| **instance == node);
        named.map_or_else(String::new, |(name, _)| (*name).to_owned())
    }
}
