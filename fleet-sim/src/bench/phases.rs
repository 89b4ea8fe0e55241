//! The phases of the benchmark, one after the other on one fleet.

use super::figures::{Between, Look, percentiles_ms, round};
use super::load::{documents, workload};
use super::{Bed, Figures, Size};
use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How long any phase may take.
const BOUND: Duration = Duration::from_secs(600);
/// Every tenth host of each zone vanishes: less than what counts as a partition.
const LOST_ONE_IN: usize = 10;
/// So much of one zone vanishes, in percent, that it counts as cut off.
const CUT_OFF_PERCENT: usize = 40;
/// How long nothing may move then: twice what makes a host count as lost.
const CUT_OFF_FOR: Duration = Duration::from_millis(2 * heddle_protocol::defaults::HOST_LOST_AFTER_MS + 1_000);

/// What was measured so far.
struct Found {
    metrics: Map<String, Value>,
    phases: Map<String, Value>,
    /// Replicas that should run.
    wanted: u64,
}

impl Found {
    fn note(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        eprintln!("fleet: {name} {value}");
        self.metrics.insert(name.to_owned(), value);
    }

    fn phase(&mut self, name: &str, between: &Between) {
        let value = between.json();
        eprintln!("fleet: {name} took {value}");
        self.phases.insert(name.to_owned(), value);
    }
}

/// Goes through all phases.
pub async fn measure(bed: &mut Bed, size: &Size) -> Result<Figures> {
    let mut found = Found {
        metrics: Map::new(),
        phases: Map::new(),
        wanted: 0,
    };
    join(bed, &mut found).await?;
    large(bed, size, &mut found).await?;
    idle(bed, size, &mut found).await?;
    loaded(bed, size, &mut found).await?;
    singles(bed, size, &mut found).await?;
    if size.replicas > 0 {
        lose(bed, size, &mut found).await?;
        cut_off(bed, size, &mut found).await?;
    }
    storm(bed, &mut found).await?;
    let usage = bed.scheduler.usage()?;
    found.note("rss_mib", usage.rss_kib / 1_024);
    found.note("rss_max_mib", usage.rss_max_kib / 1_024);
    let phases = std::mem::take(&mut found.phases);
    found.metrics.insert("phases".to_owned(), Value::Object(phases));
    let params = json!({
        "hosts": size.hosts, "zones": size.zones, "workloads": size.workloads, "replicas_per_workload": size.replicas,
        "singles": size.singles, "singles_at_once": size.singles_at_once, "applies": size.applies,
        "heartbeat_ms": heddle_protocol::defaults::HEARTBEAT_MS, "nats_sync_interval": "always",
    });
    Ok(Figures {
        params,
        metrics: Value::Object(found.metrics),
    })
}

/// All hosts join at once.
async fn join(bed: &mut Bed, found: &mut Found) -> Result<()> {
    let before = Look::take(bed).await?;
    let took = bed.join(BOUND).await?;
    bed.prepare().await?;
    bed.specs_held(BOUND).await?;
    found.phase("join", &Look::take(bed).await?.since(&before));
    found.note("join_s", round(took.as_secs_f64()));
    Ok(())
}

/// Many replicas of many workloads, in one apply.
async fn large(bed: &mut Bed, size: &Size, found: &mut Found) -> Result<()> {
    let names: Vec<String> = (0..size.workloads).map(|n| format!("large-{n:04}")).collect();
    let yaml: Vec<String> = names.iter().map(|name| workload(name, size.replicas)).collect();
    let documents = documents(&yaml.join("---\n"))?;
    let before = Look::take(bed).await?;
    let begun = std::time::Instant::now();
    bed.apply(&documents).await?;
    found.note("million_applied_s", round(begun.elapsed().as_secs_f64()));
    found.wanted += size.large();
    bed.replicas(found.wanted, BOUND).await?;
    found.note("million_on_hosts_s", round(begun.elapsed().as_secs_f64()));
    bed.wait(&names, BOUND).await?;
    let took = begun.elapsed();
    let between = Look::take(bed).await?.since(&before);
    found.note("million_replicas_s", round(took.as_secs_f64()));
    let placed = size.large().max(1) as f64;
    // The hosts beat meanwhile, which is no cost of placing.
    let messages = between.messages.saturating_sub(between.counted.heartbeats);
    found.note("messages_per_placement", round(messages as f64 / placed));
    found.note("bytes_per_placement", round(between.bytes as f64 / placed));
    found.note("decisions_per_record", round(placed / size.workloads.max(1) as f64));
    found.note(
        "pushes_per_host",
        round(between.counted.pushes as f64 / size.hosts.max(1) as f64),
    );
    found.note(
        "push_kib",
        round(between.counted.push_bytes as f64 / between.counted.pushes.max(1) as f64 / 1_024.0),
    );
    found.note(
        "host_verify_us",
        round(between.counted.verify_us as f64 / between.counted.pushes.max(1) as f64),
    );
    let starts = bed.fleet.ledger().total().starts;
    ensure!(starts == found.wanted, "{starts} starts for {} replicas", found.wanted);
    found.phase("million", &between);
    Ok(())
}

