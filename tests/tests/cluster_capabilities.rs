//! Stores that platforms lend, on a fleet of real processes: deployed from manifests, used by components over HTTP.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use heddle_tests::bao::Bao;
use heddle_tests::cluster::{Failed, Outcome, cluster};
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::http::{self, Answer};
use heddle_tests::manifest::{PLATFORM, example, together};
use heddle_tests::redis::{PASSWORD, Redis};
use heddle_tests::until::eventually;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);

/// The listener, and what `notes.yaml` of the examples does not bring: a key-value store in Redis, and blobs on each host.
const OTHERS: &str = "\
apiVersion: heddle.dev/v1
kind: Platform
metadata: { name: others }
spec:
  hosts: {}
  capabilities:
    web: { http: { listen: \"127.0.0.1:8080\" } }
    tallies: { keyvalue: { redis: { url: \"REDIS\", prefix: \"notes:\" } }, secrets: { password: { from: dev, path: redis } } }
    here: { blobstore: { filesystem: { path: notes, quota: 8Mi } } }
";

/// The workload of `notes.yaml` once more, as `theirs`: on a host name of its own, with the stores of [`OTHERS`].
fn theirs() -> Result<String> {
    let text = example("notes.yaml")?;
    let workload = text
        .split("---\n")
        .nth(1)
        .context("notes.yaml has no second document")?;
    Ok(workload
        .replace("name: notes }", "name: theirs }")
        .replace("capability: everywhere", "capability: here")
        .replace("capability: writes", "capability: tallies")
        .replace("path: /notes", "host: theirs.test, path: /notes"))
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
        let stores = OTHERS.replace("REDIS", &redis.url());
        let mine = example("notes.yaml")?;
        let theirs = theirs()?;
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

#[test]
fn a_secret_in_openbao_is_refused_while_it_is_not_there_and_reaches_its_component_once_it_is() -> Outcome {
    let folder = tempfile::tempdir().map_err(|error| Failed::new(&error))?;
    let start = || -> Result<Bao> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let bao = runtime.block_on(Bao::start(&folder.path().join("bao"), &folder.path().join("bao.log")))?;
        let config = json!({ "vault": { "kind": "vault", "url": bao.url(), "tokenFile": bao.token_file() } });
        std::fs::write(folder.path().join("backends.json"), config.to_string())?;
        Ok(bao)
    };
    let bao = start().map_err(|error| Failed::new(&format!("{error:#}")))?;
    let config = format!("--secrets-config={}", folder.path().join("backends.json").display());
    cluster(FleetOptions::hosts(2).scheduler_flag(config), async |fleet| {
        let manifest = together([PLATFORM, &example("vaulted.yaml")?]);
        let refused = format!("{:?}", fleet.apply_refused(&manifest).await?);
        ensure!(refused.contains("secret/vaulted"), "{refused}");
        bao.put("vaulted", json!({ "password": "correct-horse" })).await?;
        fleet.apply_and_wait(&manifest).await?;
        for host in ["host-1", "host-2"] {
            let told = fleet.serves(host, "/vaulted/password", SOON).await?;
            ensure!(
                told.contains(&hex::encode(Sha256::digest("correct-horse"))) && !told.contains("correct-horse"),
                "{told}"
            );
        }
        Ok(())
    })
}
