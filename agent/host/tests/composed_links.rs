//! Links within one component, between guests that a toolchain built: of WASI 0.2 and 0.3, with async functions and
//! streams, and with several calls in one instance at the same time.
//!
//! In: guests, composed as the scheduler composes them. Out: answers over HTTP.

#![allow(clippy::unwrap_used, reason = "in a test a broken expectation is the message")]

mod support;

use bytes::Bytes;
use futures::channel::mpsc;
use heddle_agent::instance::PreparedUnit;
use heddle_compose::{Link, Part, compose};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{Instances, TemplateComponent, Wasi};
use http::Request;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use support::*;

/// Makes one component of two.
fn whole(caller: &str, callee: &str, interface: &str) -> Vec<u8> {
    let rename = BTreeMap::new();
    let (caller, callee) = (guest(caller), guest(callee));
    let part = |bytes| Part { bytes, rename: &rename };
    let parts = BTreeMap::from([("caller", part(&caller[..])), ("callee", part(&callee[..]))]);
    let link = Link {
        from: "caller",
        import: interface,
        to: "callee",
        export: interface,
    };
    compose("caller", &parts, &[link]).unwrap()
}

/// Serves a whole at every path.
async fn serve(host: &Host, whole: &[u8], wasi: Wasi, instances: Instances) -> Arc<PreparedUnit> {
    let compiled = host.engines.load_bytes(whole, wasi).unwrap();
    let component = TemplateComponent::new(component(), Digest::of(whole), whole.len() as u64, wasi);
    let plan = UnitPlan {
        instances,
        ..plain("none", wasi)
    };
    let unit = host.try_prepare_component(&plan, compiled, component).await.unwrap();
    host.route(&[("/", &unit)]);
    unit
}

fn shouting() -> Vec<u8> {
    whole("p3-caller", "p3-shout", "test:shout/shouter@0.1.0")
}

/// A new instance for every call.
const FRESH: Instances = Instances {
    reuse: 1,
    concurrency: 1,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_and_a_callee_in_other_languages_are_one_component() {
    for (callee, language) in [("greeter", "Rust"), ("go-greeter", "Go")] {
        let host = Host::new();
        let whole = whole("storefront", callee, "example:greet/greeter@0.1.0");
        let unit = serve(&host, &whole, Wasi::P2, FRESH).await;
        assert_eq!(
            host.line("/greet/you").await,
            format!("200 Hello from {language}, you!")
        );
        assert_eq!(host.line("/echo/bytes").await, "200 bytes");
        assert!(
            host.line("/try/").await.starts_with("422 "),
            "its own refusal comes back"
        );
        assert_eq!((unit.calls(), unit.failed_calls()), (3, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_async_function_is_called_across_a_composed_link() {
    let host = Host::new();
    serve(&host, &shouting(), Wasi::P3, FRESH).await;
    assert_eq!(host.line("/greet/you").await, "200 Hello, you!");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_flows_through_a_composed_link_while_it_is_written() {
    let host = Host::new();
    let unit = serve(&host, &shouting(), Wasi::P3, FRESH).await;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (mut quiet, body) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let uri = format!("http://{}/shout", host.address);
    let response = client.request(Request::post(uri).body(StreamBody::new(body)).unwrap());
    quiet.try_send(Ok(Frame::data(Bytes::from_static(b"hello, ")))).unwrap();
    let answered = async {
        let mut loud = response.await.unwrap().into_body();
        // The second piece is sent when the first has come back: nothing waits for the end.
        assert_eq!(next(&mut loud, 7).await, b"HELLO, ");
        quiet.try_send(Ok(Frame::data(Bytes::from_static(b"world")))).unwrap();
        assert_eq!(next(&mut loud, 5).await, b"WORLD");
        // More than any buffer on the way holds.
        let much = Bytes::from(vec![b'x'; 1 << 20]);
        quiet.try_send(Ok(Frame::data(much.clone()))).unwrap();
        drop(quiet);
        let rest = loud.collect().await.unwrap().to_bytes();
        assert_eq!(rest, much.to_ascii_uppercase());
    };
    tokio::time::timeout(SOON, answered).await.unwrap();
    until("the call to end", || unit.in_flight() == 0).await;
    assert_eq!(unit.failed_calls(), 0);
}

/// So many bytes of a body, in however many pieces they come.
async fn next(body: &mut hyper::body::Incoming, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let frame = body.frame().await.unwrap().unwrap();
        bytes.extend_from_slice(frame.data_ref().unwrap());
    }
    bytes
}

/// Sends requests that wait for each other, each when the one before is in its guest. Returns the rest of the answers.
async fn meet(host: &Host, unit: &PreparedUnit, n: u32) -> Vec<hyper::body::Incoming> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let mut answers = Vec::new();
    for before in 0..n {
        assert_eq!(unit.in_flight(), before, "nobody is answered before the last has come");
        let uri = format!("http://{}/meet/{n}", host.address);
        let response = client.request(Request::get(uri).body(Empty::new()).unwrap());
        let mut body = tokio::time::timeout(SOON, response).await.unwrap().unwrap().into_body();
        assert_eq!(next(&mut body, 5).await, b"here\n");
        answers.push(body);
    }
    answers
}

// On one thread an instance that waits is known to wait: only one that computes has a new one made beside it.
#[tokio::test]
async fn eight_requests_are_in_one_instance_at_the_same_time() {
    let host = Host::new();
    let shared = Instances {
        reuse: 8,
        concurrency: 8,
    };
    let unit = serve(&host, &shouting(), Wasi::P3, shared).await;
    let answers = meet(&host, &unit, 8).await;
    // They see each other in the memory of one instance only.
    for answer in answers {
        let rest = tokio::time::timeout(SOON, answer.collect()).await.unwrap().unwrap();
        assert_eq!(rest.to_bytes(), "Hello, all! met 8\n");
    }
    assert_eq!((unit.calls(), unit.failed_calls()), (8, 0));
}

#[tokio::test]
async fn an_instance_for_each_request_lets_nobody_meet() {
    let host = Host::new();
    let unit = serve(&host, &shouting(), Wasi::P3, FRESH).await;
    let mut answers = meet(&host, &unit, 2).await;
    assert_eq!(unit.in_flight(), 2);
    // Together they would have met within milliseconds.
    let met = futures::future::select_all(answers.iter_mut().map(|answer| Box::pin(answer.frame())));
    let met = tokio::time::timeout(Duration::from_millis(300), met).await;
    assert!(
        met.is_err(),
        "they met in an instance that one of them should have had alone"
    );
}
