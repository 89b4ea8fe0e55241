//! What every key-value store promises, as checks that run against each of them. In: a way to open the store of a scope.
//! Out: nothing, or a panic with what is not as it should be.

use heddle_capability_keyvalue::{Answer, BATCH_KEYS_MAX, Bucket, KEY_BYTES_MAX, Refused, Store, VALUE_BYTES_MAX};
use std::collections::BTreeSet;
use std::time::Duration;

/// Long enough for a busy machine: an outcome is waited for, not slept for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Names that mean something to some server, shell or file system.
const NASTY: &[&str] = &[
    "",
    ".",
    "..",
    "../../x",
    "a.b",
    "a:b",
    ":",
    "*",
    ">",
    "a.>",
    "=",
    "=YQ",
    "[a]",
    "a b",
    "a\tb",
    "\0",
    "\r\nDEL x\r\n",
    "ä€😀",
    "$KV.x",
    "{tag}",
    "%2e",
    "\\",
    "'\"",
];

async fn ok<T: Send + 'static>(answer: Answer<T>) -> T {
    answer.within(PATIENCE).await.expect("the store answers")
}

async fn refused<T: Send + std::fmt::Debug + 'static>(answer: Answer<T>) -> Refused {
    answer.within(PATIENCE).await.expect_err("the store refuses")
}

fn bucket(store: &Store, name: &str) -> Bucket {
    store.open(name.to_owned()).expect("the bucket opens")
}

async fn keys(bucket: &Bucket) -> Vec<String> {
    let (mut keys, mut cursor) = (Vec::new(), None);
    for _ in 0..1_000 {
        let page = ok(bucket.list(cursor)).await;
        keys.extend(page.keys);
        cursor = page.next;
        if cursor.is_none() {
            return keys;
        }
    }
    panic!("the list does not end");
}

/// Everything that can be checked while the store is there. `scope` opens the store of a scope of the same server.
pub async fn holds(scope: impl Fn(&str) -> Store) {
    holds_what_it_was_given(&scope("one")).await;
    scopes_and_buckets_are_apart_whatever_they_are_called(&scope).await;
    numbers_are_added_to_as_one_step(&scope("numbers"), &scope("numbers")).await;
    lists_all_keys_once_there(&scope("lists")).await;
    batches_keep_their_order(&scope("batches")).await;
    sizes_have_bounds(&scope("sizes")).await;
}

async fn holds_what_it_was_given(store: &Store) {
    let b = bucket(store, "b");
    assert_eq!(ok(b.get("k".into())).await, None);
    assert!(!ok(b.exists("k".into())).await);
    ok(b.delete("k".into())).await;
    for value in [
        b"1".to_vec(),
        Vec::new(),
        vec![0, 255, 13, 10],
        vec![7; VALUE_BYTES_MAX],
    ] {
        ok(b.set("k".into(), value.clone())).await;
        assert_eq!(ok(b.get("k".into())).await, Some(value));
        assert!(ok(b.exists("k".into())).await);
    }
    ok(b.delete("k".into())).await;
    assert_eq!(ok(b.get("k".into())).await, None);
    assert!(keys(&b).await.is_empty(), "what was removed is not listed");
    ok(b.set("k".into(), b"again".to_vec())).await;
    assert_eq!(ok(b.get("k".into())).await, Some(b"again".to_vec()));
}

