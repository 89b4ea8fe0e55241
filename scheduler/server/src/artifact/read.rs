//! Reads a component: what it imports, what it exports, which WASI it is written for. Runs nothing.

use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::Wasi;
use heddle_protocol::wit;
use std::collections::BTreeSet;
use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType, ComponentItem};
use wasmparser::types::Types;
use wasmparser::{CanonicalFunction, CanonicalOption, Encoding, Parser, Payload, Validator, WasmFeatures};

/// More imports or exports than this is no component that people wrote.
const NAMES_MAX: usize = 10_000;

/// Reads and validates a component; the error says in words why it is none.
pub fn read_component(bytes: &[u8]) -> Result<ArtifactInfo, String> {
    refuse_what_is_no_component(bytes)?;
    // Everything that wasmtime may run is allowed here; each agent's engine decides what it takes.
    let features = WasmFeatures::default() | WasmFeatures::CM_ASYNC;
    let types = Validator::new_with_features(features)
        .validate_all(bytes)
        .map_err(|e| format!("it is not valid: {e}"))?;

    let (mut imports, mut exports) = (BTreeSet::new(), BTreeSet::new());
    let (mut depth, mut uses_async) = (0u32, false);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|e| format!("it cannot be parsed: {e}"))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.insert(import.map_err(|e| e.to_string())?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.insert(export.map_err(|e| e.to_string())?.name.name.to_owned());
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    uses_async |= is_async(&function.map_err(|e| e.to_string())?);
                }
            }
            _ => {}
        }
        if imports.len() + exports.len() > NAMES_MAX {
            return Err(format!("it has more than {NAMES_MAX} imports and exports"));
        }
    }
    // Some toolchains export helpers under plain names; only interfaces can be linked or triggered.
    imports.retain(|name| wit::parse(name).is_some() && !only_names_types(&types, name));
    exports.retain(|name| wit::parse(name).is_some());
    let speaks_p3 = imports.iter().chain(&exports).any(|name| {
        name.starts_with("wasi:")
            && wit::parse(name)
                .and_then(|i| i.version)
                .is_some_and(|v| v.starts_with("0.3."))
    });
    let wasi = if speaks_p3 || uses_async { Wasi::P3 } else { Wasi::P2 };
    Ok(ArtifactInfo {
        digest: Digest::of(bytes),
        bytes: bytes.len() as u64,
        imports,
        exports,
        wasi,
        verified_by: BTreeSet::new(),
    })
}

fn refuse_what_is_no_component(bytes: &[u8]) -> Result<(), String> {
    if !bytes.starts_with(b"\0asm") {
        return Err("it is not WebAssembly".to_owned());
    }
    match Parser::new(0).parse_all(bytes).next() {
        Some(Ok(Payload::Version {
            encoding: Encoding::Component,
            ..
        })) => Ok(()),
        Some(Ok(Payload::Version {
            encoding: Encoding::Module,
            ..
        })) => Err("it is a core module, not a component".to_owned()),
        Some(Err(e)) => Err(format!("it cannot be parsed: {e}")),
        _ => Err("it is empty".to_owned()),
    }
}

/// Whether an import only gives names to types of values. Nobody has to meet it: there is nothing in it to call. Shared
/// `types` interfaces are like this.
fn only_names_types(types: &Types, import: &str) -> bool {
    let Some(ComponentEntityType::Instance(id)) = types.component_item_for_import(import).map(|item| item.ty) else {
        return false;
    };
    let items = &types[id].exports;
    let names_a_value = |item: &ComponentItem| match item.ty {
        ComponentEntityType::Type { created, .. } => !matches!(created, ComponentAnyTypeId::Resource(_)),
        _ => false,
    };
    !items.is_empty() && items.values().all(names_a_value)
}

fn is_async(function: &CanonicalFunction) -> bool {
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options.iter().any(|o| matches!(o, CanonicalOption::Async))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_and_exports_are_read() {
        let bytes = wat::parse_str(
            r#"(component
                (import "wasi:clocks/wall-clock@0.2.0" (instance))
                (component $inner (import "hidden:inner/thing@1.0.0" (instance)))
                (instance $i)
                (export "acme:tax/rates@1.0.0" (instance $i))
                (export "init" (instance $i)))"#,
        )
        .unwrap();
        let info = read_component(&bytes).unwrap();
        assert_eq!(
            info.imports,
            BTreeSet::from(["wasi:clocks/wall-clock@0.2.0".to_owned()])
        );
        assert_eq!(info.exports, BTreeSet::from(["acme:tax/rates@1.0.0".to_owned()]));
        assert_eq!((info.wasi, info.digest), (Wasi::P2, Digest::of(&bytes)));
    }

    #[test]
    fn an_import_that_only_names_types_of_values_asks_for_nothing() {
        let bytes = wat::parse_str(
            r#"(component
                (import "acme:tax/types@1.0.0" (instance
                    (type $r (record (field "percent" u32))) (export "rate" (type (eq $r)))))
                (import "acme:tax/handles@1.0.0" (instance (export "row" (type (sub resource)))))
                (import "acme:tax/empty@1.0.0" (instance)))"#,
        )
        .unwrap();
        let imports = read_component(&bytes).unwrap().imports;
        let expected = ["acme:tax/empty@1.0.0", "acme:tax/handles@1.0.0"];
        assert_eq!(imports.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_component_of_wasi_03_is_told_apart() {
        let bytes = wat::parse_str(r#"(component (import "wasi:clocks/monotonic-clock@0.3.0" (instance)))"#).unwrap();
        assert_eq!(read_component(&bytes).unwrap().wasi, Wasi::P3);
    }

    #[test]
    fn what_is_no_component_is_refused_with_the_reason() {
        let module = wat::parse_str("(module)").unwrap();
        assert!(read_component(&module).unwrap_err().contains("core module"));
        assert!(read_component(b"#!/bin/sh").unwrap_err().contains("not WebAssembly"));
        assert!(read_component(b"").is_err());
        assert!(read_component(b"\0asm\x0d\0\x01\0\xff\xff").is_err());
    }
}
