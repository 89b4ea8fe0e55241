//! The blob store in folders keeps what every blob store promises, and what it holds outlives the agent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod contract;

use heddle_capability::Lending;
use heddle_capability_blobstore::{Store, open};
use heddle_protocol::host_spec::CapabilityOffer;
use heddle_protocol::id::CapabilityName;
use std::path::Path;

fn store(data: &Path, path: &str, quota_bytes: Option<u64>, scope: &str) -> anyhow::Result<Store> {
    let offer = CapabilityOffer::BlobstoreFilesystem {
        path: path.to_owned(),
        quota_bytes,
        shared: false,
    };
    let lending = Lending {
        data: data.to_owned(),
        ..Lending::default()
    };
    Ok(open(&CapabilityName::parse("blobs")?, &offer, &lending, scope)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_a_folder_keeps_the_contract() {
    let data = tempfile::tempdir().unwrap();
    // Each opened as by an agent of its own.
    contract::holds(|scope| store(data.path(), "blobs", None, scope).unwrap()).await;
    contract::lists_while_others_change(&store(data.path(), "blobs", None, "lists").unwrap()).await;
    let beside: Vec<_> = std::fs::read_dir(data.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(beside, ["blobstore"], "nothing is written beside the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_a_folder_keeps_its_quota_over_restarts() {
    let data = tempfile::tempdir().unwrap();
    contract::keeps_its_quota(&store(data.path(), "blobs", Some(1_100_000), "one").unwrap()).await;
    // Another agent finds 300,000 bytes there, in another scope than it writes to.
    let other = store(data.path(), "blobs", Some(1_100_000), "two").unwrap();
    other.create_container("c").await.unwrap();
    let (_, mut value) = other.spool().create().await.unwrap();
    value
        .grow(900_000)
        .expect_err("the first scope has 300,000 of 1,100,000 bytes");
    value.grow(700_000).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_a_folder_streams_what_is_large() {
    let data = tempfile::tempdir().unwrap();
    contract::streams_what_is_large(&store(data.path(), "blobs", None, "one").unwrap()).await;
}

#[test]
fn a_folder_outside_the_agents_data_is_refused() {
    let data = tempfile::tempdir().unwrap();
    for path in ["", "..", "../x", "a/../../b", "/etc", "./a/.."] {
        assert!(store(data.path(), path, None, "one").is_err(), "{path:?}");
    }
    assert!(store(data.path(), "a/b", None, "one").is_ok());
}
