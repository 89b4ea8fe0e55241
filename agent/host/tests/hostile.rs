//! A guest that tries to take more than it is given, beside a neighbour that answers all the while.
//!
//! In: one attack after the other. Out: each is over within a second of reaching its limit, the client is told in the
//! guest's place, everything that it took is given back, and the neighbour never fails. How much later the neighbour
//! answers is printed; a machine that does other things too is no place to assert it.

#![allow(clippy::unwrap_used, reason = "in a test a broken expectation is the message")]

mod support;

use heddle_capability::AddressPolicy;
use heddle_protocol::defaults::LOG_LINES_KEPT;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{Limits, TemplateComponent, Wasi};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The time limit of the attacker's calls.
const LIMIT: Duration = Duration::from_secs(1);
/// The memory limit of one of the attacker's instances.
const MEMORY: u64 = 32 << 20;
/// How long after its limit an attack may last.
const CONTAINED: Duration = Duration::from_secs(1);
/// Lines that one component may write per second, over time.
const LINES_PER_SECOND: f64 = 200.0;
/// Attackers at the same time.
const AT_ONCE: usize = 3;

/// A guest that no compiler makes.
const TABLE: &str = include_str!("../../../tests/guests/table.wat");

struct Arena {
    host: Arc<Host>,
    attacker: Arc<heddle_agent::instance::PreparedUnit>,
}

impl Arena {
    /// An attacker that may reach those, on a host where loopback is allowed but for `own`.
    async fn new(egress: Vec<String>, own: Vec<std::net::SocketAddr>) -> Self {
        let mut host = Host::new();
        host.addresses = Arc::new(AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], own));
        let attacker = attacker("hostile", Wasi::P2, egress);
        let (neighbour, attacker) = (host.prepare(&neighbour()).await, host.prepare(&attacker).await);
        host.route(&[("/neighbour", &neighbour), ("/hostile", &attacker)]);
        let host = Arc::new(host);
        Self { host, attacker }
    }

    /// The same with an attacker of WASI 0.3.
    async fn p3() -> Self {
        let mut arena = Self::new(Vec::new(), Vec::new()).await;
        arena.attacker = arena.host.prepare(&attacker("p3-hostile", Wasi::P3, Vec::new())).await;
        arena.routes().await;
        arena
    }

    /// The same with an attacker that is handwritten.
    async fn of(wat: &str) -> Self {
        let mut arena = Self::new(Vec::new(), Vec::new()).await;
        let plan = attacker("handwritten", Wasi::P2, Vec::new());
        let compiled = arena.host.engines.load_bytes(&wat::parse_str(wat).unwrap(), Wasi::P2);
        let part = TemplateComponent::new(component(), Digest::of(b"a guest"), 1, Wasi::P2);
        let prepared = arena.host.try_prepare_component(&plan, compiled.unwrap(), part);
        arena.attacker = prepared.await.unwrap();
        arena.routes().await;
        arena
    }

    async fn routes(&self) {
        let neighbour = self.host.prepare(&neighbour()).await;
        self.host
            .route(&[("/neighbour", &neighbour), ("/hostile", &self.attacker)]);
    }

    /// Runs one attack several times at once, and checks what must hold for all of them.
    async fn attack(&self, what: &str, path: &str, answers: fn(&str) -> bool) {
        let before = self.neighbour(Duration::from_millis(300)).await;
        let stop = Arc::new(AtomicBool::new(false));
        let most = Arc::new(AtomicU64::new(0));
        let meanwhile = {
            let (host, stop) = (Arc::clone(&self.host), Arc::clone(&stop));
            let most = Arc::clone(&most);
            tokio::spawn(async move {
                let go_on = || {
                    most.fetch_max(host.engines.memory_used_bytes(), Ordering::Relaxed);
                    !stop.load(Ordering::Relaxed)
                };
                steady(&host, go_on).await
            })
        };
        let calls = (0..AT_ONCE).map(|_| async {
            let began = Instant::now();
            let line = self.host.line(&format!("/hostile/{path}")).await;
            (line, began.elapsed())
        });
        for (line, took) in futures::future::join_all(calls).await {
            assert!(answers(&line), "{what}: {line}");
            assert!(took < LIMIT + CONTAINED, "{what} was contained after {took:?} only");
        }
        stop.store(true, Ordering::Relaxed);
        let during = meanwhile.await.unwrap();
        let (most, may) = (
            most.load(Ordering::Relaxed),
            AT_ONCE as u64 * MEMORY + limits().memory_bytes,
        );
        assert!(most <= may, "{what}: guests had {most} bytes of {may}");
        eprintln!("{what}: p99 of the neighbour {before:?} before, {during:?} during");
        self.all_is_given_back(what).await;
    }

    async fn all_is_given_back(&self, what: &str) {
        until(&format!("{what}: calls to end"), || self.attacker.in_flight() == 0).await;
        until(&format!("{what}: memory to be given back"), || {
            self.host.engines.memory_used_bytes() == 0
        })
        .await;
    }

    async fn neighbour(&self, time: Duration) -> Duration {
        let end = Instant::now() + time;
        steady(&self.host, || Instant::now() < end).await
    }
}

