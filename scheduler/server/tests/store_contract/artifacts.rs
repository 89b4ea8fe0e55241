//! Cases about artifacts.

use bytes::Bytes;
use heddle_protocol::digest::Digest;
use heddle_scheduler::store::StoreError;

use crate::bed::Bed;

pub async fn artifacts_come_back_by_digest_in_chunks(bed: Bed) {
    let artifacts = bed.artifacts().await;
    let large = Bytes::from((0..3_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>());
    let mut digests = Vec::new();
    for bytes in [Bytes::new(), Bytes::from_static(b"small"), large.clone()] {
        let digest = artifacts.put(bytes.clone()).await.unwrap();
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(artifacts.put(bytes.clone()).await.unwrap(), digest);
        assert_eq!(artifacts.read(&digest, 4_000_000).await.unwrap(), Some(bytes.clone()));
        assert_eq!(artifacts.size_of(&digest).await.unwrap(), Some(bytes.len() as u64));
        digests.push(digest);
    }
    let mut reader = artifacts.get(&digests[2]).await.unwrap().unwrap();
    let mut chunks = 0;
    while let Some(chunk) = reader.next_chunk().await.unwrap() {
        assert!(chunk.len() <= 512 * 1024);
        chunks += 1;
    }
    assert!(chunks > 5);
    let too_large = artifacts.read(&digests[2], 1_000_000).await.unwrap_err();
    assert!(matches!(too_large, StoreError::Invalid(_)), "{too_large}");
    digests.sort();
    let listed: Vec<_> = artifacts
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|info| info.digest)
        .collect();
    assert_eq!(listed, digests);
}

pub async fn an_unknown_artifact_is_none_and_a_deleted_one_is_gone(bed: Bed) {
    let artifacts = bed.artifacts().await;
    let unknown = Digest::of(b"unknown");
    assert_eq!(artifacts.read(&unknown, 10).await.unwrap(), None);
    artifacts.delete(&unknown).await.unwrap();
    let digest = artifacts.put(Bytes::from_static(b"there")).await.unwrap();
    artifacts.delete(&digest).await.unwrap();
    assert_eq!(artifacts.read(&digest, 10).await.unwrap(), None);
    assert_eq!(artifacts.list().await.unwrap(), []);
    // What was deleted may come again.
    artifacts.put(Bytes::from_static(b"there")).await.unwrap();
    assert_eq!(artifacts.read(&digest, 10).await.unwrap().unwrap(), "there");
}
