//! Credentials made for workloads, on a nats-server that knows only its operator.

use crate::bed::Server;
use async_nats::ConnectOptions;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt as _;
use heddle_secret::{Permissions, WorkloadSigner};
use nkeys::KeyPair;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;

fn token(claims: &Value, key: &KeyPair) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" }).to_string();
    let text = format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    let signature = key.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", encode(&signature))
}

/// A server that takes users of one account: those that the account's key or its signing key made.
async fn server(account: &KeyPair, signing: &KeyPair) -> Server {
    let operator = KeyPair::new_operator();
    let claims = |subject: &str, nats: Value| json!({ "jti": "j", "iat": 1, "iss": operator.public_key(), "name": "t", "sub": subject, "nats": nats });
    let of_operator = claims(&operator.public_key(), json!({ "type": "operator", "version": 2 }));
    let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1 });
    let of_account = claims(
        &account.public_key(),
        json!({ "type": "account", "version": 2, "limits": limits, "signing_keys": [signing.public_key()] }),
    );
    Server::nats(&format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}\n",
        token(&of_operator, &operator),
        account.public_key(),
        token(&of_account, &operator),
    ))
    .await
}

/// A connection with credentials of its own, and what the server refuses it.
async fn connect(server: &Server, creds: &[u8], inbox: &str) -> (async_nats::Client, mpsc::UnboundedReceiver<String>) {
    let (refused, refusals) = mpsc::unbounded_channel();
    let client = ConnectOptions::new()
        .credentials(std::str::from_utf8(creds).unwrap())
        .unwrap()
        .custom_inbox_prefix(inbox)
        .event_callback(move |event| {
            let refused = refused.clone();
            async move {
                let _ = refused.send(event.to_string().to_lowercase());
            }
        })
        .connect(&server.url)
        .await
        .unwrap();
    (client, refusals)
}

async fn refused(events: &mut mpsc::UnboundedReceiver<String>, what: &str) {
    let wanted = async {
        while let Some(event) = events.recv().await {
            if event.contains("permissions violation") && event.contains(&what.to_lowercase()) {
                return true;
            }
        }
        false
    };
    let seen = tokio::time::timeout(Duration::from_secs(10), wanted).await;
    assert_eq!(seen, Ok(true), "the server lets {what} pass");
}

fn set(subjects: &[&str]) -> BTreeSet<String> {
    subjects.iter().map(|subject| (*subject).to_owned()).collect()
}

fn cart() -> Permissions {
    Permissions {
        publish: set(&["rpc.shop.tax.>", "_INBOX_w_shop_tax.>"]),
        subscribe: set(&["rpc.shop.cart.>", "_INBOX_w_shop_cart.>"]),
        answers: false,
    }
}

fn tax() -> Permissions {
    Permissions {
        publish: set(&["_INBOX_w_shop_cart.>"]),
        subscribe: set(&["rpc.shop.tax.>", "_INBOX_w_shop_tax.>"]),
        answers: false,
    }
}

#[tokio::test]
async fn a_workload_calls_whom_it_is_linked_to_and_the_server_refuses_everything_else() {
    let (account, signing) = (KeyPair::new_account(), KeyPair::new_account());
    let server = server(&account, &signing).await;
    // One by the account's own key, one by a signing key of it.
    let own = WorkloadSigner::from_seed(&account.seed().unwrap(), None).unwrap();
    let other = WorkloadSigner::from_seed(&signing.seed().unwrap(), Some(account.public_key())).unwrap();
    let caller = own.sign(&"shop/cart".parse().unwrap(), &cart()).unwrap();
    let callee = other.sign(&"shop/tax".parse().unwrap(), &tax()).unwrap();
    let (caller, mut events) = connect(&server, &caller, "_INBOX_w_shop_cart").await;
    let (callee, mut callee_events) = connect(&server, &callee, "_INBOX_w_shop_tax").await;

    let mut calls = callee
        .queue_subscribe("rpc.shop.tax.1.rates", "tax".into())
        .await
        .unwrap();
    callee.flush().await.unwrap();
    let answering = callee.clone();
    tokio::spawn(async move {
        while let Some(call) = calls.next().await {
            answering.publish(call.reply.unwrap(), "19".into()).await.unwrap();
        }
    });
    let mut answer = caller.request("rpc.shop.tax.1.rates", "de".into()).await;
    for _ in 0..100 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = caller.request("rpc.shop.tax.1.rates", "de".into()).await;
    }
    assert_eq!(answer.unwrap().payload, "19");

    for subject in [
        "rpc.shop.ledger.1.book",
        "heddle.v1.eu.h.h-1.spec",
        "rpc.shop.cart.1.x",
        "$JS.API.INFO",
    ] {
        caller.publish(subject, "x".into()).await.unwrap();
        refused(&mut events, subject).await;
    }
    for subject in ["rpc.shop.tax.>", "_INBOX_w_shop_tax.>", "_INBOX.>", ">"] {
        let _held = caller.subscribe(subject).await.unwrap();
        refused(&mut events, subject).await;
    }
    callee.publish("rpc.shop.tax.1.rates", "x".into()).await.unwrap();
    refused(&mut callee_events, "rpc.shop.tax.1.rates").await;
}

#[tokio::test]
async fn credentials_that_allow_nothing_allow_nothing() {
    let (account, signing) = (KeyPair::new_account(), KeyPair::new_account());
    let server = server(&account, &signing).await;
    let signer = WorkloadSigner::from_seed(&account.seed().unwrap(), None).unwrap();
    let creds = signer
        .sign(&"shop/cart".parse().unwrap(), &Permissions::default())
        .unwrap();
    let (client, mut events) = connect(&server, &creds, "_INBOX_x").await;
    client.publish("anything", "x".into()).await.unwrap();
    refused(&mut events, "anything").await;
    let _held = client.subscribe("whatever").await.unwrap();
    refused(&mut events, "whatever").await;
}

#[tokio::test]
async fn nobody_gets_in_with_credentials_that_another_account_signed() {
    let (account, signing) = (KeyPair::new_account(), KeyPair::new_account());
    let server = server(&account, &signing).await;
    let stranger = WorkloadSigner::from_seed(&KeyPair::new_account().seed().unwrap(), None).unwrap();
    let creds = stranger.sign(&"shop/cart".parse().unwrap(), &cart()).unwrap();
    let refused = ConnectOptions::new()
        .credentials(std::str::from_utf8(&creds).unwrap())
        .unwrap()
        .connect(&server.url)
        .await;
    assert!(refused.is_err());
}
