//! Serving real guests through a real listener: within limits, beyond them, and while things go away.

mod support;

use heddle_agent::engine::{Allocator, EngineOptions, Engines};
use heddle_agent::http::route_table;
use heddle_capability::Lending;
use heddle_capability_http::ERROR_HEADER;
use heddle_protocol::defaults::HTTP_BODY_BYTES_MAX;
use heddle_protocol::host_spec::{CapabilityOffer, Instances, Limits, Wasi};
use http::Request;
use http_body_util::Full;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_request_reaches_the_guest_behind_its_route() {
    let host = Host::new();
    let unit = host.prepare(&plain("hello", Wasi::P2)).await;
    host.route(&[("/hello", &unit)]);
    assert_eq!(
        host.line("/hello/world?x=1").await,
        "200 hello from heddle, path=/hello/world?x=1"
    );
    assert_eq!(host.line("/other").await, "404 no-route");
    assert_eq!(unit.calls(), 1);
    assert_eq!(unit.in_flight(), 0);
}

#[tokio::test]
async fn a_route_without_a_ready_unit_asks_to_try_again() {
    let host = Host::new();
    let unit = unit_id(&probe());
    let mut only_get = route("/", &unit);
    only_get.methods.insert("GET".into());
    host.listeners
        .set_routes(Arc::new(route_table(&[only_get], |_, _| None)));
    let answer = host.get("/").await;
    assert_eq!(answer.line(), "503 not-ready");
    assert_eq!(answer.headers["retry-after"], "1");
    let uri = format!("http://{}/", host.address);
    let answer = host.send(Request::delete(uri).body(Full::default()).unwrap()).await;
    assert_eq!(answer.line(), "405 method-not-allowed");
    assert_eq!(answer.headers["allow"], "GET");
}

