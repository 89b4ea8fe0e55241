//! What messaging promises, over a real NATS server: once per group, again after a failure, given up after enough of
//! them, no more at a time than there is room for, and nothing lost when the server or a taker goes away.

#![allow(clippy::unwrap_used, reason = "in a test a broken expectation is the message")]

mod support;

use futures::StreamExt as _;
use heddle_capability::Callable as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::{Broker, Handler, SOON, consume, take, until};

#[tokio::test(flavor = "multi_thread")]
async fn over_nats_each_message_goes_to_one_replica_of_the_workload() {
    let broker = Broker::start().await;
    // Two hosts, each with a generation of the workload, and another workload beside it.
    let (one, two) = (Handler::new("shop/cart", 1, true), Handler::new("shop/cart", 2, true));
    let other = Handler::new("shop/audit", 1, true);
    let lent = [broker.lend_nats(), broker.lend_nats(), broker.lend_nats()];
    let consume = consume(16, 1);
    let _guards = [
        take(&lent[0], &one, &consume),
        take(&lent[1], &two, &consume),
        take(&lent[2], &other, &consume),
    ];
    until("all three have subscribed", async || {
        broker.subscribers("orders.>").await == 3
    })
    .await;
    for _ in 0..100 {
        broker.client.publish("orders.new", "ok".into()).await.unwrap();
    }
    until("every message was taken", async || {
        one.calls() + two.calls() >= 100 && other.calls() >= 100
    })
    .await;
    assert_eq!((one.calls() + two.calls(), other.calls()), (100, 100));
    assert!(one.calls() > 0 && two.calls() > 0, "{} {}", one.calls(), two.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_nats_a_failed_message_is_told_to_the_log_and_gone() {
    let broker = Broker::start().await;
    let handler = Handler::new("shop/cart", 1, true);
    let guard = take(&broker.lend_nats(), &handler, &consume(4, 5));
    until("it has subscribed", async || broker.subscribers("orders.>").await == 1).await;
    for body in ["fail", "trap", "ok"] {
        broker.client.publish("orders.new", body.into()).await.unwrap();
    }
    until("all were tried", async || handler.calls() == 3).await;
    until("both failures are told", async || {
        handler.log().matches("is lost").count() == 2
    })
    .await;
    assert!(handler.log().contains("not today"), "{}", handler.log());
    drop(guard);
    until("it takes nothing more", async || {
        broker.subscribers("orders.>").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_jetstream_generations_share_one_durable_consumer() {
    let broker = Broker::start().await;
    let (one, two) = (Handler::new("shop/cart", 1, true), Handler::new("shop/cart", 2, true));
    let consume = consume(1, 5);
    let first = take(&broker.lend_jetstream(), &one, &consume);
    broker.put("orders.new", &["ok"; 20]).await;
    until("the old generation took all", async || one.calls() == 20).await;
    drop(first);
    let _second = take(&broker.lend_jetstream(), &two, &consume);
    broker.put("orders.new", &["ok"; 5]).await;
    until("the new generation takes what is new", async || two.calls() == 5).await;
    assert_eq!(one.calls(), 20, "and nothing of what was taken comes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_jetstream_a_failed_message_comes_again_and_then_becomes_a_dead_letter() {
    let broker = Broker::start().await;
    let handler = Handler::new("shop/cart", 1, true);
    let mut letters = broker.client.subscribe("dead.>").await.unwrap();
    let _guard = take(&broker.lend_jetstream(), &handler, &consume(4, 2));
    broker.put("orders.eu.new", &["trap"]).await;
    let letter = tokio::time::timeout(SOON, letters.next()).await.unwrap().unwrap();
    assert_eq!(letter.subject.as_str(), "dead.orders.eu.new");
    assert_eq!(&letter.payload[..], b"trap");
    let headers = letter.headers.unwrap();
    assert_eq!(headers.get("Heddle-Deliveries").unwrap().as_str(), "2");
    assert_eq!(headers.get("Heddle-Workload").unwrap().as_str(), "shop/cart");
    assert!(headers.get("Heddle-Reason").unwrap().as_str().contains("trapped"));
    assert_eq!(handler.calls(), 2);
    // The letter is kept, and the message is not delivered once more.
    let stream = async_nats::jetstream::new(broker.client.clone());
    let mut kept = stream.get_stream("ORDERS_dead_letters").await.unwrap();
    assert_eq!(kept.info().await.unwrap().state.messages, 1);
    broker.put("orders.new", &["ok"]).await;
    until("the next message is taken", async || handler.calls() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_jetstream_no_more_is_in_work_than_replicas_allow() {
    let broker = Broker::start().await;
    let handler = Handler::new("shop/cart", 1, false);
    let _guard = take(&broker.lend_jetstream(), &handler, &consume(3, 5));
    broker.put("orders.new", &["ok"; 20]).await;
    until("three are in work", async || {
        handler.at_once.load(Ordering::SeqCst) == 3
    })
    .await;
    // The rest waits in the stream, and not in this process.
    let stream = async_nats::jetstream::new(broker.client.clone());
    let waiting = async || {
        let stream = stream.get_stream("ORDERS").await.unwrap();
        let mut names = stream.consumer_names();
        let name = names.next().await.unwrap().unwrap();
        stream.consumer_info(name).await.unwrap().num_pending
    };
    assert_eq!(waiting().await, 17);
    handler.replicas.store(2, Ordering::SeqCst);
    until("six are in work", async || handler.at_once.load(Ordering::SeqCst) == 6).await;
    handler.gate.add_permits(20);
    until("all were taken", async || handler.calls() == 20).await;
    assert_eq!(handler.most_at_once.load(Ordering::SeqCst), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_jetstream_want_of_room_is_not_the_fault_of_the_message() {
    let broker = Broker::start().await;
    let handler = Handler::new("shop/cart", 1, true);
    handler.overloaded.store(true, Ordering::SeqCst);
    let _guard = take(&broker.lend_jetstream(), &handler, &consume(4, 1));
    broker.put("orders.new", &["ok"]).await;
    let stream = async_nats::jetstream::new(broker.client.clone());
    until("it is with the host", async || {
        let stream = stream.get_stream("ORDERS").await.unwrap();
        // The consumer is made a moment after the stream.
        let Some(Ok(name)) = stream.consumer_names().next().await else {
            return false;
        };
        stream.consumer_info(name).await.unwrap().num_ack_pending == 1
    })
    .await;
    handler.overloaded.store(false, Ordering::SeqCst);
    until("it is handled, with one attempt", async || handler.calls() == 1).await;
    let mut kept = stream.get_stream("ORDERS_dead_letters").await.unwrap();
    assert_eq!(kept.info().await.unwrap().state.messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_jetstream_what_a_draining_host_did_not_begin_goes_to_another_at_once() {
    let broker = Broker::start().await;
    let (old, new) = (Handler::new("shop/cart", 1, true), Handler::new("shop/cart", 1, true));
    old.draining.store(true, Ordering::SeqCst);
    let consume = consume(8, 50);
    let going = take(&broker.lend_jetstream(), &old, &consume);
    let _staying = take(&broker.lend_jetstream(), &new, &consume);
    broker.put("orders.new", &["ok"; 40]).await;
    drop(going);
    // Well within the time after which the server gives up on a silent taker.
    let begun = std::time::Instant::now();
    until("all are handled", async || new.calls() == 40).await;
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(old.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_flow_again_after_the_server_was_away() {
    let mut broker = Broker::start().await;
    let (kept, plain) = (Handler::new("shop/cart", 1, true), Handler::new("shop/audit", 1, true));
    let _guards = [
        take(&broker.lend_jetstream(), &kept, &consume(4, 5)),
        take(&broker.lend_nats(), &plain, &consume(4, 5)),
    ];
    broker.put("orders.new", &["ok"]).await;
    until("the first is taken", async || kept.calls() == 1).await;
    broker.nats.kill().unwrap();
    broker.nats.start_again().await.unwrap();
    // Over NATS alone what is sent before the audit has subscribed again is gone: it is sent until some of it arrives.
    let before = plain.calls();
    until("both take what comes after", async || {
        broker.put("orders.new", &["ok"]).await;
        kept.calls() >= 2 && plain.calls() > before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_lent_is_not_taken() {
    let broker = Broker::start().await;
    let handler = Handler::new("shop/cart", 1, true);
    for subject in ["payments.new", ">", "heddle.v1.>", "$JS.API.>", "_INBOX.>"] {
        let mut asked = consume(1, 1);
        asked.subject = subject.to_owned();
        let refused = broker.lend_nats().consume(&asked, Arc::clone(&handler) as _);
        assert!(refused.is_err(), "{subject} of {}", handler.unit());
    }
}
