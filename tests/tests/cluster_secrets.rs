//! Secrets end to end, with real processes: used, rotated, found nowhere in the clear; and backends that die.

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use heddle_protocol::api::explain::Explain;
use heddle_protocol::id::WorkloadId;
use heddle_tests::bao::Bao;
use heddle_tests::cluster::{Failed, Outcome, cluster};
use heddle_tests::fleet::ask::RUNS_WITHIN;
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::manifest::{PLATFORM, hello, together};
use heddle_tests::tap::Recorded;
use heddle_tests::until::{eventually, throughout};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// How soon a fact that needs no compiling is there, on a busy machine: a poll of the backends, a push, and a report.
const SOON: Duration = Duration::from_secs(20);
/// Longer than two polls of the backends.
const TWO_POLLS: Duration = Duration::from_millis(2_500);
/// How often a scheduler under test looks for newer versions.
const POLL: &str = "1s";

/// Backends of a test: a folder of files and an OpenBao, both outside of the fleet's own folder.
struct Backends {
    bao: Bao,
    folder: TempDir,
}

impl Backends {
    /// Starts them, from the test's own thread: processes end with the thread that started them.
    fn start() -> Result<Self, Failed> {
        let start = || -> Result<Self> {
            let folder = tempfile::Builder::new().prefix("heddle-backends-").tempdir()?;
            std::fs::create_dir_all(folder.path().join("files/shop"))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (of_bao, log) = (folder.path().join("bao"), folder.path().join("bao.log"));
            let bao = runtime.block_on(Bao::start(&of_bao, &log))?;
            let config = json!({
                "dev": { "kind": "file", "root": folder.path().join("files") },
                "vault": { "kind": "vault", "url": bao.url(), "tokenFile": bao.token_file() },
            });
            std::fs::write(folder.path().join("backends.json"), config.to_string())?;
            Ok(Self { bao, folder })
        };
        start().map_err(|error| Failed::new(&format!("{error:#}")))
    }

    fn options(&self, hosts: usize) -> FleetOptions {
        let config = self.folder.path().join("backends.json");
        FleetOptions::hosts(hosts)
            .label(1, "zone=a")
            .label(2, "zone=b")
            .scheduler_flag(format!("--secrets-config={}", config.display()))
            .scheduler_flag(format!("--secrets-poll={POLL}"))
    }

    /// Puts a file in place in one step, as programs that rotate secrets do.
    fn write(&self, name: &str, value: &str) -> Result<()> {
        let folder = self.folder.path().join("files/shop");
        let fresh = folder.join(format!(".{name}.new"));
        std::fs::write(&fresh, value)?;
        std::fs::rename(&fresh, folder.join(name))?;
        Ok(())
    }
}

/// 32 random bytes, in hex: nobody else writes them anywhere.
fn canary() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

fn digest_of(value: &str) -> String {
    hex::encode(Sha256::digest(value.as_bytes()))
}

/// A workload of one component with secrets, on the route `/<name>`; each secret is a line such as `db: { from: … }`.
fn vaulted(name: &str, secrets: &[&str], rest: &[&str]) -> String {
    let secrets: String = secrets.iter().map(|line| format!("        {line}\n")).collect();
    let rest: String = rest.iter().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: {name} }}\nspec:\n  components:\n    \
         - name: main\n      image: \"file:vaulted.wasm\"\n      secrets:\n{secrets}  triggers: \
         [{{ http: {{ capability: web, path: /{name} }} }}]\n{rest}"
    )
}

const ON_A: &str = "placement: { require: [{ zone: { in: [\"a\"] } }] }";
const ON_B: &str = "placement: { require: [{ zone: { in: [\"b\"] } }] }";

/// Waits until a guest has the value, as its digest shows.
async fn has(fleet: &Fleet, host: &str, path: &str, value: &str) -> Result<()> {
    let wanted = digest_of(value);
    eventually(SOON, &format!("{host} has the value at {path}"), async || {
        let text = fleet.get(host, path).await?.ok()?;
        ensure!(text.contains(&wanted), "it has another: {}", text.trim());
        Ok(())
    })
    .await
}

async fn generation(fleet: &Fleet, name: &str) -> Result<u64> {
    Ok(fleet.status(name).await?.generation.0)
}

