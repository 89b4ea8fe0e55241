//! Real processes, real faults: a fleet under load and under change, hurt again and again, and checked after each time.
//!
//! In: a seed, a number of faults, the kinds to draw from. Out: a [`Verdict`]. The seed decides which faults come in
//! which order, to whom and for how long; what the processes make of it is theirs, so a seed repeats the faults and not
//! every interleaving.

pub mod check;
pub mod fault;
pub mod writer;

use anyhow::{Context as _, Result, ensure};
use fault::{Fault, Kind};
use heddle_tests::cluster::turn;
use heddle_tests::fleet::ask::RUNS_WITHIN;
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::load::{Load, LoadOptions};
use heddle_tests::manifest::{PLATFORM, hello, together};
use heddle_tests::until::eventually;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use writer::Writer;

/// The workload that every host runs, and that the load asks for.
const EVERYWHERE: &str = "everywhere";
/// The workload with one replica.
const SINGLE: &str = "single";
const HOSTS: usize = 3;

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides the faults.
    pub seed: u64,
    /// How many.
    pub faults: usize,
    /// The kinds to draw from. The first round goes through them in order, so that each happens.
    pub kinds: Vec<Kind>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Faults that were done.
    pub faults: usize,
    /// How often each kind was.
    pub kinds: BTreeMap<String, usize>,
    /// Changes that were acknowledged during it.
    pub acknowledged: u64,
    /// Acknowledged changes that were not there afterwards.
    pub lost_acked: usize,
    /// Units that ran on a host although nothing places them there.
    pub orphans: usize,
    /// Times that a workload with one replica was served by several hosts after the fleet had settled.
    pub duplicate_singletons: usize,
    /// Requests made of hosts that no fault touched.
    pub requests_elsewhere: u64,
    /// How many of them failed.
    pub failed_requests_elsewhere: u64,
    /// The seed.
    pub seed: u64,
}

impl Verdict {
    /// Whether nothing was broken that a fault may not break.
    pub fn is_good(&self) -> bool {
        self.lost_acked == 0
            && self.orphans == 0
            && self.duplicate_singletons == 0
            && self.failed_requests_elsewhere == 0
    }
}

/// Runs it. An error means that the fleet did not come back from a fault, or that the test itself is broken.
pub async fn run(options: &Options) -> Result<Verdict> {
    ensure!(!options.kinds.is_empty(), "failed to draw a fault: no kind is allowed");
    let _turn = turn()?;
    let mut fleet = Fleet::start(&FleetOptions::hosts(HOSTS)).await?;
    let done = torment(&mut fleet, options).await;
    done.map_err(|error| {
        let kept = fleet.keep();
        error.context(format!("{}--- all of it is in {}", fleet.tails(), kept.display()))
    })
}

async fn torment(fleet: &mut Fleet, options: &Options) -> Result<Verdict> {
    let everywhere = hello(EVERYWHERE).with("daemon: true").yaml();
    fleet
        .apply_and_wait(&together([PLATFORM.to_owned(), everywhere, hello(SINGLE).yaml()]))
        .await?;
    let load = Load::start(&LoadOptions::strict(&[&format!("/{EVERYWHERE}")]), fleet.webs());
    let writer = Writer::start(fleet).await?;
    let mut dice = StdRng::seed_from_u64(options.seed);
    let mut verdict = Verdict {
        seed: options.seed,
        ..Verdict::default()
    };
    for n in 0..options.faults {
        let fault = Fault::draw(&mut dice, &options.kinds, n, HOSTS);
        eprintln!("chaos: fault {} of {}: {fault}", n + 1, options.faults);
        hurt(fleet, &load, &fault)
            .await
            .with_context(|| format!("fault {}: {fault}", n + 1))?;
        verdict.faults += 1;
        *verdict.kinds.entry(fault.kind.to_string()).or_default() += 1;
        let history = writer.pause().await;
        let found = check::all(fleet, &history, SINGLE).await;
        let found = found.with_context(|| format!("checking after fault {}: {fault}", n + 1))?;
        for broken in &found.broken {
            eprintln!("chaos: after {fault}: {broken}");
        }
        verdict.lost_acked += found.lost_acked;
        verdict.orphans += found.orphans;
        verdict.duplicate_singletons += found.duplicate_singletons;
        verdict.acknowledged = history.acknowledged;
        writer.go_on();
    }
    let report = load.stop();
    for (at, why) in &report.failures {
        eprintln!("chaos: a request failed after {at:?}: {why}");
    }
    verdict.requests_elsewhere = report.requests;
    verdict.failed_requests_elsewhere = report.failed;
    Ok(verdict)
}

/// Does one fault, undoes it, and waits until everybody is back. Hosts that it touches are not asked meanwhile.
async fn hurt(fleet: &mut Fleet, load: &Load, fault: &Fault) -> Result<()> {
    let host = fault.host();
    if let Some(host) = &host {
        let touched = fleet.web(host)?;
        load.targets
            .set(fleet.webs().into_iter().filter(|web| *web != touched).collect());
        // Requests that are on their way to it end first.
        load.after_more(10).await?;
    }
    fault.begin(fleet)?;
    fault.hold().await;
    fault.end(fleet).await?;
    let hosts: BTreeSet<String> = (1..=HOSTS).map(|n| format!("host-{n}")).collect();
    for host in &hosts {
        eventually(RUNS_WITHIN, &format!("{host} serves again"), async || {
            fleet.host_settled(host, RUNS_WITHIN).await?;
            fleet.get(host, &format!("/{EVERYWHERE}")).await?.ok()
        })
        .await?;
    }
    fleet.settled(EVERYWHERE, RUNS_WITHIN).await?;
    load.targets.set(fleet.webs());
    Ok(())
}
