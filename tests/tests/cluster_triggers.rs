//! What calls workloads beside HTTP, on a fleet of real processes: messages, points in time, services and jobs. The guests
//! count in key-value buckets of NATS, one for each workload, where the tests read what really ran.

use anyhow::{Context as _, Result, ensure};
use async_nats::{Client, jetstream};
use futures::{StreamExt as _, TryStreamExt as _};
use heddle_protocol::api::status::{WorkloadState, WorkloadStatus};
use heddle_tests::cluster::{Outcome, cluster};
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::manifest::example;
use heddle_tests::until::{eventually, throughout};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);
/// A minute, the finest that a schedule can say, and some time to run.
const NEXT_MINUTE: Duration = Duration::from_secs(75);

/// What all platforms of these tests lend, with a bucket of its own for each workload.
fn platform(workloads: &[&str]) -> String {
    let buckets = workloads
        .iter()
        .map(|name| format!("    {name}-counts: {{ keyvalue: {{ nats: {{ bucket: {name} }} }} }}\n"));
    format!(
        "apiVersion: heddle.dev/v1\nkind: Platform\nmetadata: {{ name: triggers }}\nspec:\n  hosts: {{}}\n\
         \x20 capabilities:\n    web: {{ http: {{ listen: \"127.0.0.1:8080\" }} }}\n\
         \x20   events: {{ messaging: {{ jetstream: {{ stream: ORDERS, subjects: [\"orders.>\"], deadLetters: dead }} }} }}\n\
         \x20   bus: {{ messaging: {{ nats: {{ subjects: [\"fast.>\", \"orders.confirmed\"] }} }} }}\n{}",
        buckets.collect::<String>()
    )
}

/// A workload of one guest that counts; `links` and `rest` are lines of the manifest.
fn workload(name: &str, guest: &str, config: &str, links: &[String], rest: &str) -> String {
    let counts = ["store", "atomics"].map(|interface| {
        format!("{{ from: main, import: \"wasi:keyvalue/{interface}\", to: {{ capability: {name}-counts }} }}")
    });
    let links: Vec<&str> = counts.iter().chain(links).map(String::as_str).collect();
    format!(
        "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: {name} }}\nspec:\n  components:\n\
         \x20   - {{ name: main, image: \"file:{guest}.wasm\"{config} }}\n  links: [{}]\n{rest}",
        links.join(", ")
    )
}

/// A workload that takes orders through a capability from a subject.
fn orders(name: &str, capability: &str, subject: &str, replicas: u32) -> String {
    let sends =
        format!("{{ from: main, import: \"wasmcloud:messaging/consumer\", to: {{ capability: {capability} }} }}");
    let rest = format!(
        "  triggers:\n    - messaging: {{ capability: {capability}, subject: {subject}, attempts: 2 }}\n\
         \x20   - http: {{ capability: web, path: /{name} }}\n  replicas: {replicas}\n"
    );
    workload(name, "orders", "", &[sends], &rest)
}

/// A job whose first runs fail.
fn report(name: &str, failures: u32) -> String {
    let config = format!(", config: [{{ values: {{ failures: \"{failures}\" }} }}]");
    workload(name, "report", &config, &[], "  job: { attempts: 2 }\n")
}

/// Several documents as one change.
fn together(documents: &[String]) -> String {
    documents.join("---\n")
}

/// A client of the data plane, beside the fleet.
async fn nats(fleet: &Fleet) -> Result<Client> {
    async_nats::connect(fleet.nats_url())
        .await
        .context("failed to connect to NATS")
}

/// What a guest has counted under a key of a bucket; most tests name the bucket as the workload.
async fn count(nats: &Client, bucket: &str, key: &str) -> Result<u64> {
    let Ok(bucket) = jetstream::new(nats.clone()).get_key_value(bucket).await else {
        return Ok(0);
    };
    let keys: Vec<String> = bucket.keys().await?.try_collect().await?;
    let suffix = format!(".{key}");
    let Some(found) = keys.iter().find(|name| name.ends_with(&suffix)) else {
        return Ok(0);
    };
    let value = bucket.get(found).await?.unwrap_or_default();
    let text = std::str::from_utf8(&value)?;
    text.parse().with_context(|| format!("{found} is {text:?}"))
}

