//! Messages that no peer of any make would send: they harm the call they belong to at most.

use crate::support::{INSTANCE, Nats, PREFIX, echo, later, noise, until};
use async_nats::HeaderMap;
use bytes::Bytes;
use futures::StreamExt as _;
use heddle_wrpc::{CallError, Limits, Options, Target, subject};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.insert(*name, *value);
    }
    headers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_subject_of_a_function_is_answered_or_dropped_and_never_ends_the_service() {
    let nats = Nats::start().await;
    let (caller, callee, raw) = (nats.connect().await, nats.connect().await, nats.client().await);
    let _serving = echo(&callee, "echo").await;
    let subject = subject(PREFIX, INSTANCE, "echo");
    let mut answers = raw.subscribe("garbage.>").await.unwrap();
    raw.flush().await.unwrap();
    let odd = [
        headers(&[("Heddle-Params", "18446744073709551615")]),
        headers(&[("Heddle-Params", "1")]),
        headers(&[("Heddle-Params", "-1"), ("Heddle-Deadline-Ms", "never")]),
        headers(&[("Heddle-Params", "9"), ("Heddle-Deadline-Ms", "18446744073709551615")]),
        headers(&[("Heddle-Cancel", "1"), ("Heddle-Error", "refused")]),
    ];
    for (i, headers) in odd.iter().enumerate() {
        let reply = format!("garbage.{i}");
        raw.publish_with_reply_and_headers(subject.clone(), reply, headers.clone(), noise(9))
            .await
            .unwrap();
    }
    raw.publish(subject, noise(9)).await.unwrap();
    // The one that promises more than is allowed hears so before anything is kept for it.
    let refused = async {
        loop {
            let message = answers.next().await.unwrap();
            if message.subject.as_str() == "garbage.0.results" {
                return message.headers.unwrap().get("Heddle-Error").unwrap().to_string();
            }
        }
    };
    assert_eq!(
        tokio::time::timeout(crate::support::SOON, refused).await.unwrap(),
        "too-large"
    );
    let target = Target::new(PREFIX, INSTANCE, "echo");
    assert_eq!(caller.call(&target, noise(100), later()).await.unwrap(), noise(100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_that_answers_nonsense_fails_its_own_calls_only() {
    let nats = Nats::start().await;
    let mut options = Options::default();
    options.results_bytes_max = 1 << 20;
    let (caller, callee, raw) = (
        nats.connect_with(options).await,
        nats.connect().await,
        nats.client().await,
    );
    let _serving = echo(&callee, "echo").await;
    let mut calls = raw.subscribe(subject(PREFIX, INSTANCE, "odd")).await.unwrap();
    raw.flush().await.unwrap();
    let answering = tokio::spawn(async move {
        while let Some(call) = calls.next().await {
            let reply = call.reply.unwrap();
            let results = format!("{reply}.results");
            let publish = async |headers: &[(&'static str, &str)], bytes: usize| {
                raw.publish_with_headers(results.clone(), self::headers(headers), noise(bytes))
                    .await
                    .unwrap();
            };
            match call.payload.first() {
                Some(0) => publish(&[("Heddle-Results", "18446744073709551615")], 1).await,
                Some(1) => publish(&[("Heddle-Results", "3")], 4).await,
                Some(2) => publish(&[("Heddle-Error", "x"), ("Heddle-Error-Text", "y")], 0).await,
                Some(3) => raw.publish(reply, Bytes::new()).await.unwrap(),
                Some(4) => {
                    for _ in 0..3 {
                        publish(&[], 1 << 19).await;
                    }
                }
                Some(5) => {
                    for tail in [
                        ".params",
                        ".results.x",
                        ".results.1.2",
                        "x",
                        ".results.99999999999999999999",
                    ] {
                        raw.publish(format!("{reply}{tail}"), noise(5)).await.unwrap();
                    }
                    publish(&[("Heddle-Results", "0")], 0).await;
                }
                _ => {}
            }
        }
    });
    let target = Target::new(PREFIX, INSTANCE, "odd");
    // The first call also waits until the subscription is there.
    crate::support::eventually("the odd callee is there", || async {
        let deadline = Instant::now() + Duration::from_millis(100);
        let result = caller.call(&target, Bytes::from_static(&[9]), deadline).await;
        (result == Err(CallError::Deadline)).then_some(())
    })
    .await;
    let outcome = async |which: u8| caller.call(&target, Bytes::copy_from_slice(&[which]), later()).await;
    assert!(matches!(
        outcome(0).await,
        Err(CallError::TooLarge { bytes: u64::MAX, .. })
    ));
    assert!(matches!(outcome(1).await, Err(CallError::Protocol(_))));
    assert_eq!(outcome(2).await, Err(CallError::Failed("x: y".into())));
    assert!(matches!(outcome(3).await, Err(CallError::Protocol(_))));
    assert!(matches!(outcome(4).await, Err(CallError::TooLarge { .. })));
    assert_eq!(outcome(5).await, Ok(Bytes::new()));
    let echo = Target::new(PREFIX, INSTANCE, "echo");
    assert_eq!(caller.call(&echo, noise(100), later()).await.unwrap(), noise(100));
    answering.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_every_inbox_harms_no_call() {
    let nats = Nats::start().await;
    let (caller, callee, raw) = (nats.connect().await, nats.connect().await, nats.client().await);
    let _serving = echo(&callee, "echo").await;
    // Whoever listens to all subjects learns the inboxes, and may write there.
    let mut seen = raw.subscribe("_INBOX.>").await.unwrap();
    raw.flush().await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let attack = tokio::spawn(async move {
        while let Some(message) = seen.next().await {
            if message.payload.as_ref() == b"garbage" {
                continue;
            }
            let inbox = message
                .subject
                .rsplit_once(".results")
                .map_or(message.subject.as_str(), |(inbox, _)| inbox);
            let (base, _) = inbox.rsplit_once('.').unwrap();
            for tail in [
                "",
                "0",
                "zzzzzzzzzzzzzzzz",
                "0000000000000000",
                "0000000000000000.results",
                "a.b.c",
            ] {
                raw.publish(format!("{base}.{tail}0"), Bytes::from_static(b"garbage"))
                    .await
                    .unwrap();
            }
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let target = Target::new(PREFIX, INSTANCE, "echo");
    for _ in 0..200 {
        assert_eq!(caller.call(&target, noise(100), later()).await.unwrap(), noise(100));
    }
    until("garbage was sent", || sent.load(Ordering::SeqCst) > 100).await;
    attack.abort();
}

#[tokio::test]
async fn arguments_that_stop_arriving_end_with_the_time_of_the_call() {
    let nats = Nats::start().await;
    let (callee, raw) = (nats.connect().await, nats.client().await);
    let limits = Limits {
        wall: Duration::from_millis(200),
        in_flight: 1,
        ..Limits::default()
    };
    let handler = crate::support::handler(|incoming| async move { Ok(incoming.params) });
    let _serving = callee
        .serve(crate::support::service("f", None), handler, limits)
        .await
        .unwrap();
    let subject = subject(PREFIX, INSTANCE, "f");
    let mut answers = raw.subscribe("here.>").await.unwrap();
    raw.flush().await.unwrap();
    let half = headers(&[("Heddle-Params", "10")]);
    raw.publish_with_reply_and_headers(subject, "here".to_owned(), half, noise(5))
        .await
        .unwrap();
    let fault = async {
        loop {
            let message = answers.next().await.unwrap();
            if let Some(fault) = message.headers.as_ref().and_then(|headers| headers.get("Heddle-Error")) {
                return fault.to_string();
            }
        }
    };
    assert_eq!(
        tokio::time::timeout(crate::support::SOON, fault).await.unwrap(),
        "deadline"
    );
    // Its place is free again.
    let caller = callee.clone();
    let target = Target::new(PREFIX, INSTANCE, "f");
    crate::support::eventually("the place is free", || async {
        caller.call(&target, noise(3), later()).await.ok()
    })
    .await;
}
