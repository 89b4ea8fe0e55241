//! Calls that arrive: values of all types, both WASIs, generations, queue groups.

use crate::agent::{Agent, Pair, Plan, add, caller_plan, drive, reached, spec, unit};
use crate::guests::{callee, caller};
use crate::nats::{Nats, eventually};
use futures::future::join_all;
use heddle_protocol::host_spec::Wasi;
use std::sync::Arc;
use wasmtime::component::Val;

fn bytes(len: usize) -> Val {
    Val::List((0..len).map(|at| Val::U8((at * 31 % 251) as u8)).collect())
}

/// A value of every kind that needs no name.
fn all() -> Val {
    let text = |text: &str| Val::String(text.to_owned());
    Val::Tuple(vec![
        Val::Bool(true),
        Val::S8(-8),
        Val::U8(200),
        Val::S16(-30_000),
        Val::U16(60_000),
        Val::S32(i32::MIN),
        Val::U32(u32::MAX),
        Val::S64(i64::MIN),
        Val::U64(u64::MAX),
        Val::Float32(-1.5),
        Val::Float64(1e300),
        Val::Char('ß'),
        text("näher"),
        Val::List(vec![text(""), text("zwei")]),
        Val::Option(Some(Box::new(Val::U32(7)))),
        Val::Result(Err(Some(Box::new(Val::U8(9))))),
        Val::List(vec![Val::Tuple(vec![Val::U8(1), Val::S64(-1)])]),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_all_types_cross_hosts_between_both_wasis() {
    for (from, to) in [(Wasi::P2, Wasi::P3), (Wasi::P3, Wasi::P2)] {
        let callers = Plan {
            wasi: from,
            ..caller_plan()
        };
        let callees = Plan {
            wasi: to,
            ..Plan::new(unit("echo", 1))
        };
        let pair = Pair::new(callers, callees).await;
        assert_eq!(add(&pair.caller, 40, 2).await, Ok(42));
        assert_eq!(drive(&pair.caller, "all", vec![all()]).await.unwrap(), vec![all()]);
        let tried = drive(&pair.caller, "try-add", vec![Val::U32(1)]).await.unwrap();
        assert_eq!(tried, vec![Val::Result(Ok(Some(Box::new(Val::U32(2)))))]);
        for len in [0, 64 << 10, 3 << 20] {
            let answer = drive(&pair.caller, "echo", vec![bytes(len)]).await.unwrap();
            assert!(answer == vec![bytes(len)], "{len} bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_to_the_newest_generation_that_serves_and_a_draining_one_is_passed_by() {
    let nats = Nats::start().await;
    let (left, right) = (Agent::new(&nats), Agent::new(&nats));
    let (old, new) = (unit("echo", 1), unit("echo", 2));
    right.prepare(Plan::new(old.clone()), &callee(100)).await;
    let newer = right.prepare(Plan::new(new.clone()), &callee(200)).await;
    let caller = left.prepare(caller_plan(), &caller()).await;
    // The caller has heard of the new generation; it does not serve yet.
    right.set_live(&spec(std::slice::from_ref(&old), &[]), std::slice::from_ref(&old));
    left.set_live(&spec(&[], &[2, 1]), &[unit("caller", 1)]);
    reached(&caller).await;
    assert_eq!(add(&caller, 0, 0).await, Ok(100));
    let both = [old.clone(), new.clone()];
    right.set_live(&spec(&both, &[]), &both);
    eventually("the new generation takes calls", async || {
        (add(&caller, 0, 0).await == Ok(200)).then_some(())
    })
    .await;
    // The new one goes away again: no call fails meanwhile, whether its routes or its unit go first.
    newer.begin_drain();
    assert_eq!(add(&caller, 0, 0).await, Ok(100));
    right.set_live(&spec(std::slice::from_ref(&old), &[]), std::slice::from_ref(&old));
    for _ in 0..50 {
        assert_eq!(add(&caller, 0, 0).await, Ok(100));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_on_two_hosts_share_the_calls_and_execute_each_once() {
    let pair = Pair::plain().await;
    let other = Agent::new(&pair.nats);
    let echo = unit("echo", 1);
    let second = other.prepare(Plan::new(echo.clone()), &callee(0)).await;
    other.set_live(&spec(std::slice::from_ref(&echo), &[]), std::slice::from_ref(&echo));
    eventually("both hosts are called", async || {
        add(&pair.caller, 1, 1).await.unwrap();
        (second.calls() > 0).then_some(())
    })
    .await;
    let before = pair.callee.calls() + second.calls();
    for round in 0..10 {
        let numbers = round * 10..round * 10 + 10;
        let calls = numbers.clone().map(|at| add(&pair.caller, at, 1));
        let expected: Vec<_> = numbers.map(|at| Ok(at + 1)).collect();
        assert_eq!(join_all(calls).await, expected);
    }
    assert_eq!(pair.callee.calls() + second.calls() - before, 100);
    // One of the two leaves: calls go on without a gap.
    other.set_live(&spec(&[], &[]), &[]);
    for at in 0..100 {
        assert_eq!(add(&pair.caller, at, 0).await, Ok(at));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_is_prepared_again_serves_with_its_new_component() {
    let pair = Pair::plain().await;
    let echo = unit("echo", 1);
    let again = pair.right.prepare(Plan::new(echo.clone()), &callee(7)).await;
    pair.right
        .set_live(&spec(std::slice::from_ref(&echo), &[]), std::slice::from_ref(&echo));
    eventually("the new component answers", async || {
        (add(&pair.caller, 0, 0).await == Ok(7)).then_some(())
    })
    .await;
    assert!(Arc::strong_count(&again) > 0);
}
