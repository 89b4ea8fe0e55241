//! What ends suddenly, and what must go on: agents, the scheduler and NATS, killed as real processes under load.

use anyhow::{Context as _, Result, ensure};
use heddle_protocol::api::hosts::HostState;
use heddle_protocol::id::BootId;
use heddle_tests::cluster::{Outcome, cluster};
use heddle_tests::fleet::ask::RUNS_WITHIN;
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::load::{Load, LoadOptions};
use heddle_tests::manifest::{PLATFORM, hello, probe, together};
use heddle_tests::until::{eventually, throughout};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
/// Three missed heartbeats, a plan, and a compilation on a busy machine.
const REPLACED_WITHIN: Duration = Duration::from_secs(10);
/// Longer than a host may be silent, so that whoever mistakes silence for death has shown it.
const LONGER_THAN_LOST: Duration = Duration::from_secs(5);

/// A workload whose instances live on, so that a restart shows.
fn lasting(name: &str, replicas: u32) -> String {
    probe(name, 1)
        .replicas(replicas)
        .with("instances: { reuse: 1000000 }")
        .yaml()
}

/// The instance that a host serves a workload with. It stays the same only where one request is made at a time (each
/// of several at once has an instance of its own) and where one is made every few seconds (idle instances end).
async fn instance(fleet: &Fleet, host: &str, name: &str) -> Result<String> {
    let text = fleet.get(host, &format!("/{name}/instance")).await?.ok()?;
    text.split(' ')
        .next()
        .map(str::to_owned)
        .context("no instance was told")
}

/// Fails unless each host serves `kept` with the same instance as before: nothing was started again.
async fn same_instances(fleet: &Fleet, before: &BTreeMap<String, String>) -> Result<()> {
    for (host, instance_before) in before {
        let now = instance(fleet, host, "kept").await?;
        ensure!(
            now == *instance_before,
            "{host} restarted its replica: {instance_before} became {now}"
        );
    }
    Ok(())
}

async fn instances(fleet: &Fleet, hosts: &[&str]) -> Result<BTreeMap<String, String>> {
    let mut instances = BTreeMap::new();
    for host in hosts {
        instances.insert((*host).to_owned(), instance(fleet, host, "kept").await?);
    }
    Ok(instances)
}

async fn boots(fleet: &Fleet, hosts: &[&str]) -> Result<BTreeMap<String, Option<BootId>>> {
    let mut boots = BTreeMap::new();
    for host in hosts {
        boots.insert((*host).to_owned(), fleet.host(host).await?.boot_id);
    }
    Ok(boots)
}

/// Where a proxy would send requests for a workload now.
async fn endpoints(fleet: &Fleet, name: &str) -> Result<Vec<SocketAddr>> {
    let status = fleet.status(name).await?;
    let hosts: BTreeSet<&str> = status.endpoints.iter().map(|endpoint| endpoint.host.as_str()).collect();
    hosts.into_iter().map(|host| fleet.web(host)).collect()
}

#[test]
fn a_killed_agent_s_replicas_serve_elsewhere_and_the_survivors_notice_nothing() -> Outcome {
    cluster(FleetOptions::hosts(3), async |fleet| {
        fleet
            .apply_and_wait(&together([
                PLATFORM,
                &lasting("one", 1),
                &lasting("all", 3),
                &lasting("kept", 3),
            ]))
            .await?;
        let victim = fleet.spread("one").await?.into_keys().next().context("nowhere")?;
        let survivors: Vec<String> = ["host-1", "host-2", "host-3"]
            .iter()
            .filter(|h| **h != victim)
            .map(|h| (*h).to_owned())
            .collect();
        let webs = survivors
            .iter()
            .map(|host| fleet.web(host))
            .collect::<Result<Vec<_>>>()?;
        let load = Load::start(&LoadOptions::strict(&["/all/version"]), webs.clone());
        let names: Vec<&str> = survivors.iter().map(String::as_str).collect();
        let before = instances(fleet, &names).await?;
        fleet.agent(&victim)?.process.kill()?;
        eventually(
            REPLACED_WITHIN,
            "the only replica answers on another host",
            async || {
                same_instances(fleet, &before).await?;
                let status = fleet.status("one").await?;
                let moved = status
                    .units
                    .iter()
                    .find(|unit| unit.host.as_str() != victim)
                    .context("not placed")?;
                fleet.get(moved.host.as_str(), "/one/version").await?.ok()
            },
        )
        .await?;
        let status = fleet.settled("all", RUNS_WITHIN).await?;
        ensure!(
            status.ready == 3 && status.units.iter().all(|unit| unit.host.as_str() != victim),
            "{status:#?}"
        );
        ensure!(fleet.host(&victim).await?.state == HostState::Lost);
        load.after_more(20).await?;
        load.stop().flawless(50)?;
        same_instances(fleet, &before).await
    })
}

