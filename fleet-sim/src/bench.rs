//! `bench fleet`: a scheduler process, a nats-server that syncs each write, and ten thousand pretended hosts.
//!
//! In: how large ([`Size`]) and with which programs ([`Programs`]). Out: figures. One fleet goes through all of it: it
//! joins; a thousand workloads with a thousand replicas each are applied at once; it idles; one workload is applied on the
//! loaded fleet, again and again; ten thousand workloads of one replica are applied side by side; a tenth of the hosts
//! vanish; too much of one zone vanishes, and nothing may move; every host starts again at once.

mod bed;
mod figures;
mod load;
mod phases;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::path::PathBuf;

/// How large the benchmark is.
#[derive(Debug, Clone)]
pub struct Size {
    /// Hosts.
    pub hosts: usize,
    /// Zones that they are dealt to.
    pub zones: usize,
    /// Workloads of the large apply.
    pub workloads: usize,
    /// Replicas of each; 0 has each run once on every host, which costs the planner little and the fan-out the same.
    pub replicas: u32,
    /// Workloads of one replica.
    pub singles: usize,
    /// Of those, applied at the same time.
    pub singles_at_once: usize,
    /// Applies on the loaded fleet, one after the other.
    pub applies: usize,
    /// For how long it idles, in milliseconds.
    pub idle_ms: u64,
}

impl Size {
    /// The whole benchmark, or a shortened form whose figures are only good for seeing that it works.
    pub fn of(quick: bool) -> Self {
        match quick {
            true => Self {
                hosts: 200,
                zones: 4,
                workloads: 20,
                replicas: 50,
                singles: 50,
                singles_at_once: 16,
                applies: 5,
                idle_ms: 500,
            },
            false => Self {
                hosts: 10_000,
                zones: 10,
                workloads: 1_000,
                replicas: 1_000,
                singles: 10_000,
                singles_at_once: 256,
                applies: 100,
                idle_ms: 10_000,
            },
        }
    }

    /// Replicas of the large apply, in all.
    pub fn large(&self) -> u64 {
        let each = match self.replicas {
            0 => self.hosts as u64,
            replicas => u64::from(replicas),
        };
        self.workloads as u64 * each
    }
}

/// The programs that are measured.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `heddle`, or `heddle-fleet-sim` in its place: what has the verbs `scheduler` and `become-child`.
    pub heddle: PathBuf,
    /// nats-server.
    pub nats_server: PathBuf,
}

impl Programs {
    /// Those that `HEDDLE_BIN` and `HEDDLE_NATS_SERVER` name; else this very program, and what is on the PATH.
    ///
    /// # Errors
    /// If there is no nats-server.
    pub fn find() -> Result<Self> {
        let named = |variable: &str| std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
        let heddle = match named("HEDDLE_BIN") {
            Some(heddle) => heddle,
            None => std::env::current_exe().context("failed to find this program")?,
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
        let found = named("HEDDLE_NATS_SERVER").or_else(|| on_path.find(|file| file.is_file()));
        match found {
            Some(nats_server) => Ok(Self { heddle, nats_server }),
            None => bail!(
                "failed to find nats-server on the PATH, and HEDDLE_NATS_SERVER names none; `cargo xtask bench fleet` brings \
                 one"
            ),
        }
    }
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Figures {
    /// What was chosen.
    pub params: Value,
    /// What was measured: each a number, or percentiles. The unit ends the name.
    pub metrics: Value,
}

pub use bed::Bed;
pub use load::{Single, documents, platform, workload};

/// Runs the benchmark.
///
/// # Errors
/// If something cannot be started, does not come about in time, or a replica is started more often than it should be.
pub async fn run(size: &Size, programs: &Programs) -> Result<Figures> {
    let mut bed = Bed::start(size.hosts, size.zones, programs, |_| {}).await?;
    let measured = phases::measure(&mut bed, size).await;
    measured.map_err(|error| error.context(bed.tails()))
}
