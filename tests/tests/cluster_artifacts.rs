//! Components on their way to native code: compiled once for the fleet, signed, fetched; and what is too much to compile.

use anyhow::{Context as _, Result, ensure};
use heddle_protocol::api::ErrorCode;
use heddle_protocol::api::artifact::ArtifactPut;
use heddle_protocol::api::hosts::HostState;
use heddle_protocol::digest::Digest;
use heddle_protocol::id::Namespace;
use heddle_tests::binary;
use heddle_tests::cluster::{Failed, Outcome, cluster};
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::http;
use heddle_tests::manifest::{PLATFORM, Workload, hello, probe, together};
use heddle_tests::registry::Registry;
use heddle_tests::until::eventually;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// How soon a fact that needs no compiling is there, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// Workers that the scheduler started since it did.
async fn workers(fleet: &Fleet) -> Result<u64> {
    let health = fleet.health();
    let (_, address) = health
        .iter()
        .find(|(role, _)| role == "scheduler")
        .context("no scheduler")?;
    let text = http::get(*address, "/metrics", None).await?.ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("heddle_scheduler_compiles_total "));
    Ok(line.context("the scheduler does not count its workers")?.parse()?)
}

/// What an agent keeps, by the end of its name: code (`-own.cwasm`, `-signed.cwasm`) or components (`.wasm`).
fn kept(data: &Path, folder: &str, end: &str) -> usize {
    let entries = std::fs::read_dir(data.join(folder)).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(end))
        .count()
}

#[test]
fn a_component_is_compiled_once_for_the_fleet_and_not_again_by_the_next_scheduler() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        let two = hello("hello").replicas(2).yaml();
        fleet.apply_and_wait(&together([PLATFORM, &two])).await?;
        ensure!(
            workers(fleet).await? == 1,
            "{} workers were started",
            workers(fleet).await?
        );
        for host in ["host-1", "host-2"] {
            ensure!(fleet.serves(host, "/hello", SOON).await?.contains("hello"));
            let data = fleet.agent(host)?.data.clone();
            ensure!(
                kept(&data, "compiled", "-signed.cwasm") == 1,
                "{host} has no signed code"
            );
            ensure!(kept(&data, "compiled", "-own.cwasm") == 0, "{host} compiled by itself");
            ensure!(
                kept(&data, "artifacts", ".wasm") == 0,
                "{host} fetched the component too"
            );
        }
        fleet.scheduler().kill()?;
        fleet.scheduler().start_again()?;
        fleet.info().await?;
        fleet.add_agent("host-3", &[], None)?;
        fleet.host_in_state("host-3", HostState::Ready, SOON).await?;
        let three = hello("hello").replicas(3).yaml();
        fleet.apply_and_wait(&three).await?;
        fleet.serves("host-3", "/hello", SOON).await?;
        let data = fleet.agent("host-3")?.data.clone();
        ensure!(
            kept(&data, "compiled", "-signed.cwasm") == 1,
            "host-3 has no signed code"
        );
        ensure!(workers(fleet).await? == 0, "the next scheduler compiled it again");
        Ok(())
    })
}

#[test]
fn what_the_fleet_knows_is_deployed_while_the_registry_is_down() -> Outcome {
    let failed = |error: &dyn std::fmt::Display| Failed::new(error);
    let aside = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let aside = aside.map_err(|e| failed(&e))?;
    let bytes = binary::guest("hello.wasm").map_err(|e| failed(&e))?;
    let digest = Digest::of(&bytes);
    let registry = aside.block_on(Registry::start(bytes)).map_err(|e| failed(&e))?;
    let folder = tempfile::tempdir().map_err(|e| failed(&e))?;
    let logins = folder.path().join("config.json");
    std::fs::write(&logins, registry.docker_config()).map_err(|e| failed(&e))?;
    let options = FleetOptions::hosts(1)
        .scheduler_flag("--registry-config")
        .scheduler_flag(logins.display().to_string())
        .scheduler_flag("--registry-plain-http")
        .scheduler_flag(registry.host());
    cluster(options, async |fleet| {
        let image = registry.image();
        fleet
            .apply_and_wait(&together([PLATFORM, &Workload::new("first", &image).yaml()]))
            .await?;
        drop(registry);
        fleet.add_agent("host-2", &[], None)?;
        fleet.host_in_state("host-2", HostState::Ready, SOON).await?;
        let again = Workload::new("again", &digest.to_string()).replicas(2);
        fleet.apply_and_wait(&again.yaml()).await?;
        fleet.serves("host-2", "/again", SOON).await?;
        ensure!(workers(fleet).await? == 1, "it was compiled again");
        Ok(())
    })
}