/// Waits until a workload runs at a later generation than `before`, and nothing of an earlier one is left.
async fn rolled_out(fleet: &Fleet, name: &str, before: u64) -> Result<()> {
    eventually(RUNS_WITHIN, &format!("{name} runs a later generation"), async || {
        let status = fleet.settled(name, RUNS_WITHIN).await?;
        ensure!(status.generation.0 > before, "still at {before}");
        Ok(())
    })
    .await
}

/// How often a folder is read anew because something in it went while it was read.
const READINGS_MAX: usize = 100;

/// Every file below a folder, with its bytes. Whoever writes there goes on: where a file is gone before it is read, another
/// one may have come after its folder was listed, so everything is read anew.
fn files_below(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    for _ in 0..READINGS_MAX {
        let mut found = BTreeMap::new();
        match read_below(folder, &mut found) {
            Ok(()) => return Ok(found),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", folder.display())),
        }
    }
    bail!("{} changes all the time", folder.display());
}

fn read_below(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => read_below(&entry.path(), found)?,
            kind if kind.is_file() => {
                found.insert(entry.path(), std::fs::read(entry.path())?);
            }
            _ => {}
        }
    }
    Ok(())
}

/// All ways in which a value might be written down. Halves are looked for too: what is cut somewhere is found all the same.
fn traces_of(value: &str) -> BTreeSet<Vec<u8>> {
    let (first, second) = value.split_at(value.len() / 2);
    let mut traces = BTreeSet::new();
    for part in [first, second] {
        let bytes = part.as_bytes();
        traces.insert(bytes.to_vec());
        traces.insert(part.to_uppercase().into_bytes());
        traces.insert(hex::encode(bytes).into_bytes());
        traces.insert(hex::encode_upper(bytes).into_bytes());
        let numbers: Vec<String> = bytes.iter().map(ToString::to_string).collect();
        traces.insert(numbers.join(",").into_bytes());
        // Wherever it begins in what is encoded: three alignments, without the ends that depend on the neighbours.
        for shift in 0..3 {
            let shifted = [&vec![b' '; shift][..], bytes].concat();
            for engine in [&STANDARD, &URL_SAFE] {
                let text = engine.encode(&shifted);
                let end = shifted.len() / 3 * 4;
                traces.insert(text.as_bytes()[if shift == 0 { 0 } else { 4 }..end].to_vec());
            }
        }
        // What the text stands for.
        traces.insert(hex::decode(part).unwrap_or_default());
    }
    traces
}

/// Looks for many short texts at once: by their first four bytes, then whole.
struct Finder(Vec<(u32, Vec<Vec<u8>>)>);

impl Finder {
    fn new(texts: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut by_start: std::collections::BTreeMap<u32, Vec<Vec<u8>>> = Default::default();
        for text in texts {
            by_start.entry(start_of(&text)).or_default().push(text);
        }
        Self(by_start.into_iter().collect())
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        // One bit for each possible first two bytes: most places are passed over with one look.
        let mut starts = vec![false; 1 << 16];
        for (start, _) in &self.0 {
            starts[(start >> 16) as usize] = true;
        }
        (0..bytes.len().saturating_sub(3)).any(|at| {
            starts[usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])] && {
                let start = start_of(&bytes[at..]);
                match self.0.binary_search_by_key(&start, |(start, _)| *start) {
                    Ok(found) => self.0[found].1.iter().any(|text| bytes[at..].starts_with(text)),
                    Err(_) => false,
                }
            }
        })
    }
}

fn start_of(text: &[u8]) -> u32 {
    u32::from_be_bytes([text[0], text[1], text[2], text[3]])
}

/// The sealed secrets in what went over the wire.
fn sealed_in(bytes: &[u8]) -> BTreeSet<Vec<u8>> {
    const BEFORE: &[u8] = b"\"sealed\":\"";
    let mut found = BTreeSet::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(BEFORE.len()).position(|window| window == BEFORE) {
        rest = &rest[at + BEFORE.len()..];
        if let Some(end) = rest.iter().position(|byte| *byte == b'"') {
            found.insert(rest[..end].to_vec());
        }
    }
    found
}

