//! Peers of another make: `wrpc-transport-nats` calls ours, and ours calls it.

use crate::support::{INSTANCE, Nats, PREFIX, SOON, echo, handler, later, noise, service};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use heddle_wrpc::codec::{Cursor, DecodeLimits, put_bytes};
use heddle_wrpc::{CallError, InvokeContext, Limits, Target, call_error};
use std::sync::Arc;
use tokio::task::JoinHandle;
use wrpc_transport::{InvokeExt as _, ServeExt as _};

const NO_PATHS: [&[Option<usize>]; 0] = [];
const SIZES: [usize; 4] = [0, 1000, 1 << 20, 3 << 20];

/// Serves `(u32, list<u8>) -> (list<u8>, u32)` in the other make.
async fn partner_serves(nats: &Nats) -> JoinHandle<()> {
    let partner = nats.partner(Some("group")).await;
    let calls = partner
        .serve_values::<(u32, Bytes), (Bytes, u32)>(INSTANCE, "swap", Arc::from([]))
        .await
        .unwrap();
    // The other make does not wait for NATS; a request to itself does.
    let ready = async_nats_partner::connect(nats_url(nats).await).await.unwrap();
    ready.flush().await.unwrap();
    tokio::spawn(async move {
        let _partner = partner;
        let mut calls = Box::pin(calls);
        while let Some(call) = calls.next().await {
            let (_, (number, bytes), _, answer) = call.unwrap();
            if number == u32::MAX {
                drop(answer);
            } else {
                answer((bytes, number)).await.unwrap();
            }
        }
    })
}

async fn nats_url(nats: &Nats) -> String {
    let info = nats.client().await.server_info();
    format!("127.0.0.1:{}", info.port)
}

fn arguments(number: u32, bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    heddle_wrpc::codec::put_unsigned(&mut out, u64::from(number));
    put_bytes(&mut out, bytes).unwrap();
    out.freeze()
}

