//! Cases about committing: the fence, the epoch, and what is refused.

use heddle_scheduler::store::{Commit, CommitKind, StoreError, VALUE_BYTES_MAX, Write};

use crate::bed::{Bed, change, committed, conflict, removal};

pub async fn the_first_take_over_makes_the_head_of_an_empty_store(bed: Bed) {
    let store = bed.store().await;
    assert_eq!(store.read_head().await.unwrap(), None);
    let image = store.load().await.unwrap();
    assert_eq!((image.head.n, image.head_seq, image.values.len()), (0, 0, 0));
    assert_eq!(committed(store.take_over("a").await.unwrap()), 1);
    let (head, _) = store.read_head().await.unwrap().unwrap();
    assert_eq!(
        (head.epoch, head.n, head.count, head.leader_id.as_str()),
        (1, 1, 0, "a")
    );
}

pub async fn nothing_is_committed_before_loading_and_taking_over(bed: Bed) {
    let store = bed.store().await;
    assert!(matches!(
        store.commit(change([("k", "1")])).await,
        Err(StoreError::NotLoaded)
    ));
    assert!(matches!(store.take_over("a").await, Err(StoreError::NotLoaded)));
    store.load().await.unwrap();
    assert!(matches!(
        store.commit(change([("k", "1")])).await,
        Err(StoreError::NotLeading)
    ));
    assert_eq!(store.read_head().await.unwrap(), None);
}

pub async fn a_committed_change_is_there_whole_after_loading(bed: Bed) {
    let store = bed.leader("a").await;
    let n = committed(
        store
            .commit(change([("workload.shop.cart", "1"), ("place.shop.cart", "2")]))
            .await
            .unwrap(),
    );
    let n2 = committed(store.commit(change([("workload.shop.cart", "3")])).await.unwrap());
    assert_eq!((n, n2), (2, 3));
    let image = bed.store().await.load().await.unwrap();
    assert_eq!(image.head.n, 3);
    assert_eq!(image.values["workload.shop.cart"], "3");
    assert_eq!(image.values["place.shop.cart"], "2");
    assert_eq!(Some(image), store.image().await);
}

pub async fn of_two_rivals_exactly_one_commits_each_number(bed: Bed) {
    let mut numbers = Vec::new();
    let mut rivals = Vec::new();
    for id in ["a", "b"] {
        let store = bed.store().await;
        rivals.push(tokio::spawn(async move {
            let mut won = Vec::new();
            for round in 0..12 {
                store.load().await.unwrap();
                let taken = store.take_over(id).await.unwrap();
                if let heddle_scheduler::store::CommitOutcome::Committed { n, .. } = taken {
                    won.push(n);
                    let value = format!("{id}{round}");
                    let outcome = store.commit(change([("k", &value)])).await.unwrap();
                    if let heddle_scheduler::store::CommitOutcome::Committed { n, .. } = outcome {
                        won.push(n);
                    }
                }
            }
            won
        }));
    }
    for rival in rivals {
        numbers.extend(rival.await.unwrap());
    }
    numbers.sort_unstable();
    let last = bed.store().await.load().await.unwrap().head.n;
    let expected: Vec<u64> = (1..=last).collect();
    assert_eq!(numbers, expected, "a number was won twice, or by nobody");
}

pub async fn a_new_leader_fences_the_old_one_out(bed: Bed) {
    let old = bed.leader("old").await;
    committed(old.commit(change([("k", "old")])).await.unwrap());
    let new = bed.leader("new").await;
    assert_eq!(new.known_head().await.epoch, 2);
    conflict(old.commit(change([("k", "late")])).await.unwrap());
    assert!(matches!(
        old.commit(change([("k", "later")])).await,
        Err(StoreError::NotLoaded)
    ));
    committed(new.commit(change([("l", "new")])).await.unwrap());
    let image = bed.store().await.load().await.unwrap();
    assert_eq!(
        (&image.values["k"][..], &image.values["l"][..]),
        (&b"old"[..], &b"new"[..])
    );
    assert_eq!(image.head.leader_id, "new");
}

pub async fn a_take_over_from_an_old_image_is_a_conflict(bed: Bed) {
    let standby = bed.store().await;
    standby.load().await.unwrap();
    let leader = bed.leader("a").await;
    conflict(standby.take_over("b").await.unwrap());
    committed(leader.commit(change([("k", "1")])).await.unwrap());
    standby.load().await.unwrap();
    committed(standby.take_over("b").await.unwrap());
    conflict(leader.commit(change([("k", "2")])).await.unwrap());
}