/// Nothing that the fleet wrote or sent holds a value; what was sealed is where it belongs.
fn found_nowhere(fleet: &mut Fleet, values: &[String], elsewhere: &Path) -> Result<()> {
    let traces = Finder::new(values.iter().flat_map(|value| traces_of(value)));
    ensure!(
        traces.is_in(&std::fs::read(elsewhere)?),
        "the search finds nothing where a value is: it is worth nothing"
    );
    let folder = fleet.folder().to_owned();
    let files = files_below(&folder)?;
    let recorded = fleet.nats().tap().context("nothing was recorded")?.recorded()?;
    let sealed = sealed_on_the_wire(&recorded)?;
    let (mut of_store, mut of_agent) = (0, 0);
    for (file, bytes) in files {
        ensure!(!traces.is_in(&bytes), "{} holds a secret in the clear", file.display());
        let below = file.strip_prefix(&folder)?;
        of_store += usize::from(below.starts_with("nats/jetstream") && !bytes.is_empty());
        of_agent += usize::from(below == Path::new("host-1/secrets.json"));
        if !below.starts_with("tap") && !below.starts_with("host-1") {
            ensure!(!sealed.is_in(&bytes), "{} holds a sealed secret", file.display());
        }
    }
    ensure!(of_store > 0 && of_agent == 1, "the search did not see what it is about");
    let kept = std::fs::read(folder.join("host-1/secrets.json"))?;
    ensure!(!sealed_in(&kept).is_empty(), "the agent keeps nothing");
    ensure!(
        !sealed.is_in(&kept),
        "the agent keeps what came over the wire as it came"
    );
    Ok(())
}

/// What was sealed, after a check that it went from the scheduler to one agent and nowhere else.
fn sealed_on_the_wire(recorded: &[Recorded]) -> Result<Finder> {
    let mut all = BTreeSet::new();
    for connection in recorded {
        let name = connection.client_name().unwrap_or_default();
        let (sent, received) = (sealed_in(&connection.sent), sealed_in(&connection.received));
        ensure!(
            sent.is_empty() || name.starts_with("heddle-scheduler"),
            "{name} sent a sealed secret"
        );
        ensure!(
            received.is_empty() || name == "heddle-agent-host-1",
            "{name} was sent a sealed secret"
        );
        all.extend(sent);
        all.extend(received);
    }
    ensure!(!all.is_empty(), "nothing sealed was seen on the wire");
    Ok(Finder::new(all))
}

#[test]
fn a_canary_is_used_and_rotated_and_found_nowhere_in_the_clear() -> Outcome {
    let backends = Backends::start()?;
    cluster(backends.options(2).recorded(), async |fleet| {
        let values: Vec<String> = (0..9).map(|_| canary()).collect();
        backends.write("pinned@1", &values[0])?;
        backends.write("pinned@2", &values[1])?;
        backends.write("followed", &values[2])?;
        backends.write("live", &values[3])?;
        backends.write("shown", &values[4])?;
        backends.bao.put("shop/db", json!({ "password": values[5] })).await?;
        let secrets = |version: u32| {
            let pinned = format!("pinned: {{ from: dev, path: shop/pinned, version: {version} }}");
            vaulted(
                "vault",
                &[
                    &pinned,
                    "followed: { from: dev, path: shop/followed }",
                    "live: { from: dev, path: shop/live, rotate: live }",
                    "shown: { from: dev, path: shop/shown, rotate: live, env: SHOWN }",
                    "db: { from: vault, path: secret/shop/db, field: password, rotate: live }",
                ],
                &[ON_A],
            )
        };
        fleet.apply_and_wait(&together([PLATFORM, &secrets(1)])).await?;
        for (name, value) in [("pinned", 0), ("followed", 2), ("live", 3), ("shown", 4), ("db", 5)] {
            has(fleet, "host-1", &format!("/vault/{name}"), &values[value]).await?;
        }
        ensure!(fleet.get("host-1", "/vault/other").await?.status == 404);
        // A variable only where the manifest says so.
        has(fleet, "host-1", "/vault/SHOWN?env", &values[4]).await?;
        for unseen in ["DB", "db", "LIVE", "PINNED"] {
            ensure!(fleet.get("host-1", &format!("/vault/{unseen}?env")).await?.status == 404);
        }

        // Live: the components that run have the new value, in the same generation.
        let before = generation(fleet, "vault").await?;
        backends.write("live", &values[6])?;
        has(fleet, "host-1", "/vault/live", &values[6]).await?;
        backends.bao.put("shop/db", json!({ "password": values[7] })).await?;
        has(fleet, "host-1", "/vault/db", &values[7]).await?;
        ensure!(generation(fleet, "vault").await? == before, "a live secret rolled out");
        // Followed: a new generation by itself. Pinned: one when the manifest names another version.
        backends.write("followed", &values[8])?;
        rolled_out(fleet, "vault", before).await?;
        has(fleet, "host-1", "/vault/followed", &values[8]).await?;
        fleet.apply_and_wait(&secrets(2)).await?;
        has(fleet, "host-1", "/vault/pinned", &values[1]).await?;
        // What the scheduler writes when it ends, and reads when it starts.
        fleet.scheduler().terminate()?;
        fleet.scheduler().ended(SOON).await?;
        fleet.scheduler().start_again()?;
        fleet.settled("vault", RUNS_WITHIN).await?;
        let newest = backends.folder.path().join("files/shop/live");
        found_nowhere(fleet, &values, &newest)
    })
}