async fn counted(nats: &Client, bucket: &str, key: &str, at_least: u64) -> Result<u64> {
    eventually(SOON, &format!("{bucket} has {at_least} {key}"), async || {
        let count = count(nats, bucket, key).await?;
        ensure!(count >= at_least, "{count}");
        Ok(count)
    })
    .await
}

async fn in_state(fleet: &Fleet, name: &str, state: WorkloadState) -> Result<WorkloadStatus> {
    eventually(SOON, &format!("{name} is {}", state.as_str()), async || {
        let status = fleet.status(name).await?;
        ensure!(status.state == state, "{status:#?}");
        Ok(status)
    })
    .await
}

async fn order(stream: &jetstream::Context, body: impl ToString) -> Result<()> {
    let sent = stream.publish("orders.new", body.to_string().into()).await?;
    sent.await.map(drop).context("the stream did not keep an order")
}

#[test]
fn messages_of_a_stream_outlive_a_host_and_those_that_fail_become_dead_letters() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        let documents = [platform(&["shop"]), orders("shop", "events", "orders.new", 2)];
        fleet.apply_and_wait(&together(&documents)).await?;
        let nats = nats(fleet).await?;
        let stream = jetstream::new(nats.clone());
        eventually(SOON, "the stream is made", async || {
            Ok(stream.get_stream("ORDERS_dead_letters").await.map(drop)?)
        })
        .await?;
        let mut confirmed = nats.subscribe("orders.confirmed").await?;
        let mut dead = nats.subscribe("dead.>").await?;
        nats.flush().await?;
        order(&stream, 7).await?;
        let seen = tokio::time::timeout(SOON, confirmed.next()).await?.context("no word")?;
        ensure!(seen.payload == "7", "{seen:?}");
        // Tried twice, then kept where somebody looks at it.
        order(&stream, "nonsense").await?;
        let letter = tokio::time::timeout(SOON, dead.next())
            .await?
            .context("no dead letter")?;
        ensure!(
            letter.subject.as_str() == "dead.orders.new" && letter.payload == "nonsense",
            "{letter:?}"
        );
        let header = |name: &str| {
            letter
                .headers
                .as_ref()
                .and_then(|all| all.get(name))
                .map(|v| v.as_str())
        };
        ensure!(header("Heddle-Deliveries") == Some("2"), "{letter:?}");
        ensure!(header("Heddle-Workload") == Some("default/shop"), "{letter:?}");
        let reason = header("Heddle-Reason").unwrap_or_default();
        ensure!(reason.contains("is no number of an order"), "{reason}");
        // What a lost host had begun is begun elsewhere, and nothing is lost.
        for number in 0..20 {
            order(&stream, number).await?;
        }
        fleet.agent("host-1")?.process.kill()?;
        for number in 20..40 {
            order(&stream, number).await?;
        }
        counted(&nats, "shop", "orders", 41).await?;
        let told = fleet.serves("host-2", "/shop", SOON).await?;
        ensure!(told.starts_with("{\"orders\":"), "{told}");
        Ok(())
    })
}

#[test]
fn messages_over_nats_alone_reach_one_replica_and_what_is_not_lent_is_refused() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        let documents = [platform(&["quick"]), orders("quick", "bus", "fast.new", 2)];
        fleet.apply_and_wait(&together(&documents)).await?;
        let nats = nats(fleet).await?;
        let mut confirmed = nats.subscribe("orders.confirmed").await?;
        nats.flush().await?;
        // Who subscribes is told by the server; what is sent before that is gone.
        eventually(SOON, "both hosts have subscribed", async || {
            let told = fleet.nats().tell("/subsz?subs=1").await?;
            let list = told["subscriptions_list"].as_array().cloned().unwrap_or_default();
            let takers = list.iter().filter(|one| one["subject"] == "fast.new").count();
            ensure!(takers == 2, "{takers}");
            Ok(())
        })
        .await?;
        for number in 0..20 {
            nats.publish("fast.new", number.to_string().into()).await?;
        }
        for _ in 0..20 {
            tokio::time::timeout(SOON, confirmed.next()).await?.context("no word")?;
        }
        ensure!(count(&nats, "quick", "orders").await? == 20, "an order was taken twice");
        let elsewhere = orders("greedy", "bus", "payments.new", 1);
        let refused = fleet
            .apply_refused(&together(&[platform(&["quick", "greedy"]), elsewhere]))
            .await?;
        ensure!(format!("{refused:?}").contains("payments.new"), "{refused:?}");
        Ok(())
    })
}

