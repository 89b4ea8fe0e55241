//! What operators do: emptying and forgetting hosts, backing up and restoring, registries, and the command line itself.

use anyhow::{Context as _, Result, ensure};
use heddle_protocol::api::hosts::{ForgetHost, HostState};
use heddle_protocol::api::realm::{Backup, Restore};
use heddle_protocol::api::{ErrorCode, objects};
use heddle_protocol::digest::Digest;
use heddle_protocol::id::{HostId, Namespace};
use heddle_protocol::record::HostAdmin;
use heddle_tests::binary;
use heddle_tests::cluster::{Outcome, cluster};
use heddle_tests::fleet::ask::RUNS_WITHIN;
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::load::{Load, LoadOptions};
use heddle_tests::manifest::{PLATFORM, Workload, counter, hello, probe, together};
use heddle_tests::registry::Registry;
use heddle_tests::until::eventually;
use std::process::Output;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_cordoned_host_keeps_what_it_has_and_a_drained_one_hands_it_over() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        fleet
            .apply_and_wait(&together([PLATFORM, &probe("web", 1).replicas(2).yaml()]))
            .await?;
        fleet.set_host("host-1", HostAdmin::Cordoned).await?;
        fleet.host_in_state("host-1", HostState::Cordoned, SOON).await?;
        fleet.apply_and_wait(&probe("web", 1).replicas(4).yaml()).await?;
        let spread = fleet.spread("web").await?;
        ensure!(
            spread.get("host-1") == Some(&1) && spread.get("host-2") == Some(&3),
            "{spread:?}"
        );
        fleet.get("host-1", "/web/version").await?.ok()?;

        // A drain moves the rest, and the host that takes it in answers all the time.
        let load = Load::start(&LoadOptions::strict(&["/web/version"]), vec![fleet.web("host-2")?]);
        fleet.set_host("host-1", HostAdmin::Draining).await?;
        eventually(RUNS_WITHIN, "host-1 is empty", async || {
            let status = fleet.host("host-1").await?;
            ensure!(
                status.replicas == 0 && status.state == HostState::Draining,
                "{status:#?}"
            );
            Ok(())
        })
        .await?;
        fleet.serves_not("host-1", "/web/version", SOON).await?;
        ensure!(fleet.settled("web", SOON).await?.ready == 4);

        fleet.set_host("host-1", HostAdmin::Open).await?;
        fleet.host_in_state("host-1", HostState::Ready, SOON).await?;
        fleet.apply_and_wait(&probe("web", 1).replicas(6).yaml()).await?;
        ensure!(
            fleet.spread("web").await?.contains_key("host-1"),
            "an uncordoned host takes nothing"
        );
        load.after_more(10).await?;
        load.stop().flawless(20)
    })
}

#[test]
fn a_host_that_lives_is_forgotten_only_by_force_and_a_dead_one_at_once() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        fleet
            .apply_and_wait(&together([PLATFORM, &probe("web", 1).replicas(2).yaml()]))
            .await?;
        let forget = |force| {
            Ok::<_, anyhow::Error>(ForgetHost {
                host: HostId::parse("host-1")?,
                force,
            })
        };
        let refusal = fleet.refusal(&forget(false)?).await?;
        ensure!(
            refusal.code == ErrorCode::Conflict && !refusal.next.is_empty(),
            "{refusal:?}"
        );
        fleet.agent("host-1")?.process.kill()?;
        fleet.host_in_state("host-1", HostState::Lost, SOON).await?;
        fleet.ask(&forget(false)?).await?;
        ensure!(fleet.host("host-1").await.is_err(), "host-1 is still listed");
        let spread = fleet.settled("web", RUNS_WITHIN).await.map(|status| status.units)?;
        ensure!(
            spread.len() == 1 && spread[0].host.as_str() == "host-2" && spread[0].count == 2,
            "{spread:?}"
        );
        Ok(())
    })
}

#[test]
fn a_host_that_is_forgotten_while_it_lives_stops_everything() -> Outcome {
    cluster(FleetOptions::hosts(2).strict(), async |fleet| {
        fleet
            .apply_and_wait(&together([PLATFORM, &probe("web", 1).replicas(2).yaml()]))
            .await?;
        fleet.serves("host-1", "/web/version", SOON).await?;
        let host = HostId::parse("host-1")?;
        fleet.ask(&ForgetHost { host, force: true }).await?;
        // The listener goes with the last spec: the platform lends the host nothing any more.
        fleet.listens_not("host-1", SOON).await?;
        fleet.settled("web", RUNS_WITHIN).await?;
        fleet.serves("host-2", "/web/version", SOON).await?;
        Ok(())
    })
}

async fn backup(fleet: &Fleet) -> Result<Vec<u8>> {
    let mut image = Vec::new();
    let mut ask = Backup::default();
    loop {
        let (head, part) = fleet.client().ask(&Namespace::fallback(), &ask, &[]).await?;
        image.extend_from_slice(&part);
        if image.len() as u64 >= head.bytes {
            ensure!(Digest::of(&image) == head.image, "the image is damaged");
            return Ok(image);
        }
        ask = Backup {
            image: Some(head.image),
            offset: image.len() as u64,
        };
    }
}

