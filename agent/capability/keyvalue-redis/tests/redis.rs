//! The store in Redis keeps what every key-value store promises, survives its server, and logs in with its secret.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../keyvalue/tests/contract/mod.rs"]
mod contract;

use anyhow::Result;
use heddle_capability::{Lending, SecretHandle, SecretValue};
use heddle_capability_keyvalue::{Refused, Store};
use heddle_protocol::host_spec::CapabilityOffer;
use heddle_protocol::id::CapabilityName;
use heddle_tests::redis::{PASSWORD, Redis};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

fn store(redis: &Redis, prefix: &str, scope: &str, password: &SecretHandle) -> Store {
    let name = CapabilityName::parse("sessions").unwrap();
    let offer = CapabilityOffer::KeyvalueRedis {
        url: redis.url(),
        prefix: prefix.to_owned(),
        shared: false,
    };
    let lending = Lending {
        secrets: [("password".to_owned(), password.clone())].into(),
        ..Lending::default()
    };
    heddle_capability_keyvalue_redis::open(&name, &offer, &lending, scope).unwrap()
}

fn password(version: &str, text: &str) -> SecretHandle {
    let handle = SecretHandle::default();
    handle.set(SecretValue::new(version, text.as_bytes().to_vec().into()));
    handle
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_redis_keeps_the_contract() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let redis = Redis::start(folder.path(), &folder.path().join("log")).await?;
    let password = password("1", PASSWORD);
    // A prefix with everything that a pattern could take for more than itself.
    contract::holds(|scope| store(&redis, "he*d[d]l?e\\", scope, &password)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_gives_typed_errors_in_time_and_is_found_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut redis = Redis::start(folder.path(), &folder.path().join("log")).await?;
    let password = password("1", PASSWORD);
    let kept = store(&redis, "", "one", &password);
    kept.open("b".into())?
        .set("k".into(), b"v".to_vec())
        .within(PATIENCE)
        .await?;
    redis.kill()?;
    contract::refuses_in_time(&kept).await;
    let new = store(&redis, "", "one", &password);
    contract::refuses_in_time(&new).await;
    redis.start_again().await?;
    contract::recovers(&kept, "k", b"v").await;
    contract::recovers(&new, "k", b"v").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_denied_and_a_new_one_is_used_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let redis = Redis::start(folder.path(), &folder.path().join("log")).await?;
    let handle = SecretHandle::default();
    let bucket = store(&redis, "", "one", &handle).open("b".into())?;
    let refused = bucket.get("k".into()).within(PATIENCE).await;
    assert!(
        matches!(&refused, Err(Refused::Unavailable(why)) if why.contains("password")),
        "{refused:?}"
    );
    handle.set(SecretValue::new("1", b"not this one".to_vec().into()));
    assert_eq!(
        bucket.get("k".into()).within(PATIENCE).await,
        Err(Refused::AccessDenied)
    );
    handle.set(SecretValue::new("2", PASSWORD.as_bytes().to_vec().into()));
    assert_eq!(bucket.get("k".into()).within(PATIENCE).await, Ok(None));
    Ok(())
}
