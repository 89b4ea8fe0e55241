//! What is applied: workloads of the smallest component there is, and the platform that they need.

use super::Bed;
use anyhow::{Result, anyhow};
use heddle_protocol::api::apply::{Applied, Apply};
use heddle_protocol::api::artifact::{ArtifactHas, ArtifactPut};
use heddle_protocol::digest::Digest;
use heddle_protocol::id::Namespace;
use heddle_protocol::manifest;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A component with nothing in it: no host here runs it.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Every host compiles for itself, so that the scheduler needs no worker for it.
pub fn platform() -> String {
    "apiVersion: heddle.dev/v1\nkind: Platform\nmetadata: { name: fleet }\nspec:\n  hosts: {}\n  engines: { compile: local }\n\
     \x20 capabilities:\n    web: { http: { listen: \"127.0.0.1:8080\" } }\n"
        .to_owned()
}

/// A workload with so many replicas, spread over the zones; or, with none, one on every host.
pub fn workload(name: &str, replicas: u32) -> String {
    let image = Digest::of(COMPONENT);
    let scale = match replicas {
        0 => "daemon: true".to_owned(),
        _ => format!("replicas: {replicas}\n  placement: {{ spread: [{{ by: zone }}] }}"),
    };
    format!(
        "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: {name} }}\nspec:\n  {scale}\n  \
         components: [{{ name: main, image: \"{image}\" }}]\n"
    )
}

impl Bed {
    /// Uploads the component, and applies the platform.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn prepare(&self) -> Result<()> {
        let digest = Digest::of(COMPONENT);
        let missing = self
            .ask(&ArtifactHas {
                digests: [digest].into_iter().collect(),
            })
            .await?
            .missing;
        if !missing.is_empty() {
            let put = ArtifactPut { digest };
            self.client.ask(&Namespace::fallback(), &put, COMPONENT).await?;
        }
        self.apply(&documents(&platform())?).await?;
        Ok(())
    }

    /// Applies documents.
    ///
    /// # Errors
    /// If they are refused.
    pub async fn apply(&self, documents: &[Value]) -> Result<Applied> {
        let documents = documents.to_vec();
        self.ask(&Apply { documents, at: None }).await
    }

    /// Applies a workload of one replica, and waits until it runs.
    ///
    /// # Errors
    /// If it is refused, or does not run within `bound`.
    pub async fn single(&self, name: &str, bound: Duration) -> Result<Single> {
        let documents = documents(&workload(name, 1))?;
        let begun = Instant::now();
        self.apply(&documents).await?;
        let applied = begun.elapsed();
        self.wait(&[name.to_owned()], bound).await?;
        Ok(Single {
            applied,
            running: begun.elapsed(),
        })
    }
}

/// How long one workload took.
#[derive(Debug, Clone, Copy)]
pub struct Single {
    /// Until the apply was answered.
    pub applied: Duration,
    /// Until it ran.
    pub running: Duration,
}

/// The documents of a manifest as the API takes them.
///
/// # Errors
/// If it is none.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let read = manifest::load(yaml.as_bytes(), "the benchmark's manifest");
    let documents = read.map_err(|problems| anyhow!("the benchmark's manifest is wrong: {problems:#?}"))?;
    Ok(documents
        .iter()
        .map(|document| document.object.canonical_value())
        .collect())
}
