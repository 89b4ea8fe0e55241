//! What a call between two of ours promises.

use crate::support::{INSTANCE, Nats, PREFIX, SOON, echo, handler, later, noise, service, until};
use bytes::Bytes;
use heddle_wrpc::{CallError, Fault, Limits, Options, Target};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn target(function: &str) -> Target<'_> {
    Target::new(PREFIX, INSTANCE, function)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_of_every_size_come_back_whole() {
    let nats = Nats::start().await;
    let (caller, callee) = (nats.connect().await, nats.connect().await);
    let _serving = echo(&callee, "echo").await;
    for len in [
        0,
        1,
        4096,
        (1 << 20) - 2048,
        (1 << 20) - 2047,
        1 << 20,
        3 << 20,
        16 << 20,
    ] {
        let params = noise(len);
        let results = caller.call(&target("echo"), params.clone(), later()).await.unwrap();
        assert!(results == params, "{len} bytes came back as {}", results.len());
    }
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_the_callee_hears_of_it() {
    let nats = Nats::start().await;
    let (caller, callee) = (nats.connect().await, nats.connect().await);
    let dropped = Arc::new(AtomicUsize::new(0));
    let flag = dropped.clone();
    let never = handler(move |incoming| {
        let guard = OnDrop(flag.clone());
        async move {
            assert!(incoming.deadline.is_some());
            std::future::pending::<()>().await;
            drop(guard);
            Ok(Bytes::new())
        }
    });
    let _serving = callee
        .serve(service("never", None), never, Limits::default())
        .await
        .unwrap();
    let began = Instant::now();
    let result = caller
        .call(&target("never"), Bytes::new(), began + Duration::from_millis(200))
        .await;
    assert_eq!(result, Err(CallError::Deadline));
    assert!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
    until("the callee stops", || dropped.load(Ordering::SeqCst) == 1).await;
}

struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_its_callee_before_and_after_the_acceptance() {
    let nats = Nats::start().await;
    let (caller, callee) = (nats.connect().await, nats.connect().await);
    let (begun, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (b, d) = (begun.clone(), dropped.clone());
    let never = handler(move |_| {
        b.fetch_add(1, Ordering::SeqCst);
        let guard = OnDrop(d.clone());
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            Ok(Bytes::new())
        }
    });
    let _serving = callee
        .serve(service("never", None), never, Limits::default())
        .await
        .unwrap();
    // Dropped at once, and dropped long after the callee has said that it is at work. The deadline is far away, so
    // that only a cancel can stop the callee in time.
    for (round, patience) in [(1, Duration::ZERO), (2, Duration::from_millis(300))] {
        let target = target("never");
        let far = Instant::now() + Duration::from_secs(600);
        let mut call = Box::pin(caller.call(&target, Bytes::new(), far));
        let began = begun.clone();
        tokio::select! {
            _ = &mut call => panic!("the call cannot end"),
            () = async {
                until("the callee begins", || began.load(Ordering::SeqCst) == round).await;
                tokio::time::sleep(patience).await;
            } => {}
        }
        drop(call);
        until("the callee stops", || dropped.load(Ordering::SeqCst) == round).await;
    }
}

#[tokio::test]
async fn a_call_that_nobody_serves_ends_at_once_and_was_not_executed() {
    let nats = Nats::start().await;
    let caller = nats.connect().await;
    let began = Instant::now();
    let error = caller
        .call(&target("nothing"), Bytes::new(), later())
        .await
        .unwrap_err();
    assert_eq!(error, CallError::NoResponders);
    assert!(error.is_not_executed());
    assert!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_in_a_queue_group_execute_each_call_once() {
    let nats = Nats::start().await;
    let caller = nats.connect().await;
    let counts = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let mut servings = Vec::new();
    for count in &counts {
        let (count, callee) = (count.clone(), nats.connect().await);
        let counting = handler(move |incoming| {
            count.fetch_add(1, Ordering::SeqCst);
            async move { Ok(incoming.params) }
        });
        servings.push(
            callee
                .serve(service("f", Some("group")), counting, Limits::default())
                .await
                .unwrap(),
        );
    }
    for i in 0..200_u32 {
        let params = Bytes::copy_from_slice(&i.to_le_bytes());
        assert_eq!(
            caller.call(&target("f"), params.clone(), later()).await.unwrap(),
            params
        );
    }
    let executed: Vec<_> = counts.iter().map(|count| count.load(Ordering::SeqCst)).collect();
    assert_eq!(executed.iter().sum::<usize>(), 200);
    assert!(executed.iter().all(|count| *count > 0), "one did all: {executed:?}");
}

#[tokio::test]
async fn a_function_is_reachable_as_soon_as_it_is_served() {
    let nats = Nats::start().await;
    let (caller, callee) = (nats.connect().await, nats.connect().await);
    for i in 0..100 {
        let function = format!("f{i}");
        let _serving = echo(&callee, &function).await;
        caller
            .call(&target(&function), Bytes::from_static(b"x"), later())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn every_fault_reaches_the_caller_as_its_own_error() {
    let nats = Nats::start().await;
    let (caller, callee) = (nats.connect().await, nats.connect().await);
    let faulty = handler(|incoming| async move {
        match &*incoming.params {
            b"refuse" => Err(Fault::Refused("not now".into())),
            b"fail" => Err(Fault::Failed("unreachable\nexecuted".into())),
            b"decode" => Err(Fault::Protocol("no such case".into())),
            b"slow" => Err(Fault::Deadline),
            b"panic" => panic!("on purpose"),
            _ => Ok(noise(2048)),
        }
    });
    let limits = Limits {
        results_bytes: 1024,
        params_bytes: 64,
        ..Limits::default()
    };
    let _serving = callee.serve(service("f", None), faulty, limits).await.unwrap();
    let cases = [
        ("refuse", CallError::Refused("not now".into())),
        ("fail", CallError::Failed("unreachable executed".into())),
        ("decode", CallError::Protocol("no such case".into())),
        ("slow", CallError::Deadline),
        ("panic", CallError::Failed("it panicked".into())),
    ];
    for (params, expected) in cases {
        let result = caller.call(&target("f"), Bytes::from(params), later()).await;
        assert_eq!(result, Err(expected));
    }
    let result = caller.call(&target("f"), Bytes::from_static(b"much"), later()).await;
    assert!(
        matches!(
            result,
            Err(CallError::TooLarge {
                bytes: 2048,
                limit: 1024,
                ..
            })
        ),
        "{result:?}"
    );
    let result = caller.call(&target("f"), noise(65), later()).await;
    assert!(
        matches!(
            result,
            Err(CallError::TooLarge {
                bytes: 65,
                limit: 64,
                ..
            })
        ),
        "{result:?}"
    );
}

#[tokio::test]
async fn results_that_are_too_large_for_the_caller_are_refused_by_it() {
    let nats = Nats::start().await;
    let mut options = Options::default();
    options.results_bytes_max = 1 << 20;
    options.params_bytes_max = 3 << 20;
    let (caller, callee) = (nats.connect_with(options).await, nats.connect().await);
    let _serving = echo(&callee, "echo").await;
    let result = caller.call(&target("echo"), noise(2 << 20), later()).await;
    assert!(
        matches!(
            result,
            Err(CallError::TooLarge {
                what: "results",
                limit: 1_048_576,
                ..
            })
        ),
        "{result:?}"
    );
    let result = caller.call(&target("echo"), noise(4 << 20), later()).await;
    assert!(
        matches!(result, Err(CallError::TooLarge { what: "arguments", .. })),
        "{result:?}"
    );
    caller.call(&target("echo"), noise(1 << 19), later()).await.unwrap();
}

#[tokio::test]
async fn more_calls_than_a_function_takes_are_refused_unexecuted() {
    let nats = Nats::start().await;
    let (caller, callee) = (nats.connect().await, nats.connect().await);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let begun = Arc::new(AtomicUsize::new(0));
    let (g, b) = (gate.clone(), begun.clone());
    let gated = handler(move |incoming| {
        let gate = g.clone();
        b.fetch_add(1, Ordering::SeqCst);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(incoming.params)
        }
    });
    let limits = Limits {
        in_flight: 2,
        ..Limits::default()
    };
    let _serving = callee.serve(service("f", None), gated, limits).await.unwrap();
    let target = target("f");
    let call = || caller.call(&target, Bytes::from_static(b"x"), later());
    let third = async {
        until("two are in flight", || begun.load(Ordering::SeqCst) == 2).await;
        let refused = call().await.unwrap_err();
        assert!(refused.is_not_executed(), "{refused}");
        gate.add_permits(2);
    };
    let (first, second, ()) = tokio::join!(call(), call(), third);
    assert_eq!(
        (first.is_ok(), second.is_ok(), begun.load(Ordering::SeqCst)),
        (true, true, 2)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_finishes_what_is_in_flight_and_takes_nothing_new() {
    let nats = Nats::start().await;
    let (caller, callee) = (nats.connect().await, nats.connect().await);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let begun = Arc::new(AtomicUsize::new(0));
    let (g, b) = (gate.clone(), begun.clone());
    let gated = handler(move |incoming| {
        let gate = g.clone();
        b.fetch_add(1, Ordering::SeqCst);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(incoming.params)
        }
    });
    let serving = callee
        .serve(service("f", Some("g")), gated, Limits::default())
        .await
        .unwrap();
    let first = {
        let caller = caller.clone();
        tokio::spawn(async move { caller.call(&target("f"), Bytes::from_static(b"1"), later()).await })
    };
    until("the call is in flight", || begun.load(Ordering::SeqCst) == 1).await;
    let draining = tokio::spawn(serving.drain());
    // The call in flight holds the drain up; new ones find nobody as soon as NATS knows.
    let until_refused = async {
        loop {
            let deadline = Instant::now() + Duration::from_millis(200);
            match caller.call(&target("f"), Bytes::from_static(b"2"), deadline).await {
                Err(CallError::NoResponders) => return,
                other => assert_eq!(other, Err(CallError::Deadline)),
            }
        }
    };
    tokio::time::timeout(SOON, until_refused).await.unwrap();
    assert!(!draining.is_finished(), "drained while a call was in flight");
    gate.add_permits(100);
    assert_eq!(first.await.unwrap().unwrap(), Bytes::from_static(b"1"));
    tokio::time::timeout(SOON, draining).await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_in_flight_hear_when_their_callee_is_dropped() {
    let nats = Nats::start().await;
    let (caller, callee) = (nats.connect().await, nats.connect().await);
    let begun = Arc::new(AtomicUsize::new(0));
    let b = begun.clone();
    let never = handler(move |_| {
        b.fetch_add(1, Ordering::SeqCst);
        std::future::pending()
    });
    let serving = callee
        .serve(service("f", None), never, Limits::default())
        .await
        .unwrap();
    let target = target("f");
    let call = caller.call(&target, Bytes::new(), later());
    let stop = async {
        until("the call is in flight", || begun.load(Ordering::SeqCst) == 1).await;
        drop(serving);
    };
    let (result, ()) = tokio::join!(call, stop);
    assert_eq!(result, Err(CallError::Failed("it was stopped".into())));
}

#[tokio::test]
async fn a_callee_bounds_the_time_of_a_call_by_itself() {
    let nats = Nats::start().await;
    let (caller, callee) = (nats.connect().await, nats.connect().await);
    let never = handler(|_| std::future::pending());
    let limits = Limits {
        wall: Duration::from_millis(100),
        ..Limits::default()
    };
    let _serving = callee.serve(service("f", None), never, limits).await.unwrap();
    let began = Instant::now();
    let result = caller.call(&target("f"), Bytes::new(), later()).await;
    assert_eq!(result, Err(CallError::Deadline));
    assert!(began.elapsed() < SOON / 2, "took {:?}", began.elapsed());
}

#[tokio::test]
async fn calls_and_drains_end_in_time_when_nats_goes_away() {
    let mut nats = Nats::start().await;
    let mut options = Options::default();
    options.ready_within = Duration::from_millis(300);
    let (caller, callee) = (nats.connect().await, nats.connect_with(options).await);
    let begun = Arc::new(AtomicUsize::new(0));
    let b = begun.clone();
    let slow = handler(move |_| {
        b.fetch_add(1, Ordering::SeqCst);
        async { std::future::pending().await }
    });
    let limits = Limits {
        wall: Duration::from_secs(1),
        ..Limits::default()
    };
    let serving = callee.serve(service("f", None), slow, limits).await.unwrap();
    let target = target("f");
    let began = Instant::now();
    let call = caller.call(&target, Bytes::new(), began + Duration::from_secs(1));
    let kill = async {
        until("the call is in flight", || begun.load(Ordering::SeqCst) == 1).await;
        nats.kill();
    };
    let (result, ()) = tokio::join!(call, kill);
    assert_eq!(result, Err(CallError::Deadline));
    let deadline = Instant::now() + Duration::from_millis(200);
    assert_eq!(
        caller.call(&target, Bytes::new(), deadline).await,
        Err(CallError::Deadline)
    );
    tokio::time::timeout(SOON, serving.drain()).await.unwrap();
}
