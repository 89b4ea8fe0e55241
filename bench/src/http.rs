//! `http`: how many requests a second one agent serves, and how long one takes.
//!
//! In: the guest `hello`. Out: rates with a fresh instance for each request and with instances that are used again,
//! beside plain hyper and bare wasmtime-wasi-http on the same engine in the same run; and latencies with one route and
//! with ten thousand. Servers and load share the machine: the load is one thread of our own, the same for all, and the
//! subjects take turns, so that what else the machine does hits them alike.

pub(crate) mod load;
pub(crate) mod subject;

use anyhow::{Context, Result};
use load::{Load, Measured};
use serde_json::{Value, json};
use std::time::Duration;
use subject::{Subject, Subjects};

/// Routes of the large table.
const ROUTES: usize = 10_000;

/// How long and how often is measured.
struct Plan {
    rounds: usize,
    slice: Duration,
}

impl Plan {
    fn of(quick: bool) -> Self {
        match quick {
            true => Self {
                rounds: 3,
                slice: Duration::from_millis(300),
            },
            false => Self {
                rounds: 11,
                slice: Duration::from_millis(1_500),
            },
        }
    }
}

/// Runs the benchmark. Returns its parameters and metrics.
pub async fn run(quick: bool) -> Result<Value> {
    // The servers have a runtime of their own, so that what called us does not count as theirs.
    tokio::task::spawn_blocking(move || measure(&Plan::of(quick)))
        .await
        .context("failed to run the http benchmark")?
}

fn measure(plan: &Plan) -> Result<Value> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()?;
    let subjects = runtime.block_on(Subjects::start(ROUTES))?;
    let mut series: Vec<Series> = SERIES.iter().map(Series::new).collect();
    for round in 0..=plan.rounds {
        // The first round warms everything up and is not counted.
        let slice = if round == 0 { plan.slice / 4 } else { plan.slice };
        for series in &mut series {
            let target = subjects.target(series.spec.subject);
            let measured = Load {
                connections: series.spec.connections,
                slice,
            }
            .run(&target)?;
            if round > 0 {
                series.rounds.push(measured);
            }
        }
        eprintln!("http: round {round} of {} done", plan.rounds);
    }
    let lookup = subjects.lookup_ns();
    runtime.block_on(subjects.stop());
    runtime.shutdown_timeout(Duration::from_secs(5));
    Ok(json!({
        "params": {
            "rounds": plan.rounds, "slice_ms": plan.slice.as_millis(), "routes": ROUTES,
            "guest": "hello", "server_threads": workers, "load_threads": 1,
        },
        "metrics": metrics(&series, lookup),
    }))
}

/// One subject at one number of connections.
struct Spec {
    name: &'static str,
    subject: Subject,
    connections: usize,
}

const SERIES: [Spec; 10] = [
    Spec {
        name: "fresh_c16",
        subject: Subject::Fresh,
        connections: 16,
    },
    Spec {
        name: "wasmtime_c16",
        subject: Subject::Wasmtime,
        connections: 16,
    },
    Spec {
        name: "reuse_c16",
        subject: Subject::Reuse,
        connections: 16,
    },
    Spec {
        name: "hyper_c16",
        subject: Subject::Hyper,
        connections: 16,
    },
    Spec {
        name: "fresh_c1",
        subject: Subject::Fresh,
        connections: 1,
    },
    Spec {
        name: "wasmtime_c1",
        subject: Subject::Wasmtime,
        connections: 1,
    },
    Spec {
        name: "reuse_c1",
        subject: Subject::Reuse,
        connections: 1,
    },
    Spec {
        name: "hyper_c1",
        subject: Subject::Hyper,
        connections: 1,
    },
    Spec {
        name: "1_route",
        subject: Subject::OneRoute,
        connections: 1,
    },
    Spec {
        name: "10000_routes",
        subject: Subject::ManyRoutes,
        connections: 1,
    },
];

struct Series {
    spec: &'static Spec,
    rounds: Vec<Measured>,
}

impl Series {
    fn new(spec: &'static Spec) -> Self {
        Self {
            spec,
            rounds: Vec::new(),
        }
    }

    fn each(&self, of: impl Fn(&Measured) -> f64) -> Vec<f64> {
        self.rounds.iter().map(of).collect()
    }
}

fn metrics(series: &[Series], lookup_ns: [f64; 2]) -> Value {
    let mut metrics = serde_json::Map::new();
    let mut put = |name: String, value: Value| metrics.insert(name, value);
    let by_name = |name: &str| series.iter().find(|series| series.spec.name == name);
    for series in series {
        let name = series.spec.name;
        if matches!(series.spec.subject, Subject::OneRoute | Subject::ManyRoutes) {
            put(format!("p50_us_{name}"), round1(median(&series.each(Measured::p50_us))));
            put(format!("p99_us_{name}"), round1(median(&series.each(Measured::p99_us))));
        } else {
            let rates = series.each(Measured::per_second);
            put(format!("rps_{name}"), json!(median(&rates).round()));
            put(format!("rps_{name}_spread"), spread(&rates));
            put(format!("p50_us_{name}"), round1(median(&series.each(Measured::p50_us))));
            put(format!("p99_us_{name}"), round1(median(&series.each(Measured::p99_us))));
        }
    }
    for (ratio, ours, theirs) in [
        ("fresh_to_wasmtime_ratio", "fresh_c16", "wasmtime_c16"),
        ("fresh_to_wasmtime_c1_ratio", "fresh_c1", "wasmtime_c1"),
        ("reuse_to_hyper_ratio", "reuse_c16", "hyper_c16"),
    ] {
        if let (Some(ours), Some(theirs)) = (by_name(ours), by_name(theirs)) {
            // Of neighbours in time: what slows the machine down slows down both.
            let pairs = ours.rounds.iter().zip(&theirs.rounds);
            let ratios: Vec<f64> = pairs
                .map(|(ours, theirs)| ours.per_second() / theirs.per_second())
                .collect();
            put(ratio.to_owned(), round3(median(&ratios)));
        }
    }
    put("lookup_ns_1_route".to_owned(), round1(lookup_ns[0]));
    put("lookup_ns_10000_routes".to_owned(), round1(lookup_ns[1]));
    Value::Object(metrics)
}

/// The middle value; of two, the mean.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (n, middle) if n % 2 == 1 => sorted[middle],
        (_, middle) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

fn spread(values: &[f64]) -> Value {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    json!({ "p50": median(values).round(), "min": least.round(), "max": most.round(), "n": values.len() })
}

fn round1(value: f64) -> Value {
    json!((value * 10.0).round() / 10.0)
}

fn round3(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}
