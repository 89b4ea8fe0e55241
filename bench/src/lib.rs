//! The benchmarks: what a figure is made of, and how it is printed.
//!
//! In: the name of a benchmark. Out: one JSON object with the machine it ran on, its parameters and its metrics, as
//! `cargo xtask bench NAME --json` prints it. Progress goes to stderr.

pub mod coldstart;
pub mod deploy;
pub mod failover;
pub mod fleet;
pub mod hostile;
pub mod http;
pub mod links;
pub mod machine;
pub mod stats;

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::Value;

/// A benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Bench {
    /// How soon a workload serves: compiled on the agent, compiled before, in memory; and what an idle one weighs
    Coldstart,
    /// How long an apply takes until what it wants runs: one workload, a hundred, a thousand
    Deploy,
    /// How long a replica is away when its host's agent is killed, or told to stop
    Failover,
    /// Ten thousand pretended hosts on a real scheduler: a million replicas, single ones, lost hosts, a restart of all
    Fleet,
    /// What a neighbour feels of guests and clients that try to take everything, and how soon these are stopped
    Hostile,
    /// Requests per second and latency through the shared listener, beside plain hyper and bare wasmtime
    Http,
    /// What a call from one component to another costs: in one process, and over the network
    Links,
    /// How many replicas the planner places in a second: the pure core, one thread, up to 100,000 hosts
    Placement,
}

/// What a benchmark found.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// What was chosen.
    pub params: Value,
    /// What was measured: each a number, or percentiles. The unit ends the name.
    pub metrics: Value,
}

/// A benchmark's whole output.
#[derive(Debug, Clone, Serialize)]
pub struct Output {
    /// Its name.
    pub bench: String,
    /// The commit that was measured.
    pub commit: String,
    /// Where.
    pub machine: machine::Machine,
    /// What was chosen, and what was measured.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Bench {
    /// Its name on the command line.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Whether it has these parts, which may then be measured alone.
    ///
    /// # Errors
    /// When it has no such part.
    pub fn has_parts(self, only: &[String]) -> Result<()> {
        let parts = match self {
            Bench::Hostile => hostile::attacks(),
            _ => Vec::new(),
        };
        match only.iter().find(|name| !parts.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) if parts.is_empty() => bail!("`{}` is measured whole, it has no part `{name}`", self.name()),
            Some(name) => bail!("`{}` has no part `{name}`; it has {}", self.name(), parts.join(", ")),
        }
    }

    /// Runs it; `quick` is a shortened form whose figures are only good for seeing that it works. `only` names the parts to
    /// measure, if not all.
    ///
    /// # Errors
    /// When it cannot measure, or has no such part.
    pub async fn run(self, quick: bool, only: &[String]) -> Result<Output> {
        self.has_parts(only)?;
        // What the machine does before the benchmark loads it.
        let machine = machine::Machine::look()?;
        let figures = match self {
            Bench::Coldstart => coldstart::run(quick).await?,
            Bench::Deploy => deploy::run(quick).await?,
            Bench::Failover => failover::run(quick).await?,
            Bench::Fleet => fleet::run(quick).await?,
            Bench::Hostile => hostile::run(quick, only).await?,
            Bench::Links => links::run(quick).await?,
            Bench::Placement => {
                let found = heddle_bench_placement::run(quick)?;
                Figures {
                    params: found["params"].clone(),
                    metrics: found["metrics"].clone(),
                }
            }
            Bench::Http => {
                let found = http::run(quick).await?;
                Figures {
                    params: found["params"].clone(),
                    metrics: found["metrics"].clone(),
                }
            }
        };
        Ok(Output {
            bench: self.name(),
            commit: machine::commit(),
            machine,
            figures,
        })
    }
}