#[test]
fn a_job_is_completed_or_failed_and_never_begins_again() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        let documents = [platform(&["good", "bad"]), report("good", 1), report("bad", 9)];
        fleet.apply(&together(&documents)).await?;
        let good = in_state(fleet, "good", WorkloadState::Completed).await?;
        let job = good.job.context("it tells nothing of its job")?;
        ensure!((job.completed, job.failed) == (1, 0), "{job:?}");
        let bad = in_state(fleet, "bad", WorkloadState::Failed).await?;
        let job = bad.job.context("it tells nothing of its job")?;
        ensure!((job.completed, job.failed) == (0, 1), "{job:?}");
        let reason = job.reason.unwrap_or_default();
        ensure!(reason.contains("failed 2 times"), "{reason}");
        // Not even with another scheduler.
        fleet.scheduler().kill()?;
        fleet.scheduler().start_again()?;
        fleet.info().await?;
        let nats = nats(fleet).await?;
        throughout(Duration::from_secs(3), "both were tried twice", async || {
            let attempts = (
                count(&nats, "good", "attempts").await?,
                count(&nats, "bad", "attempts").await?,
            );
            ensure!(attempts == (2, 2), "{attempts:?}");
            Ok(())
        })
        .await?;
        in_state(fleet, "good", WorkloadState::Completed).await?;
        in_state(fleet, "bad", WorkloadState::Failed).await?;
        Ok(())
    })
}

#[test]
fn a_service_runs_for_as_long_as_it_is_wanted_and_begins_again_after_growing_pauses() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        let service = "  triggers: [{ service: {} }]\n";
        let short = ", config: [{ values: { rounds: \"1\" } }]";
        let documents = [
            platform(&["brief"]),
            workload("brief", "watch", short, &[], service),
            // It lasts, in two replicas.
            example("watch.yaml")?,
        ];
        fleet.apply(&together(&documents)).await?;
        let nats = nats(fleet).await?;
        counted(&nats, "brief", "starts", 1).await?;
        let began = Instant::now();
        let starts = counted(&nats, "brief", "starts", 4).await?;
        ensure!(starts == 4, "{starts} starts at once");
        // Three pauses, each twice as long as the one before, of which chance takes half at most.
        let took = began.elapsed();
        ensure!(
            took >= Duration::from_millis(1_500),
            "it began again three times within {took:?}"
        );
        counted(&nats, "rounds", "rounds", 20).await?;
        let starts = count(&nats, "rounds", "starts").await?;
        ensure!(starts == 2, "two replicas began {starts} times");
        fleet.delete("watch").await?;
        fleet.wait_gone("watch").await?;
        let rounds = count(&nats, "rounds", "rounds").await?;
        throughout(Duration::from_secs(1), "it has stopped", async || {
            let now = count(&nats, "rounds", "rounds").await?;
            ensure!(now == rounds, "{rounds} rounds, and then {now}");
            Ok(())
        })
        .await
    })
}

#[test]
fn a_point_in_time_runs_once_on_one_host() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        fleet.apply_and_wait(&example("tick.yaml")?).await?;
        let nats = nats(fleet).await?;
        let ticks = eventually(NEXT_MINUTE, "the minute has come", async || {
            let ticks = count(&nats, "ticks", "ticks").await?;
            ensure!(ticks > 0, "no tick");
            Ok(ticks)
        })
        .await?;
        ensure!(ticks == 1, "{ticks} ticks at once");
        let fired = fleet.status("tick").await?.fired;
        ensure!(fired.len() == 1 && fired[0].last_due.is_some(), "{fired:?}");
        // Another scheduler knows that this point was fired.
        fleet.scheduler().kill()?;
        fleet.scheduler().start_again()?;
        fleet.info().await?;
        throughout(Duration::from_secs(5), "it ran once", async || {
            let ticks = count(&nats, "ticks", "ticks").await?;
            ensure!(ticks == 1, "{ticks} ticks");
            Ok(())
        })
        .await
    })
}
