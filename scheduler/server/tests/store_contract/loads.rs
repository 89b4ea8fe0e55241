//! Cases about loading: what is read is believed only if it is what the head says.

use std::collections::BTreeMap;

use heddle_scheduler::store::{Commit, RESTORE_EPOCH_STEP, StoreError, Write, read_image, write_image};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::bed::{Bed, change, committed, conflict};

pub async fn a_random_history_loads_as_it_was_in_memory(bed: Bed) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut store = bed.leader("a").await;
    let mut model = BTreeMap::new();
    for round in 0..40 {
        let count = match random.random_range(0..10) {
            0 => random.random_range(901..1100),
            _ => random.random_range(0..6),
        };
        let mut writes = BTreeMap::new();
        for _ in 0..count {
            let key = format!("k.{}", random.random_range(0..1500));
            let value = random.random_bool(0.7).then(|| bytes::Bytes::from(format!("{round}")));
            writes.insert(key, value);
        }
        for (key, value) in &writes {
            match value {
                Some(value) => model.insert(key.clone(), value.clone()),
                None => model.remove(key),
            };
        }
        let writes = writes.into_iter().map(|(key, value)| Write { key, value }).collect();
        committed(
            store
                .commit(Commit {
                    writes,
                    audit: "".into(),
                })
                .await
                .unwrap(),
        );
        match random.random_range(0..8) {
            0 | 1 => drop(store.fold().await.unwrap()),
            2 => store = bed.leader("next").await,
            _ => {}
        }
        assert_eq!(store.image().await.unwrap().values, model, "seed {seed}, round {round}");
    }
    let image = bed.store().await.load().await.unwrap();
    assert_eq!(image.values, model, "seed {seed}");
    assert_eq!(Some(image), store.image().await, "seed {seed}");
}

pub async fn a_load_under_a_stream_of_commits_is_of_one_moment(bed: Bed) {
    let writer = bed.leader("a").await;
    let writes = (0..200).map(|i| Write::put(format!("k.{i}"), "0")).collect();
    committed(
        writer
            .commit(Commit {
                writes,
                audit: "".into(),
            })
            .await
            .unwrap(),
    );
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let writing = tokio::spawn(async move {
        let mut round = 0u64;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            round += 1;
            let text = round.to_string();
            // Both keys always have the same value: a half-read change would show.
            let (one, other) = (format!("k.{}", round % 100), format!("k.{}", 100 + round % 100));
            committed(writer.commit(change([(&one, &text), (&other, &text)])).await.unwrap());
            tokio::task::yield_now().await;
        }
        writer
    });
    let stranger = bed.store().await;
    for _ in 0..10 {
        let image = stranger.load().await.unwrap();
        for i in 0..100 {
            assert_eq!(image.values[&format!("k.{i}")], image.values[&format!("k.{}", i + 100)]);
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let writer = writing.await.unwrap();
    assert_eq!(Some(stranger.load().await.unwrap()), writer.image().await);
}

pub async fn a_value_altered_behind_the_chain_is_noticed_and_healed(bed: Bed) {
    let store = bed.leader("a").await;
    committed(store.commit(change([("k", "true"), ("l", "1")])).await.unwrap());
    bed.tamper("k", Some(b"false")).await;
    heals(&bed, store).await;
}

pub async fn a_value_lost_from_the_stream_is_noticed_and_healed(bed: Bed) {
    let store = bed.leader("a").await;
    committed(store.commit(change([("k", "true"), ("l", "1")])).await.unwrap());
    bed.tamper("k", None).await;
    heals(&bed, store).await;
}

async fn heals(bed: &Bed, store: heddle_scheduler::store::Store) {
    let image = store.image().await.unwrap();
    let stranger = bed.store().await;
    let error = stranger.load().await.unwrap_err();
    assert!(matches!(error, StoreError::Diverged { n: 2, .. }), "{error}");
    assert!(matches!(stranger.take_over("b").await, Err(StoreError::NotLoaded)));
    // The one that knows better writes it again, and leads.
    committed(store.rewrite(&image, "a", 1, "heal".into()).await.unwrap());
    committed(store.commit(change([("m", "2")])).await.unwrap());
    let healed = stranger.load().await.unwrap();
    assert_eq!((healed.head.epoch, healed.head.n), (2, 4));
    assert_eq!((&healed.values["k"][..], healed.values.len()), (&b"true"[..], 3));
}

pub async fn a_lost_head_is_noticed(bed: Bed) {
    let store = bed.leader("a").await;
    committed(store.commit(change([("k", "1")])).await.unwrap());
    bed.tamper("head", None).await;
    let stranger = bed.store().await.load().await.unwrap_err();
    assert!(matches!(stranger, StoreError::Corrupt { .. }), "{stranger}");
    let error = store.commit(change([("k", "2")])).await.unwrap_err();
    assert!(matches!(error, StoreError::RolledBack { expected: 2, .. }), "{error}");
}

pub async fn a_restored_backup_has_every_value_and_an_epoch_far_above(bed: Bed) {
    let old = bed.leader("old").await;
    let writes = (0..1500).map(|i| Write::put(format!("k.{i}"), i.to_string())).collect();
    committed(
        old.commit(Commit {
            writes,
            audit: "".into(),
        })
        .await
        .unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    write_image(&path, old.realm(), &old.image().await.unwrap()).unwrap();
    // What happened since is undone by the restore: values changed, added and removed.
    let mut since = change([("k.0", "changed"), ("added", "1")]);
    since.writes.push(Write::remove("k.1"));
    committed(old.commit(since).await.unwrap());
    let image = read_image(&path, old.realm()).unwrap();
    let restorer = bed.store().await;
    committed(
        restorer
            .rewrite(&image, "restorer", RESTORE_EPOCH_STEP, "restore".into())
            .await
            .unwrap(),
    );
    let restored = bed.store().await.load().await.unwrap();
    assert_eq!(restored.values, image.values);
    assert_eq!(restored.head.epoch, 1 + RESTORE_EPOCH_STEP);
    conflict(old.commit(change([("k.0", "late")])).await.unwrap());
    committed(restorer.commit(change([("k.0", "new")])).await.unwrap());
}