async fn scopes_and_buckets_are_apart_whatever_they_are_called(scope: &impl Fn(&str) -> Store) {
    for (i, name) in NASTY.iter().enumerate() {
        for (j, key) in NASTY.iter().enumerate() {
            let value = format!("{i} {j}").into_bytes();
            ok(bucket(&scope("a"), name).set((*key).to_owned(), value)).await;
        }
    }
    for (i, name) in NASTY.iter().enumerate() {
        let a = bucket(&scope("a"), name);
        let pairs = ok(a.get_many(NASTY.iter().map(|key| (*key).to_owned()).collect())).await;
        for (j, pair) in pairs.into_iter().enumerate() {
            let expected = (NASTY[j].to_owned(), format!("{i} {j}").into_bytes());
            assert_eq!(pair, Some(expected), "bucket {name:?}");
        }
        let listed: BTreeSet<String> = keys(&a).await.into_iter().collect();
        assert_eq!(
            listed,
            NASTY.iter().map(ToString::to_string).collect(),
            "bucket {name:?}"
        );
    }
    for other in ["b", "", "a2"] {
        let other = scope(other);
        for name in NASTY {
            let b = bucket(&other, name);
            assert!(keys(&b).await.is_empty(), "another scope sees {name:?}");
            assert_eq!(ok(b.get("a.b".into())).await, None);
        }
        ok(bucket(&other, "*").delete_many(NASTY.iter().map(|key| (*key).to_owned()).collect())).await;
    }
    assert_eq!(
        keys(&bucket(&scope("a"), "*")).await.len(),
        NASTY.len(),
        "another scope removed something"
    );
}

async fn numbers_are_added_to_as_one_step(one: &Store, other: &Store) {
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            // Two stores, as on two hosts.
            let bucket = bucket(if task % 2 == 0 { one } else { other }, "n");
            tokio::spawn(async move {
                let mut seen = Vec::new();
                for _ in 0..10 {
                    seen.push(ok(bucket.increment("hits".into(), 1)).await);
                }
                seen
            })
        })
        .collect();
    let mut seen = BTreeSet::new();
    for task in tasks {
        seen.extend(task.await.expect("the task ends"));
    }
    assert_eq!(seen, (1..=160).collect(), "each result is seen once");
    let b = bucket(one, "n");
    assert_eq!(
        ok(b.get("hits".into())).await,
        Some(b"160".to_vec()),
        "numbers are kept in decimal digits"
    );
    ok(b.set("seven".into(), b"7".to_vec())).await;
    assert_eq!(ok(b.increment("seven".into(), 35)).await, 42);
    ok(b.delete("seven".into())).await;
    assert_eq!(
        ok(b.increment("seven".into(), 1)).await,
        1,
        "a key that was removed counts as 0"
    );
    ok(b.set("text".into(), b"many".to_vec())).await;
    assert_eq!(
        refused(b.increment("text".into(), 1)).await,
        Refused::NoNumber("text".into())
    );
    ok(b.increment("big".into(), i64::MAX as u64)).await;
    assert_eq!(refused(b.increment("big".into(), u64::MAX)).await, Refused::Overflow);
}

async fn lists_all_keys_once_there(store: &Store) {
    let b = bucket(store, "l");
    let expected: BTreeSet<String> = (0..2_345).map(|i| format!("key {i}")).collect();
    let all: Vec<_> = expected.iter().map(|key| (key.clone(), b"x".to_vec())).collect();
    for some in all.chunks(BATCH_KEYS_MAX) {
        ok(b.set_many(some.to_vec())).await;
    }
    let listed = keys(&b).await;
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), expected);
    let first = ok(b.list(None)).await;
    assert!(first.next.is_some() && first.keys.len() < 2_345, "pages are bounded");
    // What stays through the listing is seen although others come and go.
    ok(b.delete_many(first.keys.iter().take(100).cloned().collect())).await;
    ok(b.set("late".into(), vec![])).await;
    let mut rest = ok(b.list(first.next)).await;
    let mut seen: BTreeSet<String> = first.keys.into_iter().chain(rest.keys).collect();
    while rest.next.is_some() {
        rest = ok(b.list(rest.next)).await;
        seen.extend(rest.keys);
    }
    assert!(
        seen.is_superset(&expected),
        "missed {:?}",
        expected.difference(&seen).next()
    );
}

