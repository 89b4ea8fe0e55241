//! Links end to end, with real processes: callees in other languages, composed in or called on another host; what a caller
//! sees when its callee's host dies; and that nothing is remote unless the manifest says so.

use anyhow::{Context as _, Result, ensure};
use heddle_protocol::api::explain::Explain;
use heddle_protocol::id::WorkloadId;
use heddle_tests::cluster::{Outcome, cluster};
use heddle_tests::fleet::ask::RUNS_WITHIN;
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::http;
use heddle_tests::load::{Load, LoadOptions};
use heddle_tests::manifest::{PLATFORM, Workload, together};
use heddle_tests::until::eventually;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How soon a fact that needs no compiling is there, on a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// The time that the remote link of these tests gives a call.
const CALL_TIME: Duration = Duration::from_millis(500);
/// What a request may take beside its call, on a busy machine: a connection, an instance, an answer.
const BESIDE: Duration = Duration::from_millis(1_000);

/// A workload without a trigger, for others to link to. `rest` is a line of its spec.
fn greeter(image: &str, rest: &str) -> String {
    format!(
        "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: greeter }}\nspec:\n  components: [{{ name: greeter, \
         image: \"file:{image}\" }}]\n  {rest}\n"
    )
}

/// A workload that answers HTTP with what its link leads to.
fn storefront(name: &str, link: &str) -> Workload {
    Workload::new(name, "file:storefront.wasm").with(&format!(
        "links: [{{ from: main, import: \"example:greet/greeter\", {link} }}]"
    ))
}

const EMBEDDED: &str = "to: { workload: greeter }";
const REMOTE: &str = "to: { workload: greeter, via: wrpc }, timeout: 500ms";

/// A rule for hosts whose label `role` has the value.
fn on(role: &str) -> String {
    format!("placement: {{ require: [{{ \"role\": {{ in: [\"{role}\"] }} }}] }}")
}

/// What nats-server knows of its connections, with their subscriptions.
async fn connections(fleet: &mut Fleet) -> Result<Vec<Value>> {
    let told = fleet.nats().tell("/connz?subs=1&limit=1024").await?;
    Ok(told["connections"].as_array().context("no connections")?.clone())
}

/// Workloads that have a connection of their own: the names of those are `heddle/<namespace>/<workload>`.
fn of_workloads(connections: &[Value]) -> BTreeSet<String> {
    let names = connections.iter().filter_map(|connection| connection["name"].as_str());
    names
        .filter_map(|name| name.strip_prefix("heddle/"))
        .map(str::to_owned)
        .collect()
}

/// The functions that are served to callers over the network, each with the connection that serves it.
fn served(connections: &[Value]) -> BTreeSet<(String, String)> {
    let mut served = BTreeSet::new();
    for connection in connections {
        let name = connection["name"].as_str().unwrap_or_default();
        let subjects = connection["subscriptions_list"].as_array().into_iter().flatten();
        for subject in subjects.filter_map(Value::as_str) {
            if let Some((_, function)) = subject.split_once(".wrpc.0.0.1.") {
                served.insert((name.to_owned(), function.to_owned()));
            }
        }
    }
    served
}

/// Fails if anything of a workload is known to NATS.
async fn nothing_is_remote(fleet: &mut Fleet) -> Result<()> {
    let connections = connections(fleet).await?;
    ensure!(!connections.is_empty(), "nats-server tells of no connection at all");
    let (names, served) = (of_workloads(&connections), served(&connections));
    ensure!(
        names.is_empty() && served.is_empty(),
        "connections {names:?}, served {served:?}"
    );
    Ok(())
}

#[test]
fn a_callee_in_another_language_is_one_component_with_its_caller() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        fleet.apply(PLATFORM).await?;
        for (guest, language) in [("greeter", "Rust"), ("go-greeter", "Go"), ("js-greeter", "JavaScript")] {
            let yaml = format!(
                "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: {guest} }}\nspec:\n  components:\n    \
                 - {{ name: storefront, image: \"file:storefront.wasm\" }}\n    - {{ name: greeter, image: \"file:{guest}.wasm\" }}\n  \
                 links: [{{ from: storefront, import: \"example:greet/greeter\", to: {{ component: greeter }} }}]\n  \
                 triggers: [{{ http: {{ capability: web, path: /{guest} }} }}]\n"
            );
            fleet.apply_and_wait(&yaml).await?;
            let expected = format!("Hello from {language}, Ada!\n");
            for _ in 0..3 {
                ensure!(fleet.serves("host-1", &format!("/{guest}/greet/Ada"), SOON).await? == expected);
                ensure!(fleet.get("host-1", &format!("/{guest}/try/Ada")).await?.ok()? == expected);
            }
            let refused = fleet.get("host-1", &format!("/{guest}/try/")).await?;
            ensure!(
                (refused.status, refused.text().as_str()) == (422, "nobody to greet\n"),
                "{refused:?}"
            );
            ensure!(fleet.get("host-1", &format!("/{guest}/echo/a.b~c")).await?.ok()? == "a.b~c");
        }
        nothing_is_remote(fleet).await
    })
}

