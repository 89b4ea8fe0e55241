//! The manifest's shape as JSON Schema, generated from the types: for editors, for the reference, and for our own check
//! of a manifest's structure, so that the three cannot differ.

use super::config::{Config, SecretRef};
use super::object::Kind;
use super::platform::Platform;
use super::quota::Quota;
use super::trust::Policy;
use super::workload::Workload;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

static SCHEMA: LazyLock<Value> = LazyLock::new(generate);

/// The JSON Schema of one document of a manifest, of whichever kind. The same types give the same bytes.
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// The schema of one kind.
pub(super) fn of_kind(kind: Kind) -> &'static Value {
    definition(kind.as_str())
}

/// A schema with its reference followed, if it is one.
pub(super) fn resolve(schema: &'static Value) -> &'static Value {
    let name = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|name| name.strip_prefix("#/$defs/"));
    name.map_or(schema, definition)
}

fn definition(name: &str) -> &'static Value {
    // Absent only if the generator's naming changed; `Null` then allows everything and the typed reading still checks.
    SCHEMA
        .get("$defs")
        .and_then(|definitions| definitions.get(name))
        .unwrap_or(&Value::Null)
}

fn generate() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    generator.subschema_for::<Platform>();
    generator.subschema_for::<Config>();
    generator.subschema_for::<SecretRef>();
    generator.subschema_for::<Policy>();
    generator.subschema_for::<Quota>();
    generator.subschema_for::<Workload>();
    let mut definitions = generator.take_definitions(true);
    for kind in Kind::ALL {
        if let Some(definition) = definitions.get_mut(kind.as_str()) {
            add_kind(definition, kind);
        }
    }
    let mut definitions = Value::Object(definitions);
    refuse_null(&mut definitions);
    definitions.sort_all_objects();
    let any = Kind::ALL.map(|kind| json!({ "$ref": format!("#/$defs/{kind}") }));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Heddle manifest",
        "description": "One document of a manifest: a Platform, Config, SecretRef, Policy, Quota or Workload.",
        "oneOf": any,
        "$defs": definitions,
    })
}

/// Adds the field `kind`, which the types leave to the enum around them.
fn add_kind(definition: &mut Value, kind: Kind) {
    if let Some(properties) = definition.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(
            "kind".to_owned(),
            json!({ "const": kind.as_str(), "description": "The kind of object." }),
        );
    }
    if let Some(required) = definition.get_mut("required").and_then(Value::as_array_mut) {
        required.push(json!("kind"));
    }
}

/// Takes `null` out of every type: a field that should have its default is left out, and a key with nothing after it is
/// more often a slip than a wish.
fn refuse_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(refuse_null),
        Value::Object(map) => {
            unwrap_nullable(map);
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if map.get("default") == Some(&Value::Null) {
                map.remove("default");
            }
            map.values_mut().for_each(refuse_null);
        }
        _ => {}
    }
}

/// Turns `anyOf: [schema, null]` into the schema.
fn unwrap_nullable(map: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = map.get("anyOf") else {
        return;
    };
    let others: Vec<&Value> = choices.iter().filter(|choice| choice["type"] != "null").collect();
    if let [Value::Object(only)] = others.as_slice()
        && others.len() < choices.len()
    {
        let only = only.clone();
        map.remove("anyOf");
        map.extend(only);
    }
}
