//! Images whose namespace asks for signatures: signed, unsigned, and signed wrongly in every way.

use super::*;
use crate::signature::asked_of;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use heddle_protocol::manifest::{self, Document};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};

const COMPONENT: &str = "shop:api/front@1.0.0";

/// A key as cosign makes them; the seed only has to be another for another key.
fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn policy(name: &str, keys: &[&SigningKey]) -> Document {
    let keys: Vec<serde_json::Value> = keys
        .iter()
        .map(|key| {
            let pem = key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
            serde_json::json!({ "publicKey": pem })
        })
        .collect();
    let text = serde_json::json!({
        "apiVersion": "heddle.dev/v1", "kind": "Policy", "metadata": { "name": name, "namespace": "shop" },
        "spec": { "signatures": { "cosign": keys } },
    });
    manifest::load(text.to_string().as_bytes(), "test").unwrap().remove(0)
}

fn asked(documents: &[Document]) -> Vec<Asked> {
    let all = asked_of(&BTreeMap::new(), documents).unwrap();
    all.into_values().next().unwrap()
}

/// What cosign signs of an image.
fn payload(manifest: &str) -> Bytes {
    let payload = serde_json::json!({
        "critical": {
            "identity": { "docker-reference": "" },
            "image": { "docker-manifest-digest": manifest },
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    payload.to_string().into()
}

fn signature(key: &SigningKey, payload: &[u8]) -> String {
    let signature: Signature = key.sign(payload);
    BASE64.encode(signature.to_der())
}

fn signed(key: &SigningKey, payload: &Bytes) -> (String, Bytes) {
    (signature(key, payload), payload.clone())
}

async fn refused(pool: &ArtifactPool, image: &str, asked: &[Asked]) -> String {
    let error = pool.resolve_signed(image, asked).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Artifact);
    assert!(
        error.message.contains(image) && error.message.contains("Policy shop/"),
        "{error:?}"
    );
    error.message
}

#[tokio::test]
async fn an_image_that_is_signed_is_taken_and_known_by_its_digest_from_then_on() {
    let registry = Registry::start(component(COMPONENT, &[])).await;
    let (pool, image) = (pool(Some(&registry)), registry.image("1"));
    let (mine, other) = (key(1), key(2));
    let asked_for = asked(&[policy("signed", &[&other, &mine])]);
    registry.sign(vec![
        ("nonsense".to_owned(), payload("x")),
        signed(&mine, &payload(&registry.manifest_digest())),
    ]);
    let info = pool.resolve_signed(&image, &asked_for).await.unwrap();
    assert_eq!(info.verified_by.len(), 1);
    let by_digest = info.digest.to_string();
    assert_eq!(pool.resolve_signed(&by_digest, &asked_for).await.unwrap(), info);
    // A scheduler that starts anew knows it from its records.
    let anew = super::pool(None);
    anew.recall([&info]);
    assert_eq!(anew.resolve_signed(&by_digest, &asked_for).await.unwrap(), info);
    // And one that never heard of it, or a policy with other keys, takes it from nobody's word.
    let elsewhere = asked(&[policy("others", &[&other])]);
    assert!(
        refused(&anew, &by_digest, &elsewhere)
            .await
            .contains("come from a registry")
    );
}

#[tokio::test]
async fn an_image_that_is_not_signed_or_by_somebody_else_is_refused_with_the_reason() {
    let registry = Registry::start(component(COMPONENT, &[])).await;
    let (pool, image) = (pool(Some(&registry)), registry.image("1"));
    let (mine, other) = (key(1), key(2));
    let asked_for = asked(&[policy("signed", &[&mine])]);
    assert!(refused(&pool, &image, &asked_for).await.contains("has no signature"));
    registry.sign(vec![signed(&other, &payload(&registry.manifest_digest()))]);
    assert!(
        refused(&pool, &image, &asked_for)
            .await
            .contains("none of the policy's keys")
    );
    let uploaded = pool.put(None, component("shop:api/other@1.0.0", &[])).await.unwrap();
    let by_digest = uploaded.digest.to_string();
    assert!(
        refused(&pool, &by_digest, &asked_for)
            .await
            .contains("come from a registry")
    );
}

#[tokio::test]
async fn a_signature_of_another_image_or_of_something_that_was_changed_is_none() {
    let registry = Registry::start(component(COMPONENT, &[])).await;
    let (pool, image) = (pool(Some(&registry)), registry.image("1"));
    let mine = key(1);
    let asked_for = asked(&[policy("signed", &[&mine])]);
    let other = payload(&Digest::of(b"another image").to_string());
    registry.sign(vec![signed(&mine, &other)]);
    assert!(refused(&pool, &image, &asked_for).await.contains("of another image"));
    // The payload of this image with the signature of that one.
    registry.sign(vec![(signature(&mine, &other), payload(&registry.manifest_digest()))]);
    assert!(refused(&pool, &image, &asked_for).await.contains("was changed"));
    let no_statement = Bytes::from_static(b"{\"critical\":{}}");
    registry.sign(vec![signed(&mine, &no_statement)]);
    assert!(refused(&pool, &image, &asked_for).await.contains("no statement"));
}

#[tokio::test]
async fn an_image_must_keep_every_policy_of_its_namespace() {
    let registry = Registry::start(component(COMPONENT, &[])).await;
    let (pool, image) = (pool(Some(&registry)), registry.image("1"));
    let (build, release) = (key(1), key(2));
    let asked_for = asked(&[policy("built", &[&build]), policy("released", &[&release])]);
    let statement = payload(&registry.manifest_digest());
    registry.sign(vec![signed(&build, &statement)]);
    assert!(
        refused(&pool, &image, &asked_for)
            .await
            .contains("Policy shop/released")
    );
    registry.sign(vec![signed(&build, &statement), signed(&release, &statement)]);
    let info = pool.resolve_signed(&image, &asked_for).await.unwrap();
    assert_eq!(info.verified_by.len(), 2);
}

#[tokio::test]
async fn a_tag_that_moved_to_an_unsigned_image_is_refused_and_what_was_signed_stays() {
    let registry = Registry::start(component(COMPONENT, &[])).await;
    let (pool, image) = (pool(Some(&registry)), registry.image("1"));
    let mine = key(1);
    let asked_for = asked(&[policy("signed", &[&mine])]);
    registry.sign(vec![signed(&mine, &payload(&registry.manifest_digest()))]);
    let before = pool.resolve_signed(&image, &asked_for).await.unwrap();
    // What signs the image that the tag named before is not under this one's signature tag.
    registry.sign(Vec::new());
    registry.serve(component("shop:api/front@1.1.0", &[]));
    assert!(refused(&pool, &image, &asked_for).await.contains("has no signature"));
    let by_digest = before.digest.to_string();
    assert_eq!(pool.resolve_signed(&by_digest, &asked_for).await.unwrap(), before);
}

#[test]
fn a_key_on_another_curve_is_no_key() {
    let text = serde_json::json!({
        "apiVersion": "heddle.dev/v1", "kind": "Policy", "metadata": { "name": "p", "namespace": "shop" },
        "spec": { "signatures": { "cosign": [{
            // Ed25519.
            "publicKey": "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n",
        }]}},
    });
    let documents = manifest::load(text.to_string().as_bytes(), "test").unwrap();
    let error = asked_of(&BTreeMap::new(), &documents).unwrap_err();
    assert!(format!("{error:?}").contains("P-256"), "{error:?}");
}
