//! From a manifest to answers, and back to nothing: real NATS, real scheduler, real agents, real components.

use anyhow::ensure;
use heddle_protocol::api::apply::Change;
use heddle_protocol::api::events::Events;
use heddle_protocol::api::logs::Logs;
use heddle_protocol::api::objects::Undo;
use heddle_protocol::id::{Generation, WorkloadId};
use heddle_protocol::key::Key;
use heddle_tests::cluster::{Outcome, cluster};
use heddle_tests::fleet::FleetOptions;
use heddle_tests::fleet::ask::RUNS_WITHIN;
use heddle_tests::load::{Load, LoadOptions};
use heddle_tests::manifest::{self, PLATFORM, Workload, counter, hello, probe, together};
use heddle_tests::until::eventually;
use std::time::Duration;

/// How soon a fact that needs no compiling is there, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn an_applied_workload_answers_on_every_host_that_has_it_and_on_no_other() -> Outcome {
    cluster(FleetOptions::hosts(3), async |fleet| {
        let yaml = together([PLATFORM.to_owned(), hello("hello").replicas(2).yaml()]);
        let applied = fleet.apply_and_wait(&yaml).await?;
        ensure!(
            applied.objects.iter().all(|object| object.change == Change::Created),
            "{:?}",
            applied.objects
        );
        let spread = fleet.spread("hello").await?;
        ensure!(
            spread.len() == 2 && spread.values().all(|count| *count == 1),
            "{spread:?}"
        );
        for host in ["host-1", "host-2", "host-3"] {
            match spread.contains_key(host) {
                true => ensure!(fleet.serves(host, "/hello/x", SOON).await?.contains("path=/hello/x")),
                false => fleet.serves_not(host, "/hello", SOON).await?,
            }
        }
        let endpoints = fleet.status("hello").await?.endpoints;
        ensure!(
            endpoints.len() == 2 && endpoints.iter().all(|e| spread.contains_key(e.host.as_str())),
            "{endpoints:?}"
        );
        let again = fleet.apply(&yaml).await?;
        ensure!(
            again.objects.iter().all(|object| object.change == Change::Unchanged),
            "{:?}",
            again.objects
        );
        ensure!(again.changes.is_empty(), "{:?}", again.changes);
        Ok(())
    })
}

#[test]
fn replicas_grow_from_1_to_20_and_shrink_to_3_without_a_restart() -> Outcome {
    cluster(FleetOptions::hosts(3), async |fleet| {
        let scaled = |replicas| {
            probe("web", 1)
                .replicas(replicas)
                .with("instances: { reuse: 1000000 }")
                .yaml()
        };
        fleet.apply_and_wait(&together([PLATFORM, &scaled(1)])).await?;
        let first = fleet.spread("web").await?;
        let home = first.keys().next().cloned().unwrap_or_default();
        ensure!(first.values().sum::<u32>() == 1, "{first:?}");
        let instance = |text: String| text.split(' ').next().unwrap_or_default().to_owned();
        let before = instance(fleet.serves(&home, "/web/instance", SOON).await?);
        for (replicas, per_host) in [(20, [6, 7]), (3, [1, 1])] {
            fleet.apply_and_wait(&scaled(replicas)).await?;
            let spread = fleet.spread("web").await?;
            ensure!(
                spread.values().sum::<u32>() == replicas && spread.len() == 3,
                "{spread:?}"
            );
            ensure!(spread.values().all(|count| per_host.contains(count)), "{spread:?}");
            ensure!(fleet.status("web").await?.units.len() == 3, "scaling made a new unit");
        }
        let after = instance(fleet.serves(&home, "/web/instance", SOON).await?);
        ensure!(
            before == after,
            "instance {before} was replaced by {after}: scaling restarted it"
        );
        Ok(())
    })
}