#[test]
fn a_dead_backend_holds_up_only_new_placements_that_need_it() -> Outcome {
    let mut backends = Backends::start()?;
    let options = backends.options(2);
    cluster(options, async |fleet| {
        let value = canary();
        backends.bao.put("shop/db", json!({ "password": value })).await?;
        let db = "db: { from: vault, path: secret/shop/db, field: password, version: 1 }";
        let first = vaulted("first", &[db], &[ON_A]);
        fleet.apply_and_wait(&together([PLATFORM, &first])).await?;
        has(fleet, "host-1", "/first/db", &value).await?;

        backends.bao.process().freeze()?;
        fleet.apply(&vaulted("second", &[db], &[ON_B])).await?;
        fleet.apply_and_wait(&hello("other").on("zone", "b").yaml()).await?;
        fleet.serves("host-2", "/other", SOON).await?;
        let ask = Explain {
            workload: WorkloadId::parse("second")?,
        };
        eventually(SOON, "the second says what it waits for", async || {
            let status = fleet.ask(&ask).await?.status;
            let said = format!("{status:?}");
            ensure!(status.ready == 0 && said.contains("secret"), "{status:#?}");
            Ok(())
        })
        .await?;
        throughout(TWO_POLLS, "what runs goes on", async || {
            let text = fleet.get("host-1", "/first/db").await?.ok()?;
            ensure!(text.contains(&digest_of(&value)), "{text}");
            Ok(())
        })
        .await?;

        backends.bao.process().thaw()?;
        fleet.settled("second", RUNS_WITHIN).await?;
        has(fleet, "host-2", "/second/db", &value).await
    })
}

#[test]
fn an_agent_that_starts_while_cut_off_has_its_secrets_but_for_those_that_must_not_be_kept() -> Outcome {
    let backends = Backends::start()?;
    cluster(backends.options(1), async |fleet| {
        let (kept, passing) = (canary(), canary());
        backends.write("kept", &kept)?;
        backends.write("passing", &passing)?;
        let one = vaulted("keeps", &["one: { from: dev, path: shop/kept }"], &[]);
        let two = vaulted("waits", &["two: { from: dev, path: shop/passing, noCache: true }"], &[]);
        fleet.apply_and_wait(&together([PLATFORM, &one, &two])).await?;
        has(fleet, "host-1", "/keeps/one", &kept).await?;
        has(fleet, "host-1", "/waits/two", &passing).await?;
        fleet.host_cached("host-1", SOON).await?;

        fleet.nats().kill()?;
        fleet.agent("host-1")?.process.kill()?;
        fleet.agent("host-1")?.process.start_again()?;
        fleet.serves("host-1", "/keeps/one", RUNS_WITHIN).await?;
        has(fleet, "host-1", "/keeps/one", &kept).await?;
        throughout(TWO_POLLS, "what must not be kept is not there", async || {
            let answer = fleet.get("host-1", "/waits/two").await?;
            ensure!(answer.status != 200, "it has the secret: {}", answer.text());
            Ok(())
        })
        .await?;

        fleet.nats().start_again().await?;
        fleet.serves("host-1", "/waits/two", RUNS_WITHIN).await?;
        has(fleet, "host-1", "/waits/two", &passing).await
    })
}
