//! Connections: a workload's own, made when something needs one and closed with the last that did.

use crate::agent::{Agent, Plan, a_secret, add, caller_plan, reached, spec, unit, workload};
use crate::guests::{callee, caller};
use crate::nats::{Nats, eventually};
use heddle_capability::SecretValue;
use heddle_protocol::host_spec::{HostSpecBody, Wasi};
use std::collections::BTreeMap;
use std::time::Duration;

/// The names of the connections, and how many subscriptions each has.
async fn connections(nats: &Nats) -> Vec<(String, usize)> {
    let describe = |connection: serde_json::Value| {
        let subscriptions = connection["subscriptions_list"].as_array().map_or(0, Vec::len);
        (
            connection["name"].as_str().unwrap_or_default().to_owned(),
            subscriptions,
        )
    };
    let mut all: Vec<_> = nats.connections().await.into_iter().map(describe).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_connection_until_a_unit_needs_one_and_none_when_the_last_is_gone() {
    let nats = Nats::start().await;
    let agent = Agent::new(&nats);
    // A unit that neither calls nor serves.
    let (hello, calling, echo) = (unit("hello", 1), unit("caller", 1), unit("echo", 1));
    agent.prepare(Plan::new(hello.clone()), &callee(0)).await;
    agent.set_live(&spec(&[], &[1]), std::slice::from_ref(&hello));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(connections(&nats).await, []);
    // One that calls, and one that serves: one connection each.
    let caller = agent.prepare(caller_plan(), &caller()).await;
    agent.prepare(Plan::new(echo.clone()), &callee(0)).await;
    agent.set_live(
        &spec(std::slice::from_ref(&echo), &[1]),
        &[hello.clone(), calling.clone(), echo.clone()],
    );
    reached(&caller).await;
    let now = connections(&nats).await;
    let names: Vec<&str> = now.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["heddle/shop/caller", "heddle/shop/echo"]);
    assert_eq!(now[0].1, 1, "the caller listens on its inbox and nowhere else");
    let inboxes = nats.connections().await;
    let inbox = inboxes.iter().find(|c| c["name"] == "heddle/shop/caller").unwrap()["subscriptions_list"][0].clone();
    assert!(inbox.as_str().unwrap().starts_with("_INBOX_w_shop_caller."), "{inbox}");
    agent.set_live(&spec(&[], &[]), std::slice::from_ref(&hello));
    agent.drop_unit(&calling);
    drop(caller);
    agent.drop_unit(&echo);
    eventually("the connections close", async || {
        connections(&nats).await.is_empty().then_some(())
    })
    .await;
}

/// NATS credentials as a scheduler gives them out. The server here does not look at them.
fn credentials(seed: &str) -> Vec<u8> {
    format!(
        "-----BEGIN NATS USER JWT-----\neyJhbGciOiJlZDI1NTE5LW5rZXkifQ.e30.c2ln\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_with_credentials_connects_when_they_have_come_and_again_when_they_change() {
    let nats = Nats::start().await;
    let (left, right) = (Agent::new(&nats), Agent::new(&nats));
    let (calling, echo) = (unit("caller", 1), unit("echo", 1));
    let plan = Plan {
        wasi: Wasi::P3,
        ..Plan::new(echo.clone())
    };
    right.prepare(plan, &callee(0)).await;
    right.set_live(&spec(std::slice::from_ref(&echo), &[]), std::slice::from_ref(&echo));
    let caller = left.prepare(caller_plan(), &caller()).await;
    let with_credentials = HostSpecBody {
        credentials: BTreeMap::from([(workload("caller"), a_secret())]),
        ..spec(&[], &[1])
    };
    left.set_live(&with_credentials, &[calling]);
    eventually("the other side is there", async || {
        let there = connections(&nats).await;
        there.iter().any(|(name, _)| name == "heddle/shop/echo").then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        connections(&nats).await.len(),
        1,
        "the caller waits for its credentials"
    );
    let set = |version: &str, value: Vec<u8>| {
        let value = SecretValue::new(version, zeroize::Zeroizing::new(value));
        left.secrets.set(a_secret().id(), value);
    };
    let seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    set("1", credentials(seed));
    reached(&caller).await;
    let id = async || {
        let all = nats.connections().await;
        let own = all
            .iter()
            .find(|connection| connection["name"] == "heddle/shop/caller")?;
        own["cid"].as_u64()
    };
    let first = id().await.unwrap();
    set("2", credentials(seed));
    eventually("it connects anew", async || id().await.filter(|now| *now != first)).await;
    assert_eq!(add(&caller, 2, 3).await, Ok(5));
}
