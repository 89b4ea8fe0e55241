//! Signatures of images, as cosign makes them, and the policies that ask for them.
//!
//! In: the Policies of namespaces, and what a registry has under an image's signature tag. Out: which keys an image was
//! signed with, or in words why a policy is not kept. An image's signature is over the digest of its manifest, which names
//! the component by digest, which is verified as it is fetched: what is signed is what runs.

mod claim;

pub(crate) use claim::{Claim, Key};

use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::digest::Digest;
use heddle_protocol::id::{Namespace, ObjectId, ObjectName};
use heddle_protocol::manifest::{CosignKey, Document, FieldPath, Object, Problem, rule};
use heddle_protocol::record::PolicyRecord;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One policy, ready for use.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    policy: ObjectId,
    keys: Vec<Key>,
}

impl Asked {
    /// Whether an image that was found to be signed with some keys keeps it.
    pub(crate) fn is_met_by(&self, verified_by: &BTreeSet<Digest>) -> bool {
        self.keys.iter().any(|key| verified_by.contains(&key.fingerprint))
    }

    /// The keys of it that an image is signed with: at least one.
    ///
    /// # Errors
    /// In words, why it is signed with none.
    pub(crate) fn verify(&self, claims: &[Claim], manifests: &[String]) -> Result<BTreeSet<Digest>, String> {
        let mut why = "it has no signature".to_owned();
        let mut verified = BTreeSet::new();
        for claim in claims {
            match claim.signer(&self.keys, manifests) {
                Ok(signer) => drop(verified.insert(signer)),
                Err(reason) => why = reason,
            }
        }
        match verified.is_empty() {
            true => Err(why),
            false => Ok(verified),
        }
    }

    /// What is said of an image that does not keep it.
    pub(crate) fn unsigned(&self, image: &str, why: &str) -> ApiError {
        ApiError::new(
            ErrorCode::Artifact,
            format!("failed to verify image {image} for Policy {}: {why}", self.policy),
            "sign it with a key of the policy (`cosign sign --key cosign.key --tlog-upload=false …`), and apply again",
        )
    }
}

/// The policies of all namespaces that documents are about: those in force, and those among the documents.
///
/// # Errors
/// If a key is none that signatures can be verified with.
pub(crate) fn asked_of(
    in_force: &BTreeMap<ObjectId, Arc<PolicyRecord>>,
    documents: &[Document],
) -> Result<BTreeMap<Namespace, Vec<Asked>>, ApiError> {
    let mut all: BTreeMap<ObjectId, Asked> = BTreeMap::new();
    for (id, record) in in_force {
        all.insert(id.clone(), stored(id, record)?);
    }
    let mut problems = Vec::new();
    for document in documents {
        let Object::Policy(policy) = &document.object else {
            continue;
        };
        // What has no name is refused where it is taken.
        let (Ok(namespace), Ok(name)) = (
            Namespace::parse(&policy.metadata.namespace),
            ObjectName::parse(&policy.metadata.name),
        ) else {
            continue;
        };
        let id = ObjectId::new(namespace, name);
        let keys = keys_of(document, &policy.spec.signatures.cosign, &mut problems);
        all.insert(id.clone(), Asked { policy: id, keys });
    }
    if !problems.is_empty() {
        return Err(ApiError::invalid(problems));
    }
    let mut by_namespace: BTreeMap<Namespace, Vec<Asked>> = BTreeMap::new();
    for (id, asked) in all {
        by_namespace.entry(id.namespace).or_default().push(asked);
    }
    Ok(by_namespace)
}

fn keys_of(document: &Document, written: &[CosignKey], problems: &mut Vec<Problem>) -> Vec<Key> {
    let mut keys = Vec::new();
    for (index, written) in written.iter().enumerate() {
        match Key::read(written) {
            Ok(key) => keys.push(key),
            Err(why) => {
                let at = FieldPath::spec().key("signatures").key("cosign");
                let at = at.index(index).key("publicKey");
                problems.push(document.problem(&at, rule::BAD_PUBLIC_KEY, why));
            }
        }
    }
    keys
}

fn stored(id: &ObjectId, record: &PolicyRecord) -> Result<Asked, ApiError> {
    let unreadable = || {
        let message = format!("failed to read the stored Policy {id}");
        ApiError::new(ErrorCode::Internal, message, "apply that policy again")
    };
    let object = serde_json::from_value(record.manifest.clone()).map_err(|_| unreadable())?;
    let Object::Policy(policy) = object else {
        return Err(unreadable());
    };
    let keys = policy.spec.signatures.cosign.iter().map(Key::read);
    let keys = keys.collect::<Result<Vec<_>, _>>().map_err(|_| unreadable())?;
    Ok(Asked {
        policy: id.clone(),
        keys,
    })
}
