//! `hostile`: what a neighbour feels of guests and clients that try to take everything, and how soon they are stopped.
//!
//! In: the guests `hello`, `hostile` and `p3-hostile`, and one with a greedy table. Out: for each attack the neighbour's
//! latency alone and meanwhile, and how long after its limit the attack was over. The host is an agent in a process of
//! its own. Its neighbour is asked at a steady rate by threads of this process, and each latency counts from the moment
//! at which the request was due, so that a request that waits behind a late one is late too.

mod agent;
mod attack;
mod neighbour;

use crate::Figures;
use crate::stats::{ms, percentiles, round};
use agent::Agent;
use anyhow::{Context as _, Result};
use attack::{Attack, Attackers};
use heddle_tests::cluster::turn;
use neighbour::Neighbour;
use serde_json::{Map, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Attackers at the same time; each begins again as soon as it is stopped.
const AT_ONCE: usize = 3;
/// Requests a second to the neighbour.
const RATE: u32 = 400;

/// How long, and how often in turns: a machine's own mood changes within minutes, so what is compared must lie close together.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: usize,
    /// How long the neighbour is asked without and then with the attack, in each round.
    slice: Duration,
    /// What the attackers have left behind is over by then, so that the neighbour is alone when it says how it does alone.
    calm: Duration,
}

impl Plan {
    fn of(quick: bool) -> Self {
        match quick {
            true => Self {
                rounds: 1,
                slice: Duration::from_millis(500),
                calm: Duration::from_millis(100),
            },
            false => Self {
                rounds: 10,
                slice: Duration::from_millis(1_200),
                calm: Duration::from_millis(500),
            },
        }
    }
}

/// What one attack came to.
#[derive(Default)]
struct Felt {
    alone: Vec<f64>,
    during: Vec<f64>,
    /// The p99 under attack by the p99 alone just before it, one for each round. A machine that stalls for once spoils one of
    /// them, and with it the p99 of all rounds together.
    ratios: Vec<f64>,
    contained: Duration,
    attempts: u64,
}

/// The names of the attacks.
pub fn attacks() -> Vec<&'static str> {
    // None of them is set going, so that it does not matter where they would connect.
    let nowhere = SocketAddr::from(([0; 4], 0));
    attack::all(nowhere).iter().map(|attack| attack.name).collect()
}

/// Runs the benchmark with the attacks that `only` names, or with all if it names none.
///
/// # Errors
/// When it cannot measure.
pub async fn run(quick: bool, only: &[String]) -> Result<Figures> {
    let _turn = turn()?;
    let plan = Plan::of(quick);
    let sink = attack::sink()?;
    let mut attacks = attack::all(sink);
    attacks.retain(|attack| only.is_empty() || only.iter().any(|name| name == attack.name));
    let agent = Agent::start(sink).await?;
    let measured = measure(&plan, agent.address(), &attacks).await;
    measured.map_err(|error| error.context(agent.tail()))
}

async fn measure(plan: &Plan, address: SocketAddr, attacks: &[Attack]) -> Result<Figures> {
    let (mut metrics, mut worst, mut worst_round) = (Map::new(), 0_f64, 0_f64);
    // Without any attack at all, to tell what a ratio says on this machine.
    for attack in std::iter::once(None).chain(attacks.iter().map(Some)) {
        let (attack, plan, name) = (attack.cloned(), *plan, attack.map_or("nothing", |attack| attack.name));
        let is_attack = attack.is_some();
        let felt = tokio::task::spawn_blocking(move || under(attack.as_ref(), address, plan)).await?;
        let felt = felt.with_context(|| format!("failed to measure {name}"))?;
        let (alone, during) = (percentiles(&felt.alone), percentiles(&felt.during));
        let (ratio, rounds) = (ratio(&felt.during, &felt.alone), percentiles(&felt.ratios));
        if is_attack {
            worst = worst.max(ratio);
            worst_round = worst_round.max(rounds.p50);
        }
        let contained = ms(felt.contained);
        eprintln!(
            "hostile: {name}: p99 {:.0} µs alone, {:.0} µs during ({ratio:.2}; of the rounds {:.2} to {:.2}, half at \
             most {:.2}), contained after {contained:.1} ms, {} attempts",
            alone.p99, during.p99, rounds.p10, rounds.p90, rounds.p50, felt.attempts
        );
        for (metric, value) in [
            ("alone_p50_us", alone.p50),
            ("p50_us", during.p50),
            ("alone_p99_us", alone.p99),
            ("p99_us", during.p99),
            ("p99_ratio", round(ratio)),
            ("p99_ratio_of_rounds_p10", rounds.p10),
            ("p99_ratio_of_rounds_p50", rounds.p50),
            ("p99_ratio_of_rounds_p90", rounds.p90),
            ("contained_ms", round(contained)),
            ("attempts", felt.attempts as f64),
        ] {
            metrics.insert(format!("{name}_{metric}"), json!(value));
        }
    }
    metrics.insert("worst_p99_ratio".to_owned(), json!(round(worst)));
    metrics.insert("worst_p99_ratio_of_rounds_p50".to_owned(), json!(worst_round));
    Ok(Figures {
        params: json!({
            "attacks": attacks.iter().map(|attack| attack.name).collect::<Vec<_>>(),
            "at_once": AT_ONCE, "neighbour_rps": RATE, "rounds": plan.rounds, "slice_ms": plan.slice.as_millis(),
            "time_limit_ms": agent::TIME_LIMIT.as_millis(), "memory_limit_bytes": agent::MEMORY_LIMIT,
        }),
        metrics: metrics.into(),
    })
}

/// Asks the neighbour alone and then under attack, in turns.
fn under(attack: Option<&Attack>, address: SocketAddr, plan: Plan) -> Result<Felt> {
    let mut felt = Felt::default();
    for _ in 0..plan.rounds {
        std::thread::sleep(plan.calm);
        let alone = Neighbour::start(address, plan.slice).latencies_us()?;
        let neighbour = Neighbour::start(address, plan.slice);
        let attackers = attack.map(|attack| attack.start(address));
        let during = neighbour.latencies_us();
        let (contained, attempts) = attackers.map_or(Ok((Duration::ZERO, 0)), Attackers::stop)?;
        let during = during?;
        felt.ratios.push(ratio(&during, &alone));
        felt.alone.extend(alone);
        felt.during.extend(during);
        felt.contained = felt.contained.max(contained);
        felt.attempts += attempts;
    }
    Ok(felt)
}

/// How many times as long the slowest hundredth takes as it does alone.
fn ratio(during: &[f64], alone: &[f64]) -> f64 {
    percentiles(during).p99 / percentiles(alone).p99.max(f64::MIN_POSITIVE)
}
