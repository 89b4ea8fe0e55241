//! Writing verbs on their way to a commit: an id that was used before gets its first answer again, a manifest is read
//! and its images are resolved beside the loop, and what is ready joins the queue.

use crate::artifact::ArtifactPool;
use crate::serve::Ask;
use futures::StreamExt as _;
use heddle_protocol::api::apply::{Apply, Plan};
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::manifest::{self, Document, Object, Problem};
use heddle_scheduler_core::ResolvedDocument;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Documents in one apply. Above this the answer would not fit one message; apply in several.
const DOCUMENTS_MAX: usize = 2_000;
/// Images resolved at the same time for one apply.
const IMAGES_AT_ONCE: usize = 8;

/// The documents of an apply or a plan, and the commit that it must be at.
pub fn documents_of(ask: &Ask) -> Result<(Vec<serde_json::Value>, Option<u64>), ApiError> {
    let (documents, at) = match ask.verb.as_str() {
        <Plan as heddle_protocol::api::Verb>::NAME => (ask.body::<Plan>()?.documents, None),
        _ => {
            let apply = ask.body::<Apply>()?;
            (apply.documents, apply.at)
        }
    };
    if documents.is_empty() {
        return Err(ApiError::new(
            ErrorCode::BadRequest,
            "failed to apply: there is no document",
            "name a file with -f",
        ));
    }
    if documents.len() > DOCUMENTS_MAX {
        return Err(ApiError::new(
            ErrorCode::TooLarge,
            format!(
                "failed to apply {} documents: at most {DOCUMENTS_MAX} are taken at once",
                documents.len()
            ),
            "split them into several applies",
        ));
    }
    Ok((documents, at))
}

/// Reads and checks documents, and finds out what their images are.
pub async fn resolve(pool: ArtifactPool, values: Vec<serde_json::Value>) -> Result<Vec<ResolvedDocument>, ApiError> {
    let read = tokio::task::spawn_blocking(move || read_documents(&values));
    let documents = match read.await {
        Ok(documents) => documents?,
        Err(e) => {
            return Err(ApiError::new(
                ErrorCode::Internal,
                format!("failed to read manifests: {e}"),
                "report this",
            ));
        }
    };
    let images: Vec<String> = images_of(&documents).collect();
    let mut infos: BTreeMap<String, ArtifactInfo> = BTreeMap::new();
    let mut unknown = Vec::new();
    for image in images {
        match pool.known(&image) {
            Some(info) => {
                infos.insert(image, info);
            }
            None => unknown.push(image),
        }
    }
    unknown.sort();
    unknown.dedup();
    let mut resolved = futures::stream::iter(unknown)
        .map(|image| {
            let pool = pool.clone();
            async move { (pool.resolve(&image).await, image) }
        })
        .buffer_unordered(IMAGES_AT_ONCE);
    while let Some((info, image)) = resolved.next().await {
        infos.insert(image, info?);
    }
    let infos = Arc::new(infos);
    Ok(documents
        .into_iter()
        .map(|document| ResolvedDocument {
            document,
            artifacts: Arc::clone(&infos),
        })
        .collect())
}

/// One text of all documents, so that rules between them (two with one name) are checked too.
fn read_documents(values: &[serde_json::Value]) -> Result<Vec<Document>, ApiError> {
    let mut text = String::new();
    for value in values {
        text.push_str("---\n");
        text.push_str(&value.to_string());
        text.push('\n');
    }
    let documents = manifest::load(text.as_bytes(), "request").map_err(ApiError::invalid)?;
    let unsupported: Vec<Problem> = documents.iter().flat_map(manifest::unsupported).collect();
    if unsupported.is_empty() {
        Ok(documents)
    } else {
        Err(ApiError::invalid(unsupported))
    }
}

fn images_of(documents: &[Document]) -> impl Iterator<Item = String> {
    documents.iter().flat_map(|document| match &document.object {
        Object::Workload(workload) => workload.spec.components.iter().map(|c| c.image.clone()).collect(),
        _ => Vec::new(),
    })
}
