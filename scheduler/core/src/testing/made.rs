//! What tests apply: manifests of a few words, and components that are made up from their image's name.

// Tests call this: a broken expectation is their message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::id;
use crate::apply::ResolvedDocument;
use heddle_protocol::api::ApiError;
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::Wasi;
use heddle_protocol::manifest;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A workload that serves `/name` on `web`. `spec` holds further fields of its spec, one per line; a field `image` there
/// replaces its image.
pub fn workload_yaml(name: &str, spec: &str) -> String {
    let id = id(name);
    let (images, fields): (Vec<&str>, Vec<&str>) = spec.lines().partition(|line| line.starts_with("image:"));
    let image = images
        .first()
        .map_or("hello:v1", |line| line.trim_start_matches("image:").trim());
    let mut text = format!(
        "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: {}, namespace: {} }}\nspec:\n  components:\n    \
         - {{ name: main, image: \"oci://test.example/{image}\" }}\n",
        id.name, id.namespace
    );
    if !fields.iter().any(|line| line.starts_with("triggers:")) {
        text.push_str(&format!(
            "  triggers:\n    - http: {{ capability: web, path: /{} }}\n",
            id.name
        ));
    }
    for line in fields {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// Reads a manifest as a scheduler's shell would, with made-up artifacts.
///
/// # Errors
/// `invalid`, if it breaks a rule.
pub fn resolve(text: &str) -> Result<Vec<ResolvedDocument>, ApiError> {
    let documents = manifest::load(text.as_bytes(), "test.yaml").map_err(ApiError::invalid)?;
    let unsupported: Vec<_> = documents.iter().flat_map(manifest::unsupported).collect();
    if !unsupported.is_empty() {
        return Err(ApiError::invalid(unsupported));
    }
    let mut artifacts = BTreeMap::new();
    for document in &documents {
        if let manifest::Object::Workload(workload) = &document.object {
            for component in &workload.spec.components {
                artifacts.insert(component.image.clone(), artifact(&component.image));
            }
        }
    }
    let artifacts = Arc::new(artifacts);
    Ok(documents
        .into_iter()
        .map(|document| ResolvedDocument {
            document,
            artifacts: artifacts.clone(),
        })
        .collect())
}

/// A made-up component: what its image's name says it imports and exports. `counter` stores, `settings` reads config,
/// `tax` imports rates and `quote` quotes, `rates` (or `rates-two`, in another version) and `pricing` export them, `vault`
/// reads secrets, `runner` runs by itself, `messages` takes messages, `silent` serves no HTTP, `p3` is written for
/// WASI 0.3, `signed` was found to be signed with the key whose bytes are 0 to 5.
pub fn artifact(image: &str) -> ArtifactInfo {
    let p3 = image.contains("p3");
    let mut imports = BTreeSet::from(["wasi:clocks/wall-clock@0.2.6".to_owned()]);
    let mut exports = BTreeSet::new();
    if image.contains("counter") {
        imports.extend([
            "wasi:keyvalue/store@0.2.0-draft".to_owned(),
            "wasi:keyvalue/atomics@0.2.0-draft".to_owned(),
        ]);
    }
    if image.contains("settings") {
        imports.insert("wasi:config/store@0.2.0-rc.1".to_owned());
    }
    if image.contains("tax") {
        imports.insert("acme:tax/rates@1.0.0".to_owned());
    }
    for (word, import) in [
        ("quote", "acme:pricing/quote@1.0.0"),
        ("vault", "wasmcloud:secrets/store@0.1.0-draft"),
    ] {
        imports.extend(image.contains(word).then(|| import.to_owned()));
    }
    let rates = match image.contains("rates-two") {
        true => "acme:tax/rates@2.0.0",
        false => "acme:tax/rates@1.1.0",
    };
    for (word, export) in [
        ("rates", rates),
        ("pricing", "acme:pricing/quote@1.0.0"),
        ("runner", "wasi:cli/run@0.2.6"),
        ("messages", "wasmcloud:messaging/handler@0.2.0"),
    ] {
        exports.extend(image.contains(word).then(|| export.to_owned()));
    }
    if !image.contains("silent") {
        let handler = if p3 {
            "wasi:http/handler@0.3.0"
        } else {
            "wasi:http/incoming-handler@0.2.6"
        };
        exports.insert(handler.to_owned());
    }
    let wasi = if p3 { Wasi::P3 } else { Wasi::P2 };
    ArtifactInfo {
        digest: Digest::of(image.as_bytes()),
        bytes: 1_000,
        imports,
        exports,
        wasi,
        verified_by: image
            .contains("signed")
            .then(|| Digest::of(&[0, 1, 2, 3, 4, 5]))
            .into_iter()
            .collect(),
    }
}
