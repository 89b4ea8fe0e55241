//! The one form of an object: for storage, digests and differences.
//!
//! Two manifests that mean the same give the same bytes, whatever the order of their keys, the units of their amounts
//! and the defaults they spell out.

use super::document::Document;
use super::object::Object;
use serde_json::Value;

impl Object {
    /// The object as JSON with sorted keys, without the fields that have their defaults.
    pub fn canonical_value(&self) -> Value {
        // Plain structs with text keys always serialise; `Null` would be told apart from any object.
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value.sort_all_objects();
        value
    }

    /// The same as compact text: one object, one text.
    pub fn canonical(&self) -> String {
        self.canonical_value().to_string()
    }
}

impl Document {
    /// The object's canonical JSON: see [`Object::canonical`].
    pub fn canonical(&self) -> String {
        self.object.canonical()
    }
}
