//! The store in memory keeps what every key-value store promises.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod contract;

use heddle_capability_keyvalue::Store;
use std::collections::HashMap;
use std::sync::Mutex;

#[tokio::test]
async fn a_store_in_memory_keeps_the_contract() {
    let scopes: Mutex<HashMap<String, Store>> = Mutex::default();
    contract::holds(|scope| {
        let mut scopes = scopes.lock().unwrap();
        scopes.entry(scope.to_owned()).or_insert_with(Store::in_memory).clone()
    })
    .await;
}
