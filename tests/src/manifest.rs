//! Manifests as short as a test wants to read them.
//!
//! In: a workload's name and what is unusual about it, or the name of an example. Out: YAML, as a person would write it. A
//! `file:` image is the name of a guest.

use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use std::path::Path;

/// What every host of a test fleet lends: one listener, one key-value store in memory.
pub const PLATFORM: &str = "\
apiVersion: heddle.dev/v1
kind: Platform
metadata: { name: local }
spec:
  hosts: {}
  capabilities:
    web: { http: { listen: \"127.0.0.1:8080\" } }
    kv: { keyvalue: { memory: {} } }
";

/// A workload of one component, `main`, on the route `/<name>`.
#[derive(Debug, Clone)]
pub struct Workload {
    name: String,
    image: String,
    links: Vec<String>,
    config: Vec<String>,
    route: Option<String>,
    rest: Vec<String>,
}

/// A workload that answers HTTP and needs nothing.
pub fn hello(name: &str) -> Workload {
    Workload::new(name, "file:hello.wasm")
}

/// A workload of the guest that tests drive; `version` is 1 or 2.
pub fn probe(name: &str, version: u32) -> Workload {
    Workload::new(name, &format!("file:probe-v{version}.wasm")).keyvalue()
}

/// A workload that counts in a key-value store and greets as its configuration says.
pub fn counter(name: &str) -> Workload {
    Workload::new(name, "file:counter.wasm").keyvalue()
}

impl Workload {
    /// A workload with an image, as the manifest writes it.
    pub fn new(name: &str, image: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            links: Vec::new(),
            config: Vec::new(),
            route: Some(format!("path: /{name}")),
            rest: Vec::new(),
        }
    }

    /// Linked to the platform's key-value store.
    pub fn keyvalue(mut self) -> Self {
        for interface in ["store", "atomics"] {
            self.links.push(format!(
                "{{ from: main, import: \"wasi:keyvalue/{interface}\", to: {{ capability: kv }} }}"
            ));
        }
        self
    }

    /// So many replicas.
    pub fn replicas(self, replicas: u32) -> Self {
        self.with(&format!("replicas: {replicas}"))
    }

    /// The values of a Config.
    pub fn config(mut self, name: &str) -> Self {
        self.config.push(format!("{{ ref: {name} }}"));
        self
    }

    /// Another route than `/<name>`: fields of the trigger, such as `path: /a, host: a.example`.
    pub fn route(mut self, fields: &str) -> Self {
        self.route = Some(fields.to_owned());
        self
    }

    /// A line of the `spec`, such as `limits: { time: 1s }`.
    pub fn with(mut self, line: &str) -> Self {
        self.rest.push(line.to_owned());
        self
    }

    /// Only on hosts whose label has the value.
    pub fn on(self, label: &str, value: &str) -> Self {
        self.with(&format!(
            "placement: {{ require: [{{ \"{label}\": {{ in: [\"{value}\"] }} }}] }}"
        ))
    }

    /// The manifest.
    pub fn yaml(&self) -> String {
        let (name, image) = (&self.name, &self.image);
        let mut text = format!(
            "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: {name} }}\nspec:\n  components:\n    - name: main\n      image: \"{image}\"\n"
        );
        // Writing to a String cannot fail.
        if !self.config.is_empty() {
            let _ = writeln!(text, "      config: [{}]", self.config.join(", "));
        }
        if !self.links.is_empty() {
            let _ = writeln!(text, "  links: [{}]", self.links.join(", "));
        }
        if let Some(route) = &self.route {
            let _ = writeln!(text, "  triggers: [{{ http: {{ capability: web, {route} }} }}]");
        }
        for line in &self.rest {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}

/// A Config with one value.
pub fn config(name: &str, key: &str, value: &str) -> String {
    format!("apiVersion: heddle.dev/v1\nkind: Config\nmetadata: {{ name: {name} }}\nspec: {{ {key}: \"{value}\" }}\n")
}

/// A manifest of the examples, such as `notes.yaml`, with its images named as tests name them.
pub fn example(name: &str) -> Result<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/manifests");
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    Ok(text.replace("file:../../target/guests/", "file:"))
}

/// Several documents as one text: one change.
pub fn together<T: AsRef<str>>(documents: impl IntoIterator<Item = T>) -> String {
    let documents: Vec<String> = documents.into_iter().map(|text| text.as_ref().to_owned()).collect();
    documents.join("---\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_that_tests_write_keeps_the_rules() {
        let text = together([
            PLATFORM.to_owned(),
            hello("a").replicas(3).yaml(),
            probe("b", 2).on("zone", "x").with("instances: { reuse: 100 }").yaml(),
            counter("c")
                .config("greetings")
                .route("path: /x, host: c.example")
                .yaml(),
            config("greetings", "greeting", "hi"),
        ]);
        let documents = heddle_protocol::manifest::load(text.as_bytes(), "test").unwrap();
        assert_eq!(documents.len(), 5);
    }
}