/// Nothing happens but heartbeats.
async fn idle(bed: &mut Bed, size: &Size, found: &mut Found) -> Result<()> {
    let before = Look::take(bed).await?;
    tokio::time::sleep(Duration::from_millis(size.idle_ms)).await;
    let between = Look::take(bed).await?.since(&before);
    let seconds = between.time.as_secs_f64();
    found.note("idle_cpu_cores", round(between.scheduler_cpu.as_secs_f64() / seconds));
    found.note("idle_nats_cpu_cores", round(between.nats_cpu.as_secs_f64() / seconds));
    found.note("idle_messages_per_s", round(between.messages as f64 / seconds));
    found.note("rss_loaded_mib", bed.scheduler.usage()?.rss_kib / 1_024);
    found.phase("idle", &between);
    Ok(())
}

/// One workload after the other, on the loaded fleet.
async fn loaded(bed: &mut Bed, size: &Size, found: &mut Found) -> Result<()> {
    let before = Look::take(bed).await?;
    let (mut applied, mut running) = (Vec::new(), Vec::new());
    for n in 0..size.applies {
        let took = bed.single(&format!("loaded-{n}"), BOUND).await?;
        applied.push(took.applied);
        running.push(took.running);
    }
    found.wanted += size.applies as u64;
    found.note("single_apply_loaded_ms", percentiles_ms(&running));
    found.note("single_apply_answered_ms", percentiles_ms(&applied));
    found.phase("loaded", &Look::take(bed).await?.since(&before));
    Ok(())
}

/// Many workloads of one replica, side by side.
async fn singles(bed: &mut Bed, size: &Size, found: &mut Found) -> Result<()> {
    let before = Look::take(bed).await?;
    let begun = std::time::Instant::now();
    let shared = &*bed;
    let names = (0..size.singles).map(|n| format!("single-{n:05}"));
    let one = |name: String| async move { shared.single(&name, BOUND).await.map(|single| single.running) };
    let took: Vec<Duration> = futures::stream::iter(names.map(one))
        .buffer_unordered(size.singles_at_once.max(1))
        .try_collect()
        .await?;
    let seconds = begun.elapsed().as_secs_f64();
    found.wanted += size.singles as u64;
    bed.replicas(found.wanted, BOUND).await?;
    found.note("singles_10000_s", round(seconds));
    found.note("singles_per_s", round(size.singles as f64 / seconds));
    found.note("singles_running_ms", percentiles_ms(&took));
    found.phase("singles", &Look::take(bed).await?.since(&before));
    let starts = bed.fleet.ledger().total().starts;
    ensure!(starts == found.wanted, "{starts} starts for {} replicas", found.wanted);
    Ok(())
}

/// A tenth of every zone vanishes at once, and all that ran there is replaced.
async fn lose(bed: &mut Bed, size: &Size, found: &mut Found) -> Result<()> {
    let lost: Vec<usize> = (0..size.hosts)
        .filter(|n| (n / size.zones).is_multiple_of(LOST_ONE_IN))
        .collect();
    let before = Look::take(bed).await?;
    let starts = bed.fleet.ledger().total().starts;
    bed.fleet.kill(lost.iter().copied()).await?;
    let gone = found.wanted - bed.fleet.ledger().total().ready;
    let took = bed.replicas(found.wanted, BOUND).await?;
    let started = bed.fleet.ledger().total().starts - starts;
    found.note("lose_1000_hosts_s", round(took.as_secs_f64()));
    found.note("lost_hosts", lost.len());
    found.note("lost_replicas", gone);
    ensure!(started == gone, "{started} starts to replace {gone} replicas");
    found.phase("lose", &Look::take(bed).await?.since(&before));
    Ok(())
}

/// So much of a zone vanishes that it counts as cut off: nothing may move.
async fn cut_off(bed: &mut Bed, size: &Size, found: &mut Found) -> Result<()> {
    let living = (0..size.hosts).filter(|n| !(n / size.zones).is_multiple_of(LOST_ONE_IN) && n % size.zones == 0);
    let in_zone: Vec<usize> = living.collect();
    let cut: Vec<usize> = in_zone[..in_zone.len() * CUT_OFF_PERCENT / 100].to_vec();
    let starts = bed.fleet.ledger().total().starts;
    bed.fleet.kill(cut.iter().copied()).await?;
    tokio::time::sleep(CUT_OFF_FOR).await;
    let moved = bed.fleet.ledger().total().starts - starts;
    found.note("cut_off_hosts", cut.len());
    found.note("cut_off_replicas_moved", moved);
    ensure!(
        moved == 0,
        "{moved} replicas of a zone that is cut off were started elsewhere"
    );
    bed.fleet.start_over(cut, Duration::ZERO, false).await?;
    bed.replicas(found.wanted, BOUND).await?;
    Ok(())
}

/// Every host starts again at once, with nothing on its disk.
async fn storm(bed: &mut Bed, found: &mut Found) -> Result<()> {
    let before = Look::take(bed).await?;
    let hosts = bed.fleet.hosts();
    bed.fleet.start_over(0..hosts, Duration::ZERO, false).await?;
    let took = bed.replicas(found.wanted, BOUND).await?;
    let between = Look::take(bed).await?.since(&before);
    found.note("restart_storm_s", round(took.as_secs_f64()));
    found.note(
        "restart_storm_pushes_per_host",
        round(between.counted.pushes as f64 / hosts.max(1) as f64),
    );
    found.phase("storm", &between);
    Ok(())
}
