//! Three ways to add a capability without a fork, each with the example that shows it: a crate in an agent of one's own, a
//! component that others link to, a server that is called over wRPC.

use anyhow::{Context as _, ensure};
use heddle_protocol::api::explain::Explain;
use heddle_protocol::api::hosts::HostState;
use heddle_protocol::id::WorkloadId;
use heddle_tests::binary;
use heddle_tests::cluster::{Outcome, cluster};
use heddle_tests::fleet::FleetOptions;
use heddle_tests::fleet::ask::RUNS_WITHIN;
use heddle_tests::manifest::{PLATFORM, example, together};
use heddle_tests::process::{Process, Recipe};
use heddle_tests::until::eventually;
use std::time::Duration;

/// How soon a fact that needs no compiling is there, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_crate_in_an_agent_of_one_s_own_lends_what_no_other_host_has() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        fleet
            .apply(&together([PLATFORM.to_owned(), example("own-capability.yaml")?]))
            .await?;
        let workload = WorkloadId::parse("till")?;
        eventually(SOON, "it is told that the host lacks the feature", async || {
            let workload = workload.clone();
            let told = serde_json::to_string(&fleet.ask(&Explain { workload }).await?)?;
            ensure!(told.contains("acme-ledger@1.0.0"), "{told}");
            Ok(())
        })
        .await?;
        fleet.add_agent_of(binary::example("acme-agent")?, "own", &[], None)?;
        fleet.host_in_state("own", HostState::Ready, RUNS_WITHIN).await?;
        fleet.settled("till", RUNS_WITHIN).await?;
        ensure!(fleet.spread("till").await?.into_keys().eq(["own".to_owned()]));
        ensure!(fleet.serves("own", "/till/ada/0", SOON).await? == "ada: 0\n");
        ensure!(fleet.get("own", "/till/ada/7").await?.ok()? == "ada: 7\n");
        ensure!(fleet.get("own", "/till/ada/-2").await?.ok()? == "ada: 5\n");
        let refused = fleet.get("own", "/till/ada/1000").await?;
        ensure!(
            refused.status == 422 && refused.text().contains("may hold 1000"),
            "{refused:?}"
        );
        Ok(())
    })
}

#[test]
fn a_component_that_others_link_to_is_a_capability_embedded_or_called() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        let all = together([
            PLATFORM.to_owned(),
            example("greeter.yaml")?,
            example("embed.yaml")?,
            example("remote.yaml")?,
        ]);
        fleet.apply_and_wait(&all).await?;
        let mut said = Vec::new();
        for name in ["embed", "remote"] {
            let host = fleet.spread(name).await?.into_keys().next().context("nowhere")?;
            said.push(fleet.serves(&host, &format!("/{name}/greet/Ada"), SOON).await?);
        }
        ensure!(
            said[0] == said[1] && said[0].ends_with(", Ada!\n"),
            "embedded and called: {said:?}"
        );
        Ok(())
    })
}

#[test]
fn a_server_that_is_no_component_answers_as_long_as_it_runs() -> Outcome {
    cluster(FleetOptions::hosts(1), async |fleet| {
        let all = together([PLATFORM.to_owned(), example("wrpc-server.yaml")?]);
        fleet.apply_and_wait(&all).await?;
        eventually(SOON, "nobody serves it yet, and the caller is told", async || {
            let answer = fleet.get("host-1", "/outside/try/Ada").await?;
            ensure!(
                answer.status == 502 && answer.text().contains("nobody serves this function"),
                "{answer:?}"
            );
            Ok(())
        })
        .await?;
        let mut recipe = Recipe {
            name: "wrpc-greeter".to_owned(),
            program: binary::example("wrpc-greeter")?,
            args: Vec::new(),
            env: Vec::new(),
            log: fleet.folder().join("wrpc-greeter.log"),
        };
        recipe.pair("--nats", fleet.nats_url()).pair("--prefix", "acme.greet");
        let mut server = Process::start(recipe)?;
        ensure!(fleet.serves("host-1", "/outside/greet/Ada", SOON).await? == "Hello from a server, Ada!\n");
        ensure!(fleet.get("host-1", "/outside/try/Ada").await?.ok()? == "Hello from a server, Ada!\n");
        ensure!(fleet.get("host-1", "/outside/try/").await?.status == 422);
        ensure!(fleet.get("host-1", "/outside/echo/a.b~c").await?.ok()? == "a.b~c");
        server.kill()?;
        eventually(SOON, "the caller is told that it is gone", async || {
            let answer = fleet.get("host-1", "/outside/try/Ada").await?;
            ensure!(matches!(answer.status, 502 | 504), "{answer:?}");
            Ok(())
        })
        .await
    })
}