#[test]
fn an_agent_that_is_told_to_stop_hands_its_work_over_without_one_failed_request() -> Outcome {
    cluster(FleetOptions::hosts(3), async |fleet| {
        fleet.apply_and_wait(&together([PLATFORM, &lasting("one", 1)])).await?;
        let victim = fleet.spread("one").await?.into_keys().next().context("nowhere")?;
        // At every moment some host answers: whoever tries the others finds it.
        let load = Load::start(&LoadOptions::proxied(&["/one/version"]), fleet.webs());
        load.after_more(20).await?;
        fleet.agent(&victim)?.process.terminate()?;
        let old = fleet.web(&victim)?;
        eventually(SOON, "another host is the endpoint", async || {
            let now = endpoints(fleet, "one").await?;
            ensure!(!now.is_empty() && !now.contains(&old), "{now:?}");
            Ok(())
        })
        .await?;
        let ended = fleet.agent(&victim)?.process.ended(SOON).await?;
        ensure!(ended.success(), "the agent ended with {ended}");
        load.after_more(20).await?;
        load.stop().flawless(50)
    })
}

#[test]
fn a_killed_scheduler_comes_back_to_the_same_fleet_and_forgets_nothing_acknowledged() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        fleet
            .apply_and_wait(&together([PLATFORM, &lasting("web", 2), &lasting("kept", 2)]))
            .await?;
        let hosts = ["host-1", "host-2"];
        let before = instances(fleet, &hosts).await?;
        let boots_before = boots(fleet, &hosts).await?;
        let load = Load::start(&LoadOptions::strict(&["/web/version"]), fleet.webs());
        let acknowledged = fleet.apply(&hello("late").replicas(2).yaml()).await?;
        fleet.scheduler().kill()?;
        // Longer than hosts may be silent: the scheduler has heard nobody for that long when it starts.
        throughout(LONGER_THAN_LOST, "the fleet serves without a scheduler", async || {
            same_instances(fleet, &before).await
        })
        .await?;
        fleet.scheduler().start_again()?;
        ensure!(fleet.info().await?.commit >= acknowledged.commit, "commits were lost");
        fleet.wait_for(&acknowledged, RUNS_WITHIN).await?;
        fleet.serves("host-2", "/late", SOON).await?;
        throughout(LONGER_THAN_LOST, "nothing moves after the restart", async || {
            let status = fleet.status("web").await?;
            ensure!(status.units.len() == 2 && status.ready_old == 0, "{status:#?}");
            same_instances(fleet, &before).await
        })
        .await?;
        load.stop().flawless(100)?;
        same_instances(fleet, &before).await?;
        ensure!(boots(fleet, &hosts).await? == boots_before, "an agent restarted");
        Ok(())
    })
}

