//! Typed calls with streams inside them, and that a slow reader holds up nobody else.

use crate::support::{INSTANCE, Nats, PREFIX, SOON, handler, later, noise, service, until};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use heddle_wrpc::{CallError, InvokeContext, Limits, Options, Target, call_error};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use wrpc_transport::{Index as _, Invoke as _, InvokeExt as _, Serve as _};

type Numbers = Pin<Box<dyn Stream<Item = Vec<u32>> + Send>>;

fn paths() -> Arc<[Box<[Option<usize>]>]> {
    Arc::from([Box::from([Some(0)])])
}

/// Serves `(stream<u32>) -> (stream<u32>)`, which adds one to each, with any make of server.
async fn serve_plus_one<S>(server: S) -> JoinHandle<()>
where
    S: wrpc_transport::ServeExt + Send + 'static,
{
    let (ready, served) = tokio::sync::oneshot::channel();
    let serving = tokio::spawn(async move {
        let calls = server
            .serve_values::<(Numbers,), (Numbers,)>(INSTANCE, "plus-one", paths())
            .await
            .unwrap();
        let mut calls = Box::pin(calls);
        ready.send(()).unwrap();
        while let Some(call) = calls.next().await {
            // A server of another make gets a call without arguments, too, which asks whether it is there.
            let Ok((_, (numbers,), arriving, answer)) = call else {
                continue;
            };
            tokio::spawn(async move {
                let plus: Numbers = Box::pin(numbers.map(|part| part.into_iter().map(|n| n + 1).collect()));
                let arriving = async move {
                    if let Some(arriving) = arriving {
                        let _ = arriving.await;
                    }
                };
                let _ = tokio::join!(answer((plus,)), arriving);
            });
        }
    });
    served.await.unwrap();
    serving
}