/// Calls until the partner's subscription has reached NATS.
async fn reached(ours: &heddle_wrpc::Connection, target: &Target<'_>) {
    crate::support::eventually("the partner serves", || async {
        ours.call(target, arguments(0, b""), later()).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_bytes_call_a_server_of_another_make() {
    let nats = Nats::start().await;
    let serving = partner_serves(&nats).await;
    let ours = nats.connect().await;
    let target = Target::new(PREFIX, INSTANCE, "swap");
    reached(&ours, &target).await;
    for size in SIZES {
        let bytes = noise(size);
        let results = ours.call(&target, arguments(7, &bytes), later()).await.unwrap();
        let mut cursor = Cursor::new(results, DecodeLimits::default());
        assert!(cursor.bytes().unwrap() == bytes, "{size} bytes");
        assert_eq!(cursor.u32().unwrap(), 7);
        cursor.finish().unwrap();
    }
    // A server of another make that fails ends the call with nothing in it.
    let result = ours.call(&target, arguments(u32::MAX, b""), later()).await;
    assert!(matches!(result, Err(CallError::Failed(_))), "{result:?}");
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_types_call_a_server_of_another_make() {
    let nats = Nats::start().await;
    let serving = partner_serves(&nats).await;
    let ours = nats.connect().await;
    reached(&ours, &Target::new(PREFIX, INSTANCE, "swap")).await;
    let peer = ours.peer(PREFIX, None);
    for size in SIZES {
        let bytes = noise(size);
        let cx = InvokeContext::within(SOON);
        let (results, rest) = peer
            .invoke_values::<_, (u32, Bytes), (Bytes, u32)>(cx, INSTANCE, "swap", (9, bytes.clone()), NO_PATHS)
            .await
            .unwrap();
        assert!(rest.is_none());
        assert!(results == (bytes, 9), "{size} bytes");
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_without_arguments_and_results_works_with_another_make() {
    let nats = Nats::start().await;
    let partner = nats.partner(None).await;
    let calls = partner
        .serve_values::<(), ()>(INSTANCE, "unit", Arc::from([]))
        .await
        .unwrap();
    let serving = tokio::spawn(async move {
        let mut calls = Box::pin(calls);
        while let Some(call) = calls.next().await {
            let (_, (), _, answer) = call.unwrap();
            answer(()).await.unwrap();
        }
    });
    let ours = nats.connect().await;
    let target = Target::new(PREFIX, INSTANCE, "unit").without_results();
    crate::support::eventually("the partner serves", || async {
        ours.call(&target, Bytes::new(), later()).await.ok()
    })
    .await;
    let peer = ours.peer(PREFIX, None);
    let cx = InvokeContext::within(SOON);
    peer.invoke_values::<_, (), ()>(cx, INSTANCE, "unit", (), NO_PATHS)
        .await
        .unwrap();
    serving.abort();
    let unit = handler(|_| async { Ok(Bytes::new()) });
    let _serving = ours
        .serve(service("unit2", None), unit, Limits::default())
        .await
        .unwrap();
    let call = partner.invoke_values::<_, (), ()>(None, INSTANCE, "unit2", (), NO_PATHS);
    tokio::time::timeout(SOON, call).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_another_make_calls_our_bytes() {
    let nats = Nats::start().await;
    let ours = nats.connect().await;
    let _serving = echo(&ours, "echo").await;
    let partner = nats.partner(None).await;
    for size in SIZES {
        let bytes = noise(size);
        let call = partner.invoke_values::<_, (u32, Bytes), (u32, Bytes)>(
            None,
            INSTANCE,
            "echo",
            (3, bytes.clone()),
            NO_PATHS,
        );
        let (results, _) = tokio::time::timeout(SOON, call).await.unwrap().unwrap();
        assert!(results == (3, bytes), "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_another_make_calls_our_types() {
    let nats = Nats::start().await;
    let peer = nats.connect().await.peer(PREFIX, Some("group"));
    let calls = peer
        .serve_values::<(u32, Bytes), (Bytes, u32)>(INSTANCE, "swap", Arc::from([]))
        .await
        .unwrap();
    let serving = tokio::spawn(async move {
        let mut calls = Box::pin(calls);
        while let Some(call) = calls.next().await {
            let (_, (number, bytes), _, answer) = call.unwrap();
            answer((bytes, number)).await.unwrap();
        }
    });
    let partner = nats.partner(None).await;
    for size in SIZES {
        let bytes = noise(size);
        let call = partner.invoke_values::<_, (u32, Bytes), (Bytes, u32)>(
            None,
            INSTANCE,
            "swap",
            (4, bytes.clone()),
            NO_PATHS,
        );
        let (results, _) = tokio::time::timeout(SOON, call).await.unwrap().unwrap();
        assert!(results == (bytes, 4), "{size} bytes");
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_another_make_hears_that_it_was_refused() {
    let nats = Nats::start().await;
    let ours = nats.connect().await;
    let limits = Limits {
        in_flight: 0,
        ..Limits::default()
    };
    let busy = handler(|incoming| async move { Ok(incoming.params) });
    let _serving = ours.serve(service("busy", None), busy, limits).await.unwrap();
    let partner = nats.partner(None).await;
    let call = partner.invoke_values::<_, (u32,), (u32,)>(None, INSTANCE, "busy", (1,), NO_PATHS);
    let result = tokio::time::timeout(SOON, call).await.expect("the call must not hang");
    assert!(result.is_err());
}

#[tokio::test]
async fn the_typed_error_is_found_in_what_the_typed_calls_give() {
    let nats = Nats::start().await;
    let peer = nats.connect().await.peer(PREFIX, None);
    let cx = InvokeContext::within(SOON);
    let call = peer.invoke_values::<_, (u32,), (u32,)>(cx, INSTANCE, "nothing", (1,), NO_PATHS);
    let error = call.await.map(|(results, _)| results).unwrap_err();
    assert_eq!(call_error(&error), Some(CallError::NoResponders), "{error:#}");
}