#[test]
fn a_new_generation_of_an_embedded_workload_rolls_its_callers_without_one_failed_request() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        let shop = storefront("shop", EMBEDDED).replicas(2).yaml();
        fleet
            .apply_and_wait(&together([PLATFORM, &greeter("greeter.wasm", ""), &shop]))
            .await?;
        let before = fleet
            .status("shop")
            .await?
            .units
            .iter()
            .map(|unit| unit.generation)
            .max();
        ensure!(fleet.serves("host-1", "/shop/greet/Ada", SOON).await?.contains("Rust"));
        let load = Load::start(&LoadOptions::proxied(&["/shop/greet/Ada"]), fleet.webs());
        load.after_more(20).await?;
        fleet.apply_and_wait(&greeter("go-greeter.wasm", "")).await?;
        for host in ["host-1", "host-2"] {
            eventually(RUNS_WITHIN, "the caller has the new callee in it", async || {
                let text = fleet.get(host, "/shop/greet/Ada").await?.ok()?;
                ensure!(text == "Hello from Go, Ada!\n", "{text}");
                Ok(())
            })
            .await?;
        }
        let after = fleet.settled("shop", RUNS_WITHIN).await?.units;
        ensure!(after.iter().map(|unit| unit.generation).max() > before, "{after:?}");
        load.after_more(20).await?;
        load.stop().flawless(40)?;
        nothing_is_remote(fleet).await
    })
}

#[test]
fn one_changed_line_makes_a_link_remote_and_only_that_line_does() -> Outcome {
    let options = FleetOptions::hosts(2).label(1, "role=front").label(2, "role=back");
    cluster(options, async |fleet| {
        let (front, back) = (on("front"), on("back"));
        let local = storefront("shop", EMBEDDED).with("placement: {}").yaml();
        fleet
            .apply_and_wait(&together([PLATFORM, &greeter("greeter.wasm", ""), &local]))
            .await?;
        let host = fleet.spread("shop").await?.into_keys().next().context("nowhere")?;
        let answer = fleet.serves(&host, "/shop/try/Ada", SOON).await?;
        nothing_is_remote(fleet).await?;

        let remote = storefront("shop", REMOTE).with(&front).yaml();
        fleet
            .apply_and_wait(&together([&greeter("greeter.wasm", &back), &remote]))
            .await?;
        // Each function is served under a subject of its own, and one may be known to NATS a moment before another.
        for (path, expected) in [
            ("/shop/try/Ada", answer.as_str()),
            ("/shop/greet/Ada", answer.as_str()),
            ("/shop/echo/a.b~c", "a.b~c"),
        ] {
            eventually(SOON, "the calls over the network answer the same", async || {
                let text = fleet.get("host-1", path).await?.ok()?;
                ensure!(text == expected, "{path}: {text}");
                Ok(())
            })
            .await?;
        }
        ensure!(fleet.get("host-1", "/shop/try/").await?.status == 422);
        ensure!(
            fleet.spread("greeter").await?.contains_key("host-2"),
            "the callee is not on host-2"
        );

        let expected: BTreeSet<(String, String)> = ["echo", "greet", "try-greet"]
            .map(|function| {
                (
                    "heddle/default/greeter".to_owned(),
                    format!("example:greet/greeter@0.1.0.{function}"),
                )
            })
            .into();
        let mut seen = (BTreeSet::new(), BTreeSet::new());
        let both: BTreeSet<String> = ["default/greeter", "default/shop"].map(str::to_owned).into();
        let started = Instant::now();
        while seen != (both.clone(), expected.clone()) {
            ensure!(
                started.elapsed() < SOON,
                "connections and functions served: {seen:?}, not {both:?} and {expected:?}"
            );
            let now = connections(fleet).await?;
            seen = (of_workloads(&now), served(&now));
        }
        Ok(())
    })
}

/// One request: when it was answered, how long that took, and what was said.
#[derive(Debug, Clone)]
struct Asked {
    took: Duration,
    status: u16,
    text: String,
}