fn neighbour() -> UnitPlan {
    UnitPlan {
        workload: "shop/neighbour",
        ..plain("hello", Wasi::P2)
    }
}

fn attacker(guest: &'static str, wasi: Wasi, egress: Vec<String>) -> UnitPlan {
    UnitPlan {
        workload: "evil/hostile",
        limits: Limits {
            memory_bytes: MEMORY,
            time_ms: 1_000,
            egress,
            ..limits()
        },
        ..plain(guest, wasi)
    }
}

/// The neighbour's p99 under a steady load. It must not fail once.
async fn steady(host: &Host, mut go_on: impl FnMut() -> bool) -> Duration {
    let mut took = Vec::new();
    while go_on() || took.is_empty() {
        let began = Instant::now();
        let line = host.line("/neighbour").await;
        assert!(line.starts_with("200 hello"), "the neighbour: {line}");
        took.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    took.sort();
    took[(took.len() - 1) * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_takes_processor_memory_or_stack_is_stopped_and_its_neighbour_is_not() {
    let arena = Arena::new(Vec::new(), Vec::new()).await;
    arena.attack("spin", "spin", |line| line == "504 time-limit").await;
    // It is told no, as on any machine that is full, and goes on. Where processors are scarce, its time may be over before
    // it asks for too much, here and below.
    arena
        .attack("memory", "grow", |line| {
            (line.ends_with("MiB") && line < "200 32") || line == "504 time-limit"
        })
        .await;
    let stopped = |line: &str| line == "500 trapped" || line == "504 time-limit";
    arena.attack("recursion", "recurse", stopped).await;
    arena.attack("handles", "hoard", stopped).await;
    arena
        .attack("spin again", "spin", |line| line == "504 time-limit")
        .await;
    assert_eq!(arena.host.line("/hostile/").await, "200 hostile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_of_wasi_0_3_that_spins_is_stopped_at_its_time_limit() {
    let arena = Arena::p3().await;
    assert_eq!(arena.host.line("/hostile/").await, "200 hostile");
    // The first ones meet a host that does not know them yet.
    for turn in ["spin 0.3", "spin 0.3 again"] {
        arena.attack(turn, "spin", |line| line == "504 time-limit").await;
    }
    // One that has answered loses its connection instead.
    let began = Instant::now();
    let mut stream = TcpStream::connect(arena.host.address).await.unwrap();
    stream
        .write_all(b"GET /hostile/answer-and-spin HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert!(began.elapsed() < LIMIT + CONTAINED, "{:?}", began.elapsed());
    arena.all_is_given_back("answer and spin").await;
    assert_eq!(arena.host.line("/hostile/").await, "200 hostile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_does_not_grow_beyond_the_memory_limit() {
    let arena = Arena::of(TABLE).await;
    // It traps when it is refused, and spins if it got more than its limit.
    arena.attack("table", "", |line| line == "500 trapped").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_prints_or_traps_without_end_does_not_fill_the_log() {
    let arena = Arena::new(Vec::new(), Vec::new()).await;
    let began = Instant::now();
    arena.attack("flood", "flood", |line| line == "504 time-limit").await;
    // Where processors are scarce, one second is not enough for a flood.
    let end = Instant::now() + SOON;
    while arena.host.logs.count() < LOG_LINES_KEPT && Instant::now() < end {
        arena.attack("flood", "flood", |line| line == "504 time-limit").await;
    }
    for _ in 0..100 {
        assert_eq!(arena.host.line("/hostile/trap").await, "500 trapped");
    }
    arena.attack("trap", "trap", |line| line == "500 trapped").await;
    let lines = arena.host.logs.count() as f64;
    // Where lines were dropped, the next one is preceded by one that says so.
    let may = LOG_LINES_KEPT as f64 + 2.0 + 2.0 * LINES_PER_SECOND * began.elapsed().as_secs_f64();
    assert!(lines <= may, "{lines} lines of at most {may}");
    assert!(lines >= LOG_LINES_KEPT as f64, "the flood was none: {lines}");
}

/// Connections that a server holds.
///
/// The kernel is asked which of them are open, not a task that reads each: on a machine with other things to do such tasks
/// learn late that a connection was closed, and count it beside the one that came in its place.
#[derive(Default)]
struct Connected(Mutex<Vec<std::net::TcpStream>>);

impl Connected {
    /// One more, and how many are open.
    fn with(&self, stream: TcpStream) -> usize {
        // It stays one whose reads return at once.
        self.0.lock().unwrap().push(stream.into_std().unwrap());
        self.count()
    }

    fn count(&self) -> usize {
        let mut streams = self.0.lock().unwrap();
        streams.retain_mut(|stream| {
            let mut buffer = [0; 1_024];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break false,
                    Ok(_) => {}
                    Err(error) => break error.kind() == std::io::ErrorKind::WouldBlock,
                }
            }
        });
        streams.len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_opens_a_bounded_number_of_connections_and_all_close_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap().to_string();
    // A server that answers nobody, and counts who is connected.
    let (open, most) = (Arc::new(Connected::default()), Arc::new(AtomicUsize::new(0)));
    let (connected, seen) = (Arc::clone(&open), Arc::clone(&most));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            seen.fetch_max(connected.with(stream), Ordering::SeqCst);
        }
    });
    let arena = Arena::new(vec![to.clone()], Vec::new()).await;
    // Where processors are scarce, its time may be over before it has asked for all of them.
    let answered = arena.host.line(&format!("/hostile/connect?to={to}&n=200")).await;
    assert!(
        answered.starts_with("200 ") || answered == "504 time-limit",
        "{answered}"
    );
    arena
        .attack("10,000 connections", &format!("connect?to={to}&n=10000"), |line| {
            line == "500 trapped" || line == "504 time-limit"
        })
        .await;
    let most = most.load(Ordering::SeqCst);
    assert!((1..=128).contains(&most), "{most} connections at the same time");
    until("connections to be closed", || open.count() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rule_of_a_manifest_opens_the_way_to_the_fleet_or_to_the_machine() {
    let nats = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = nats.local_addr().unwrap();
    let forbidden = [
        own.to_string(),
        "169.254.169.254:80".to_owned(),
        "169.254.1.1:80".to_owned(),
    ];
    let arena = Arena::new(forbidden.to_vec(), vec![own]).await;
    for to in &forbidden {
        arena
            .attack(&format!("reach {to}"), &format!("reach?to={to}"), |line| {
                line.starts_with("200 refused") && line.contains("Prohibited")
            })
            .await;
    }
    let unnamed = arena.host.line("/hostile/reach?to=192.0.2.1:80").await;
    assert!(unnamed.contains("Denied"), "{unnamed}");
    let nobody = tokio::time::timeout(Duration::from_millis(50), nats.accept()).await;
    assert!(nobody.is_err(), "somebody came to the fleet's own server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_have_a_largest_size_both_ways() {
    let arena = Arena::new(Vec::new(), Vec::new()).await;
    arena
        .attack("headers of an answer", "headers?kib=100000", |line| {
            line == "500 trapped"
        })
        .await;
    let many = (0..1_000).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    for (what, headers) in [("many", many), ("long", format!("x: {}\r\n", "y".repeat(1 << 20)))] {
        let mut stream = TcpStream::connect(arena.host.address).await.unwrap();
        let head = format!("GET /hostile/ HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        // It may be refused, and closed, before all of it is written.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = [0; 12];
        let read = tokio::time::timeout(CONTAINED, stream.read_exact(&mut answer))
            .await
            .unwrap();
        if read.is_ok() {
            assert_eq!(&answer, b"HTTP/1.1 431", "{what}");
        }
    }
    assert_eq!(arena.attacker.calls(), AT_ONCE as u64, "no guest was asked");
    assert_eq!(arena.host.line("/hostile/").await, "200 hostile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_never_ends_ends_with_its_call() {
    let arena = Arena::new(Vec::new(), Vec::new()).await;
    let before = arena.neighbour(Duration::from_millis(300)).await;
    // A client that sends a byte now and then.
    let began = Instant::now();
    let mut slow = TcpStream::connect(arena.host.address).await.unwrap();
    let head = b"POST /hostile/body HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    slow.write_all(head).await.unwrap();
    let (mut answers, mut bytes) = slow.into_split();
    let dripping = tokio::spawn(async move {
        while bytes.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut answer = [0; 12];
    answers.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 504");
    assert!(began.elapsed() < LIMIT + CONTAINED, "{:?}", began.elapsed());
    dripping.abort();
    // A guest that answers without end, to a client that reads and to one that does not.
    let began = Instant::now();
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    let uri = format!("http://{}/hostile/drip", arena.host.address);
    let response = client
        .request(Request::get(&uri).body(Empty::new()).unwrap())
        .await
        .unwrap();
    let mut body = response.into_body();
    while body.frame().await.is_some_and(|frame| frame.is_ok()) {}
    assert!(began.elapsed() < LIMIT + CONTAINED, "{:?}", began.elapsed());
    let began = Instant::now();
    let mut deaf = TcpStream::connect(arena.host.address).await.unwrap();
    deaf.write_all(b"GET /hostile/drip HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    until("the call to begin", || arena.attacker.in_flight() > 0).await;
    arena.all_is_given_back("deaf client").await;
    assert!(began.elapsed() < LIMIT + CONTAINED, "{:?}", began.elapsed());
    let after = arena.neighbour(Duration::from_millis(300)).await;
    eprintln!("bodies without end: p99 of the neighbour {before:?} before, {after:?} after");
}
