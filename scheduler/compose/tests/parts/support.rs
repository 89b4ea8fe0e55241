//! Components in text for the tests: built from interfaces, with as little code as a component needs to be valid.

use std::collections::{BTreeMap, BTreeSet};
use wasmparser::{Parser, Payload};

/// Compiles a component.
pub fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// New names for imports.
pub fn renames(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

/// The imports and exports of a component.
pub fn face(bytes: &[u8]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut imports, mut exports, mut depth) = (BTreeSet::new(), BTreeSet::new(), 0);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(s) if depth == 0 => {
                imports.extend(s.into_iter().map(|i| i.unwrap().name.name.to_owned()));
            }
            Payload::ComponentExportSection(s) if depth == 0 => {
                exports.extend(s.into_iter().map(|e| e.unwrap().name.name.to_owned()));
            }
            _ => {}
        }
    }
    (imports, exports)
}

/// A component that exports `name` with one function `quote` from a number to a number, and imports `imports`, each with
/// such a function, which it does not call.
pub fn quoter(name: &str, imports: &[&str]) -> Vec<u8> {
    let imports: String = imports
        .iter()
        .map(|i| format!(r#"(import "{i}" (instance (export "quote" (func (param "n" u32) (result u32)))))"#))
        .collect();
    wat(&format!(
        r#"(component {imports}
            (core module $m (func (export "quote") (param i32) (result i32) local.get 0))
            (core instance $i (instantiate $m))
            (func $quote (param "n" u32) (result u32) (canon lift (core func $i "quote")))
            (instance $e (export "quote" (func $quote)))
            (export "{name}" (instance $e)))"#
    ))
}

/// An import of `store` that defines resource `bucket`, under `$store` and `$bucket`.
pub const STORE: &str = r#"
    (import "wasi:keyvalue/store@0.2.0-draft" (instance $store
        (export "bucket" (type $b (sub resource)))
        (export "open" (func (param "name" string) (result (own $b))))))
    (alias export $store "bucket" (type $bucket))"#;
