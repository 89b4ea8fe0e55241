//! What only a real nats-server can show: crashes, foreign streams, and its settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use heddle_scheduler::store::{
    CommitOutcome, PreflightOptions, Store, StoreError, StoreOptions, SyncMode, Write, preflight,
};

use crate::bed::{Server, change, committed, connect, options};

/// Commits until told to stop. Every commit sets all keys to its own text, so a partial one would show.
async fn write_all(store: Store, id: &'static str, stop: Arc<AtomicBool>) -> Vec<(u64, String)> {
    let mut acknowledged = Vec::new();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        // A crash may leave this store in doubt, unloaded or fenced out: begin again from what is stored.
        if store.load().await.is_err() || !matches!(store.take_over(id).await, Ok(CommitOutcome::Committed { .. })) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        for _ in 0..20 {
            round += 1;
            let text = format!("{id}{round}");
            let writes = (0..25).map(|i| Write::put(format!("k.{i}"), text.clone())).collect();
            let commit = heddle_scheduler::store::Commit { writes, audit: text.clone().into() };
            match store.commit(commit).await {
                Ok(CommitOutcome::Committed { n, .. }) => acknowledged.push((n, text)),
                _ => break,
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_the_server_under_two_rivals_lose_nothing_acknowledged_and_leave_nothing_partial() {
    let mut server = Server::start("always").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut rivals = Vec::new();
    for id in ["a", "b"] {
        let store = Store::open(connect(&server.url).await, options("crash")).await.unwrap();
        rivals.push(tokio::spawn(write_all(store, id, stop.clone())));
    }
    let observer = Store::open(connect(&server.url).await, options("crash")).await.unwrap();
    let mut last_n = 0;
    for _ in 0..5 {
        // Each kill hits a chain that has moved since the one before.
        until_head_passes(&observer, last_n + 10).await;
        server.kill_and_restart();
        last_n = until_head_passes(&observer, last_n).await;
    }
    until_head_passes(&observer, last_n + 10).await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for rival in rivals {
        acknowledged.extend(rival.await.unwrap());
    }
    let image = observer.load().await.unwrap();
    let values: std::collections::BTreeSet<_> = image.values.values().collect();
    assert_eq!((image.values.len(), values.len()), (25, 1), "a change is there in part");
    let audits = observer.audits(Duration::from_secs(3600)).await.unwrap();
    let stored: std::collections::BTreeMap<u64, String> =
        audits.iter().map(|audit| (audit.n, String::from_utf8_lossy(&audit.body).into_owned())).collect();
    assert_eq!(stored.len() as u64, image.head.n, "a number is missing");
    for (n, text) in &acknowledged {
        assert_eq!(stored.get(n), Some(text), "acknowledged commit {n} is lost");
    }
    assert!(acknowledged.len() > 50, "only {} commits were acknowledged", acknowledged.len());
    println!("{} commits acknowledged, head {}", acknowledged.len(), image.head.n);
}

async fn until_head_passes(store: &Store, n: u64) -> u64 {
    for _ in 0..600 {
        if let Ok(Some((head, _))) = store.read_head().await
            && head.n > n
        {
            return head.n;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the chain does not move past {n}");
}

#[tokio::test]
async fn a_commit_waits_for_a_server_that_comes_back_and_says_so_if_it_does_not() {
    let mut server = Server::start("always").await;
    let store = Store::open(connect(&server.url).await, options("wait")).await.unwrap();
    store.load().await.unwrap();
    committed(store.take_over("a").await.unwrap());
    server.kill_and_restart();
    committed(store.commit(change([("k", "1")])).await.unwrap());
    let impatient = StoreOptions { give_up_after: Duration::from_millis(300), ..options("wait") };
    let store = Store::open(connect(&server.url).await, impatient).await.unwrap();
    store.load().await.unwrap();
    committed(store.take_over("b").await.unwrap());
    drop(server);
    let error = loop {
        match store.commit(change([("k", "2")])).await {
            // The last answer may have been on its way.
            Ok(_) => continue,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Unavailable { .. } | StoreError::Unknown { .. }), "{error}");
}

#[tokio::test]
async fn a_stream_with_other_settings_is_refused_with_the_differences_and_left_alone() {
    let server = Server::start("always").await;
    let client = connect(&server.url).await;
    let context = jetstream::new(client.clone());
    context
        .create_stream(jetstream::stream::Config {
            name: "KV_heddle_eu".into(),
            subjects: vec!["$KV.heddle_eu.>".into()],
            max_messages_per_subject: 5,
            ..Default::default()
        })
        .await
        .unwrap();
    let error = Store::open(client, options("eu")).await.unwrap_err();
    let StoreError::Settings { stream, differences } = &error else { panic!("{error}") };
    assert_eq!(stream, "KV_heddle_eu");
    for setting in ["max_msgs_per_subject is 5, needed is 1", "allow_atomic is false, needed is true", "republish"] {
        assert!(differences.iter().any(|line| line.contains(setting)), "{setting} is not told: {error}");
    }
    let info = context.get_stream("KV_heddle_eu").await.unwrap().cached_info().clone();
    assert_eq!(info.config.max_messages_per_subject, 5);
}

#[tokio::test]
async fn a_stream_that_an_operator_resized_is_taken() {
    let server = Server::start("always").await;
    let client = connect(&server.url).await;
    drop(Store::open(client.clone(), options("eu")).await.unwrap());
    let resized = StoreOptions { max_bytes: 64 << 20, ..options("eu") };
    drop(Store::open(client, resized).await.unwrap());
}

#[tokio::test]
async fn a_server_that_syncs_always_passes_and_a_lazy_one_needs_dev() {
    for (sync_interval, expected) in [("always", SyncMode::Always), ("2m", SyncMode::Lazy)] {
        let server = Server::start(sync_interval).await;
        let client = connect(&server.url).await;
        let strict = PreflightOptions { monitors: vec![server.monitor.clone()], replicas: 1, ..Default::default() };
        let dev = PreflightOptions { dev: true, ..strict.clone() };
        match (expected, preflight(&client, &strict).await) {
            (SyncMode::Always, found) => assert_eq!(found.unwrap().sync, SyncMode::Always),
            (_, found) => assert!(found.unwrap_err().to_string().contains("sync_interval: always")),
        }
        assert_eq!(preflight(&client, &dev).await.unwrap().sync, expected);
        let unknown = preflight(&client, &PreflightOptions::default()).await.unwrap_err();
        assert!(unknown.to_string().contains("--nats-monitor"), "{unknown}");
        let nobody = PreflightOptions { monitors: vec!["http://127.0.0.1:1".into()], ..strict };
        assert!(preflight(&client, &nobody).await.unwrap_err().to_string().contains("did not tell"));
    }
}