#[test]
fn a_platform_may_have_its_hosts_compile_for_themselves() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        let local = PLATFORM.replace("spec:\n", "spec:\n  engines: { compile: local }\n");
        fleet.apply_and_wait(&together([local, probe("web", 1).yaml()])).await?;
        ensure!(fleet.serves("host-1", "/web/version", SOON).await? == "v1");
        let data = fleet.agent("host-1")?.data.clone();
        ensure!(kept(&data, "compiled", "-own.cwasm") == 1, "the host did not compile");
        ensure!(
            kept(&data, "compiled", "-signed.cwasm") == 0,
            "the host took the scheduler's code"
        );
        Ok(())
    })
}

#[test]
fn a_component_that_takes_too_long_to_compile_is_refused_and_the_scheduler_goes_on() -> Outcome {
    let options = FleetOptions::hosts(1)
        .scheduler_flag("--compile-cpu")
        .scheduler_flag("2s");
    cluster(options, async |fleet| {
        fleet
            .apply_and_wait(&together([PLATFORM, &hello("hello").yaml()]))
            .await?;
        let bytes = wat::parse_str(bomb())?;
        let digest = Digest::of(&bytes);
        fleet
            .client()
            .ask(&Namespace::fallback(), &ArtifactPut { digest }, &bytes)
            .await?;
        let yaml = Workload::new("bomb", &digest.to_string()).yaml();
        let before = workers(fleet).await?;
        let (refused, slowest) = tokio::join!(fleet.apply_refused(&yaml), slowest_answer(fleet, before));
        let (refused, slowest) = (refused?, slowest?);
        ensure!(
            refused.code == ErrorCode::Artifact && refused.message.contains("2 s of processor time"),
            "{refused:?}"
        );
        ensure!(
            slowest < Duration::from_secs(1),
            "the scheduler answered only after {slowest:?}"
        );
        // Nobody pays for it twice.
        let (started, before) = (Instant::now(), workers(fleet).await?);
        ensure!(fleet.apply_refused(&yaml).await?.code == ErrorCode::Artifact);
        ensure!(
            workers(fleet).await? == before,
            "it was tried again after {:?}",
            started.elapsed()
        );
        ensure!(fleet.serves("host-1", "/hello", SOON).await?.contains("hello"));
        Ok(())
    })
}

/// The longest that the scheduler kept somebody waiting while a worker runs that was started since so many were.
async fn slowest_answer(fleet: &Fleet, before: u64) -> Result<Duration> {
    eventually(SOON, "a worker compiles it", async || {
        ensure!(workers(fleet).await? > before, "none was started");
        Ok(())
    })
    .await?;
    let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(1) {
        let asked = Instant::now();
        fleet.info().await?;
        slowest = slowest.max(asked.elapsed());
    }
    Ok(slowest)
}

/// A small component whose one function takes the compiler minutes: every block of a large loop may come after every other,
/// and each changes locals that all of them read.
fn bomb() -> String {
    const LOCALS: usize = 3_000;
    const BLOCKS: usize = 3_000;
    let mut text = String::from("(component (core module (func (export \"f\") (param i32)\n(local");
    // Writing to a String cannot fail.
    text.push_str(&" i32".repeat(LOCALS));
    text.push_str(")\nloop $top\n");
    for block in (0..BLOCKS).rev() {
        let _ = writeln!(text, "block $b{block}");
    }
    text.push_str("local.get 0 br_table");
    for block in 0..BLOCKS {
        let _ = write!(text, " $b{block}");
    }
    text.push('\n');
    for block in 0..BLOCKS {
        let (to, a, b) = (block % LOCALS + 1, block * 7 % LOCALS + 1, block * 13 % LOCALS + 1);
        let _ = writeln!(
            text,
            "end local.get {a} local.get {b} i32.add local.set {to} local.get {a} local.set 0 br $top"
        );
    }
    text.push_str("end)))");
    text
}