pub async fn a_removed_key_counts_as_no_key(bed: Bed) {
    let store = bed.leader("a").await;
    let before = store.known_head().await;
    committed(store.commit(change([("k", "1")])).await.unwrap());
    committed(store.commit(removal("k")).await.unwrap());
    // A key that is not there may be removed as well.
    committed(store.commit(removal("never")).await.unwrap());
    let image = bed.store().await.load().await.unwrap();
    assert_eq!((image.head.digest, image.head.count), (before.digest, 0));
    assert!(image.values.is_empty());
    if let Bed::Memory { realm, .. } = &bed {
        realm.advance(heddle_scheduler::store::MARKER_TTL);
        assert_eq!(
            bed.store().await.load().await.unwrap(),
            image,
            "the markers' end changed something"
        );
    }
}

pub async fn values_of_512_kib_are_kept_and_larger_ones_refused(bed: Bed) {
    let store = bed.leader("a").await;
    let value = vec![7u8; VALUE_BYTES_MAX];
    let write = |bytes: &[u8]| Commit {
        writes: vec![Write::put("k", bytes.to_vec())],
        audit: value.clone().into(),
    };
    committed(store.commit(write(&value)).await.unwrap());
    let refused = store.commit(write(&[&value[..], b"x"].concat())).await.unwrap_err();
    assert!(refused.to_string().contains("524288 are allowed"), "{refused}");
    assert_eq!(bed.store().await.load().await.unwrap().values["k"], value);
}

pub async fn a_change_that_could_not_be_read_back_is_refused_before_it_is_sent(bed: Bed) {
    let store = bed.leader("a").await;
    for key in ["head", "audit.9", "change.9", "stage.9", "", "a..b", "a b", "a.>", "*"] {
        let refused = store.commit(change([(key, "1")])).await.unwrap_err();
        assert!(matches!(refused, StoreError::Invalid(_)), "{key:?}: {refused}");
    }
    let twice = store.commit(change([("k", "1"), ("k", "2")])).await.unwrap_err();
    assert!(twice.to_string().contains("twice"), "{twice}");
    assert_eq!(store.read_head().await.unwrap().unwrap().0.n, 1);
    committed(store.commit(change([("k", "1")])).await.unwrap());
}

pub async fn a_full_store_refuses_the_whole_change_and_keeps_the_rest(mut bed: Bed) {
    bed.limit_bytes(1_000_000);
    let store = bed.leader("a").await;
    committed(store.commit(change([("k", "1")])).await.unwrap());
    let writes = (0..30)
        .map(|i| Write::put(format!("big.{i}"), vec![0u8; 50_000]))
        .collect();
    let full = store
        .commit(Commit {
            writes,
            audit: "too much".into(),
        })
        .await
        .unwrap_err();
    assert!(matches!(full, StoreError::Refused { code: 10077, .. }), "{full}");
    assert!(full.to_string().contains("raise its max_bytes"), "{full}");
    // The leader still leads, and what fits is taken.
    committed(store.commit(change([("k", "2")])).await.unwrap());
    let image = bed.store().await.load().await.unwrap();
    assert_eq!((image.values.len(), &image.values["k"][..]), (1, &b"2"[..]));
}

pub async fn audit_records_tell_each_commit_in_order(bed: Bed) {
    let store = bed.leader("a").await;
    for i in 0..5 {
        let audit = format!("request {i}");
        committed(
            store
                .commit(Commit {
                    writes: vec![],
                    audit: audit.into(),
                })
                .await
                .unwrap(),
        );
    }
    let audits = bed
        .store()
        .await
        .audits(std::time::Duration::from_secs(3600))
        .await
        .unwrap();
    let told: Vec<_> = audits
        .iter()
        .map(|a| (a.n, a.kind, String::from_utf8_lossy(&a.body).into_owned()))
        .collect();
    assert_eq!(told[0], (1, CommitKind::TakeOver, String::new()));
    for i in 0..5u64 {
        assert_eq!(
            told[i as usize + 1],
            (i + 2, CommitKind::Change, format!("request {i}"))
        );
    }
    let newest = store.audit(6).await.unwrap().unwrap();
    assert_eq!(newest.batch_id, store.known_head().await.batch_id);
    assert_eq!(store.audit(7).await.unwrap(), None);
}
