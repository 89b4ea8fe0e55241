//! What other schedulers are known to fail at, told with a real scheduler process, a real nats-server, and pretended hosts.

#![allow(clippy::unwrap_used, reason = "in a test a broken expectation is the message")]

use anyhow::{Result, ensure};
use heddle_fleet_sim::FleetOptions;
use heddle_fleet_sim::bench::{Bed, Programs, documents, workload};
use heddle_fleet_sim::child::eventually;
use heddle_fleet_sim::delay::StartDelay;
use heddle_protocol::api::hosts::{HostState, Hosts};
use heddle_protocol::api::status::{Status, WorkloadState};
use heddle_protocol::id::WorkloadId;
use std::fs::File;
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(60);

/// One fleet at a time: the machine's cores are few. Held until the test ends.
fn turn() -> File {
    let file = File::create(std::env::temp_dir().join("heddle-fleet.lock")).unwrap();
    file.lock().unwrap();
    file
}

async fn bed(hosts: usize, zones: usize, change: impl FnOnce(&mut FleetOptions)) -> Result<Bed> {
    let programs = Programs {
        heddle: env!("CARGO_BIN_EXE_heddle-fleet-sim").into(),
        ..Programs::find()?
    };
    let mut bed = Bed::start(hosts, zones, &programs, change).await?;
    bed.join(WITHIN).await?;
    bed.prepare().await?;
    Ok(bed)
}

/// Applies so many workloads at once, and returns their names.
async fn apply(bed: &Bed, workloads: usize, replicas: u32) -> Result<Vec<String>> {
    let names: Vec<String> = (0..workloads).map(|n| format!("w-{n}")).collect();
    let yaml: Vec<String> = names.iter().map(|name| workload(name, replicas)).collect();
    bed.apply(&documents(&yaml.join("---\n"))?).await?;
    Ok(names)
}

/// Looks for a while whether anything is started that should not be.
async fn stays_at(bed: &Bed, starts: u64) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        let total = bed.fleet.ledger().total();
        ensure!(
            total.starts == starts && total.running == starts,
            "it goes on: {total:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// No unit ever had more replicas than it should have.
fn never_overshot(bed: &Bed, replicas: u64) -> Result<()> {
    for (unit, counts) in bed.fleet.ledger().units() {
        ensure!(
            counts.starts == replicas && counts.running_max == replicas,
            "{unit}: {counts:?}, of {replicas}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_workloads_on_thirty_hosts_start_every_replica_exactly_once() -> Result<()> {
    let _turn = turn();
    let mut bed = bed(30, 3, |options| options.delay.start_ms = (5, 60)).await?;
    let names = apply(&bed, 300, 10).await?;
    bed.replicas(3_000, WITHIN).await?;
    bed.wait(&names, WITHIN).await?;
    never_overshot(&bed, 10)?;
    stays_at(&bed, 3_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_pulls_of_images_never_overshoot() -> Result<()> {
    let _turn = turn();
    let slow = StartDelay {
        start_ms: (0, 30),
        pull_ms: (10, 50),
        slow_percent: 50,
        // Longer than a host may be silent, and than a push waits for its answer.
        slow_pull_ms: 4_000,
    };
    let mut bed = bed(12, 3, |options| options.delay = slow).await?;
    let names = apply(&bed, 40, 6).await?;
    bed.replicas(240, WITHIN).await?;
    bed.wait(&names, WITHIN).await?;
    never_overshot(&bed, 6)?;
    stays_at(&bed, 240).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_the_last_host_is_shown_within_seconds() -> Result<()> {
    let _turn = turn();
    let mut bed = bed(1, 1, |_| {}).await?;
    apply(&bed, 1, 1).await?;
    bed.replicas(1, WITHIN).await?;
    bed.fleet.kill([0]).await?;
    let within = Duration::from_secs(10);
    eventually(within, "the host is no longer ready", async || {
        let hosts = bed.ask(&Hosts::default()).await?.hosts;
        ensure!(hosts.iter().all(|host| host.state != HostState::Ready), "{hosts:#?}");
        Ok(())
    })
    .await?;
    let status = Status {
        workloads: vec![WorkloadId::parse("w-0")?],
        ..Status::default()
    };
    eventually(within, "the workload is no longer ready", async || {
        let workloads = bed.ask(&status).await?.workloads;
        let told = |w: &heddle_protocol::api::status::WorkloadStatus| {
            w.state != WorkloadState::Ready && w.ready == 0 && !w.waiting.is_empty()
        };
        ensure!(workloads.iter().all(told), "{workloads:#?}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_leaves_hands_its_replicas_over_and_goes() -> Result<()> {
    let _turn = turn();
    let mut bed = bed(4, 2, |_| {}).await?;
    apply(&bed, 5, 8).await?;
    bed.replicas(40, WITHIN).await?;
    bed.fleet.leave([3]).await?;
    let name = bed.fleet.host(3)?;
    eventually(WITHIN, "the host has left", async || {
        let ask = Hosts {
            host: Some(name.clone()),
            after: None,
        };
        let hosts = bed.ask(&ask).await?.hosts;
        ensure!(hosts.iter().all(|host| host.replicas == 0), "{hosts:#?}");
        Ok(())
    })
    .await?;
    bed.replicas(40, WITHIN).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_starts_again_at_once_is_given_all_of_its_work_once() -> Result<()> {
    let _turn = turn();
    let mut bed = bed(60, 3, |_| {}).await?;
    apply(&bed, 20, 30).await?;
    bed.replicas(600, WITHIN).await?;
    bed.fleet.start_over(0..60, Duration::ZERO, false).await?;
    bed.replicas(600, WITHIN).await?;
    let total = bed.fleet.ledger().total();
    ensure!(total.starts == 1_200, "{total:?}");
    // With their specs on their disks they need nobody for it.
    bed.scheduler.terminate()?;
    bed.fleet.start_over(0..60, Duration::ZERO, true).await?;
    bed.replicas_alone(600, WITHIN).await?;
    let total = bed.fleet.ledger().total();
    ensure!(total.starts == 1_800 && total.ready == 600, "{total:?}");
    Ok(())
}
