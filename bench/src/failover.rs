//! How long a workload's only replica is away when its host's agent ends.
//!
//! Three hosts with default heartbeats, one replica, and probers that ask the other two hosts without pause. In each
//! trial the agent that serves it is killed (or told to stop), and the clock runs until another host answers. Then the
//! agent comes back, and the next trial begins at another moment of the heartbeats.

use crate::Figures;
use crate::stats::{ms, percentiles};
use anyhow::{Context as _, Result, bail};
use heddle_protocol::api::hosts::HostState;
use heddle_tests::cluster::turn;
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::http;
use heddle_tests::manifest::{PLATFORM, hello, together};
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const HOSTS: usize = 3;
const PATH: &str = "/web";
/// The pause of a prober between two requests.
const PROBE_EVERY: Duration = Duration::from_millis(2);
/// Whoever is not back by then does not come.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// Trials begin so much later than the one before in the round of heartbeats, in milliseconds: a prime, so that they
/// fall everywhere.
const PHASE_MS: u64 = 379;
const HEARTBEAT_MS: u64 = heddle_protocol::defaults::HEARTBEAT_MS;

/// How the agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Terminate,
}

/// Runs the benchmark.
pub async fn run(quick: bool) -> Result<Figures> {
    let _turn = turn()?;
    let trials = if quick { 3 } else { 20 };
    let mut fleet = Fleet::start(&FleetOptions::hosts(HOSTS)).await?;
    let measured = measure(&mut fleet, trials).await;
    measured.map_err(|error| error.context(fleet.tails()))
}

async fn measure(fleet: &mut Fleet, trials: usize) -> Result<Figures> {
    // Once on every host, so that no trial waits for a compilation.
    fleet
        .apply_and_wait(&together([
            PLATFORM.to_owned(),
            hello("web").replicas(HOSTS as u32).yaml(),
        ]))
        .await?;
    fleet.apply_and_wait(&hello("web").replicas(1).yaml()).await?;
    let mut kills = Vec::with_capacity(trials);
    let mut terminations = Vec::with_capacity(trials);
    for trial in 0..trials {
        for (end, times) in [(End::Kill, &mut kills), (End::Terminate, &mut terminations)] {
            let phase = (trial as u64 * PHASE_MS) % HEARTBEAT_MS;
            tokio::time::sleep(Duration::from_millis(phase)).await;
            times.push(ms(away(fleet, end).await?));
        }
        eprintln!(
            "failover: trial {} of {trials}: killed {:.0} ms, told to stop {:.0} ms",
            trial + 1,
            kills.last().copied().unwrap_or_default(),
            terminations.last().copied().unwrap_or_default()
        );
    }
    Ok(Figures {
        params: json!({
            "trials": trials,
            "hosts": HOSTS,
            "heartbeat_ms": HEARTBEAT_MS,
            "host_lost_after_ms": heddle_protocol::defaults::HOST_LOST_AFTER_MS,
        }),
        metrics: json!({
            "kill_to_serving_ms": percentiles(&kills),
            "sigterm_to_serving_ms": percentiles(&terminations),
        }),
    })
}

/// Ends the agent that serves, and returns how long it took until another host served. Then brings the agent back.
async fn away(fleet: &mut Fleet, end: End) -> Result<Duration> {
    let home = fleet
        .spread("web")
        .await?
        .into_keys()
        .next()
        .context("the replica is nowhere")?;
    let home_web = fleet.web(&home)?;
    let others = fleet.webs().into_iter().filter(|web| *web != home_web);
    let probers: Vec<_> = others.map(|web| tokio::spawn(first_answer(web))).collect();
    let agent = &mut fleet.agent(&home)?.process;
    let started = Instant::now();
    match end {
        End::Kill => agent.kill()?,
        End::Terminate => agent.terminate()?,
    }
    let (answered, _, rest) = futures::future::select_all(probers).await;
    let at = answered??;
    rest.iter().for_each(tokio::task::JoinHandle::abort);
    let agent = &mut fleet.agent(&home)?.process;
    if end == End::Terminate {
        agent.ended(BACK_WITHIN).await?;
    }
    agent.start_again()?;
    fleet.host_in_state(&home, HostState::Ready, BACK_WITHIN).await?;
    fleet.host_settled(&home, BACK_WITHIN).await?;
    fleet.settled("web", BACK_WITHIN).await?;
    Ok(at.duration_since(started))
}

/// When a host first answers.
async fn first_answer(web: SocketAddr) -> Result<Instant> {
    let started = Instant::now();
    while started.elapsed() < BACK_WITHIN {
        if http::get(web, PATH, None)
            .await
            .is_ok_and(|answer| answer.status == 200)
        {
            return Ok(Instant::now());
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
    bail!("no other host served within {BACK_WITHIN:?}")
}
