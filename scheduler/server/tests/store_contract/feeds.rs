//! Cases about following.

use std::time::Duration;

use heddle_scheduler::store::{Commit, Committed, Feed, FeedEvent, StoreError, Write};

use crate::bed::{Bed, change, committed, conflict, removal};

async fn next(feed: &mut Feed) -> FeedEvent {
    tokio::time::timeout(Duration::from_secs(10), feed.next())
        .await
        .expect("the feed is silent")
}

async fn next_commit(feed: &mut Feed) -> Committed {
    match next(feed).await {
        FeedEvent::Committed(committed) => *committed,
        other => panic!("no commit, but {other:?}"),
    }
}

pub async fn a_follower_sees_every_commit_in_order_and_takes_over_without_loading(bed: Bed) {
    let leader = bed.leader("a").await;
    let standby = bed.store().await;
    let mut feed = standby.follow().await.unwrap();
    committed(leader.commit(change([("k", "0")])).await.unwrap());
    feed.resume_from(standby.load().await.unwrap().head_seq);
    for i in 1..=20 {
        let text = i.to_string();
        committed(leader.commit(change([("k", &text), ("l", &text)])).await.unwrap());
    }
    committed(leader.commit(removal("l")).await.unwrap());
    for n in 3..=23 {
        let commit = next_commit(&mut feed).await;
        assert_eq!(commit.head.n, n);
        if n == 3 {
            assert_eq!(commit.writes, change([("k", "1"), ("l", "1")]).writes);
        }
        standby.advance(&commit).await.unwrap();
    }
    assert_eq!(standby.image().await, leader.image().await);
    committed(standby.take_over("b").await.unwrap());
    conflict(leader.commit(change([("k", "late")])).await.unwrap());
    committed(standby.commit(change([("k", "mine")])).await.unwrap());
    assert_eq!(Some(bed.store().await.load().await.unwrap()), standby.image().await);
}

pub async fn a_missed_commit_is_told_as_a_gap_once(bed: Bed) {
    let leader = bed.leader("a").await;
    let standby = bed.store().await;
    let seen = standby.load().await.unwrap();
    committed(leader.commit(change([("k", "missed")])).await.unwrap());
    let mut feed = standby.follow().await.unwrap();
    feed.resume_from(seen.head_seq);
    committed(leader.commit(change([("k", "1")])).await.unwrap());
    committed(leader.commit(change([("k", "2")])).await.unwrap());
    match next(&mut feed).await {
        FeedEvent::Gap { after_seq, .. } => assert_eq!(after_seq, seen.head_seq),
        other => panic!("no gap, but {other:?}"),
    }
    // Loading mends it; what was on its way already is passed over.
    feed.resume_from(standby.load().await.unwrap().head_seq);
    committed(leader.commit(change([("k", "3")])).await.unwrap());
    let commit = next_commit(&mut feed).await;
    assert_eq!(commit.head.n, 5);
    standby.advance(&commit).await.unwrap();
    assert_eq!(standby.image().await, leader.image().await);
}

pub async fn a_follower_sees_the_writes_of_a_staged_change(bed: Bed) {
    let leader = bed.leader("a").await;
    let standby = bed.store().await;
    let mut feed = standby.follow().await.unwrap();
    feed.resume_from(standby.load().await.unwrap().head_seq);
    let writes: Vec<Write> = (0..1200).map(|i| Write::put(format!("k.{i}"), i.to_string())).collect();
    committed(
        leader
            .commit(Commit {
                writes: writes.clone(),
                audit: "".into(),
            })
            .await
            .unwrap(),
    );
    let commit = next_commit(&mut feed).await;
    assert_eq!(commit.writes, writes);
    standby.advance(&commit).await.unwrap();
    // The leader folds once and is gone; the standby folds the rest.
    committed(leader.fold().await.unwrap().unwrap());
    standby.advance(&next_commit(&mut feed).await).await.unwrap();
    committed(standby.take_over("b").await.unwrap());
    while let Some(outcome) = standby.fold().await.unwrap() {
        committed(outcome);
    }
    let image = bed.store().await.load().await.unwrap();
    assert_eq!(image.values.len(), 1200);
    assert_eq!(Some(image), standby.image().await);
}

pub async fn a_follower_that_was_given_a_false_commit_refuses_it(bed: Bed) {
    let leader = bed.leader("a").await;
    let standby = bed.store().await;
    let mut feed = standby.follow().await.unwrap();
    feed.resume_from(standby.load().await.unwrap().head_seq);
    committed(leader.commit(change([("k", "1")])).await.unwrap());
    let mut commit = next_commit(&mut feed).await;
    commit.head.count += 1;
    let error = standby.advance(&commit).await.unwrap_err();
    assert!(matches!(error, StoreError::Diverged { .. }), "{error}");
    assert!(matches!(standby.take_over("b").await, Err(StoreError::NotLoaded)));
}
