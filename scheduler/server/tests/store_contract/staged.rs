//! Cases about changes too large for one batch.

use heddle_scheduler::store::{Commit, Store, StoreError, Write};

use crate::bed::{Bed, change, committed, conflict, removal};

/// A change of `count` records: every fifth removes a key, the others set one.
fn large(count: usize, value: &str) -> Commit {
    let write = |i: usize| match i % 5 {
        4 => Write::remove(format!("place.shop.w{i}")),
        _ => Write::put(format!("place.shop.w{i}"), format!("{value}{i}")),
    };
    Commit {
        writes: (0..count).map(write).collect(),
        audit: "large".into(),
    }
}

/// Folds to the end and checks at every step that a stranger loads the same.
async fn fold(bed: &Bed, store: &Store) {
    let expected = store.image().await.unwrap();
    for _ in 0..30 {
        let Some(outcome) = store.fold().await.unwrap() else {
            assert!(!store.needs_fold().await);
            return;
        };
        committed(outcome);
        let image = bed.store().await.load().await.unwrap();
        assert_eq!(image.values, expected.values);
        assert_eq!(image.head.digest, expected.head.digest);
    }
    panic!("folding does not end");
}

pub async fn a_change_of_2000_records_is_whole_before_during_and_after_folding(bed: Bed) {
    let store = bed.leader("a").await;
    committed(
        store
            .commit(change([("place.shop.w4", "there before"), ("k", "1")]))
            .await
            .unwrap(),
    );
    assert_eq!(committed(store.commit(large(2000, "v")).await.unwrap()), 3);
    let image = bed.store().await.load().await.unwrap();
    assert_eq!(image.values.len(), 1601);
    assert_eq!(image.values["place.shop.w1998"], "v1998");
    assert!(!image.values.contains_key("place.shop.w4"));
    assert!(store.needs_fold().await);
    fold(&bed, &store).await;
    assert_eq!(bed.store().await.load().await.unwrap().values, image.values);
    // A stranger that loads afterwards finds nothing left to fold either.
    let next = bed.leader("b").await;
    assert!(!next.needs_fold().await);
}

pub async fn a_key_removed_after_a_staged_change_stays_removed(bed: Bed) {
    let store = bed.leader("a").await;
    committed(store.commit(large(1000, "v")).await.unwrap());
    committed(store.commit(removal("place.shop.w0")).await.unwrap());
    if let Bed::Memory { realm, .. } = &bed {
        // The marker must outlive the change that still says what the key was.
        realm.advance(heddle_scheduler::store::MARKER_TTL * 2);
    }
    assert!(
        !bed.store()
            .await
            .load()
            .await
            .unwrap()
            .values
            .contains_key("place.shop.w0")
    );
    // The leader changes in the middle of folding.
    committed(store.fold().await.unwrap().unwrap());
    let next = bed.leader("b").await;
    fold(&bed, &next).await;
    if let Bed::Memory { realm, .. } = &bed {
        realm.advance(heddle_scheduler::store::MARKER_TTL * 2);
    }
    let image = bed.store().await.load().await.unwrap();
    assert!(!image.values.contains_key("place.shop.w0"));
    assert_eq!(image.values.len(), 799);
}

pub async fn a_newer_value_of_a_staged_key_wins(bed: Bed) {
    let store = bed.leader("a").await;
    committed(store.commit(large(1000, "old")).await.unwrap());
    committed(store.commit(change([("place.shop.w0", "newer")])).await.unwrap());
    committed(store.commit(large(950, "newest")).await.unwrap());
    committed(store.commit(change([("place.shop.w1", "last")])).await.unwrap());
    let check = |values: &std::collections::BTreeMap<String, bytes::Bytes>| {
        assert_eq!(values["place.shop.w0"], "newest0");
        assert_eq!(values["place.shop.w1"], "last");
        assert_eq!(values["place.shop.w998"], "old998");
    };
    check(&bed.store().await.load().await.unwrap().values);
    fold(&bed, &store).await;
    check(&bed.store().await.load().await.unwrap().values);
}

pub async fn blocks_of_a_change_that_was_fenced_out_are_tidied_away(bed: Bed) {
    let old = bed.leader("old").await;
    bed.leader("between").await;
    conflict(old.commit(large(1000, "v")).await.unwrap());
    let next = bed.leader("next").await;
    assert!(next.image().await.unwrap().values.is_empty());
    assert!(next.needs_fold().await);
    fold(&bed, &next).await;
}

pub async fn a_missing_block_is_noticed_and_healed(bed: Bed) {
    let store = bed.leader("a").await;
    committed(store.commit(change([("k", "1")])).await.unwrap());
    committed(store.commit(large(1000, "v")).await.unwrap());
    let image = store.image().await.unwrap();
    let blocks = store.block_keys().await;
    bed.tamper(&blocks[0], None).await;
    let stranger = bed.store().await;
    let error = stranger.load().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    committed(stranger.rewrite(&image, "b", 1, "heal".into()).await.unwrap());
    assert_eq!(bed.store().await.load().await.unwrap().values, image.values);
    fold(&bed, &stranger).await;
}
