//! Artifacts when things go wrong: registries that are down or lie, bytes that are no component, parts that do not fit.

mod registry;
mod signed;

use super::login::Logins;
use super::oci::Fetcher;
use super::*;
use heddle_scheduler_core::ArtifactTask;
use heddle_scheduler_core::apply::{CallCheck, Composition, PartLink, PartSource};
use registry::Registry;

fn component(export: &str, imports: &[&str]) -> Bytes {
    let imports: String = imports
        .iter()
        .map(|i| format!(r#"(import "{i}" (instance (export "quote" (func (param "n" u32) (result u32)))))"#))
        .collect();
    let text = format!(
        r#"(component {imports}
            (core module $m (func (export "quote") (param i32) (result i32) local.get 0))
            (core instance $i (instantiate $m))
            (func $quote (param "n" u32) (result u32) (canon lift (core func $i "quote")))
            (instance $e (export "quote" (func $quote)))
            (export "{export}" (instance $e)))"#
    );
    wat::parse_str(text).unwrap().into()
}

fn pool(registry: Option<&Registry>) -> ArtifactPool {
    let plain = registry.map(|r| r.host.clone()).into_iter().collect();
    ArtifactPool::new(ArtifactStore::in_memory(), Fetcher::new(Logins::default(), plain))
}

#[tokio::test]
async fn a_stored_image_outlives_its_registry_and_a_new_one_is_refused_with_the_reason() {
    let bytes = component("shop:api/front@1.0.0", &[]);
    let registry = Registry::start(bytes.clone()).await;
    let pool = pool(Some(&registry));
    let info = pool.resolve(&registry.image("1")).await.unwrap();
    assert_eq!(info.digest, Digest::of(&bytes));
    let image = registry.image("1");
    registry.stop().await;
    assert_eq!(pool.resolve(&info.digest.to_string()).await.unwrap(), info);
    assert_eq!(pool.bytes(&info.digest).await.unwrap(), bytes);
    let error = pool.resolve(&image).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Artifact);
    assert!(
        error.message.contains(&image) && error.next.contains("registry is up"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_tag_that_moves_is_resolved_anew_and_what_it_was_stays() {
    let (old, new) = (
        component("shop:api/front@1.0.0", &[]),
        component("shop:api/front@1.1.0", &[]),
    );
    let registry = Registry::start(old.clone()).await;
    let pool = pool(Some(&registry));
    let before = pool.resolve(&registry.image("1")).await.unwrap();
    registry.serve(new.clone());
    let after = pool.resolve(&registry.image("1")).await.unwrap();
    assert_eq!((before.digest, after.digest), (Digest::of(&old), Digest::of(&new)));
    assert_eq!(pool.bytes(&before.digest).await.unwrap(), old);
}

#[tokio::test]
async fn a_blob_with_another_digest_than_its_manifest_says_is_refused() {
    let registry = Registry::start(component("shop:api/front@1.0.0", &[])).await;
    let pool = pool(Some(&registry));
    let claimed = component("shop:api/back@1.0.0", &[]);
    registry.claim(Digest::of(&claimed).to_string(), None);
    let error = pool.resolve(&registry.image("1")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Artifact);
    assert!(error.message.to_lowercase().contains("digest"), "{error:?}");
    assert!(
        pool.bytes(&Digest::of(&claimed)).await.is_err(),
        "nothing is kept of it"
    );
}

#[tokio::test]
async fn a_manifest_that_is_pinned_must_be_that_manifest() {
    let registry = Registry::start(component("shop:api/front@1.0.0", &[])).await;
    let pool = pool(Some(&registry));
    let other = Digest::of(b"another manifest");
    registry.answer_every_reference();
    let image = format!("oci://{}/demo/component@{other}", registry.host);
    let error = pool.resolve(&image).await.unwrap_err();
    assert!(error.message.to_lowercase().contains("digest"), "{error:?}");
}

#[tokio::test]
async fn an_image_that_is_no_component_is_refused() {
    let module = Bytes::from(wat::parse_str("(module)").unwrap());
    let registry = Registry::start(module).await;
    let error = pool(Some(&registry)).resolve(&registry.image("1")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Artifact);
    assert!(error.message.contains("core module"), "{error:?}");
}

#[tokio::test]
async fn an_image_that_is_too_large_is_refused_before_and_while_it_is_fetched() {
    let bytes = component("shop:api/front@1.0.0", &[]);
    let registry = Registry::start(bytes.clone()).await;
    let pool = pool(Some(&registry));
    registry.claim(Digest::of(&bytes).to_string(), Some(ARTIFACT_BYTES_MAX + 1));
    let error = pool.resolve(&registry.image("1")).await.unwrap_err();
    assert!(error.message.contains("at most"), "{error:?}");
    assert_eq!(registry.blobs_served(), 0, "it is not even asked for");
    registry.claim(Digest::of(&bytes).to_string(), Some(10));
    let error = pool.resolve(&registry.image("1")).await.unwrap_err();
    assert!(error.message.contains("larger than its manifest says"), "{error:?}");
    let error = pool
        .put(None, vec![0; ARTIFACT_BYTES_MAX as usize + 1].into())
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::TooLarge);
}

/// A pool with two parts, and the task that makes one component of them.
async fn two_parts(pool: &ArtifactPool, export: &str) -> ArtifactTask {
    let api = pool
        .put(None, component("shop:api/front@1.0.0", &["acme:tax/rates@1.0.0"]))
        .await
        .unwrap();
    let tax = pool
        .put(None, component(export, &["wasi:config/store@0.2.0-rc.1"]))
        .await
        .unwrap();
    let rename = [("wasi:config/store@0.2.0-rc.1", "heddle:p1-wasi-config/store@0.2.0-rc.1")];
    let part = |artifact, rename: &[(&str, &str)]| PartSource {
        artifact,
        rename: rename.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
    };
    ArtifactTask::Compose(Composition {
        entry: "api".to_owned(),
        parts: BTreeMap::from([
            ("api".to_owned(), part(api.digest, &[])),
            ("tax".to_owned(), part(tax.digest, &rename)),
        ]),
        links: vec![PartLink {
            from: "api".to_owned(),
            import: "acme:tax/rates@1.0.0".to_owned(),
            to: "tax".to_owned(),
            export: "acme:tax/rates@1.0.0".to_owned(),
        }],
    })
}

#[tokio::test]
async fn a_composition_is_stored_by_digest_and_made_once_however_many_ask() {
    let pool = pool(None);
    let task = two_parts(&pool, "acme:tax/rates@1.0.0").await;
    let asked = futures::future::join_all((0..8).map(|_| pool.run(&task))).await;
    let info = asked[0].clone().unwrap().unwrap();
    assert!(asked.iter().all(|a| a.as_ref().unwrap().as_ref().unwrap() == &info));
    assert_eq!(
        info.imports,
        BTreeSet::from(["heddle:p1-wasi-config/store@0.2.0-rc.1".to_owned()])
    );
    assert_eq!(info.exports, BTreeSet::from(["shop:api/front@1.0.0".to_owned()]));
    assert_eq!(Digest::of(&pool.bytes(&info.digest).await.unwrap()), info.digest);
    // The two parts and the whole.
    assert_eq!(pool.store.list().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_composition_is_kept_while_it_is_named_and_made_again_when_it_is_gone() {
    let pool = pool(None);
    let task = two_parts(&pool, "acme:tax/rates@1.0.0").await;
    let info = pool.run(&task).await.unwrap().unwrap();
    let parts: BTreeSet<Digest> = pool
        .lock()
        .infos
        .keys()
        .copied()
        .filter(|d| *d != info.digest)
        .collect();
    let forget_asking = || pool.lock().asked.clear();
    forget_asking();
    let all: BTreeSet<Digest> = parts.iter().copied().chain([info.digest]).collect();
    assert_eq!(pool.collect(&all).await.unwrap(), 0);
    forget_asking();
    assert_eq!(pool.collect(&parts).await.unwrap(), 1);
    assert!(pool.bytes(&info.digest).await.is_err());
    assert_eq!(pool.run(&task).await.unwrap().unwrap(), info, "to the same bytes");
    pool.bytes(&info.digest).await.unwrap();
    // A scheduler that starts anew over the same store remembers nothing, and comes to the same.
    let again = ArtifactPool::new(pool.store.clone(), Fetcher::new(Logins::default(), Vec::new()));
    assert_eq!(again.run(&task).await.unwrap().unwrap(), info);
}

#[tokio::test]
async fn parts_that_do_not_fit_are_knowledge_and_a_part_that_is_missing_is_not() {
    let pool = pool(None);
    let task = two_parts(&pool, "acme:tax/rate@1.0.0").await;
    let why = pool.run(&task).await.unwrap().unwrap_err();
    assert!(why.contains("does not export acme:tax/rates@1.0.0"), "{why}");
    let ArtifactTask::Compose(mut composition) = task else {
        return;
    };
    let nowhere = Digest::of(b"nowhere");
    composition.parts.get_mut("tax").unwrap().artifact = nowhere;
    let task = ArtifactTask::Compose(composition);
    let error = pool.run(&task).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Artifact);
    assert!(error.message.contains(&nowhere.to_string()), "{error:?}");
}

#[tokio::test]
async fn a_call_is_checked_against_the_component_that_answers_it() {
    let pool = pool(None);
    let rates = "acme:tax/rates@1.0.0".to_owned();
    let caller = pool
        .put(None, component("shop:api/front@1.0.0", &[&rates]))
        .await
        .unwrap();
    let (right, wrong) = (component(&rates, &[]), component("acme:tax/other@1.0.0", &[]));
    let (right, wrong) = (
        pool.put(None, right).await.unwrap(),
        pool.put(None, wrong).await.unwrap(),
    );
    let check = |callee| {
        ArtifactTask::CheckCall(CallCheck {
            caller: caller.digest,
            import: rates.clone(),
            callee,
            export: rates.clone(),
        })
    };
    assert_eq!(pool.run(&check(Some(right.digest))).await.unwrap().unwrap(), caller);
    assert_eq!(pool.run(&check(None)).await.unwrap().unwrap(), caller);
    assert!(
        pool.run(&check(Some(wrong.digest)))
            .await
            .unwrap()
            .unwrap_err()
            .contains("does not export")
    );
}

#[test]
fn what_was_asked_for_today_is_not_collected() {
    let (digest, now) = (Digest::of(b"a"), Instant::now());
    let mut shared = Shared::default();
    assert!(!shared.is_asked_for(&digest, now));
    shared.asked.insert(digest, now);
    assert!(shared.is_asked_for(&digest, now + Duration::from_secs(3_600)));
    assert!(!shared.is_asked_for(&digest, now + ASKED_FOR));
    shared.forget(&digest);
    assert!(!shared.is_asked_for(&digest, now));
}