#[test]
fn a_new_image_takes_over_without_one_failed_request_and_the_old_one_ends_after_it() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        let old = probe("web", 1).replicas(2).yaml();
        fleet.apply_and_wait(&together([PLATFORM, &old])).await?;
        // One worker, so that the order in which answers are noted is the order in which they were given.
        let options = LoadOptions {
            workers: 1,
            ..LoadOptions::strict(&["/web/version"])
        };
        let load = Load::start(&options, fleet.webs());
        load.after_more(50).await?;
        fleet.apply_and_wait(&probe("web", 2).replicas(2).yaml()).await?;
        load.after_more(50).await?;
        let report = load.stop();
        report.flawless(100)?;
        for (host, versions) in &report.answers {
            ensure!(versions == &["v1", "v2"], "{host:?} answered {versions:?}");
        }
        ensure!(report.answers.len() == 2, "{:?}", report.answers);
        let status = fleet.status("web").await?;
        ensure!(
            status.units.iter().all(|unit| unit.generation == Generation(2)),
            "{status:#?}"
        );
        Ok(())
    })
}

#[test]
fn undo_brings_the_old_image_back_as_a_new_generation() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        fleet
            .apply_and_wait(&together([PLATFORM, &probe("web", 1).yaml()]))
            .await?;
        fleet.apply_and_wait(&probe("web", 2).yaml()).await?;
        ensure!(fleet.serves("host-1", "/web/version", SOON).await? == "v2");
        let undone = fleet
            .ask(&Undo {
                workload: WorkloadId::parse("web")?,
                to: None,
            })
            .await?;
        fleet.wait_for(&undone, RUNS_WITHIN).await?;
        ensure!(fleet.serves("host-1", "/web/version", SOON).await? == "v1");
        ensure!(fleet.status("web").await?.generation == Generation(3));
        Ok(())
    })
}

#[test]
fn a_deleted_workload_leaves_no_unit_no_key_and_no_route() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        let yaml = together([
            PLATFORM.to_owned(),
            hello("gone").replicas(2).yaml(),
            hello("stays").replicas(2).yaml(),
        ]);
        fleet.apply_and_wait(&yaml).await?;
        fleet.delete("gone").await?;
        fleet.wait_gone("gone").await?;
        for host in ["host-1", "host-2"] {
            fleet.serves_not(host, "/gone", SOON).await?;
            fleet.serves(host, "/stays", SOON).await?;
        }
        ensure!(fleet.status("gone").await.is_err(), "there is still a status of it");
        let id = WorkloadId::parse("gone")?;
        eventually(SOON, "no key of it is left in the store", async || {
            let keys = fleet.keys().await?;
            let left = keys
                .iter()
                .find(|key| [Key::Workload(id.clone()), Key::Place(id.clone())].contains(key));
            ensure!(left.is_none(), "{left:?}");
            Ok(())
        })
        .await
    })
}

#[test]
fn two_workloads_share_one_listener_by_path_and_by_host_header() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        let yaml = together([
            PLATFORM.to_owned(),
            probe("a", 1).yaml(),
            probe("b", 2).yaml(),
            hello("c").route("path: /a, host: other.example").yaml(),
        ]);
        fleet.apply_and_wait(&yaml).await?;
        ensure!(fleet.serves("host-1", "/a/version", SOON).await? == "v1");
        ensure!(fleet.serves("host-1", "/b/version", SOON).await? == "v2");
        let other = heddle_tests::http::get(fleet.web("host-1")?, "/a/version", Some("other.example"))
            .await?
            .ok()?;
        ensure!(other.contains("hello"), "{other}");
        // A prefix is matched by whole segments.
        ensure!(fleet.get("host-1", "/ab").await?.status == 404);
        Ok(())
    })
}