#[test]
fn a_backup_brings_everything_back_after_everything_was_deleted() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        let yaml = together([
            PLATFORM.to_owned(),
            hello("hello").replicas(2).yaml(),
            counter("count").yaml(),
        ]);
        fleet.apply_and_wait(&yaml).await?;
        let image = backup(fleet).await?;
        let reference = |kind, name: &str| objects::ObjectRef {
            kind,
            name: name.to_owned(),
        };
        let everything = vec![
            reference(objects::ObjectKind::Workload, "default/hello"),
            reference(objects::ObjectKind::Workload, "default/count"),
            reference(objects::ObjectKind::Platform, "local"),
        ];
        fleet
            .ask(&objects::Delete {
                objects: everything,
                ignore_missing: false,
            })
            .await?;
        fleet.wait_gone("hello").await?;
        fleet.wait_gone("count").await?;
        let (restored, _) = fleet.client().ask(&Namespace::fallback(), &Restore {}, &image).await?;
        ensure!(restored.commit > 0);
        fleet.settled("hello", RUNS_WITHIN).await?;
        fleet.settled("count", RUNS_WITHIN).await?;
        for host in ["host-1", "host-2"] {
            fleet.serves(host, "/hello", SOON).await?;
        }
        Ok(())
    })
}

#[test]
fn an_image_from_a_registry_with_a_login_is_pinned_to_what_it_was() -> Outcome {
    // The registry's address must be known before the scheduler starts, so it has a runtime of its own.
    let aside = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let failed = |error: &dyn std::fmt::Display| heddle_tests::cluster::Failed::new(error);
    let aside = aside.map_err(|e| failed(&e))?;
    let bytes = binary::guest("hello.wasm").map_err(|e| failed(&e))?;
    let digest = Digest::of(&bytes);
    let registry = aside.block_on(Registry::start(bytes)).map_err(|e| failed(&e))?;
    let folder = tempfile::tempdir().map_err(|e| failed(&e))?;
    let logins = folder.path().join("config.json");
    std::fs::write(&logins, registry.docker_config()).map_err(|e| failed(&e))?;
    let options = FleetOptions::hosts(1)
        .scheduler_flag("--registry-config")
        .scheduler_flag(logins.display().to_string())
        .scheduler_flag("--registry-plain-http")
        .scheduler_flag(registry.host());
    cluster(options, async |fleet| {
        fleet
            .apply_and_wait(&together([
                PLATFORM.to_owned(),
                Workload::new("web", &registry.image()).yaml(),
            ]))
            .await?;
        ensure!(fleet.serves("host-1", "/web", SOON).await?.contains("hello"));
        let get = objects::Get {
            kind: objects::ObjectKind::Workload,
            name: Some("default/web".into()),
            in_namespace: false,
            after: None,
        };
        let stored = fleet.ask(&get).await?.objects;
        let written = stored[0].manifest["spec"]["components"][0]["image"]
            .as_str()
            .context("no image")?
            .to_owned();
        ensure!(
            written == registry.image(),
            "the manifest's own words are changed to {written}"
        );
        let spec = std::fs::read(fleet.agent("host-1")?.data.join("spec.json"))?;
        ensure!(
            String::from_utf8_lossy(&spec).contains(&digest.to_string()),
            "the spec does not name the digest"
        );
        let missing = registry.image().replace(":1", ":2");
        let refusal = fleet.apply_refused(&Workload::new("other", &missing).yaml()).await?;
        ensure!(refusal.code == ErrorCode::Artifact, "{refusal:?}");
        ensure!(
            !format!("{refusal:?}").contains("secret"),
            "the refusal tells the password"
        );
        Ok(())
    })
}

/// Runs `heddle` as a person would.
async fn heddle(fleet: &Fleet, args: &[&str]) -> Result<Output> {
    let mut command = tokio::process::Command::new(binary::heddle()?);
    command
        .args(args)
        .env("HEDDLE_NATS", fleet.nats_url())
        .env("HEDDLE_REALM", fleet.realm()?.as_str());
    command
        .env("HEDDLE_CONFIG_DIR", fleet.folder().join("config"))
        .env("NO_COLOR", "1")
        .kill_on_drop(true);
    let ran = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    ran.with_context(|| format!("heddle {} does not end", args.join(" ")))?
        .context("failed to start heddle")
}

async fn succeeds(fleet: &Fleet, args: &[&str]) -> Result<String> {
    let output = heddle(fleet, args).await?;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success(),
        "heddle {} ended with {}\n{out}\n{err}",
        args.join(" "),
        output.status
    );
    Ok(out.into_owned())
}

async fn fails(fleet: &Fleet, args: &[&str], code: i32) -> Result<String> {
    let output = heddle(fleet, args).await?;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let ended = output.status.code();
    ensure!(
        ended == Some(code),
        "heddle {} ended with {ended:?}, not {code}\n{out}\n{err}",
        args.join(" ")
    );
    ensure!(err.contains("next:"), "no next thing to try:\n{err}");
    Ok(err.into_owned())
}

