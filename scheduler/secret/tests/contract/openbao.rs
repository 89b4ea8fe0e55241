//! The key-value engine of a real OpenBao.

use crate::bed::{Server, ask, free_port, until};
use heddle_secret::{Backend, BackendError, VaultAuth, VaultBackend, VaultSettings};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

async fn admin(bao: &Server, method: Method, path: &str, body: Value) -> Value {
    let answer = reqwest::Client::new()
        .request(method, format!("{}/v1/{path}", bao.url))
        .header("X-Vault-Token", "root")
        .json(&body)
        .send()
        .await
        .unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{path}: {status} {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

async fn put(bao: &Server, path: &str, fields: Value) {
    admin(
        bao,
        Method::POST,
        &format!("secret/data/{path}"),
        json!({ "data": fields }),
    )
    .await;
}

fn settings(url: &str, auth: VaultAuth) -> VaultSettings {
    VaultSettings {
        url: url.to_owned(),
        mount: None,
        namespace: None,
        ca_file: None,
        auth,
        timeout: Duration::from_secs(5),
    }
}

fn with_token(bao: &Server, token: &str) -> VaultBackend {
    let file = bao.file("token", &format!("{token}\n"));
    VaultBackend::new(settings(&bao.url, VaultAuth::TokenFile(file))).unwrap()
}

#[tokio::test]
async fn values_fields_and_versions_are_read() {
    let bao = Server::bao().await;
    put(&bao, "shop/db", json!({ "user": "ann", "password": "sesame" })).await;
    put(&bao, "shop/db", json!({ "user": "ann", "password": "sesame-2" })).await;
    put(&bao, "shop/api key", json!({ "key": "k" })).await;
    let backend = with_token(&bao, "root");
    let wanted = ask("secret/shop/db", Some("password"));
    let newest = backend.get(&wanted).await.unwrap();
    assert_eq!(
        (newest.version.as_str(), newest.value.as_slice()),
        ("2", b"sesame-2".as_slice())
    );
    let first = backend.get(&wanted.clone().at("1")).await.unwrap();
    assert_eq!(
        (first.version.as_str(), first.value.as_slice()),
        ("1", b"sesame".as_slice())
    );
    assert_eq!(backend.newest(&wanted).await.unwrap(), "2");
    let only = backend.get(&ask("secret/shop/api key", None)).await.unwrap();
    assert_eq!(only.value.as_slice(), b"k");
    let shown = format!("{newest:?} {backend:?}");
    assert!(!shown.contains("sesame") && !shown.contains("root"), "{shown}");
}

#[tokio::test]
async fn what_is_not_there_not_allowed_or_not_clear_is_told_apart() {
    let bao = Server::bao().await;
    put(&bao, "db", json!({ "user": "ann", "password": "sesame" })).await;
    let backend = with_token(&bao, "root");
    let get = async |path: &str, field, version: Option<&str>| {
        let mut wanted = ask(path, field);
        wanted.version = version.map(str::to_owned);
        backend.get(&wanted).await.unwrap_err()
    };
    assert!(matches!(
        get("secret/none", None, None).await,
        BackendError::NotFound(_)
    ));
    assert!(matches!(get("nowhere/db", None, None).await, BackendError::NotFound(_)));
    assert!(matches!(
        get("secret/db", Some("pin"), None).await,
        BackendError::NotFound(_)
    ));
    assert!(matches!(
        get("secret/db", Some("user"), Some("9")).await,
        BackendError::NotFound(_)
    ));
    assert!(matches!(
        get("secret/db", Some("user"), Some("new")).await,
        BackendError::NotFound(_)
    ));
    let unclear = get("secret/db", None, None).await.to_string();
    assert!(
        unclear.contains("password, user") && !unclear.contains("sesame"),
        "{unclear}"
    );
    for path in ["secret", "secret/../sys/raw", "secret//db", ""] {
        assert!(
            matches!(get(path, None, None).await, BackendError::Malformed(_)),
            "{path}"
        );
    }
    admin(&bao, Method::DELETE, "secret/data/db", Value::Null).await;
    assert!(matches!(
        get("secret/db", Some("user"), None).await,
        BackendError::NotFound(_)
    ));
    assert!(matches!(
        with_token(&bao, "wrong").get(&ask("secret/db", None)).await,
        Err(BackendError::Denied(_))
    ));
}

#[tokio::test]
async fn a_token_that_may_only_read_values_still_learns_their_newest_version() {
    let bao = Server::bao().await;
    put(&bao, "db", json!({ "password": "sesame" })).await;
    let policy = r#"path "secret/data/db" { capabilities = ["read"] }"#;
    admin(
        &bao,
        Method::PUT,
        "sys/policies/acl/reader",
        json!({ "policy": policy }),
    )
    .await;
    let made = admin(
        &bao,
        Method::POST,
        "auth/token/create",
        json!({ "policies": ["reader"] }),
    )
    .await;
    let backend = with_token(&bao, made["auth"]["client_token"].as_str().unwrap());
    assert_eq!(backend.newest(&ask("secret/db", None)).await.unwrap(), "1");
    assert!(matches!(
        backend.newest(&ask("secret/other", None)).await,
        Err(BackendError::Denied(_))
    ));
}

#[tokio::test]
async fn a_token_that_was_replaced_in_its_file_is_read_again() {
    let bao = Server::bao().await;
    put(&bao, "db", json!({ "password": "sesame" })).await;
    let made = admin(&bao, Method::POST, "auth/token/create", json!({})).await;
    let token = made["auth"]["client_token"].as_str().unwrap().to_owned();
    let backend = with_token(&bao, &token);
    let wanted = ask("secret/db", None);
    backend.get(&wanted).await.unwrap();
    admin(&bao, Method::POST, "auth/token/revoke", json!({ "token": token })).await;
    assert!(matches!(backend.get(&wanted).await, Err(BackendError::Denied(_))));
    bao.file("token", "root");
    assert_eq!(backend.get(&wanted).await.unwrap().value.as_slice(), b"sesame");
}

#[tokio::test]
async fn a_role_logs_in_renews_its_token_and_logs_in_again_when_it_is_revoked() {
    let bao = Server::bao().await;
    put(&bao, "db", json!({ "password": "sesame" })).await;
    let policy = r#"path "secret/data/db" { capabilities = ["read"] }"#;
    admin(
        &bao,
        Method::PUT,
        "sys/policies/acl/reader",
        json!({ "policy": policy }),
    )
    .await;
    admin(&bao, Method::POST, "sys/auth/approle", json!({ "type": "approle" })).await;
    let role = json!({ "token_policies": ["reader"], "token_ttl": "3s", "token_max_ttl": "1h" });
    admin(&bao, Method::POST, "auth/approle/role/heddle", role).await;
    let role_id = admin(&bao, Method::GET, "auth/approle/role/heddle/role-id", Value::Null).await;
    let secret_id = admin(&bao, Method::POST, "auth/approle/role/heddle/secret-id", json!({})).await;
    let auth = VaultAuth::AppRole {
        mount: "approle".into(),
        role_id: role_id["data"]["role_id"].as_str().unwrap().to_owned(),
        secret_id_file: bao.file("secret-id", secret_id["data"]["secret_id"].as_str().unwrap()),
    };
    let backend = VaultBackend::new(settings(&bao.url, auth.clone())).unwrap();
    let wanted = ask("secret/db", None);
    // Longer than the token lives without being renewed.
    let begun = Instant::now();
    until("six seconds of reading", async || {
        backend.get(&wanted).await.unwrap();
        begun.elapsed() > Duration::from_secs(6)
    })
    .await;
    admin(
        &bao,
        Method::POST,
        "sys/leases/revoke-prefix/auth/approle/login",
        json!({}),
    )
    .await;
    backend.get(&wanted).await.unwrap();
    assert!(matches!(
        backend.get(&ask("secret/other", None)).await,
        Err(BackendError::Denied(_))
    ));
    let VaultAuth::AppRole { mount, role_id, .. } = auth else {
        panic!()
    };
    let wrong = VaultAuth::AppRole {
        mount,
        role_id,
        secret_id_file: bao.file("wrong", "wrong"),
    };
    let wrong = VaultBackend::new(settings(&bao.url, wrong)).unwrap();
    assert!(matches!(wrong.get(&wanted).await, Err(BackendError::Denied(_))));
}

#[tokio::test]
async fn a_server_that_is_sealed_dead_or_silent_is_unreachable_in_bounded_time() {
    let mut bao = Server::bao().await;
    put(&bao, "db", json!({ "password": "sesame" })).await;
    let backend = with_token(&bao, "root");
    admin(&bao, Method::PUT, "sys/seal", Value::Null).await;
    let sealed = backend.get(&ask("secret/db", None)).await.unwrap_err();
    assert!(sealed.is_retryable(), "{sealed}");
    bao.kill();
    let dead = backend.get(&ask("secret/db", None)).await.unwrap_err();
    assert!(dead.is_retryable(), "{dead}");

    let port = free_port();
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut short = settings(
        &format!("http://127.0.0.1:{port}"),
        VaultAuth::TokenFile(bao.file("t", "t")),
    );
    short.timeout = Duration::from_millis(300);
    let backend = VaultBackend::new(short).unwrap();
    let begun = Instant::now();
    let error = backend.get(&ask("secret/db", None)).await.unwrap_err();
    assert!(
        error.is_retryable() && begun.elapsed() < Duration::from_secs(3),
        "{error}"
    );
    drop(silent);
}
