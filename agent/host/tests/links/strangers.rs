//! Peers of another make: `wrpc-transport-nats` calls our components, and our components call it.

use crate::agent::{Agent, Pair, Plan, add, call, drive, prefix, reached, spec, unit};
use crate::guests::{ECHO, caller};
use crate::nats::Nats;
use bytes::Bytes;
use futures::StreamExt as _;
use heddle_protocol::host_spec::Callee;
use std::sync::Arc;
use wasmtime::component::Val;
use wrpc_transport::{InvokeExt as _, ServeExt as _};

const NO_PATHS: [&[Option<usize>]; 0] = [];

async fn stranger(nats: &Nats, prefix: &str) -> wrpc_transport_nats::Client {
    let client = async_nats_partner::connect(&nats.url).await.unwrap();
    wrpc_transport_nats::Client::new(client, prefix, None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_calls_a_component_of_ours() {
    let pair = Pair::plain().await;
    let client = stranger(&pair.nats, &prefix(1)).await;
    let (sum, _) = client
        .invoke_values::<_, (u32, u32), (u32,)>(None, ECHO, "add", (40, 2), NO_PATHS)
        .await
        .unwrap();
    assert_eq!(sum, (42,));
    for len in [0, 64 << 10, 3 << 20] {
        let sent = Bytes::from(vec![7; len]);
        let (answer, _) = client
            .invoke_values::<_, (Bytes,), (Bytes,)>(None, ECHO, "echo", (sent.clone(),), NO_PATHS)
            .await
            .unwrap();
        assert!(answer.0 == sent, "{len} bytes");
    }
    let (tried, _) = client
        .invoke_values::<_, (u32,), (Result<u32, String>,)>(None, ECHO, "try-add", (1,), NO_PATHS)
        .await
        .unwrap();
    assert_eq!(tried, (Ok(2),));
    let halted = client
        .invoke_values::<_, (Bytes,), (Result<u32, String>,)>(None, ECHO, "try", (Bytes::new(),), NO_PATHS)
        .await;
    assert!(halted.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_of_ours_calls_a_stranger() {
    let nats = Nats::start().await;
    let server = stranger(&nats, "strangers").await;
    let adds = server
        .serve_values::<(u32, u32), (u32,)>(ECHO, "add", Arc::from([]))
        .await
        .unwrap();
    let echoes = server
        .serve_values::<(Bytes,), (Bytes,)>(ECHO, "echo", Arc::from([]))
        .await
        .unwrap();
    let serving = tokio::spawn(async move {
        let (mut adds, mut echoes) = (Box::pin(adds), Box::pin(echoes));
        loop {
            tokio::select! {
                Some(call) = adds.next() => {
                    let (_, (a, b), _, answer) = call.unwrap();
                    answer((a + b,)).await.unwrap();
                }
                Some(call) = echoes.next() => {
                    let (_, (bytes,), _, answer) = call.unwrap();
                    answer((bytes,)).await.unwrap();
                }
            }
        }
    });
    let agent = Agent::new(&nats);
    let plan = Plan {
        call: Some(call(Callee::Prefix("strangers".to_owned()))),
        ..Plan::new(unit("caller", 1))
    };
    let caller = agent.prepare(plan, &caller()).await;
    agent.set_live(&spec(&[], &[]), &[unit("caller", 1)]);
    reached(&caller).await;
    assert_eq!(add(&caller, 40, 2).await, Ok(42));
    for len in [0, 64 << 10, 3 << 20] {
        let bytes = Val::List(vec![Val::U8(5); len]);
        let answer = drive(&caller, "echo", vec![bytes.clone()]).await.unwrap();
        assert!(answer == vec![bytes], "{len} bytes");
    }
    serving.abort();
}
