//! The blob store in a NATS object store keeps what every blob store promises, and any client reads what it holds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod contract;

use anyhow::Result;
use heddle_capability::Lending;
use heddle_capability_blobstore::{Error, Store, open};
use heddle_protocol::host_spec::CapabilityOffer;
use heddle_protocol::id::CapabilityName;
use heddle_tests::nats::Nats;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn store(nats: &Nats, data: &Path, bucket: &str, quota_bytes: Option<u64>, scope: &str) -> Store {
    let offer = CapabilityOffer::BlobstoreNats {
        bucket: bucket.to_owned(),
        url: None,
        quota_bytes,
        shared: false,
    };
    let lending = Lending {
        nats_url: Some(nats.url()),
        data: data.to_owned(),
        ..Lending::default()
    };
    open(&CapabilityName::parse("blobs").unwrap(), &offer, &lending, scope).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_nats_keeps_the_contract() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nats = Nats::start(folder.path(), &folder.path().join("log")).await?;
    contract::holds(|scope| store(&nats, folder.path(), "blobs", None, scope)).await;
    contract::lists_while_others_change(&store(&nats, folder.path(), "blobs", None, "lists")).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_nats_keeps_its_quota() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nats = Nats::start(folder.path(), &folder.path().join("log")).await?;
    contract::keeps_its_quota(&store(&nats, folder.path(), "small", Some(1_100_000), "one")).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_nats_streams_what_is_large() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nats = Nats::start(folder.path(), &folder.path().join("log")).await?;
    contract::streams_what_is_large(&store(&nats, folder.path(), "blobs", None, "one")).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_client_of_object_stores_reads_what_is_stored() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nats = Nats::start(folder.path(), &folder.path().join("log")).await?;
    let store = store(&nats, folder.path(), "blobs", None, "shop");
    store.create_container("notes").await?;
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| i as u8).collect();
    let (mut file, mut value) = store.spool().create().await?;
    value.grow(bytes.len() as u64)?;
    file.write_all(&bytes).await?;
    file.flush().await?;
    store.write("notes", "a/b", value).await?;
    let client = async_nats::connect(nats.url()).await?;
    let theirs = async_nats::jetstream::new(client).get_object_store("blobs").await?;
    let mut read = Vec::new();
    theirs.get("shop/notes/a/b").await?.read_to_end(&mut read).await?;
    assert_eq!(read, bytes);
    theirs.delete("shop/notes/a/b").await?;
    assert_eq!(
        store.info("notes", "a/b").await?,
        None,
        "what another client removed is gone"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_gives_errors_in_time_and_is_found_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut nats = Nats::start(folder.path(), &folder.path().join("log")).await?;
    let store = store(&nats, folder.path(), "blobs", None, "one");
    store.create_container("c").await?;
    nats.kill()?;
    for _ in 0..3 {
        let started = Instant::now();
        let refused = store.container_created("c").await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    }
    nats.start_again().await?;
    let started = Instant::now();
    while store.container_created("c").await.ok().flatten().is_none() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "the store does not come back"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
