//! A call over wRPC beside a bare request over NATS: native code on both ends, no component.
//!
//! In: where NATS is, how many calls. Out: the median of each in microseconds, measured in turns in one run, so that
//! whatever else the machine does falls on all of them.

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use heddle_wrpc::{Connection, Fault, Incoming, InvokeContext, Limits, Options, Peer, Service, Serving, Target, codec};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;
use wrpc_transport::{InvokeExt as _, ServeExt as _};

const PREFIX: &str = "bench.native";
const INSTANCE: &str = "bench:native/echo@0.1.0";
const RAW: &str = "bench.native.raw";
const LARGE: usize = 64 << 10;
const WITHIN: Duration = Duration::from_secs(5);
const NO_PATHS: [&[Option<usize>]; 0] = [];
/// Calls of one kind before the next kind has its turn.
const TURN: usize = 100;

/// Medians in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Native {
    /// A typed call with a u32 there and back.
    pub wrpc_u32_us: f64,
    /// A typed call with 64 KiB there and back.
    pub wrpc_bytes64k_us: f64,
    /// An encoded call with a u32 there and back, as agents make and serve it.
    pub wrpc_encoded_u32_us: f64,
    /// A bare request with four bytes there and back.
    pub nats_request_us: f64,
    /// A bare request with 64 KiB there and back.
    pub nats_request64k_us: f64,
    /// The typed u32 call by the bare request.
    pub wrpc_to_nats_ratio: f64,
    /// The typed 64 KiB call by the bare request.
    pub wrpc_to_nats_64k_ratio: f64,
}

/// Measures `calls` calls of each kind.
pub async fn measure(url: &str, calls: usize) -> Result<Native> {
    let raw = async_nats::connect(url).await?;
    let caller = Connection::new(async_nats::connect(url).await?, Options::default()).await?;
    let callee = Connection::new(async_nats::connect(url).await?, Options::default()).await?;
    let _servers = [
        answer_raw(url).await?,
        number::serve(&callee).await?,
        list::serve(&callee).await?,
    ];
    let encoded_server = serve_encoded(&callee).await?;
    // The bare server has no call that waits until it is reachable.
    let reachable = async { while raw.request(RAW, Bytes::new()).await.is_err() {} };
    tokio::time::timeout(WITHIN, reachable)
        .await
        .context("failed to reach the bare server in time")?;

    let peer = caller.peer(PREFIX, None);
    let large = Bytes::from(vec![7; LARGE]);
    let mut times: [Vec<f64>; 5] = Default::default();
    // The first turn warms up.
    for turn in 0..=calls.div_ceil(TURN) {
        let measured = [
            turn_of(|n| number::call(&peer, n)).await?,
            turn_of(|_| list::call(&peer, large.clone())).await?,
            turn_of(|n| encoded(&caller, n)).await?,
            turn_of(|n| request(&raw, Bytes::copy_from_slice(&n.to_le_bytes()))).await?,
            turn_of(|_| request(&raw, large.clone())).await?,
        ];
        if turn > 0 {
            for (all, some) in times.iter_mut().zip(measured) {
                all.extend(some);
            }
        }
    }
    encoded_server.drain().await;
    let [u32, bytes, encoded, request, request64k] = times.map(median);
    Ok(Native {
        wrpc_u32_us: u32,
        wrpc_bytes64k_us: bytes,
        wrpc_encoded_u32_us: encoded,
        nats_request_us: request,
        nats_request64k_us: request64k,
        wrpc_to_nats_ratio: u32 / request,
        wrpc_to_nats_64k_ratio: bytes / request64k,
    })
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn turn_of<F: Future<Output = Result<()>>>(mut call: impl FnMut(u32) -> F) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(TURN);
    for n in 0..TURN as u32 {
        let began = Instant::now();
        call(n).await?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

/// A task that ends with the measurement.
struct Server(AbortHandle);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn answer_raw(url: &str) -> Result<Server> {
    let client = async_nats::connect(url).await?;
    let mut requests = client.subscribe(RAW).await?;
    let task = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply
                && client.publish(reply, request.payload).await.is_err()
            {
                return;
            }
        }
    });
    Ok(Server(task.abort_handle()))
}

/// Serves and calls a function that gives its one argument back, for one type.
macro_rules! typed {
    ($module:ident, $type:ty) => {
        mod $module {
            use super::*;

            const FUNCTION: &str = stringify!($module);

            pub(super) async fn serve(callee: &Connection) -> Result<Server> {
                let (ready, served) = tokio::sync::oneshot::channel();
                let peer = callee.peer(PREFIX, None);
                let task = tokio::spawn(async move {
                    let calls = peer
                        .serve_values::<($type,), ($type,)>(INSTANCE, FUNCTION, Arc::from([]))
                        .await;
                    let is_served = calls.is_ok();
                    let (Ok(()), Ok(calls)) = (ready.send(is_served), calls) else {
                        return;
                    };
                    let mut calls = Box::pin(calls);
                    while let Some(call) = calls.next().await {
                        if let Ok((_, (value,), _, answer)) = call
                            && let Err(error) = answer((value,)).await
                        {
                            eprintln!("links: a call was not answered: {error:#}");
                        }
                    }
                });
                ensure!(served.await?, "failed to serve {FUNCTION}");
                Ok(Server(task.abort_handle()))
            }

            pub(super) async fn call(peer: &Peer, value: $type) -> Result<()> {
                let cx = InvokeContext::within(WITHIN);
                let call =
                    peer.invoke_values::<_, ($type,), ($type,)>(cx, INSTANCE, FUNCTION, (value.clone(),), NO_PATHS);
                let ((back,), _) = call.await?;
                ensure!(back == value, "another value came back");
                Ok(())
            }
        }
    };
}

typed!(number, u32);
typed!(list, Bytes);

async fn serve_encoded(callee: &Connection) -> Result<Serving> {
    let service = Service {
        prefix: PREFIX.to_owned(),
        instance: INSTANCE.to_owned(),
        function: "encoded".to_owned(),
        queue_group: None,
    };
    let echo = |incoming: Incoming| -> BoxFuture<'static, Result<Bytes, Fault>> {
        Box::pin(std::future::ready(Ok(incoming.params)))
    };
    Ok(callee.serve(service, Arc::new(echo), Limits::default()).await?)
}

async fn encoded(caller: &Connection, value: u32) -> Result<()> {
    let mut params = BytesMut::new();
    codec::put_unsigned(&mut params, u64::from(value));
    let target = Target::new(PREFIX, INSTANCE, "encoded");
    let results = caller.call(&target, params.freeze(), Instant::now() + WITHIN).await?;
    let mut cursor = codec::Cursor::new(results, codec::DecodeLimits::default());
    ensure!(cursor.u32()? == value, "another value came back");
    Ok(())
}

async fn request(client: &async_nats::Client, payload: Bytes) -> Result<()> {
    let answer = client.request(RAW, payload.clone()).await?;
    ensure!(answer.payload == payload, "another value came back");
    Ok(())
}
