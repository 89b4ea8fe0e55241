//! How long an apply takes until what it wants runs.
//!
//! One fleet of three idle hosts that have compiled the component before. A single workload is applied, waited for,
//! and deleted again, many times; then a hundred at once, then a thousand. The clock runs from sending the apply to the
//! scheduler's word that every replica is ready. Commits and NATS messages are counted beside it: what each apply costs
//! the store and the network, whatever the machine.

use crate::Figures;
use crate::stats::{ms, percentiles, round};
use anyhow::{Context as _, Result, ensure};
use heddle_protocol::api::apply::Apply;
use heddle_protocol::api::objects::{Delete, ObjectKind, ObjectRef};
use heddle_protocol::id::{Generation, WorkloadId};
use heddle_protocol::record::WaitTarget;
use heddle_tests::cluster::turn;
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::manifest::{PLATFORM, hello, together};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const HOSTS: usize = 3;
/// For a thousand workloads that reserve 64 MiB each, with room to spare; it is reserved and not used.
const MEMORY: &str = "64Gi";
const RUNS_WITHIN: Duration = Duration::from_secs(120);

struct Plan {
    applies: usize,
    hundreds: usize,
    thousands: usize,
}

impl Plan {
    fn of(quick: bool) -> Self {
        match quick {
            true => Self {
                applies: 20,
                hundreds: 1,
                thousands: 1,
            },
            false => Self {
                applies: 200,
                hundreds: 7,
                thousands: 5,
            },
        }
    }
}

/// What one apply cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    ms: f64,
    commits: f64,
    messages: f64,
}

/// Runs the benchmark.
pub async fn run(quick: bool) -> Result<Figures> {
    let _turn = turn()?;
    let plan = Plan::of(quick);
    let options = FleetOptions::hosts(HOSTS).memory(MEMORY);
    let mut fleet = Fleet::start(&options).await?;
    let measured = measure(&mut fleet, &plan).await;
    measured.map_err(|error| error.context(fleet.tails()))
}

async fn measure(fleet: &mut Fleet, plan: &Plan) -> Result<Figures> {
    // Every host compiles the component now, so that no measured apply waits for that.
    fleet
        .apply_and_wait(&together([
            PLATFORM.to_owned(),
            hello("warm").replicas(HOSTS as u32).yaml(),
        ]))
        .await?;
    let singles = trials(fleet, 1, plan.applies).await?;
    let hundreds = trials(fleet, 100, plan.hundreds).await?;
    let thousands = trials(fleet, 1_000, plan.thousands).await?;
    let p = |costs: &[Cost]| percentiles(&costs.iter().map(|cost| cost.ms).collect::<Vec<_>>());
    let mean =
        |costs: &[Cost], of: fn(&Cost) -> f64| round(costs.iter().map(of).sum::<f64>() / costs.len().max(1) as f64);
    let (hundred, thousand) = (p(&hundreds), p(&thousands));
    Ok(Figures {
        params: json!({
            "hosts": HOSTS,
            "applies": plan.applies,
            "batches_of_100": plan.hundreds,
            "batches_of_1000": plan.thousands,
            "replicas_per_workload": 1,
            "nats_sync_interval": "always",
        }),
        metrics: json!({
            "apply_to_running_ms": p(&singles),
            "batch_100_ms": hundred,
            "batch_1000_ms": thousand,
            "batch_100_per_workload_ms": round(hundred.p50 / 100.0),
            "batch_1000_per_workload_ms": round(thousand.p50 / 1_000.0),
            "per_workload_1000_to_100_ratio": round(thousand.p50 / 10.0 / hundred.p50.max(0.001)),
            "commits_per_apply": mean(&singles, |cost| cost.commits),
            "commits_per_batch_1000": mean(&thousands, |cost| cost.commits),
            "nats_messages_per_workload": mean(&singles, |cost| cost.messages),
            "nats_messages_per_workload_in_batch_1000": round(mean(&thousands, |cost| cost.messages) / 1_000.0),
        }),
    })
}

async fn trials(fleet: &mut Fleet, workloads: usize, trials: usize) -> Result<Vec<Cost>> {
    let mut costs = Vec::with_capacity(trials);
    for trial in 0..trials {
        let names: Vec<String> = (0..workloads).map(|i| format!("w-{trial}-{i}")).collect();
        costs.push(apply(fleet, &names).await?);
        delete(fleet, &names).await?;
        if trial % 50 == 49 || workloads > 1 {
            eprintln!("deploy: {workloads} at once, {} of {trials} done", trial + 1);
        }
    }
    Ok(costs)
}

async fn apply(fleet: &mut Fleet, names: &[String]) -> Result<Cost> {
    let yaml = together(names.iter().map(|name| hello(name).yaml()));
    // Reading the manifest and asking whether the component is there belongs to whoever writes it.
    let apply = Apply {
        documents: fleet.documents(&yaml).await?,
        at: None,
    };
    let targets = targets(names, Some(Generation(1)))?;
    let (commits, messages) = (fleet.info().await?.commit, messages(fleet).await?);
    let started = Instant::now();
    let applied = fleet.ask(&apply).await?;
    fleet.wait(targets, RUNS_WITHIN).await?;
    let took = started.elapsed();
    let (commits_after, messages_after) = (fleet.info().await?.commit, self::messages(fleet).await?);
    ensure!(
        applied.objects.len() == names.len(),
        "{} of {} were applied",
        applied.objects.len(),
        names.len()
    );
    Ok(Cost {
        ms: ms(took),
        commits: commits_after.saturating_sub(commits) as f64,
        messages: messages_after - messages,
    })
}

async fn delete(fleet: &Fleet, names: &[String]) -> Result<()> {
    let object = |name: &String| ObjectRef {
        kind: ObjectKind::Workload,
        name: format!("default/{name}"),
    };
    fleet
        .ask(&Delete {
            objects: names.iter().map(object).collect(),
            ignore_missing: false,
        })
        .await?;
    fleet.wait(targets(names, None)?, RUNS_WITHIN).await
}

fn targets(names: &[String], generation: Option<Generation>) -> Result<Vec<WaitTarget>> {
    names
        .iter()
        .map(|name| {
            Ok(WaitTarget {
                workload: WorkloadId::parse(name)?,
                generation,
            })
        })
        .collect()
}

/// Messages that clients have sent to NATS so far: requests, answers, writes, acknowledgements, heartbeats.
async fn messages(fleet: &mut Fleet) -> Result<f64> {
    let told: Value = fleet.nats().tell("/varz").await?;
    told["in_msgs"]
        .as_f64()
        .context("nats-server does not tell its messages")
}
