//! Cases about answers that do not come: what is said is certain, and every commit has one effect.

use std::time::Duration;

use heddle_scheduler::store::{CommitOutcome, Fault, Store, StoreError};

use crate::bed::{Bed, change, committed, conflict};

/// So short that a commit is tried once: the pause before a second attempt is longer.
const ONE_ATTEMPT: Duration = Duration::from_millis(10);

async fn value_of(bed: &Bed, key: &str) -> String {
    let image = bed.store().await.load().await.unwrap();
    String::from_utf8_lossy(&image.values[key]).into_owned()
}

/// Commits with an answer that is lost and a look-up that fails, so that the outcome cannot be learned.
async fn commit_into_doubt(store: &Store, fault: Fault, value: &str) {
    store.inject([fault, Fault::FailRead]);
    let error = store.commit(change([("k", value)])).await.unwrap_err();
    assert!(matches!(error, StoreError::Unknown { .. }), "{error}");
}

pub async fn a_lost_answer_is_looked_up_and_found_committed(bed: Bed) {
    let store = bed.leader("a").await;
    store.inject([Fault::LoseAnswer]);
    let n = committed(store.commit(change([("k", "1")])).await.unwrap());
    assert_eq!(store.read_head().await.unwrap().unwrap().0.n, n);
    assert_eq!(committed(store.commit(change([("k", "2")])).await.unwrap()), n + 1);
    assert_eq!(value_of(&bed, "k").await, "2");
}

pub async fn a_lost_request_is_sent_again_and_has_one_effect(bed: Bed) {
    let store = bed.leader("a").await;
    store.inject([Fault::LoseRequest, Fault::LoseRequest]);
    assert_eq!(committed(store.commit(change([("k", "1")])).await.unwrap()), 2);
    assert_eq!(store.read_head().await.unwrap().unwrap().0.n, 2);
}

pub async fn a_request_that_arrives_late_has_one_effect(bed: Bed) {
    let store = bed.leader("a").await;
    // The first attempt arrives just before the second, which then finds the head moved by its own batch.
    store.inject([Fault::DelayRequest]);
    assert_eq!(committed(store.commit(change([("k", "1")])).await.unwrap()), 2);
    assert_eq!(committed(store.commit(change([("k", "2")])).await.unwrap()), 3);
    assert_eq!(value_of(&bed, "k").await, "2");
}

pub async fn an_outcome_that_cannot_be_learned_is_unknown_until_it_is_settled(mut bed: Bed) {
    bed.options().give_up_after = ONE_ATTEMPT;
    for (fault, value) in [(Fault::LoseAnswer, "1"), (Fault::LoseRequest, "2")] {
        let store = bed.leader("a").await;
        commit_into_doubt(&store, fault, value).await;
        // Nothing is built on a doubt.
        let refused = store.commit(change([("k", "3")])).await.unwrap_err();
        assert!(matches!(refused, StoreError::InDoubt { .. }), "{refused}");
        let outcome = settle(&store).await;
        let n = committed(outcome);
        assert_eq!(store.read_head().await.unwrap().unwrap().0.n, n);
        assert_eq!(value_of(&bed, "k").await, value);
        assert_eq!(store.settle().await.unwrap(), None);
        committed(store.commit(change([("l", value)])).await.unwrap());
    }
}

/// Settles, however often it takes.
async fn settle(store: &Store) -> CommitOutcome {
    for _ in 0..100 {
        match store.settle().await {
            Ok(outcome) => return outcome.expect("a commit was in doubt"),
            Err(StoreError::Unknown { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the doubt was not settled");
}

pub async fn an_unknown_commit_below_a_new_leaders_is_found_in_its_audit_record(mut bed: Bed) {
    bed.options().give_up_after = ONE_ATTEMPT;
    let store = bed.leader("a").await;
    commit_into_doubt(&store, Fault::LoseAnswer, "mine").await;
    let rival = bed.leader("b").await;
    committed(rival.commit(change([("l", "theirs")])).await.unwrap());
    assert_eq!(committed(settle(&store).await), 2);
    // It was stored, and the next one cannot be.
    conflict(store.commit(change([("k", "again")])).await.unwrap());
    assert_eq!(value_of(&bed, "k").await, "mine");
}

pub async fn an_unknown_commit_overtaken_by_a_rival_is_a_conflict_and_never_arrives(mut bed: Bed) {
    bed.options().give_up_after = ONE_ATTEMPT;
    let store = bed.leader("a").await;
    committed(store.commit(change([("k", "first")])).await.unwrap());
    commit_into_doubt(&store, Fault::DelayRequest, "late").await;
    bed.leader("b").await;
    // The delayed request arrives now, behind the rival's head.
    conflict(settle(&store).await);
    assert_eq!(value_of(&bed, "k").await, "first");
}

pub async fn a_commit_whose_caller_went_away_is_in_doubt(bed: Bed) {
    let store = bed.leader("a").await;
    store.inject([
        Fault::LoseRequest,
        Fault::LoseRequest,
        Fault::LoseRequest,
        Fault::LoseRequest,
    ]);
    let gone = tokio::time::timeout(Duration::from_millis(30), store.commit(change([("k", "1")]))).await;
    assert!(gone.is_err(), "the commit ended before its caller went away: {gone:?}");
    assert!(matches!(
        store.commit(change([("k", "2")])).await,
        Err(StoreError::InDoubt { .. })
    ));
    assert_eq!(committed(settle(&store).await), 2);
    assert_eq!(value_of(&bed, "k").await, "1");
}