#[test]
fn the_command_line_deploys_shows_undoes_and_deletes_with_documented_exit_codes() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        // Images are relative to the manifest: the guests are beside it.
        let folder = fleet.folder().join("manifests");
        std::fs::create_dir(&folder)?;
        for guest in ["probe-v1.wasm", "probe-v2.wasm"] {
            std::fs::write(folder.join(guest), binary::guest(guest)?)?;
        }
        let write = |name: &str, text: String| -> Result<String> {
            std::fs::write(folder.join(name), text)?;
            Ok(folder.join(name).display().to_string())
        };
        let first = write(
            "web.yaml",
            together([PLATFORM.to_owned(), probe("web", 1).replicas(2).yaml()]),
        )?;
        let second = write("web-2.yaml", probe("web", 2).replicas(2).yaml())?;
        let nowhere = write("nowhere.yaml", probe("nowhere", 1).on("zone", "moon").yaml())?;
        let bad = write("bad.yaml", probe("bad", 1).with("replica: 3").yaml())?;

        let plan = succeeds(fleet, &["plan", "-f", &first]).await?;
        ensure!(plan.contains("web"), "{plan}");
        ensure!(fleet.status("web").await.is_err(), "a plan did something");
        succeeds(fleet, &["apply", "-f", &first]).await?;
        let status = succeeds(fleet, &["status", "--json"]).await?;
        let status: serde_json::Value = serde_json::from_str(&status).with_context(|| format!("no JSON: {status}"))?;
        ensure!(status["workloads"][0]["state"] == "ready", "{status:#}");
        ensure!(succeeds(fleet, &["status"]).await?.contains("web"));
        ensure!(succeeds(fleet, &["hosts"]).await?.contains("host-2"));
        succeeds(fleet, &["apply", "-f", &second]).await?;
        ensure!(fleet.serves("host-1", "/web/version", SOON).await? == "v2");
        succeeds(fleet, &["undo", "web"]).await?;
        ensure!(fleet.serves("host-1", "/web/version", SOON).await? == "v1");
        for verb in [
            &["explain", "web"][..],
            &["events"],
            &["get", "workloads"],
            &["describe", "workload", "web"],
            &["logs", "web"],
        ] {
            succeeds(fleet, verb).await?;
        }

        let told = fails(fleet, &["apply", "-f", &bad], 3).await?;
        ensure!(
            told.contains("bad.yaml:") && told.contains("replicas"),
            "no place, or no suggestion:\n{told}"
        );
        fails(fleet, &["status", "no-such-workload"], 4).await?;
        fails(fleet, &["delete", "workload", "no-such-workload"], 4).await?;
        fails(fleet, &["hosts", "forget", "host-1"], 5).await?;
        fails(fleet, &["apply", "-f", &second, "--at", "1"], 5).await?;
        let told = fails(fleet, &["apply", "-f", &nowhere, "--timeout", "1s"], 7).await?;
        ensure!(told.contains("zone"), "it does not say why:\n{told}");
        let nobody = ["status", "--nats", "nats://127.0.0.1:1", "--patience", "1s"];
        fails(fleet, &nobody, 6).await?;
        fleet.scheduler().kill()?;
        fails(fleet, &["status", "--patience", "1s"], 6).await?;
        fleet.scheduler().start_again()?;

        succeeds(fleet, &["delete", "workload", "web"]).await?;
        for host in ["host-1", "host-2"] {
            fleet.serves_not(host, "/web", SOON).await?;
        }
        Ok(())
    })
}

#[test]
fn a_backup_taken_and_restored_on_the_command_line_serves_again() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        fleet
            .apply_and_wait(&together([PLATFORM, &hello("web").yaml()]))
            .await?;
        let file = fleet.folder().join("backup").display().to_string();
        succeeds(fleet, &["backup", &file]).await?;
        succeeds(fleet, &["delete", "workload", "web"]).await?;
        fleet.serves_not("host-1", "/web", SOON).await?;
        succeeds(fleet, &["restore", &file, "--yes"]).await?;
        fleet.serves("host-1", "/web", RUNS_WITHIN).await?;
        Ok(())
    })
}

#[test]
fn every_role_serves_its_health_and_its_numbers() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        fleet
            .apply_and_wait(&together([PLATFORM, &hello("web").yaml()]))
            .await?;
        fleet.serves("host-1", "/web", SOON).await?;
        for (role, address) in fleet.health() {
            let health = heddle_tests::http::get(address, "/healthz", None).await?;
            ensure!(health.status == 200, "{role}: {} {}", health.status, health.text());
            let metrics = heddle_tests::http::get(address, "/metrics", None).await?.ok()?;
            ensure!(
                metrics.lines().any(|line| line.starts_with("heddle_")),
                "{role}: {metrics}"
            );
        }
        Ok(())
    })
}