#[tokio::test]
async fn a_trap_ends_one_call_and_says_nothing_of_the_guest_to_the_client() {
    let host = Host::new();
    let unit = host.serve(&probe()).await;
    let answer = host.get("/trap").await;
    assert_eq!(answer.line(), "500 trapped");
    assert_eq!(answer.text, "the workload failed\n");
    assert_eq!(host.line("/version").await, "200 v1");
    assert_eq!((unit.calls(), unit.failed_calls()), (2, 1));
    let logs = host.logs.all();
    assert!(
        logs.contains("shop/probe@1 error") && logs.contains("unreachable"),
        "{logs}"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_never_gives_the_cpu_back_is_stopped_and_holds_nobody_up() {
    let host = Host::new();
    // Much longer than the neighbours take, much shorter than the test may.
    let limits = Limits {
        time_ms: 1_500,
        ..limits()
    };
    host.serve(&UnitPlan { limits, ..probe() }).await;
    let started = Instant::now();
    let neighbours = async {
        for _ in 0..5 {
            assert_eq!(host.line("/version").await, "200 v1");
        }
        started.elapsed()
    };
    let (spun, neighbours_took) = tokio::join!(host.line("/spin"), neighbours);
    assert_eq!(spun, "504 time-limit");
    assert!(
        neighbours_took < started.elapsed(),
        "all on one thread, and the neighbours were done first"
    );
    assert!(host.logs.all().contains("1500 ms"), "{}", host.logs.all());
}

#[tokio::test]
async fn a_guest_that_waits_too_long_is_stopped() {
    let host = Host::new();
    let unit = host
        .serve(&UnitPlan {
            limits: Limits {
                time_ms: 200,
                ..limits()
            },
            ..probe()
        })
        .await;
    assert_eq!(host.line("/sleep?ms=60000").await, "504 time-limit");
    until("the end of the call", || unit.in_flight() == 0).await;
}

#[tokio::test]
async fn an_instance_has_no_more_memory_than_its_limit() {
    let host = Host::new();
    host.serve(&UnitPlan {
        limits: Limits {
            memory_bytes: 16 << 20,
            ..limits()
        },
        ..probe()
    })
    .await;
    assert_eq!(host.line("/alloc?mib=8").await, "200 allocated 8 MiB");
    assert_eq!(host.line("/alloc?mib=32").await, "507 refused 32 MiB");
    until("the memory to be given back", || host.engines.memory_used_bytes() == 0).await;
}

#[tokio::test]
async fn a_unit_takes_its_count_times_its_concurrency_and_refuses_the_rest() {
    let host = Host::new();
    let unit = host
        .serve(&UnitPlan {
            limits: Limits {
                concurrency: 1,
                ..limits()
            },
            ..probe()
        })
        .await;
    let slow = host.get("/sleep?ms=1500");
    let others = async {
        until("the slow call", || unit.in_flight() == 1).await;
        let refused = host.get("/version").await;
        assert_eq!(refused.line(), "503 overloaded");
        assert_eq!(refused.headers["retry-after"], "1");
        unit.set_count(2);
        assert_eq!(host.line("/version").await, "200 v1");
    };
    let (slow, ()) = tokio::join!(slow, others);
    assert_eq!(slow.line(), "200 slept 1500 ms");
}

#[tokio::test]
async fn a_full_host_refuses_another_instance() {
    for allocator in [Allocator::Pooling, Allocator::OnDemand] {
        // Room for one: by slots when pooling, by memory otherwise.
        let options = match allocator {
            Allocator::Pooling => EngineOptions {
                instances: 1,
                ..engine_options()
            },
            Allocator::OnDemand => EngineOptions {
                allocator,
                memory_bytes: 2 << 20,
                ..engine_options()
            },
        };
        let host = Host::with(&options, 100);
        assert_eq!(host.engines.allocator(), allocator);
        let unit = host.serve(&probe()).await;
        let slow = host.get("/sleep?ms=1500");
        let other = async {
            until("the slow call's instance", || {
                host.engines.memory_used_bytes() > 0 && unit.in_flight() == 1
            })
            .await;
            host.line("/version").await
        };
        let (slow, other) = tokio::join!(slow, other);
        assert_eq!(
            (slow.line().as_str(), other.as_str()),
            ("200 slept 1500 ms", "503 host-full"),
            "{allocator}"
        );
        // The slow call's instance goes a moment after its answer.
        let until = Instant::now() + Duration::from_secs(10);
        while host.line("/version").await != "200 v1" {
            assert!(Instant::now() < until, "the host stays full");
        }
    }
}

#[tokio::test]
async fn an_instance_serves_as_many_calls_as_its_template_says() {
    let host = Host::new();
    host.serve(&probe()).await;
    let (a, b) = (host.line("/instance").await, host.line("/instance").await);
    assert!(
        a != b && a.ends_with(" 1") && b.ends_with(" 1"),
        "a fresh one each: {a}, {b}"
    );

    host.serve(&UnitPlan {
        instances: Instances {
            reuse: 3,
            concurrency: 1,
        },
        ..probe()
    })
    .await;
    let mut served = Vec::new();
    for _ in 0..4 {
        let line = host.line("/instance").await;
        let (id, nth) = line.rsplit_once(' ').unwrap();
        served.push((id.to_owned(), nth.to_owned()));
    }
    let nths: Vec<&str> = served.iter().map(|(_, nth)| nth.as_str()).collect();
    assert_eq!(nths, ["1", "2", "3", "1"]);
    assert_eq!(served[0].0, served[2].0);
    assert_ne!(served[0].0, served[3].0);
}

#[tokio::test]
async fn an_instance_that_trapped_is_never_used_again() {
    let host = Host::new();
    host.serve(&UnitPlan {
        instances: Instances {
            reuse: 100,
            concurrency: 1,
        },
        ..probe()
    })
    .await;
    assert!(host.line("/instance").await.ends_with(" 1"));
    assert_eq!(host.line("/trap").await, "500 trapped");
    assert!(host.line("/instance").await.ends_with(" 1"));
}

#[tokio::test]
async fn a_draining_unit_ends_its_calls_first() {
    let host = Host::new();
    let old = host.serve(&probe()).await;
    let slow = host.get("/sleep?ms=800");
    let roll = async {
        until("the slow call", || old.in_flight() == 1).await;
        let new = host
            .serve(&UnitPlan {
                generation: 2,
                guest: "probe-v2",
                ..probe()
            })
            .await;
        old.begin_drain();
        assert_eq!(host.line("/version").await, "200 v2");
        assert_eq!(old.in_flight(), 1);
        old.drained().await;
        assert_eq!(old.in_flight(), 0);
        new
    };
    let (slow, new) = tokio::join!(slow, roll);
    assert_eq!(slow.line(), "200 slept 800 ms");
    assert_eq!(new.in_flight(), 0);
}

#[tokio::test]
async fn draining_listeners_answer_what_is_in_flight_and_take_nothing_new() {
    let host = Host::new();
    let unit = host.serve(&probe()).await;
    let slow = host.get("/sleep?ms=800");
    let drain = async {
        until("the slow call", || unit.in_flight() == 1).await;
        tokio::time::timeout(SOON, host.listeners.drain()).await.unwrap();
        assert_eq!(host.listeners.connections(), 0);
        assert!(TcpStream::connect(host.address).await.is_err());
    };
    let (slow, ()) = tokio::join!(slow, drain);
    assert_eq!(slow.line(), "200 slept 800 ms");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_call_with_it() {
    let host = Host::new();
    let unit = host.serve(&probe()).await;
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    stream
        .write_all(b"GET /sleep?ms=15000 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    until("the call", || unit.in_flight() == 1).await;
    drop(stream);
    until("its end", || unit.in_flight() == 0).await;
}

#[tokio::test]
async fn each_namespace_has_its_own_keys() {
    let host = Host::new();
    let shop = host.prepare(&probe()).await;
    let next = host
        .prepare(&UnitPlan {
            generation: 2,
            ..probe()
        })
        .await;
    let bank = host
        .prepare(&UnitPlan {
            workload: "bank/probe",
            ..probe()
        })
        .await;
    host.route(&[("/shop", &shop), ("/next", &next), ("/bank", &bank)]);
    assert_eq!(host.line("/shop/kv?key=n").await, "200 1");
    assert_eq!(host.line("/next/kv?key=n").await, "200 2", "data outlives a generation");
    assert_eq!(host.line("/bank/kv?key=n").await, "200 1");

    host.capabilities
        .apply(
            &name("sessions"),
            &CapabilityOffer::KeyvalueMemory { shared: true },
            &Lending::default(),
        )
        .unwrap();
    let (shop, bank) = (
        host.prepare(&probe()).await,
        host.prepare(&UnitPlan {
            workload: "bank/probe",
            ..probe()
        })
        .await,
    );
    host.route(&[("/shop", &shop), ("/bank", &bank)]);
    assert_eq!(host.line("/shop/kv?key=n").await, "200 1");
    assert_eq!(
        host.line("/bank/kv?key=n").await,
        "200 2",
        "a shared store is one for all"
    );
}

#[tokio::test]
async fn an_import_that_nothing_meets_is_named() {
    let host = Host::new();
    let error = host
        .try_prepare(&UnitPlan {
            bindings: vec![],
            ..probe()
        })
        .await
        .err()
        .unwrap();
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(text.contains("main") && text.contains("wasi:keyvalue/"), "{text}");

    let bindings = vec![("wasi:keyvalue/store@0.2.0-draft", "nowhere")];
    let error = host.try_prepare(&UnitPlan { bindings, ..probe() }).await.err().unwrap();
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(
        text.contains("nowhere") && text.contains("wasi:keyvalue/store"),
        "{text}"
    );
}

#[tokio::test]
async fn nothing_of_the_host_is_granted() {
    let host = Host::new();
    host.serve(&probe()).await;
    assert_eq!(host.line("/env").await, "200 ");
}

#[tokio::test]
async fn bodies_stream_through_and_have_a_bound() {
    let host = Host::new();
    host.serve(&probe()).await;
    let uri = format!("http://{}/echo", host.address);
    let large = "x".repeat(3 << 20);
    let answer = host
        .send(Request::post(&uri).body(Full::from(large.clone())).unwrap())
        .await;
    assert!(answer.status.is_success() && answer.text == large);

    let mut stream = TcpStream::connect(host.address).await.unwrap();
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        HTTP_BODY_BYTES_MAX + 1
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let n = tokio::time::timeout(SOON, stream.read(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]);
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("body-too-large"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_listener_refuses_connections_beyond_its_number() {
    let host = Host::with(&engine_options(), 1);
    host.serve(&plain("hello", Wasi::P2)).await;
    let mut first = TcpStream::connect(host.address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    first.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let mut second = TcpStream::connect(host.address).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(SOON, second.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains(ERROR_HEADER.as_str()),
        "{answer}"
    );
    drop((first, second));
    until("the connection to close", || host.listeners.connections() == 0).await;
    assert!(host.line("/").await.starts_with("200"));
}

#[tokio::test]
async fn a_listener_moves_to_another_address_without_a_gap() {
    let host = Host::new();
    host.serve(&plain("hello", Wasi::P2)).await;
    let offer = CapabilityOffer::Http {
        listen: "127.0.0.1:0".into(),
        max_connections: 10,
    };
    assert_eq!(
        host.listeners.apply(&name("web"), &offer, None).unwrap(),
        host.address,
        "the same offer changes nothing"
    );
    let moved = host
        .listeners
        .apply(&name("web"), &offer, Some("127.0.0.2:0".parse().unwrap()))
        .unwrap();
    let uri = format!("http://{moved}/");
    let answer = host.send(Request::get(uri).body(Full::default()).unwrap()).await;
    assert!(answer.status.is_success());
    let end = Instant::now() + SOON;
    while TcpStream::connect(host.address).await.is_ok() {
        assert!(Instant::now() < end, "the old address is still open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let bad = CapabilityOffer::Http {
        listen: "nowhere".into(),
        max_connections: 10,
    };
    assert!(
        host.listeners
            .apply(&name("other"), &bad, None)
            .unwrap_err()
            .to_string()
            .contains("nowhere")
    );
    host.listeners.remove(&name("web"));
    assert!(host.listeners.bound().is_empty());
}

#[tokio::test]
async fn guests_of_wasi_0_3_are_served_too() {
    let host = Host::new();
    for instances in [
        Instances {
            reuse: 1,
            concurrency: 1,
        },
        Instances {
            reuse: 50,
            concurrency: 8,
        },
    ] {
        let unit = host
            .serve(&UnitPlan {
                instances,
                ..plain("hello-p3", Wasi::P3)
            })
            .await;
        let answers = futures::future::join_all((0..20).map(|_| host.get("/x"))).await;
        for answer in answers {
            assert!(
                answer.status.is_success() && answer.text.contains("/x"),
                "{}",
                answer.line()
            );
        }
        until("all calls to end", || unit.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn compiled_code_is_loaded_from_its_file_by_the_same_engine() {
    let host = Host::new();
    let other = Engines::new(&engine_options()).unwrap();
    assert_eq!(host.engines.fingerprint(Wasi::P2), other.fingerprint(Wasi::P2));
    assert_ne!(host.engines.fingerprint(Wasi::P2), host.engines.fingerprint(Wasi::P3));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hello.cwasm");
    std::fs::write(&file, host.engines.compile(&guest("hello"), Wasi::P2).unwrap()).unwrap();
    other.load_compiled(&file, Wasi::P2).unwrap();
    assert!(
        other.load_compiled(&file, Wasi::P3).is_err(),
        "the two engines' code is not the same"
    );
    assert!(host.engines.load_bytes(b"no component", Wasi::P2).is_err());
}
