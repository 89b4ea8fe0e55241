//! What a benchmark ran on: figures mean nothing without it.

use crate::stats::{ms, percentiles, round};
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Syncs that are timed; the median is told.
const SYNCS: usize = 21;

/// A machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// Processors that this program may use.
    pub cores: usize,
    /// The processor's name.
    pub cpu: String,
    /// Memory in all.
    pub mem_gib: f64,
    /// The load of the last minute: whether something else ran too.
    pub load1: f64,
    /// How long a small write takes until it is on disk, where the fleets keep their data.
    pub fsync_ms: f64,
}

impl Machine {
    /// Looks at this one.
    pub fn look() -> Result<Self> {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: f64 = memory.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
        let load = read("/proc/loadavg");
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            mem_gib: round(kib / 1_024.0 / 1_024.0),
            load1: load.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0),
            fsync_ms: fsync_ms()?,
        })
    }
}

fn fsync_ms() -> Result<f64> {
    let mut file = tempfile::NamedTempFile::new().context("failed to make a file to sync")?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[0; 4_096])?;
        let started = Instant::now();
        file.as_file().sync_data().context("failed to sync a file")?;
        times.push(ms(started.elapsed()));
    }
    Ok(percentiles(&times).p50)
}

/// The commit of this clone, with `+` if files differ from it.
pub fn commit() -> String {
    let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |args: &[&str]| {
        let said = Command::new("git").arg("-C").arg(clone).args(args).output().ok()?;
        said.status
            .success()
            .then(|| String::from_utf8_lossy(&said.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|lines| !lines.is_empty());
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        Some(commit) if changed => format!("{commit}+"),
        Some(commit) => commit,
        None => "unknown".to_owned(),
    }
}