async fn batches_keep_their_order(store: &Store) {
    let b = bucket(store, "b");
    ok(b.set_many(vec![
        ("x".into(), b"1".to_vec()),
        ("y".into(), vec![]),
        ("x".into(), b"2".to_vec()),
    ]))
    .await;
    let found = ok(b.get_many(vec!["y".into(), "no".into(), "x".into(), "y".into()])).await;
    let pair = |key: &str, value: &[u8]| Some((key.to_owned(), value.to_vec()));
    assert_eq!(found, [pair("y", b""), None, pair("x", b"2"), pair("y", b"")]);
    ok(b.delete_many(vec!["x".into(), "no".into()])).await;
    assert_eq!(keys(&b).await, ["y"]);
    ok(b.set_many(vec![])).await;
    ok(b.delete_many(vec![])).await;
    assert!(ok(b.get_many(vec![])).await.is_empty());
}

async fn sizes_have_bounds(store: &Store) {
    assert!(matches!(
        store.open("k".repeat(KEY_BYTES_MAX + 1)),
        Err(Refused::Key(_))
    ));
    // The longest names that are allowed, of what takes most room when it is encoded.
    let long = "ä".repeat(KEY_BYTES_MAX / 2);
    let b = bucket(store, &long);
    ok(b.set(long.clone(), b"v".to_vec())).await;
    assert_eq!(ok(b.get(long.clone())).await, Some(b"v".to_vec()));
    assert_eq!(keys(&b).await, [long]);
    let longer = "k".repeat(KEY_BYTES_MAX + 1);
    assert_eq!(refused(b.get(longer.clone())).await, Refused::Key(longer.len()));
    assert_eq!(refused(b.set(longer.clone(), vec![])).await, Refused::Key(longer.len()));
    assert_eq!(
        refused(b.increment(longer.clone(), 1)).await,
        Refused::Key(longer.len())
    );
    let large = vec![0; VALUE_BYTES_MAX + 1];
    assert_eq!(
        refused(b.set("k".into(), large)).await,
        Refused::Value(VALUE_BYTES_MAX + 1)
    );
    let many = vec!["k".to_owned(); BATCH_KEYS_MAX + 1];
    assert_eq!(refused(b.get_many(many.clone())).await, Refused::Batch(many.len()));
    assert_eq!(refused(b.delete_many(many)).await, Refused::Batch(BATCH_KEYS_MAX + 1));
    let b = bucket(store, "large");
    let names: Vec<String> = (0..9).map(|i| i.to_string()).collect();
    for name in &names {
        ok(b.set(name.clone(), vec![1; VALUE_BYTES_MAX])).await;
    }
    assert_eq!(refused(b.get_many(names)).await, Refused::Answer);
}

/// Calls while the server is gone: each ends with an error, and within its time.
#[allow(dead_code, reason = "the store in memory has no server that could be gone")]
pub async fn refuses_in_time(store: &Store) {
    let b = bucket(store, "b");
    for _ in 0..3 {
        let started = std::time::Instant::now();
        let bound = Duration::from_secs(5);
        let refused = b.get("k".into()).within(bound).await.expect_err("no server answers");
        assert!(
            matches!(refused, Refused::Unavailable(_) | Refused::Late(_)),
            "{refused:?}"
        );
        assert!(
            started.elapsed() < bound + Duration::from_secs(2),
            "{:?}",
            started.elapsed()
        );
    }
}

/// The server is back: calls work again, with nothing done about it.
#[allow(dead_code, reason = "the store in memory has no server that could be gone")]
pub async fn recovers(store: &Store, key: &str, value: &[u8]) {
    let b = bucket(store, "b");
    let started = std::time::Instant::now();
    loop {
        match b.get(key.to_owned()).within(Duration::from_secs(5)).await {
            Ok(found) => return assert_eq!(found.as_deref(), Some(value), "what was acknowledged is still there"),
            Err(refused) => assert!(started.elapsed() < PATIENCE, "{refused}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