async fn call_plus_one<C: wrpc_transport::InvokeExt>(client: &C, cx: C::Context) {
    let numbers: Numbers = Box::pin(stream::iter([vec![1, 2], vec![3], vec![4, 5, 6]]));
    let path: &[Option<usize>] = &[Some(0)];
    let call = client.invoke_values::<_, (Numbers,), (Numbers,)>(cx, INSTANCE, "plus-one", (numbers,), [path]);
    let ((plus,), rest) = tokio::time::timeout(SOON, call).await.unwrap().unwrap();
    let rest = async move {
        if let Some(rest) = rest {
            rest.await.unwrap();
        }
    };
    let (parts, ()) = tokio::time::timeout(SOON, async { tokio::join!(plus.collect::<Vec<_>>(), rest) })
        .await
        .unwrap();
    assert_eq!(parts.concat(), [2, 3, 4, 5, 6, 7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_both_ways_between_two_of_ours() {
    let nats = Nats::start().await;
    let server = nats.connect().await.peer(PREFIX, Some("group"));
    let serving = serve_plus_one(server).await;
    let client = nats.connect().await.peer(PREFIX, None);
    for _ in 0..20 {
        call_plus_one(&client, InvokeContext::within(SOON)).await;
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_both_ways_with_another_make() {
    let nats = Nats::start().await;
    let server = nats.connect().await.peer(PREFIX, Some("group"));
    let serving = serve_plus_one(server).await;
    call_plus_one(&nats.partner(None).await, None).await;
    serving.abort();
    let _ = serving.await;

    let other = nats.partner(Some("other")).await;
    let serving = serve_plus_one(other).await;
    // The other make does not wait for NATS: its subscription is there when a call finds it.
    let ours = nats.connect().await;
    let target = Target::new(PREFIX, INSTANCE, "plus-one");
    crate::support::eventually("the partner serves", || async {
        let deadline = Instant::now() + Duration::from_millis(200);
        let result = ours.call(&target, Bytes::from_static(&[1, 0]), deadline).await;
        (result != Err(CallError::NoResponders)).then_some(())
    })
    .await;
    call_plus_one(&ours.peer(PREFIX, None), InvokeContext::within(SOON)).await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_up_only_itself_and_ends_when_too_much_waits() {
    let nats = Nats::start().await;
    let mut options = Options::default();
    options.results_bytes_max = 1 << 20;
    let caller = nats.connect_with(options).await;
    let callee = nats.connect().await;
    let server = callee.peer(PREFIX, None);
    let calls = server.serve(INSTANCE, "flood", paths()).await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let serving = tokio::spawn(async move {
        let mut calls = Box::pin(calls);
        let (_cx, mut root, _params) = calls.next().await.unwrap().unwrap();
        let mut nested = root.index(&[0]).unwrap();
        root.write_all(&[1]).await.unwrap();
        for _ in 0..100 {
            nested.write_all(&noise(64 << 10)).await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
        }
        std::future::pending::<()>().await;
    });
    let echo = handler(|incoming| async move { Ok(incoming.params) });
    let _serving = callee
        .serve(service("echo", None), echo, Limits::default())
        .await
        .unwrap();

    let peer = caller.peer(PREFIX, None);
    let path: &[Option<usize>] = &[Some(0)];
    let cx = InvokeContext::within(SOON);
    let (_params, mut results) = peer
        .invoke(cx, INSTANCE, "flood", Bytes::from_static(&[0]), [path])
        .await
        .unwrap();
    assert_eq!(results.read_u8().await.unwrap(), 1);
    let mut unread = results.index(&[0]).unwrap();
    until("all is sent", || sent.load(Ordering::SeqCst) == 100).await;
    // Nobody reads the flood; other calls of the same connection go on.
    let target = Target::new(PREFIX, INSTANCE, "echo");
    for _ in 0..100 {
        caller.call(&target, noise(100), later()).await.unwrap();
    }
    let mut sink = Vec::new();
    let error = anyhow::Error::from(unread.read_to_end(&mut sink).await.unwrap_err());
    assert!(
        matches!(
            call_error(&error),
            Some(CallError::TooLarge {
                what: "unread data",
                ..
            })
        ),
        "{error:#}"
    );
    assert!(sink.len() <= 1 << 20);
    serving.abort();
}

#[tokio::test]
async fn a_typed_call_ends_at_its_deadline_and_its_callee_hears_of_it() {
    let nats = Nats::start().await;
    let callee = nats.connect().await;
    let calls = callee
        .peer(PREFIX, None)
        .serve(INSTANCE, "never", Arc::from([]))
        .await
        .unwrap();
    let serving = tokio::spawn(async move {
        let mut calls = Box::pin(calls);
        let (cx, writer, reader) = calls.next().await.unwrap().unwrap();
        assert!(cx.deadline.is_some());
        cx.cancelled().await;
        drop((writer, reader));
    });
    let peer = nats.connect().await.peer(PREFIX, None);
    let no_paths: [&[Option<usize>]; 0] = [];
    let cx = InvokeContext::within(Duration::from_millis(200));
    let began = Instant::now();
    let call = peer
        .invoke_values::<_, (u32,), (u32,)>(cx, INSTANCE, "never", (1,), no_paths)
        .await;
    let error = call.map(|(results, _)| results).unwrap_err();
    assert_eq!(call_error(&error), Some(CallError::Deadline), "{error:#}");
    assert!(began.elapsed() < SOON / 2);
    tokio::time::timeout(SOON, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_typed_callee_that_drops_a_call_is_a_failed_call() {
    let nats = Nats::start().await;
    let callee = nats.connect().await;
    let calls = callee
        .peer(PREFIX, None)
        .serve(INSTANCE, "drops", Arc::from([]))
        .await
        .unwrap();
    let serving = tokio::spawn(async move {
        let mut calls = Box::pin(calls);
        while let Some(call) = calls.next().await {
            drop(call);
        }
    });
    let caller = nats.connect().await;
    let result = caller
        .call(
            &Target::new(PREFIX, INSTANCE, "drops"),
            Bytes::from_static(&[1]),
            later(),
        )
        .await;
    assert!(matches!(result, Err(CallError::Failed(_))), "{result:?}");
    serving.abort();
}
