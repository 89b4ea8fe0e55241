//! `coldstart`: how soon a workload serves on an agent that was just told of it, and what an idle workload weighs.
//!
//! In: the guest `hello`. Out: milliseconds from the spec to the first answer (compiled on the agent, compiled before by
//! somebody else, already in memory), until a hundred and a thousand workloads of one image are ready, resident memory per
//! idle workload, and the latency of the shared listener with few and with many workloads behind it. Agents run in this
//! process, each with an empty folder of its own, so that nothing but the agent's own work is on the clock.

mod agent;

use crate::Figures;
use crate::http::load::{Load, Target};
use crate::http::subject::guest;
use crate::stats::{ms, percentiles, round};
use agent::{Agent, Image};
use anyhow::{Context as _, Result};
use heddle_protocol::host_spec::Compile;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How long the listener is asked, for each number of workloads.
const SLICE: Duration = Duration::from_secs(3);
/// Looks at the resident memory after things have calmed down.
const SETTLE: Duration = Duration::from_millis(500);

struct Plan {
    trials: usize,
    /// Workloads on one agent: few, more, many.
    workloads: [usize; 3],
    rounds: usize,
    slice: Duration,
}

impl Plan {
    fn of(quick: bool) -> Self {
        match quick {
            true => Self {
                trials: 3,
                workloads: [10, 50, 200],
                rounds: 1,
                slice: SLICE / 10,
            },
            false => Self {
                trials: 20,
                workloads: [100, 1_000, 10_000],
                rounds: 5,
                slice: SLICE,
            },
        }
    }
}

/// Runs the benchmark.
pub async fn run(quick: bool) -> Result<Figures> {
    let plan = Plan::of(quick);
    let wasm = guest()?;
    let image = tokio::task::spawn_blocking(move || Image::new(&wasm)).await??;
    let (mut compiled, mut precompiled, mut warm) = (Vec::new(), Vec::new(), Vec::new());
    for trial in 0..plan.trials {
        compiled.push(first(&image, Compile::Local).await?.0);
        let (cold, agent) = first(&image, Compile::Precompiled).await?;
        precompiled.push(cold);
        warm.push(ms(agent.serve(&image, Compile::Precompiled, 2).await?));
        agent.stop().await;
        eprintln!("coldstart: trial {} of {} done", trial + 1, plan.trials);
    }
    let [few, more, many] = plan.workloads;
    let hundred = until_ready(&image, few, plan.trials).await?;
    let thousand = until_ready(&image, more, plan.trials.div_ceil(4)).await?;
    let dense = density(&image, &plan).await?;
    Ok(Figures {
        params: json!({
            "guest": "hello", "component_bytes": image.component_bytes(), "code_bytes": image.code_bytes(),
            "trials": plan.trials, "workloads": [few, more, many], "rounds": plan.rounds,
            "slice_ms": plan.slice.as_millis(),
        }),
        metrics: json!({
            "compile_ms": percentiles(&compiled),
            "precompiled_ms": percentiles(&precompiled),
            "warm_ms": percentiles(&warm),
            "hundred_same_image_ms": percentiles(&hundred),
            "thousand_same_image_ms": percentiles(&thousand),
            "rss_kib_per_idle_workload_100": round(dense[0].kib_each),
            "rss_kib_per_idle_workload_1000": round(dense[1].kib_each),
            "rss_kib_per_idle_workload_10000": round(dense[2].kib_each),
            "listener_p50_us_100": round(dense[0].p50_us),
            "listener_p50_us_10000": round(dense[2].p50_us),
            "listener_p99_us_100": round(dense[0].p99_us),
            "listener_p99_us_10000": round(dense[2].p99_us),
            "listener_p99_growth_ratio": round(dense[2].p99_us / dense[0].p99_us),
        }),
    })
}

/// From a spec with one workload to its first answer, on an agent that never saw the image.
async fn first(image: &Image, by: Compile) -> Result<(f64, Agent)> {
    let agent = Agent::start(image).await?;
    let took = agent.serve(image, by, 1).await?;
    Ok((ms(took), agent))
}

/// From a spec with so many workloads until all are ready, on an agent that never saw the image.
async fn until_ready(image: &Image, workloads: usize, trials: usize) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..trials {
        let agent = Agent::start(image).await?;
        times.push(ms(agent.hold(image, workloads).await?));
        agent.stop().await;
    }
    eprintln!("coldstart: {workloads} workloads at once done");
    Ok(times)
}

/// What a number of workloads on one agent comes to.
struct Dense {
    kib_each: f64,
    p50_us: f64,
    p99_us: f64,
}

/// One agent with more and more workloads.
async fn density(image: &Image, plan: &Plan) -> Result<Vec<Dense>> {
    let agent = Agent::start(image).await?;
    agent.hold(image, 1).await?;
    // Pages that the first requests touch are not the workloads'.
    ask(&agent, 1, plan.slice).await?;
    tokio::time::sleep(SETTLE).await;
    let empty = rss_kib()?;
    let mut dense = Vec::new();
    for workloads in plan.workloads {
        agent.hold(image, workloads).await?;
        agent.all_answer(workloads).await?;
        tokio::time::sleep(SETTLE).await;
        let kib_each = (rss_kib()? - empty) / (workloads - 1) as f64;
        let (mut p50s, mut p99s) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            let (p50, p99) = ask(&agent, workloads, plan.slice).await?;
            p50s.push(p50);
            p99s.push(p99);
        }
        eprintln!("coldstart: {workloads} workloads take {kib_each:.1} KiB each");
        dense.push(Dense {
            kib_each,
            p50_us: percentiles(&p50s).p50,
            p99_us: percentiles(&p99s).p50,
        });
    }
    agent.stop().await;
    Ok(dense)
}

/// Asks all workloads in turn, over one connection.
async fn ask(agent: &Agent, workloads: usize, slice: Duration) -> Result<(f64, f64)> {
    let target = Target {
        address: agent.address(),
        requests: Arc::new((0..workloads).map(agent::request).collect()),
    };
    let load = Load { connections: 1, slice };
    let measured = tokio::task::spawn_blocking(move || load.run(&target)).await??;
    Ok((measured.p50_us(), measured.p99_us()))
}

/// Resident memory of this process, in KiB.
fn rss_kib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("failed to read this process's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.context("failed to find this process's memory")
}
