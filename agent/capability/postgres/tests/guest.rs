//! A guest that was built against the interface itself finds everything that it imports, type for type.

#![allow(clippy::unwrap_used, reason = "in a test a broken expectation is the message")]

use heddle_capability::{Capability, CapabilityError, Import, Lending, Log, NoLogs, base_linker};
use heddle_capability_postgres::Postgres;
use heddle_protocol::host_spec::{CapabilityOffer, Wasi};
use heddle_protocol::id::{CapabilityName, ComponentName, Generation, UnitId, WorkloadId};
use std::collections::BTreeMap;
use std::sync::Arc;
use wasmtime::Engine;
use wasmtime::component::Component;

fn offer(url: &str) -> CapabilityOffer {
    CapabilityOffer::Postgres {
        url: url.to_owned(),
        max_connections: 8,
    }
}

#[test]
fn the_example_that_keeps_a_ledger_links() {
    let engine = Engine::default();
    let name = CapabilityName::parse("sql").unwrap();
    let lent = Postgres
        .configure(&name, &offer("postgres://me@127.0.0.1:1/x"), &Lending::default())
        .unwrap();
    let unit = UnitId {
        workload: WorkloadId::parse("shop/ledger").unwrap(),
        generation: Generation(1),
    };
    let component = ComponentName::parse("main").unwrap();
    let log = Arc::new(Log::new(unit.clone(), component.clone(), Arc::new(NoLogs)));
    let (config, secrets) = (BTreeMap::new(), BTreeMap::new());
    let import = |interface| Import {
        interface,
        unit: &unit,
        component: &component,
        config: &config,
        secrets: &secrets,
        scope: "shop",
        log: &log,
    };
    let code = heddle_tests::binary::guest("ledger.wasm").unwrap();
    let code = Component::new(&engine, code).unwrap();
    let mut linker = base_linker(&engine, Wasi::P2).unwrap();
    assert!(linker.instantiate_pre(&code).is_err(), "it imports nothing to check");
    for interface in [
        "wasmcloud:postgres/types@0.1.1-draft",
        "wasmcloud:postgres/query@0.1.1-draft",
    ] {
        let mut instance = linker.instance(interface).unwrap();
        lent.prepare(&import(interface), &mut instance).unwrap();
    }
    linker.instantiate_pre(&code).unwrap();
    let mut other = linker.instance("wasmcloud:postgres/prepared@0.1.1-draft").unwrap();
    let missing = lent.prepare(&import("wasmcloud:postgres/prepared@0.1.1-draft"), &mut other);
    assert!(matches!(missing, Err(CapabilityError::NotMet { .. })));
}

#[test]
fn an_offer_that_cannot_be_lent_says_what_to_write_and_never_its_password() {
    let name = CapabilityName::parse("sql").unwrap();
    for url in [
        "postgres://me:hunter2@db/x",
        "postgres:///x",
        "redis://hunter2",
        "host=/tmp/hunter2",
    ] {
        let refused = Postgres.configure(&name, &offer(url), &Lending::default());
        let told = refused.err().unwrap().to_string();
        assert!(told.contains("url") && !told.contains("hunter2"), "{url}: {told}");
    }
}
