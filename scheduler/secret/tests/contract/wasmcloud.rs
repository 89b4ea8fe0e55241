//! A backend that speaks wasmCloud's protocol for secrets, as a process of somebody else's would, and ones that cheat.

use crate::bed::{Server, ask, until};
use async_nats::{Client, HeaderMap, Message};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt as _;
use heddle_protocol::id::Realm;
use heddle_secret::{Backend as _, BackendError, NatsBackend, NatsSettings, entity_of};
use nkeys::{KeyPair, XKey};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const VALUE: &str = "sesame";

/// How a backend behaves.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// As the published ones: a new key for each answer.
    Honest,
    /// Seals its answers with its own key.
    SameKey,
    /// Seals its answers to somebody else.
    WrongRecipient,
    /// Names a key that it did not seal with.
    WrongKey,
    /// Sends values open.
    Open,
    /// Does not answer.
    Silent,
}

/// A backend in this process.
struct Fake {
    key: Arc<Mutex<XKey>>,
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Fake {
    async fn start(client: Client, manner: Manner) -> Self {
        let fake = Self {
            key: Arc::new(Mutex::new(XKey::new())),
            seen: Arc::default(),
        };
        let mut requests = client
            .queue_subscribe("wasmcloud.secrets.v1alpha1.fake.>", "fake".into())
            .await
            .unwrap();
        client.flush().await.unwrap();
        let (key, seen) = (fake.key.clone(), fake.seen.clone());
        tokio::spawn(async move {
            while let Some(message) = requests.next().await {
                let key = key.lock().unwrap().clone();
                serve(&client, &key, &seen, manner, message).await;
            }
        });
        fake
    }

    fn public(&self) -> String {
        self.key.lock().unwrap().public_key()
    }
}

async fn serve(client: &Client, key: &XKey, seen: &Mutex<Vec<Value>>, manner: Manner, message: Message) {
    let reply = message.reply.clone().unwrap();
    if message.subject.ends_with(".server_xkey") {
        return client.publish(reply, key.public_key().into()).await.unwrap();
    }
    assert!(message.subject.ends_with(".get"));
    let asker = message.headers.unwrap().get("WasmCloud-Host-Xkey").unwrap().to_string();
    let asker = XKey::from_public_key(&asker).unwrap();
    let Ok(opened) = key.open(&message.payload, &asker) else {
        return client
            .publish(reply, r#"{"error":"DecryptionError"}"#.into())
            .await
            .unwrap();
    };
    let request: Value = serde_json::from_slice(&opened).unwrap();
    seen.lock().unwrap().push(request.clone());
    let secret = match request["key"].as_str().unwrap() {
        "db" => json!({ "version": request["version"].as_str().unwrap_or("7"), "string_secret": VALUE }),
        "raw" => json!({ "version": "1", "binary_secret": [0, 255, 1] }),
        "moved" => json!({ "version": "8", "string_secret": VALUE }),
        "denied" => {
            return client
                .publish(reply, r#"{"error":"Unauthorized"}"#.into())
                .await
                .unwrap();
        }
        _ => {
            return client
                .publish(reply, r#"{"error":"SecretNotFound"}"#.into())
                .await
                .unwrap();
        }
    };
    let answer = json!({ "secret": secret }).to_string();
    let (seals, named) = match manner {
        Manner::SameKey => (key.clone(), key.clone()),
        Manner::WrongKey => (XKey::new(), XKey::new()),
        _ => {
            let fresh = XKey::new();
            (fresh.clone(), fresh)
        }
    };
    match manner {
        Manner::Silent => return,
        Manner::Open => return client.publish(reply, answer.into()).await.unwrap(),
        _ => {}
    }
    let to = match manner {
        Manner::WrongRecipient => XKey::new(),
        _ => asker,
    };
    let mut headers = HeaderMap::new();
    headers.insert("Server-Response-Xkey", named.public_key().as_str());
    let sealed = seals.seal(answer.as_bytes(), &to).unwrap();
    client
        .publish_with_headers(reply, headers, sealed.into())
        .await
        .unwrap();
}

fn settings() -> NatsSettings {
    NatsSettings {
        realm: Realm::parse("eu").unwrap(),
        prefix: None,
        backend: "fake".into(),
        server_xkey: None,
        same_reply_key: false,
        signing_key: None,
        policy: serde_json::Map::new(),
        timeout: Duration::from_secs(2),
    }
}

async fn start(manner: Manner) -> (Server, Fake, Client) {
    let server = Server::nats("").await;
    let fake = Fake::start(async_nats::connect(&server.url).await.unwrap(), manner).await;
    let client = async_nats::connect(&server.url).await.unwrap();
    (server, fake, client)
}

/// Checks a token as hosts of wasmCloud do, and gives its claims.
fn verified(token: &Value) -> Value {
    let parts: Vec<&str> = token.as_str().unwrap().split('.').collect();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let header: Value = serde_json::from_slice(&decode(parts[0])).unwrap();
    assert_eq!(header, json!({ "typ": "jwt", "alg": "Ed25519" }));
    let claims: Value = serde_json::from_slice(&decode(parts[1])).unwrap();
    let issuer = KeyPair::from_public_key(claims["iss"].as_str().unwrap()).unwrap();
    let signed = format!("{}.{}", parts[0], parts[1]);
    issuer.verify(signed.as_bytes(), &decode(parts[2])).unwrap();
    assert!(claims["exp"].as_u64() > claims["iat"].as_u64());
    claims
}

#[tokio::test]
async fn a_backend_of_wasmclouds_serves_unchanged_and_can_tell_who_asks() {
    let (_server, fake, client) = start(Manner::Honest).await;
    let account = KeyPair::new_account();
    let issuer = account.public_key();
    let mut settings = settings();
    settings.signing_key = Some(account);
    settings.policy.insert("roleName".into(), "heddle".into());
    let backend = NatsBackend::new(client, settings).unwrap();
    let secret = backend.get(&ask("db", Some("password"))).await.unwrap();
    assert_eq!(
        (secret.version.as_str(), secret.value.as_slice()),
        ("7", VALUE.as_bytes())
    );
    assert_eq!(backend.get(&ask("db", None).at("3")).await.unwrap().version, "3");
    assert_eq!(
        backend.get(&ask("raw", None)).await.unwrap().value.as_slice(),
        [0, 255, 1]
    );
    assert_eq!(backend.newest(&ask("db", None).at("3")).await.unwrap(), "7");

    let seen = fake.seen.lock().unwrap()[0].clone();
    assert_eq!(seen["field"], "password");
    assert_eq!(seen["version"], Value::Null);
    let context = &seen["context"];
    let entity = verified(&context["entity_jwt"]);
    let cart = "shop/cart".parse().unwrap();
    assert_eq!(
        entity["sub"],
        entity_of(&Realm::parse("eu").unwrap(), Some(&cart)).unwrap()
    );
    assert_eq!(entity["iss"], issuer);
    assert_eq!(entity["wascap"]["name"], "shop/cart");
    let host = verified(&context["host_jwt"]);
    assert!(host["sub"].as_str().unwrap().starts_with('N'));
    assert_eq!(context["application"]["name"], "shop/cart");
    let policy: Value = serde_json::from_str(context["application"]["policy"].as_str().unwrap()).unwrap();
    assert_eq!(policy["properties"]["roleName"], "heddle");
    assert_eq!(policy["type"], "properties.secret.wasmcloud.dev/v1alpha1");
}

#[tokio::test]
async fn its_refusals_keep_their_meaning_and_another_version_than_asked_is_none() {
    let (_server, _fake, client) = start(Manner::Honest).await;
    let backend = NatsBackend::new(client, settings()).unwrap();
    let error = async |path: &str| backend.get(&ask(path, None).at("1")).await.unwrap_err();
    assert!(matches!(error("denied").await, BackendError::Denied(_)));
    assert!(matches!(error("none").await, BackendError::NotFound(_)));
    assert!(matches!(error("moved").await, BackendError::Malformed(_)));
}

#[tokio::test]
async fn a_backend_that_was_started_again_with_another_key_is_asked_for_it() {
    let (_server, fake, client) = start(Manner::Honest).await;
    let backend = NatsBackend::new(client.clone(), settings()).unwrap();
    backend.get(&ask("db", None)).await.unwrap();
    let mut pinned = settings();
    pinned.server_xkey = Some(fake.public());
    let pinned = NatsBackend::new(client, pinned).unwrap();
    pinned.get(&ask("db", None)).await.unwrap();
    *fake.key.lock().unwrap() = XKey::new();
    backend.get(&ask("db", None)).await.unwrap();
    let refused = pinned.get(&ask("db", None)).await.unwrap_err();
    assert!(
        matches!(refused, BackendError::Denied(_)),
        "a pinned key is kept: {refused}"
    );
}

#[tokio::test]
async fn forged_answers_are_refused() {
    for manner in [Manner::WrongRecipient, Manner::WrongKey, Manner::Open] {
        let (_server, _fake, client) = start(manner).await;
        let backend = NatsBackend::new(client, settings()).unwrap();
        let error = backend.get(&ask("db", None)).await.unwrap_err();
        assert!(matches!(error, BackendError::Malformed(_)), "{error}");
        assert!(!error.to_string().contains(VALUE));
    }
    // Well sealed, but by somebody who does not have the pinned key.
    for (manner, taken) in [(Manner::Honest, false), (Manner::SameKey, true)] {
        let (_server, fake, client) = start(manner).await;
        let mut settings = settings();
        settings.server_xkey = Some(fake.public());
        settings.same_reply_key = true;
        let answer = NatsBackend::new(client, settings).unwrap().get(&ask("db", None)).await;
        assert_eq!(answer.is_ok(), taken, "{answer:?}");
    }
}

#[tokio::test]
async fn nobody_there_and_a_silent_backend_are_unreachable_in_bounded_time() {
    let (server, _fake, client) = start(Manner::Silent).await;
    let mut short = settings();
    short.timeout = Duration::from_millis(300);
    let backend = NatsBackend::new(client.clone(), short).unwrap();
    let begun = Instant::now();
    assert!(backend.get(&ask("db", None)).await.unwrap_err().is_retryable());
    assert!(begun.elapsed() < Duration::from_secs(2));
    let mut nobody = settings();
    nobody.backend = "nobody".into();
    let nobody = NatsBackend::new(client, nobody).unwrap();
    assert!(nobody.get(&ask("db", None)).await.unwrap_err().is_retryable());
    drop(server);
}

#[tokio::test]
async fn no_value_travels_open() {
    let (server, _fake, client) = start(Manner::Honest).await;
    let tap = async_nats::connect(&server.url).await.unwrap();
    let mut all = tap.subscribe(">").await.unwrap();
    // A flush is no round trip: once its own message is back, the server has the subscription before it.
    tap.publish("tap", "".into()).await.unwrap();
    assert_eq!(all.next().await.unwrap().subject.as_str(), "tap");
    let backend = NatsBackend::new(client, settings()).unwrap();
    backend.get(&ask("db", None)).await.unwrap();
    let mut messages = 0;
    until("the request and its answer were seen", async || {
        while let Ok(Some(message)) = tokio::time::timeout(Duration::from_millis(50), all.next()).await {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            assert!(!text.contains(VALUE) && !text.contains("shop/cart"), "{text}");
            messages += 1;
        }
        messages >= 4
    })
    .await;
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server = Server::nats("").await;
        let client = async_nats::connect(&server.url).await.unwrap();
        let refused = |change: &dyn Fn(&mut NatsSettings)| {
            let mut settings = settings();
            change(&mut settings);
            NatsBackend::new(client.clone(), settings).is_err()
        };
        assert!(refused(&|s| s.backend = "a.b".into()));
        assert!(refused(&|s| s.backend = ">".into()));
        assert!(refused(&|s| s.prefix = Some("a.*".into())));
        assert!(refused(&|s| s.server_xkey = Some("X".into())));
        assert!(refused(&|s| s.same_reply_key = true));
        assert!(refused(&|s| s.signing_key = Some(KeyPair::new_user())));
    });
}
