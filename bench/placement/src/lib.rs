//! How fast the planner places replicas: the pure core on one thread, without store, network or agents.
//!
//! In: whether to be quick. Out: parameters and metrics as JSON. A placement counts once it is decided and carried out in
//! the scheduler's world, its index brought up to date. Taking in what is meant (reading records) is not counted; it is
//! the same whatever plans. All times are the thread's own on the processor, so that they mean the same on a busy machine.

pub mod fleet;

use anyhow::{Result, ensure};
use fleet::{Fleet, Lacking, processor_time};
use heddle_protocol::id::WorkloadId;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Replicas decided in one plan: what comes in while one commit is under way joins the next.
const PLAN_REPLICAS: u32 = 10_000;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Hosts of the three fleets.
    hosts: [usize; 3],
    /// Replicas that are placed before anything is measured.
    placed: [u64; 3],
    /// Replicas placed for each figure.
    replicas: u32,
    /// One-replica workloads placed for each figure.
    singles: u32,
    /// Single decisions.
    decisions: u32,
    /// Questions why a workload is where it is, or is not.
    questions: u32,
}

const FULL: Extent = Extent {
    hosts: [1_000, 10_000, 100_000],
    placed: [100_000, 1_000_000, 1_000_000],
    replicas: 400_000,
    singles: 20_000,
    decisions: 2_000,
    questions: 50,
};

const QUICK: Extent = Extent {
    hosts: [300, 600, 1_200],
    placed: [3_000, 6_000, 12_000],
    replicas: 12_000,
    singles: 500,
    decisions: 100,
    questions: 5,
};

