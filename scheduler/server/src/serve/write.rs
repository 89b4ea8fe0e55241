//! Writing verbs on their way to a commit: an id that was used before gets its first answer again, a manifest is read
//! and its images are resolved beside the loop, and what is ready joins the queue.

use crate::artifact::ArtifactPool;
use crate::compile::CompilePool;
use crate::outside::off_the_loop;
use crate::serve::Ask;
use crate::signature::{self, Asked};
use futures::StreamExt as _;
use heddle_protocol::api::apply::{Apply, Plan};
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::id::{Namespace, ObjectId};
use heddle_protocol::manifest::{self, Document, Object, Problem};
use heddle_protocol::record::PolicyRecord;
use heddle_scheduler_core::ResolvedDocument;
use std::collections::{BTreeMap, BTreeSet};
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

/// Reads and checks documents, finds out what their images are, and has compiled what hosts will run as it is.
pub async fn resolve(
    pool: ArtifactPool,
    compile: CompilePool,
    values: Vec<serde_json::Value>,
    policies: BTreeMap<ObjectId, Arc<PolicyRecord>>,
) -> Result<Vec<ResolvedDocument>, ApiError> {
    let read = off_the_loop(move || read_documents(&values));
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
    let asked = signature::asked_of(&policies, &documents)?;
    let mut infos: BTreeMap<String, ArtifactInfo> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (image, asked) in images_of(&documents, &asked) {
        match pool.known(&image).filter(|_| asked.is_empty()) {
            Some(info) => {
                infos.insert(image, info);
            }
            None => unknown.push((image, asked)),
        }
    }
    let mut resolved = futures::stream::iter(unknown)
        .map(|(image, asked)| {
            let pool = pool.clone();
            async move {
                let info = match asked.is_empty() {
                    true => pool.resolve(&image).await,
                    false => pool.resolve_signed(&image, &asked).await,
                };
                (info, image)
            }
        })
        .buffer_unordered(IMAGES_AT_ONCE);
    while let Some((info, image)) = resolved.next().await {
        infos.insert(image, info?);
    }
    let run_alone = run_alone(&documents);
    let compiled: Vec<ArtifactInfo> = run_alone
        .iter()
        .filter_map(|image| infos.get(*image).cloned())
        .collect();
    compile.precompile(&compiled).await?;
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

/// The images of components that hosts run as they are. Those with local links are composed first, which happens later and
/// compiles the whole.
fn run_alone(documents: &[Document]) -> BTreeSet<&str> {
    let mut images = BTreeSet::new();
    for document in documents {
        let Object::Workload(workload) = &document.object else {
            continue;
        };
        let local = workload
            .spec
            .links
            .iter()
            .filter(|link| link.to.via.is_none() && link.to.capability.is_none());
        let linked: BTreeSet<&str> = local
            .flat_map(|link| [Some(link.from.as_str()), link.to.component.as_deref()])
            .flatten()
            .collect();
        let alone = workload
            .spec
            .components
            .iter()
            .filter(|c| !linked.contains(c.name.as_str()));
        images.extend(alone.map(|component| component.image.as_str()));
    }
    images
}

/// Every image, with what the namespaces that it is to run in ask of it.
fn images_of(documents: &[Document], asked: &BTreeMap<Namespace, Vec<Asked>>) -> BTreeMap<String, Vec<Asked>> {
    let mut images: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for document in documents {
        if let Object::Workload(workload) = &document.object {
            for component in &workload.spec.components {
                let namespaces = images.entry(component.image.clone()).or_default();
                namespaces.insert(&workload.metadata.namespace);
            }
        }
    }
    let asked_by = |namespaces: BTreeSet<&str>| -> Vec<Asked> {
        let asked = asked
            .iter()
            .filter(|(namespace, _)| namespaces.contains(namespace.as_str()));
        asked.flat_map(|(_, asked)| asked.iter().cloned()).collect()
    };
    images
        .into_iter()
        .map(|(image, namespaces)| (image, asked_by(namespaces)))
        .collect()
}
