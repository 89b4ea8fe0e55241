//! The store in a NATS bucket keeps what every key-value store promises, and survives its server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../keyvalue/tests/contract/mod.rs"]
mod contract;

use anyhow::Result;
use heddle_capability::Lending;
use heddle_capability_keyvalue::{Refused, Store};
use heddle_protocol::host_spec::CapabilityOffer;
use heddle_protocol::id::CapabilityName;
use heddle_tests::nats::Nats;

fn store(nats: &Nats, bucket: &str, scope: &str) -> Store {
    let name = CapabilityName::parse("sessions").unwrap();
    let offer = CapabilityOffer::KeyvalueNats {
        bucket: bucket.to_owned(),
        url: None,
        shared: false,
    };
    let lending = Lending {
        nats_url: Some(nats.url()),
        ..Lending::default()
    };
    heddle_capability_keyvalue_nats::open(&name, &offer, &lending, scope).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_a_nats_bucket_keeps_the_contract() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nats = Nats::start(folder.path(), &folder.path().join("log")).await?;
    contract::holds(|scope| store(&nats, "workloads", scope)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_gives_typed_errors_in_time_and_is_found_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut nats = Nats::start(folder.path(), &folder.path().join("log")).await?;
    let kept = store(&nats, "workloads", "one");
    let bucket = kept.open("b".into())?;
    bucket
        .set("k".into(), b"v".to_vec())
        .within(std::time::Duration::from_secs(10))
        .await?;
    nats.kill()?;
    contract::refuses_in_time(&kept).await;
    let new = store(&nats, "workloads", "one");
    contract::refuses_in_time(&new).await;
    nats.start_again().await?;
    contract::recovers(&kept, "k", b"v").await;
    contract::recovers(&new, "k", b"v").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_connected_before_the_first_call_and_the_connection_is_the_capabilitys_own() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nats = Nats::start(folder.path(), &folder.path().join("log")).await?;
    let store = store(&nats, "workloads", "one");
    let bucket = store.open("b".into())?;
    let names = async || -> Result<Vec<String>> {
        let told = nats.tell("/connz").await?;
        let connections = told["connections"].as_array().cloned().unwrap_or_default();
        Ok(connections
            .iter()
            .map(|c| c["name"].as_str().unwrap_or_default().to_owned())
            .collect())
    };
    assert!(names().await?.is_empty());
    bucket
        .exists("k".into())
        .within(std::time::Duration::from_secs(10))
        .await?;
    assert_eq!(names().await?, ["heddle/keyvalue/sessions"]);
    Ok(())
}

#[tokio::test]
async fn a_secret_that_has_not_come_is_said_so() -> Result<()> {
    let name = CapabilityName::parse("sessions")?;
    let offer = CapabilityOffer::KeyvalueNats {
        bucket: "workloads".into(),
        url: Some("nats://127.0.0.1:9".into()),
        shared: false,
    };
    let mut lending = Lending::default();
    lending
        .secrets
        .insert("credentials".into(), heddle_capability::SecretHandle::default());
    let store = heddle_capability_keyvalue_nats::open(&name, &offer, &lending, "one")?;
    let refused = store
        .open("b".into())?
        .get("k".into())
        .within(std::time::Duration::from_secs(10))
        .await;
    assert!(
        matches!(&refused, Err(Refused::Unavailable(why)) if why.contains("credentials")),
        "{refused:?}"
    );
    Ok(())
}