/// Measures.
///
/// # Errors
/// If a record cannot be made, or a replica found no place: the figures would not mean what they say.
pub fn run(quick: bool) -> Result<Value> {
    let extent = if quick { QUICK } else { FULL };
    let (began, began_cpu) = (Instant::now(), processor_time());
    let [small, middle, large] = extent.hosts;
    let [small_placed, middle_placed, large_placed] = extent.placed;

    tell(&format!("{middle} hosts, {middle_placed} replicas placed before"));
    let empty_bytes = resident_bytes();
    let mut fleet = Fleet::new(middle)?;
    let hosts_bytes = resident_bytes();
    fill(&mut fleet, middle_placed)?;
    let bytes_per_instance = resident_bytes().saturating_sub(hosts_bytes) as f64 / middle_placed as f64;
    let host_bytes = hosts_bytes.saturating_sub(empty_bytes) as f64 / middle as f64;
    let classes = fleet.classes;
    let middle = Rates::measure(&fleet, extent)?;
    tell("required anti-affinity");
    let apart = rate(&mut fleet.clone(), extent.replicas, 1_000, true)?;
    tell("single decisions");
    let decide_us = decisions(&mut fleet, extent.decisions)?;
    tell("explanations");
    let explained = explanations(&mut fleet, extent.questions)?;
    drop(fleet);

    tell("the same memory in fleets of each size");
    let memory = extent
        .hosts
        .map(|hosts| same_memory(hosts, large, large_placed, extent.replicas / 2));
    let memory: Vec<f64> = memory.into_iter().collect::<Result<_>>()?;

    tell(&format!("{small} hosts, {small_placed} replicas placed before"));
    let mut fleet = Fleet::new(small)?;
    fill(&mut fleet, small_placed)?;
    let small_rates = Rates::measure(&fleet, extent)?;
    drop(fleet);

    tell(&format!("{large} hosts, {large_placed} replicas placed before"));
    let mut fleet = Fleet::new(large)?;
    fill(&mut fleet, large_placed)?;
    let large_rates = Rates::measure(&fleet, extent)?;

    let sizes = extent.hosts.map(|hosts| hosts as f64);
    let exponent = |rate: fn(&Rates) -> f64| {
        let costs = [&small_rates, &middle, &large_rates].map(|rates| 1.0 / rate(rates));
        rounded(fitted_exponent(&sizes, &costs), 3)
    };
    let memory_costs: Vec<f64> = memory.iter().map(|rate| 1.0 / rate).collect();
    // In the smallest fleets a plan touches all hosts, and those that lie beside each other come along with each other.
    let (large_sizes, large_costs) = (sizes.split_at(1).1, memory_costs.split_at(1).1);
    let share = processor_time().saturating_sub(began_cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    Ok(json!({
        "params": {
            "clock": "thread CPU time", "cpu_share": rounded(share, 2),
            "hosts": extent.hosts, "placed_before": extent.placed, "host_classes": classes,
            "replicas_per_figure": extent.replicas, "singles_per_figure": extent.singles,
            "replicas_per_plan": PLAN_REPLICAS, "threads": 1,
        },
        "metrics": {
            "per_s_1k_hosts_1000_each": whole(small_rates.thousand),
            "per_s_1k_hosts_10_each": whole(small_rates.ten),
            "singles_per_s_1k_hosts": whole(small_rates.single),
            "per_s_10k_hosts_1000_each": whole(middle.thousand),
            "per_s_10k_hosts_10_each": whole(middle.ten),
            "singles_per_s_10k_hosts": whole(middle.single),
            "per_s_100k_hosts_1000_each": whole(large_rates.thousand),
            "per_s_100k_hosts_10_each": whole(large_rates.ten),
            "singles_per_s_100k_hosts": whole(large_rates.single),
            "per_s_10k_hosts_1000_each_apart": whole(apart),
            "anti_affinity_ratio": rounded(apart / middle.thousand, 3),
            "fleet_size_exponent": exponent(|rates| rates.thousand),
            "fleet_size_exponent_10_each": exponent(|rates| rates.ten),
            "fleet_size_exponent_singles": exponent(|rates| rates.single),
            "per_s_same_memory_1000_each": memory.iter().map(|rate| whole(*rate)).collect::<Vec<_>>(),
            "fleet_size_exponent_same_memory": rounded(fitted_exponent(&sizes, &memory_costs), 3),
            "fleet_size_exponent_same_memory_10k_to_100k": rounded(fitted_exponent(large_sizes, large_costs), 3),
            "bytes_per_instance": rounded(bytes_per_instance, 1),
            "bytes_per_host": rounded(host_bytes, 0),
            "decide_us": decide_us,
            "explain_1000_placed_us": explained.thousand,
            "explain_1_placed_us": explained.single,
            "explain_refused_by_label_us": explained.no_label,
            "explain_refused_by_memory_us": explained.no_memory,
        }
    }))
}

/// Replicas placed per second, by how many a workload has.
#[derive(Debug, Clone, Copy)]
struct Rates {
    thousand: f64,
    ten: f64,
    single: f64,
}

impl Rates {
    fn measure(fleet: &Fleet, extent: Extent) -> Result<Self> {
        Ok(Self {
            thousand: rate(&mut fleet.clone(), extent.replicas, 1_000, false)?,
            ten: rate(&mut fleet.clone(), extent.replicas / 4, 10, false)?,
            single: rate(&mut fleet.clone(), extent.singles, 1, false)?,
        })
    }
}

/// Places workloads of 1,000 replicas, one in each plan, in fleets of one size that have so many hosts together. Each plan finds
/// its fleet as far from the processor as one fleet of all hosts is: what differs between sizes is the work alone.
fn same_memory(hosts: usize, together: usize, placed: u64, replicas: u32) -> Result<f64> {
    let count = (together / hosts).max(1);
    let mut fleets = (0..count).map(|_| Fleet::new(hosts)).collect::<Result<Vec<_>>>()?;
    for fleet in &mut fleets {
        fill(fleet, placed / count as u64)?;
    }
    let (mut took, mut meant, mut got) = (Duration::ZERO, 0, 0);
    let each = replicas.min(1_000);
    'all: loop {
        for fleet in &mut fleets {
            if meant >= replicas {
                break 'all;
            }
            let id = fleet.mean(each, false)?;
            meant += each;
            let (time, placed) = fleet.decide(BTreeSet::from([id]));
            took += time;
            got += placed;
        }
    }
    ensure!(
        got == u64::from(meant),
        "failed to measure: {got} of {meant} replicas found a place"
    );
    let per_s = got as f64 / took.as_secs_f64();
    tell(&format!("{count} fleets of {hosts} hosts: {per_s:.0} a second"));
    Ok(per_s)
}

fn fill(fleet: &mut Fleet, replicas: u64) -> Result<()> {
    let replicas = u32::try_from(replicas)?;
    rate(fleet, replicas, 1_000.min(replicas), false)?;
    Ok(())
}