#[test]
fn a_route_that_another_workload_owns_is_refused_with_the_owner_s_name() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        fleet
            .apply_and_wait(&together([PLATFORM, &probe("owner", 1).yaml()]))
            .await?;
        let refusal = fleet
            .apply_refused(&probe("thief", 2).route("path: /owner").yaml())
            .await?;
        let told = format!("{refusal:?}");
        ensure!(told.contains("route-taken") && told.contains("default/owner"), "{told}");
        ensure!(fleet.status("thief").await.is_err(), "the thief was taken in");
        ensure!(fleet.serves("host-1", "/owner/version", SOON).await? == "v1");
        Ok(())
    })
}

#[test]
fn an_import_that_nothing_meets_is_refused_with_the_component_and_the_import() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        let only_http = PLATFORM.replace("    kv: { keyvalue: { memory: {} } }\n", "");
        fleet.apply(&only_http).await?;
        let refusal = fleet
            .apply_refused(&Workload::new("web", "file:probe-v1.wasm").yaml())
            .await?;
        for import in ["wasi:keyvalue/store", "wasi:keyvalue/atomics"] {
            let told = refusal.problems.iter().any(|problem| {
                problem.rule == "import-unmet"
                    && problem.message.contains("component main")
                    && problem.message.contains(import)
            });
            ensure!(told, "{refusal:?}");
        }
        Ok(())
    })
}

#[test]
fn a_changed_config_rolls_its_users_and_leaves_the_others_alone() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        let yaml = together([
            PLATFORM.to_owned(),
            manifest::config("greetings", "greeting", "good morning"),
            counter("user").config("greetings").replicas(2).yaml(),
            probe("other", 1).replicas(2).yaml(),
        ]);
        fleet.apply_and_wait(&yaml).await?;
        ensure!(fleet.serves("host-1", "/user", SOON).await?.contains("good morning"));
        let load = Load::start(&LoadOptions::strict(&["/user", "/other"]), fleet.webs());
        fleet
            .apply_and_wait(&manifest::config("greetings", "greeting", "good evening"))
            .await?;
        for host in ["host-1", "host-2"] {
            ensure!(
                fleet.serves(host, "/user", SOON).await?.contains("good evening"),
                "{host} greets as before"
            );
        }
        load.after_more(20).await?;
        load.stop().flawless(20)?;
        ensure!(fleet.status("user").await?.generation == Generation(2));
        ensure!(fleet.status("other").await?.generation == Generation(1));
        Ok(())
    })
}

#[test]
fn events_and_logs_tell_what_happened() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        fleet
            .apply_and_wait(&together([PLATFORM, &counter("count").yaml()]))
            .await?;
        fleet.serves("host-1", "/count", SOON).await?;
        let logs = Logs {
            workload: WorkloadId::parse("count")?,
            tail: 10,
            after: Default::default(),
        };
        let lines = eventually(SOON, "the component's line is in the log", async || {
            let lines = fleet.ask(&logs).await?.lines;
            ensure!(!lines.is_empty(), "no line");
            Ok(lines)
        });
        let lines = lines.await?;
        ensure!(
            lines[0].host.as_str() == "host-1" && lines[0].level == "info",
            "{lines:?}"
        );
        ensure!(
            lines[0].component.as_str() == "main" && !lines[0].text.is_empty(),
            "{lines:?}"
        );
        let about = Events {
            about: Some("default/count".into()),
            ..Events::default()
        };
        let events = fleet.ask(&about).await?.events;
        ensure!(!events.is_empty(), "nothing is told of the workload");
        ensure!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq), "{events:?}");
        Ok(())
    })
}

#[test]
fn components_for_wasi_0_3_and_in_c_run_beside_the_others() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        let yaml = together([
            PLATFORM.to_owned(),
            Workload::new("three", "file:hello-p3.wasm").yaml(),
            Workload::new("c", "file:c-hello.wasm").yaml(),
        ]);
        fleet.apply_and_wait(&yaml).await?;
        ensure!(
            fleet
                .serves("host-1", "/three", SOON)
                .await?
                .to_lowercase()
                .contains("hello")
        );
        ensure!(fleet.serves("host-1", "/c", SOON).await?.contains("hello from C"));
        Ok(())
    })
}