/// Asks for a path without a pause until it is told to stop.
fn ask(address: SocketAddr, path: &'static str, stop: &Arc<AtomicBool>) -> JoinHandle<Vec<Asked>> {
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let mut all = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            let answer = http::get(address, path, None).await;
            let (status, text) = answer.map_or_else(|e| (0, format!("{e:#}")), |a| (a.status, a.text()));
            all.push(Asked {
                took: started.elapsed(),
                status,
                text,
            });
        }
        all
    })
}

#[test]
fn callers_of_a_killed_host_get_typed_errors_in_time_and_answers_once_the_callee_is_replaced() -> Outcome {
    let options = FleetOptions::hosts(3)
        .label(1, "role=front")
        .label(2, "role=back")
        .label(3, "role=back");
    cluster(options, async |fleet| {
        let shop = storefront("shop", REMOTE).with(&on("front")).yaml();
        fleet
            .apply_and_wait(&together([PLATFORM, &greeter("greeter.wasm", &on("back")), &shop]))
            .await?;
        fleet.serves("host-1", "/shop/try/Ada", SOON).await?;
        let victim = fleet.spread("greeter").await?.into_keys().next().context("nowhere")?;
        let stop = Arc::new(AtomicBool::new(false));
        let web = fleet.web("host-1")?;
        let load = [ask(web, "/shop/try/Ada", &stop), ask(web, "/shop/greet/Ada", &stop)];
        fleet.agent(&victim)?.process.kill()?;
        eventually(SOON, "a call fails", async || {
            let status = fleet.get("host-1", "/shop/try/Ada").await?.status;
            ensure!(status != 200, "{status}");
            Ok(())
        })
        .await?;
        let moved = eventually(RUNS_WITHIN, "the callee's replacement answers", async || {
            let text = fleet.get("host-1", "/shop/try/Ada").await?.ok()?;
            ensure!(text == "Hello from Rust, Ada!\n", "{text}");
            fleet.settled("greeter", SOON).await?;
            fleet.spread("greeter").await
        })
        .await?;
        ensure!(!moved.contains_key(&victim), "{moved:?}");
        stop.store(true, Ordering::Relaxed);
        let [tried, greeted] = load;
        let (tried, greeted) = (tried.await?, greeted.await?);
        let slow: Vec<&Asked> = tried
            .iter()
            .chain(&greeted)
            .filter(|a| a.took > CALL_TIME + BESIDE)
            .collect();
        ensure!(slow.is_empty(), "answered later than the link's time: {slow:?}");
        let failed: Vec<&Asked> = tried.iter().filter(|asked| asked.status != 200).collect();
        ensure!(!failed.is_empty(), "no request failed");
        let odd = failed
            .iter()
            .find(|asked| !matches!(asked.status, 502 | 504) || !asked.text.starts_with("failed to "));
        ensure!(odd.is_none(), "{odd:?}");
        // `greet` has no room for an error in its result: its caller ends with the call.
        let odd = greeted.iter().find(|asked| !matches!(asked.status, 200 | 500));
        ensure!(odd.is_none(), "{odd:?}");
        ensure!(
            greeted.iter().any(|asked| asked.status == 500),
            "no call of `greet` failed"
        );
        Ok(())
    })
}

#[test]
fn what_an_embedded_callee_needs_is_explained_and_is_not_called_over_the_network_instead() -> Outcome {
    let options = FleetOptions::hosts(2).label(1, "role=front").label(2, "role=back");
    cluster(options, async |fleet| {
        let shop = storefront("shop", EMBEDDED).with(&on("front")).yaml();
        fleet
            .apply(&together([PLATFORM, &greeter("greeter.wasm", &on("back")), &shop]))
            .await?;
        fleet.settled("greeter", RUNS_WITHIN).await?;
        let workload = WorkloadId::parse("shop")?;
        let explained = eventually(SOON, "it is known why the caller has no host", async || {
            let explained = fleet
                .ask(&Explain {
                    workload: workload.clone(),
                })
                .await?;
            ensure!(
                explained.status.ready == 0 && explained.open == 0 && explained.nearest.len() >= 2,
                "{explained:#?}"
            );
            Ok(explained)
        })
        .await?;
        let told = serde_json::to_string(&explained)?;
        ensure!(told.contains("front"), "{told}");
        ensure!(told.contains("back"), "nothing tells what the callee needs: {told}");
        fleet.serves_not("host-1", "/shop/try/Ada", SOON).await?;
        nothing_is_remote(fleet).await
    })
}