/// Places replicas of workloads that have so many each, and returns how many a second.
fn rate(fleet: &mut Fleet, replicas: u32, each: u32, apart: bool) -> Result<f64> {
    let per_plan = (PLAN_REPLICAS / each).clamp(1, 1_000);
    let mut meant = 0;
    let (mut took, mut placed) = (Duration::ZERO, 0);
    while meant < replicas {
        let mut ids = BTreeSet::new();
        for _ in 0..per_plan.min((replicas - meant).div_ceil(each)) {
            ids.insert(fleet.mean(each, apart)?);
            meant += each;
        }
        let (time, count) = fleet.decide(ids);
        took += time;
        placed += count;
    }
    ensure!(
        placed == u64::from(meant),
        "failed to measure: {placed} of {meant} replicas found a place"
    );
    let per_s = placed as f64 / took.as_secs_f64();
    tell(&format!("{each} each: {per_s:.0} a second"));
    Ok(per_s)
}

/// How long it takes to decide on one workload with one replica.
fn decisions(fleet: &mut Fleet, count: u32) -> Result<Value> {
    let mut times = Vec::new();
    for _ in 0..count {
        let id = fleet.mean(1, false)?;
        let (took, placed) = fleet.decide(BTreeSet::from([id]));
        ensure!(placed == 1, "failed to measure: one replica found no place");
        times.push(took.as_secs_f64() * 1_000_000.0);
    }
    Ok(ranks(times))
}

/// How long it takes to say why.
struct Explained {
    /// A workload with 1,000 replicas that are placed.
    thousand: Value,
    /// One with one.
    single: Value,
    /// One that every host refuses for a label.
    no_label: Value,
    /// One that every host refuses for its memory, each with a number of its own.
    no_memory: Value,
}

fn explanations(fleet: &mut Fleet, count: u32) -> Result<Explained> {
    let thousand = fleet.mean(1_000, false)?;
    let thousand = asked(fleet, &thousand, 1_000, count)?;
    let single = fleet.mean(1, false)?;
    let single = asked(fleet, &single, 1, count)?;
    let no_label = fleet.mean_impossible(Lacking::Label)?;
    let no_label = asked(fleet, &no_label, 0, count)?;
    let no_memory = fleet.mean_impossible(Lacking::Memory)?;
    let no_memory = asked(fleet, &no_memory, 0, count)?;
    Ok(Explained {
        thousand,
        single,
        no_label,
        no_memory,
    })
}

/// Decides on a workload, and asks so often why.
fn asked(fleet: &mut Fleet, id: &WorkloadId, replicas: u64, count: u32) -> Result<Value> {
    let (_, placed) = fleet.decide(BTreeSet::from([id.clone()]));
    ensure!(
        placed == replicas,
        "failed to measure: {placed} of {replicas} replicas of {id} found a place"
    );
    let times = (0..count).map(|_| Ok(fleet.explain(id)?.as_secs_f64() * 1_000_000.0));
    Ok(ranks(times.collect::<Result<_>>()?))
}

/// The middle and the ends of measured times.
fn ranks(mut times: Vec<f64>) -> Value {
    times.sort_by(f64::total_cmp);
    let rank = |share: f64| {
        let at = (share * times.len() as f64).ceil() as usize;
        rounded(times.get(at.saturating_sub(1)).copied().unwrap_or(0.0), 1)
    };
    json!({ "p50": rank(0.50), "p99": rank(0.99), "max": rank(1.0), "n": times.len() })
}

/// The slope of the line through the logarithms, by least squares.
fn fitted_exponent(sizes: &[f64], costs: &[f64]) -> f64 {
    let points: Vec<(f64, f64)> = sizes.iter().zip(costs).map(|(s, c)| (s.ln(), c.ln())).collect();
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let covariance: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let variance: f64 = points.iter().map(|p| (p.0 - x) * (p.0 - x)).sum();
    covariance / variance
}

/// Memory of this process that is in use.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * 4_096
}

fn whole(per_s: f64) -> f64 {
    per_s.round()
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// Progress, for whoever waits.
fn tell(what: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_of_a_power_is_found() {
        let sizes = [1_000.0, 10_000.0, 100_000.0];
        assert!((fitted_exponent(&sizes, &sizes.map(|s: f64| 3.0 * s.powf(0.5))) - 0.5).abs() < 1e-9);
        assert!(fitted_exponent(&sizes, &[2.0, 2.0, 2.0]).abs() < 1e-9);
    }
}
