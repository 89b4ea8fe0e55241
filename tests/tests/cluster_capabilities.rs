//! Stores that platforms lend, on a fleet of real processes: deployed from manifests, used by components over HTTP.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use heddle_tests::cluster::{Failed, Outcome, cluster};
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::http::{self, Answer};
use heddle_tests::redis::{PASSWORD, Redis};
use heddle_tests::until::eventually;
use serde_json::json;
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);

/// Both kinds of blob store and both of key-value store that all hosts see, beside the listener.
const STORES: &str = "\
apiVersion: heddle.dev/v1
kind: Platform
metadata: { name: stores }
spec:
  hosts: {}
  capabilities:
    web: { http: { listen: \"127.0.0.1:8080\" } }
    counts: { keyvalue: { nats: { bucket: counts } } }
    tallies: { keyvalue: { redis: { url: \"REDIS\", prefix: \"notes:\" } }, secrets: { password: { from: dev, path: redis } } }
    everywhere: { blobstore: { nats: { bucket: notes, quota: 64Mi } } }
    here: { blobstore: { filesystem: { path: notes, quota: 8Mi } } }
";

/// The notes of a blob store, counted in a key-value store, on the route `/notes` of a host name.
fn notes(name: &str, counts: &str, blobs: &str) -> String {
    let link = |interface: &str, to: &str| {
        format!("    - {{ from: notes, import: \"{interface}\", to: {{ capability: {to} }} }}\n")
    };
    let links: String = [
        link("wasi:keyvalue/store", counts),
        link("wasi:keyvalue/atomics", counts),
        link("wasi:blobstore/blobstore", blobs),
        link("wasi:blobstore/container", blobs),
        link("wasi:blobstore/types", blobs),
    ]
    .concat();
    format!(
        "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: {name} }}\nspec:\n  components:\n\
         \x20   - name: notes\n      image: \"file:notes.wasm\"\n  links:\n{links}  triggers:\n\
         \x20   - http: {{ capability: web, host: {name}.test, path: /notes }}\n  replicas: 2\n"
    )
}

/// A folder with the password of Redis, and a configuration of the scheduler that names it.
fn secrets() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let files = folder.path().join("files");
    std::fs::create_dir_all(&files)?;
    std::fs::write(files.join("redis"), PASSWORD)?;
    let config = json!({ "dev": { "kind": "file", "root": files } });
    std::fs::write(folder.path().join("backends.json"), config.to_string())?;
    Ok(folder)
}

async fn ask(fleet: &Fleet, host: &str, of: &str, method: &str, path: &str, body: Vec<u8>) -> Result<Answer> {
    let name = format!("{of}.test");
    http::send(fleet.web(host)?, method, path, Some(&name), Bytes::from(body)).await
}

async fn told(
    fleet: &Fleet,
    host: &str,
    of: &str,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<serde_json::Value> {
    let text = ask(fleet, host, of, method, path, body).await?.ok()?;
    serde_json::from_str(&text).with_context(|| format!("{text:?} is no JSON"))
}

#[test]
fn notes_in_stores_of_the_fleet_are_seen_on_every_host_and_those_of_a_host_on_it_alone() -> Outcome {
    let secrets = secrets().map_err(|error| Failed::new(&format!("{error:#}")))?;
    let config = format!("--secrets-config={}", secrets.path().join("backends.json").display());
    cluster(FleetOptions::hosts(2).scheduler_flag(config), async |fleet| {
        let redis = Redis::start(&secrets.path().join("redis"), &secrets.path().join("redis.log")).await?;
        let stores = STORES.replace("REDIS", &redis.url());
        let mine = notes("mine", "counts", "everywhere");
        let theirs = notes("theirs", "tallies", "here");
        fleet
            .apply_and_wait(&[&stores, &mine, &theirs].map(String::as_str).join("---\n"))
            .await?;
        let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let wrote = told(fleet, "host-1", "mine", "PUT", "/notes/large", large.clone()).await?;
        ensure!(wrote["size"] == large.len() && wrote["writes"] == 1, "{wrote}");
        let read = ask(fleet, "host-2", "mine", "GET", "/notes/large", Vec::new()).await?;
        ensure!(
            read.status == 200 && read.body == large,
            "the other host has another note"
        );
        let again = told(fleet, "host-2", "mine", "PUT", "/notes/large", b"small".to_vec()).await?;
        ensure!(again["writes"] == 2, "the hosts count apart: {again}");
        ensure!(told(fleet, "host-1", "mine", "GET", "/notes", Vec::new()).await? == json!(["large"]));
        // The same guest, with a blob store of each host's own, and full after 8 MiB.
        let here = told(fleet, "host-1", "theirs", "PUT", "/notes/a%2F..%2Fb", b"x".to_vec()).await?;
        ensure!(here["size"] == 1 && here["writes"] == 1, "{here}");
        let there = told(fleet, "host-2", "theirs", "PUT", "/notes/a%2F..%2Fb", b"y".to_vec()).await?;
        ensure!(there["writes"] == 2, "the hosts count apart: {there}");
        told(fleet, "host-2", "theirs", "DELETE", "/notes/a%2F..%2Fb", Vec::new()).await?;
        ensure!(told(fleet, "host-2", "theirs", "GET", "/notes", Vec::new()).await? == json!([]));
        let refused = ask(fleet, "host-1", "theirs", "PUT", "/notes/huge", vec![0; 9 << 20]).await?;
        ensure!(refused.status == 500 && refused.text().contains("full"), "{refused:?}");
        ensure!(
            ask(fleet, "host-1", "theirs", "GET", "/notes/huge", Vec::new())
                .await?
                .status
                == 404
        );
        // An agent that comes back finds its notes.
        fleet.agent("host-1")?.process.kill()?;
        fleet.agent("host-1")?.process.start_again()?;
        eventually(SOON, "the note is there again", async || {
            let read = ask(fleet, "host-1", "theirs", "GET", "/notes/a%2F..%2Fb", Vec::new()).await?;
            ensure!(read.status == 200 && read.body.as_ref() == b"x", "{read:?}");
            Ok(())
        })
        .await
    })
}