#[test]
fn a_killed_nats_server_stops_nothing_and_the_fleet_converges_when_it_is_back() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        fleet
            .apply_and_wait(&together([PLATFORM, &lasting("web", 2), &lasting("kept", 2)]))
            .await?;
        let before = instances(fleet, &["host-1", "host-2"]).await?;
        let load = Load::start(&LoadOptions::strict(&["/web/version"]), fleet.webs());
        fleet.nats().kill()?;
        throughout(LONGER_THAN_LOST, "every host serves without NATS", async || {
            same_instances(fleet, &before).await
        })
        .await?;
        fleet.nats().start_again().await?;
        for host in ["host-1", "host-2"] {
            fleet.host_in_state(host, HostState::Ready, SOON).await?;
        }
        fleet.apply_and_wait(&hello("late").replicas(2).yaml()).await?;
        for host in ["host-1", "host-2"] {
            fleet.serves(host, "/late", SOON).await?;
        }
        let status = fleet.settled("web", SOON).await?;
        ensure!(status.units.len() == 2, "the silence moved replicas: {status:#?}");
        load.stop().flawless(100)?;
        same_instances(fleet, &before).await
    })
}

#[test]
fn an_agent_that_starts_while_nats_is_down_serves_from_its_cache() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        fleet
            .apply_and_wait(&together([PLATFORM, &lasting("web", 1), &hello("hello").yaml()]))
            .await?;
        fleet.serves("host-1", "/hello", SOON).await?;
        fleet.host_cached("host-1", SOON).await?;
        fleet.nats().kill()?;
        fleet.agent("host-1")?.process.kill()?;
        fleet.agent("host-1")?.process.start_again()?;
        ensure!(fleet.serves("host-1", "/web/version", RUNS_WITHIN).await? == "v1");
        fleet.serves("host-1", "/hello", SOON).await?;
        // And the fleet takes it in again afterwards, with its work as it is.
        let kept = instance(fleet, "host-1", "web").await?;
        fleet.nats().start_again().await?;
        fleet.host_in_state("host-1", HostState::Ready, RUNS_WITHIN).await?;
        fleet.settled("web", RUNS_WITHIN).await?;
        ensure!(
            instance(fleet, "host-1", "web").await? == kept,
            "the replica restarted when NATS came back"
        );
        Ok(())
    })
}

#[test]
fn a_frozen_agent_is_replaced_and_takes_its_place_again_when_it_thaws() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        fleet.apply_and_wait(&together([PLATFORM, &lasting("one", 1)])).await?;
        let frozen = fleet.spread("one").await?.into_keys().next().context("nowhere")?;
        fleet.agent(&frozen)?.process.freeze()?;
        fleet.host_in_state(&frozen, HostState::Lost, SOON).await?;
        let status = fleet.settled("one", RUNS_WITHIN).await?;
        ensure!(
            status.units.len() == 1 && status.units[0].host.as_str() != frozen,
            "{status:#?}"
        );
        fleet.agent(&frozen)?.process.thaw()?;
        fleet.host_in_state(&frozen, HostState::Ready, SOON).await?;
        // What it missed reaches it: it no longer serves what was moved away.
        fleet.host_settled(&frozen, SOON).await?;
        fleet.serves_not(&frozen, "/one/version", SOON).await?;
        let status = fleet.settled("one", SOON).await?;
        ensure!(status.units.len() == 1, "{status:#?}");
        Ok(())
    })
}

#[test]
fn a_fleet_that_falls_silent_as_a_whole_keeps_all_its_replicas() -> Outcome {
    cluster(FleetOptions::hosts(3), async |fleet| {
        fleet.apply_and_wait(&together([PLATFORM, &lasting("web", 3)])).await?;
        let hosts = ["host-1", "host-2", "host-3"];
        let before = fleet.spread("web").await?;
        for host in hosts {
            fleet.agent(host)?.process.freeze()?;
        }
        for host in hosts {
            fleet.host_in_state(host, HostState::Lost, SOON).await?;
        }
        ensure!(fleet.spread("web").await? == before, "silence moved replicas");
        for host in hosts {
            fleet.agent(host)?.process.thaw()?;
        }
        for host in hosts {
            fleet.host_in_state(host, HostState::Ready, SOON).await?;
            fleet.serves(host, "/web/version", SOON).await?;
        }
        ensure!(fleet.settled("web", SOON).await?.units.len() == 3);
        ensure!(fleet.spread("web").await? == before, "the return moved replicas");
        Ok(())
    })
}
