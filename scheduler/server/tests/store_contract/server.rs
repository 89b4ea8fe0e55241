//! What only a real nats-server can show: crashes, foreign streams, and its settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::client::Request;
use async_nats::jetstream;
use futures::StreamExt;
use heddle_scheduler::store::{
    ArtifactStore, Commit, CommitOutcome, FeedEvent, PastStore, PreflightOptions, Store, StoreError, StoreOptions,
    SyncMode, Write, preflight,
};
use tokio::time::timeout;

use crate::bed::{Server, change, cluster, committed, connect, options};

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
            let commit = Commit {
                writes,
                audit: text.clone().into(),
            };
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
    let mut servers = vec![Server::start("always").await];
    crash(&mut servers, 1, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_a_clusters_stream_leader_lose_nothing_acknowledged_and_leave_nothing_partial() {
    let mut servers = cluster().await;
    crash(&mut servers, 3, 3).await;
}

/// Kills the stream's leader again and again under two rivals, then compares what was acknowledged with what is stored.
async fn crash(servers: &mut [Server], replicas: usize, kills: usize) {
    let urls: Vec<async_nats::ServerAddr> = servers.iter().map(|server| server.url.parse().unwrap()).collect();
    let options = StoreOptions {
        replicas,
        ..options("crash")
    };
    let connect = || async { async_nats::connect(urls.clone()).await.unwrap() };
    let observer = Store::open(connect().await, options.clone()).await.unwrap();
    let context = jetstream::new(connect().await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut rivals = Vec::new();
    for id in ["a", "b"] {
        let store = Store::open(connect().await, options.clone()).await.unwrap();
        rivals.push(tokio::spawn(write_all(store, id, stop.clone())));
    }
    let mut last_n = 0;
    for _ in 0..kills {
        // Each kill hits a chain that has moved since the one before.
        until_head_passes(&observer, last_n + 10).await;
        let leader = stream_leader(&context).await;
        servers[leader].kill_and_restart();
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
    let stored: std::collections::BTreeMap<u64, String> = audits
        .iter()
        .map(|audit| (audit.n, String::from_utf8_lossy(&audit.body).into_owned()))
        .collect();
    assert_eq!(stored.len() as u64, image.head.n, "a number is missing");
    for (n, text) in &acknowledged {
        assert_eq!(stored.get(n), Some(text), "acknowledged commit {n} is lost");
    }
    assert!(
        acknowledged.len() > 20,
        "only {} commits were acknowledged",
        acknowledged.len()
    );
    println!("{} commits acknowledged, head {}", acknowledged.len(), image.head.n);
}

/// The place of the server that leads the stream; of a server alone it is the first.
async fn stream_leader(context: &jetstream::Context) -> usize {
    let Ok(stream) = context.get_stream("KV_heddle_crash").await else {
        return 0;
    };
    let leader = stream
        .cached_info()
        .cluster
        .as_ref()
        .and_then(|cluster| cluster.leader.clone())
        .unwrap_or_default();
    ["s0", "s1", "s2"].iter().position(|name| *name == leader).unwrap_or(0)
}

async fn until_head_passes(store: &Store, n: u64) -> u64 {
    for _ in 0..1200 {
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
    let impatient = StoreOptions {
        give_up_after: Duration::from_millis(300),
        ..options("wait")
    };
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
    assert!(
        matches!(error, StoreError::Unavailable { .. } | StoreError::Unknown { .. }),
        "{error}"
    );
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
    let StoreError::Settings { stream, differences } = &error else {
        panic!("{error}")
    };
    assert_eq!(stream, "KV_heddle_eu");
    for setting in [
        "max_msgs_per_subject is 5, needed is 1",
        "allow_atomic is false, needed is true",
        "republish",
    ] {
        assert!(
            differences.iter().any(|line| line.contains(setting)),
            "{setting} is not told: {error}"
        );
    }
    let info = context.get_stream("KV_heddle_eu").await.unwrap().cached_info().clone();
    assert_eq!(info.config.max_messages_per_subject, 5);
}

#[tokio::test]
async fn a_stream_that_an_operator_resized_is_taken() {
    let server = Server::start("always").await;
    let client = connect(&server.url).await;
    drop(Store::open(client.clone(), options("eu")).await.unwrap());
    let resized = StoreOptions {
        max_bytes: 64 << 20,
        ..options("eu")
    };
    drop(Store::open(client, resized).await.unwrap());
}

#[tokio::test]
async fn a_server_that_syncs_always_passes_and_a_lazy_one_needs_dev() {
    for (sync_interval, expected) in [("always", SyncMode::Always), ("2m", SyncMode::Lazy)] {
        let server = Server::start(sync_interval).await;
        let client = connect(&server.url).await;
        let strict = PreflightOptions {
            monitors: vec![server.monitor.clone()],
            replicas: 1,
            ..Default::default()
        };
        let dev = PreflightOptions {
            dev: true,
            ..strict.clone()
        };
        match (expected, preflight(&client, &strict).await) {
            (SyncMode::Always, found) => assert_eq!(found.unwrap().sync, SyncMode::Always),
            (_, found) => assert!(found.unwrap_err().to_string().contains("sync_interval: always")),
        }
        assert_eq!(preflight(&client, &dev).await.unwrap().sync, expected);
        let unknown = preflight(&client, &PreflightOptions::default()).await.unwrap_err();
        assert!(unknown.to_string().contains("--nats-monitor"), "{unknown}");
        let nobody = PreflightOptions {
            monitors: vec!["http://127.0.0.1:1".into()],
            ..strict
        };
        assert!(
            preflight(&client, &nobody)
                .await
                .unwrap_err()
                .to_string()
                .contains("did not tell")
        );
    }
}

/// The example configuration, moved to free ports and a folder of its own.
fn example(folder: &std::path::Path, port: u16, monitor: u16) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/nats/heddle.conf");
    let text = std::fs::read_to_string(path).unwrap();
    let mut moved = text.clone();
    for (from, to) in [
        ("0.0.0.0:4222", format!("127.0.0.1:{port}")),
        ("127.0.0.1:8222\"\n\n", format!("127.0.0.1:{monitor}\"\n\n")),
        ("/var/lib/nats", folder.join("jetstream").display().to_string()),
    ] {
        assert!(moved.contains(from), "the example no longer says {from}");
        moved = moved.replace(from, &to);
    }
    moved
}

/// Connects as one of the example's users, as soon as the server lets it.
async fn connect_as(server: &Server, user: &str, inbox: &str) -> async_nats::Client {
    for _ in 0..1200 {
        let options = async_nats::ConnectOptions::with_user_and_password(user.into(), "secret".into());
        match options.custom_inbox_prefix(inbox).connect(&server.url).await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
    panic!("nats-server did not let {user} in within 30 s");
}

#[tokio::test]
async fn the_example_configuration_lets_the_scheduler_do_all_its_work() {
    let server = Server::spawn(example);
    let client = connect_as(&server, "scheduler", "_INBOX").await;
    let strict = PreflightOptions {
        monitors: vec![server.monitor.clone()],
        replicas: 1,
        ..PreflightOptions::default()
    };
    assert_eq!(preflight(&client, &strict).await.unwrap().sync, SyncMode::Always);
    let store = Store::open(client.clone(), options("default")).await.unwrap();
    let mut feed = store.follow().await.unwrap();
    feed.resume_from(store.load().await.unwrap().head_seq);
    committed(store.take_over("a").await.unwrap());
    let writes = (0..1000).map(|i| Write::put(format!("k.{i}"), "v")).collect();
    committed(
        store
            .commit(Commit {
                writes,
                audit: "".into(),
            })
            .await
            .unwrap(),
    );
    while let Some(outcome) = store.fold().await.unwrap() {
        committed(outcome);
    }
    let seen = timeout(Duration::from_secs(10), feed.next()).await.unwrap();
    assert!(matches!(seen, FeedEvent::Committed(_)), "{seen:?}");
    assert_eq!(store.load().await.unwrap().values.len(), 1000);
    assert_eq!(
        store.audits(Duration::from_secs(3600)).await.unwrap().len() as u64,
        store.known_head().await.n
    );
    let past = PastStore::open(client.clone(), &options("default")).await.unwrap();
    past.append("part".into()).await.unwrap();
    let first = past.range().await.unwrap().start;
    assert_eq!(past.read(first).await.unwrap().unwrap(), "part");
    let artifacts = ArtifactStore::open(client, &options("default")).await.unwrap();
    let digest = artifacts.put("component".into()).await.unwrap();
    assert_eq!(artifacts.read(&digest, 100).await.unwrap().unwrap(), "component");
    assert_eq!(artifacts.list().await.unwrap().len(), 1);
    artifacts.delete(&digest).await.unwrap();
}

#[tokio::test]
async fn the_example_configuration_keeps_an_agent_to_its_own_host_and_out_of_jetstream() {
    let server = Server::spawn(example);
    let scheduler = connect_as(&server, "scheduler", "_INBOX").await;
    let store = Store::open(scheduler.clone(), options("default")).await.unwrap();
    let agent = connect_as(&server, "agent-edge-1", "_INBOX_edge-1").await;
    let mut specs = agent.subscribe("heddle.v1.default.h.edge-1.*").await.unwrap();
    let answers = agent.clone();
    tokio::spawn(async move {
        while let Some(spec) = specs.next().await {
            answers.publish(spec.reply.unwrap(), "accepted".into()).await.unwrap();
        }
    });
    let mut heartbeats = scheduler.subscribe("heddle.v1.default.hb.*").await.unwrap();
    // Its own spec reaches it, and its answer comes back.
    let mut answer = None;
    for _ in 0..400 {
        match scheduler
            .request("heddle.v1.default.h.edge-1.spec", "spec".into())
            .await
        {
            Ok(message) => {
                answer = Some(message.payload);
                break;
            }
            // No responder yet: the agent's subscription is on its way.
            Err(_) => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
    assert_eq!(answer.unwrap(), "accepted");
    // It speaks for its own host and for no other, and cannot touch the state.
    agent
        .publish("heddle.v1.default.hb.edge-2", "alive".into())
        .await
        .unwrap();
    agent.publish("$KV.heddle_default.head", "mine".into()).await.unwrap();
    agent
        .publish("heddle.v1.default.hb.edge-1", "alive".into())
        .await
        .unwrap();
    let heard = timeout(Duration::from_secs(10), heartbeats.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard.subject.as_str(), "heddle.v1.default.hb.edge-1");
    assert_eq!(store.read_head().await.unwrap(), None);
    let ask = Request::new().timeout(Some(Duration::from_millis(300)));
    assert!(
        agent.send_request("$JS.API.INFO", ask).await.is_err(),
        "an agent may ask JetStream"
    );
}
