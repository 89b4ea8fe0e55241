//! Figures: percentiles of a sample, and what a process did between two looks.

use super::Bed;
use super::bed::Traffic;
use crate::child::Usage;
use crate::counters::Counted;
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The percentiles of some lengths of time, in milliseconds.
pub fn percentiles_ms(sample: &[Duration]) -> Value {
    let mut sorted: Vec<f64> = sample.iter().map(|time| time.as_secs_f64() * 1_000.0).collect();
    sorted.sort_by(f64::total_cmp);
    // The nearest rank: always a value that was really measured.
    let rank = |share: f64| {
        let at = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(at.saturating_sub(1)).map_or(0.0, |value| round(*value))
    };
    json!({"p10": rank(0.1), "p50": rank(0.5), "p90": rank(0.9), "p99": rank(0.99), "max": rank(1.0), "n": sorted.len()})
}

/// Three digits after the point.
pub fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Everything that is counted, at one point in time.
pub struct Look {
    at: Instant,
    scheduler: Usage,
    nats: Usage,
    traffic: Traffic,
    metrics: BTreeMap<String, u64>,
    counted: Counted,
}

/// What happened between two looks.
#[derive(Debug)]
pub struct Between {
    /// How long it was.
    pub time: Duration,
    /// Processor time of the scheduler.
    pub scheduler_cpu: Duration,
    /// Processor time of nats-server.
    pub nats_cpu: Duration,
    /// Messages into NATS.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Commits.
    pub commits: u64,
    /// Plans, and the time spent on them, in milliseconds.
    pub plans: u64,
    /// Milliseconds spent planning.
    pub plan_ms: u64,
    /// What the hosts counted.
    pub counted: Counted,
}

impl Look {
    /// Looks.
    pub async fn take(bed: &Bed) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            scheduler: bed.scheduler.usage()?,
            nats: bed.nats.usage()?,
            traffic: bed.traffic().await?,
            metrics: bed.metrics().await?,
            counted: bed.fleet.counted(),
        })
    }

    /// What happened since an earlier look.
    pub fn since(&self, earlier: &Self) -> Between {
        let number = |look: &Self, name: &str| look.metrics.get(name).copied().unwrap_or(0);
        let more = |name: &str| number(self, name).saturating_sub(number(earlier, name));
        Between {
            time: self.at.duration_since(earlier.at),
            scheduler_cpu: self.scheduler.cpu.saturating_sub(earlier.scheduler.cpu),
            nats_cpu: self.nats.cpu.saturating_sub(earlier.nats.cpu),
            messages: self.traffic.messages.saturating_sub(earlier.traffic.messages),
            bytes: self.traffic.bytes_in.saturating_sub(earlier.traffic.bytes_in),
            commits: more("commits_total"),
            plans: more("plans_total"),
            plan_ms: more("plan_us_total") / 1_000,
            counted: self.counted.since(&earlier.counted),
        }
    }
}

impl Between {
    /// The same as JSON, for a closer look.
    pub fn json(&self) -> Value {
        json!({
            "s": round(self.time.as_secs_f64()),
            "scheduler_cpu_s": round(self.scheduler_cpu.as_secs_f64()),
            "nats_cpu_s": round(self.nats_cpu.as_secs_f64()),
            "nats_messages": self.messages,
            "nats_bytes": self.bytes,
            "commits": self.commits,
            "plans": self.plans,
            "plan_ms": self.plan_ms,
            "hosts": self.counted,
        })
    }
}
