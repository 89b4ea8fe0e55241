//! The outcome of a composition, looked at as if somebody else had made it.

use crate::ComposeError;
use std::collections::BTreeSet;
use wac_types::are_semver_compatible;
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

/// Checks that a whole is valid, and imports and exports what was meant and nothing else.
pub(crate) fn check(bytes: &[u8], imports: &BTreeSet<String>, exports: &BTreeSet<String>) -> Result<(), ComposeError> {
    let invalid = |why: String| ComposeError::Invalid(why);
    Validator::new_with_features(WasmFeatures::default() | WasmFeatures::CM_ASYNC)
        .validate_all(bytes)
        .map_err(|e| invalid(e.message().to_owned()))?;
    let (mut imported, mut exported) = (BTreeSet::new(), BTreeSet::new());
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|e| invalid(e.to_string()))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(|e| invalid(e.to_string()))?;
                    imported.insert(import.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(|e| invalid(e.to_string()))?;
                    exported.insert(export.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    if let Some(extra) = imported.difference(imports).next() {
        return Err(invalid(format!("it imports {extra}, which no part does")));
    }
    // Two parts that import versions of one interface that fit each other share the newer one.
    let met = |name: &&String| imported.iter().any(|other| are_semver_compatible(name, other));
    if let Some(lost) = imports.iter().find(|name| !met(name)) {
        return Err(invalid(format!("the import {lost} of a part got lost")));
    }
    match exports == &exported {
        true => Ok(()),
        false => Err(invalid(format!("it exports {exported:?}, and not {exports:?}"))),
    }
}
