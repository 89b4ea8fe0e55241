//! Calls that come to nothing: each says why, in time.

use crate::agent::{Agent, Pair, Plan, add, call_echo, caller_plan, drive, spec, unit};
use crate::guests::caller;
use crate::nats::{Nats, eventually};
use crate::support::limits;
use heddle_capability::CallFailure;
use heddle_protocol::host_spec::{Call, Limits};
use std::time::{Duration, Instant};
use wasmtime::component::Val;

/// What the caller's log says about a call that failed.
fn trapped(failure: &CallFailure) -> &str {
    match failure {
        CallFailure::Trapped(text) => text,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_that_traps_fails_the_call_without_telling_what_it_had_in_hand() {
    let pair = Pair::plain().await;
    let failure = drive(&pair.caller, "halt", vec![]).await.unwrap_err();
    let text = trapped(&failure);
    assert!(text.contains("shop:test/echo@1.0.0#halt"), "{text}");
    assert!(text.contains("the callee failed: the component trapped"), "{text}");
    assert!(!text.contains("unreachable"), "{text}");
    // Where the type has room for words, the guest gets them and goes on.
    let list = Val::List(vec![Val::U8(1)]);
    let results = drive(&pair.caller, "try", vec![list]).await.unwrap();
    let [Val::Result(Err(Some(words)))] = &results[..] else {
        panic!("{results:?}");
    };
    let Val::String(words) = &**words else {
        panic!("{words:?}")
    };
    assert!(words.starts_with("failed to call: the callee failed"), "{words}");
    // The workload's own log has the trap itself.
    assert!(
        pair.right.host.logs.all().contains("unreachable"),
        "{}",
        pair.right.host.logs.all()
    );
    assert!(
        pair.left.host.logs.all().contains("the callee failed"),
        "{}",
        pair.left.host.logs.all()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_ends_at_its_deadline_and_its_callee_with_it() {
    let call = Call {
        timeout_ms: 300,
        ..call_echo()
    };
    let callers = Plan {
        call: Some(call),
        ..caller_plan()
    };
    let pair = Pair::new(callers, Plan::new(unit("echo", 1))).await;
    let begun = Instant::now();
    let failure = drive(&pair.caller, "spin", vec![]).await.unwrap_err();
    assert!(
        trapped(&failure).contains("the deadline of the call has passed"),
        "{failure}"
    );
    assert!(begun.elapsed() >= Duration::from_millis(300));
    // Its own limit is 20 s; the caller's deadline came with the call.
    eventually("the callee stops", async || {
        (pair.callee.in_flight() == 0).then_some(())
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_is_gone_takes_its_callee_with_it() {
    let pair = Pair::plain().await;
    let spinning = tokio::spawn({
        let caller = pair.caller.clone();
        async move { drive(&caller, "spin", vec![]).await }
    });
    eventually("the callee spins", async || {
        (pair.callee.in_flight() == 1).then_some(())
    })
    .await;
    let begun = Instant::now();
    spinning.abort();
    eventually("the callee stops", async || {
        (pair.callee.in_flight() == 0).then_some(())
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_that_is_full_refuses_and_a_caller_that_is_full_does_not_even_ask() {
    let callees = Plan {
        limits: Limits {
            concurrency: 1,
            ..limits()
        },
        ..Plan::new(unit("echo", 1))
    };
    let call = Call {
        max_in_flight: 2,
        ..call_echo()
    };
    let callers = Plan {
        call: Some(call),
        ..caller_plan()
    };
    let pair = Pair::new(callers, callees).await;
    let spin = || {
        let caller = pair.caller.clone();
        tokio::spawn(async move { drive(&caller, "spin", vec![]).await })
    };
    let spinning = spin();
    eventually("the callee spins", async || {
        (pair.callee.in_flight() == 1).then_some(())
    })
    .await;
    let failure = add(&pair.caller, 1, 1).await.unwrap_err();
    assert!(
        trapped(&failure).contains("it has as many calls in flight as it may"),
        "{failure}"
    );
    // Refusals are offered again a few times; meanwhile the link is full.
    let more: Vec<_> = (0..2).map(|_| spin()).collect();
    let mut texts = Vec::new();
    for ended in more {
        texts.push(trapped(&ended.await.unwrap().unwrap_err()).to_owned());
    }
    assert!(
        texts
            .iter()
            .any(|text| text.contains("2 calls over this link are in flight already")),
        "{texts:?}"
    );
    spinning.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_that_nobody_serves_fails_the_call_long_before_its_deadline() {
    let pair = Pair::plain().await;
    pair.right.set_live(&spec(&[], &[]), &[]);
    let silent = eventually("nobody serves", async || add(&pair.caller, 1, 1).await.err()).await;
    assert!(trapped(&silent).contains("nobody serves this function now"), "{silent}");
    let begun = Instant::now();
    add(&pair.caller, 1, 1).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // And one that is not known at all.
    pair.left.set_live(&spec(&[], &[]), &[unit("caller", 1)]);
    let unknown = add(&pair.caller, 1, 1).await.unwrap_err();
    assert!(trapped(&unknown).contains("no generation of it runs"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_nats_a_call_ends_at_its_deadline() {
    let nats = Nats::start().await;
    let agent = Agent::new(&nats);
    drop(nats);
    let call = Call {
        timeout_ms: 200,
        ..call_echo()
    };
    let plan = Plan {
        call: Some(call),
        ..caller_plan()
    };
    let caller = agent.prepare(plan, &caller()).await;
    agent.set_live(&spec(&[], &[1]), &[unit("caller", 1)]);
    let failure = add(&caller, 1, 1).await.unwrap_err();
    assert!(
        trapped(&failure).contains("there is no connection to NATS"),
        "{failure}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_cannot_cross_hosts_is_refused_when_the_unit_is_prepared() {
    let nats = Nats::start().await;
    let agent = Agent::new(&nats);
    let bytes = wat::parse_str(
        r#"(component (import "shop:test/echo@1.0.0" (instance
            (export "r" (type $r (sub resource)))
            (export "open" (func (result (own $r)))))))"#,
    )
    .unwrap();
    let error = agent.try_prepare(caller_plan(), &bytes).await.map(|_| ()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.contains("r is a resource, which stays inside one host"),
        "{cause}"
    );
}
