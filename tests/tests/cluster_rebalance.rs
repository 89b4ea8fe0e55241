//! Moving replicas to a host that joined, with real processes under load; and that hosts which hold much are told of a change
//! as a delta.

use anyhow::{Context as _, ensure};
use heddle_protocol::api::hosts::HostState;
use heddle_protocol::api::rebalance::{Better, Rebalance};
use heddle_tests::cluster::{Outcome, cluster};
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::http;
use heddle_tests::load::{Load, LoadOptions};
use heddle_tests::manifest::{PLATFORM, hello, together};
use heddle_tests::until::eventually;
use std::time::Duration;

/// How soon a fact that needs no compiling is there, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn asked(budget: u32, dry_run: bool) -> Rebalance {
    Rebalance {
        workloads: Vec::new(),
        in_namespace: false,
        budget,
        dry_run,
    }
}

async fn pushed_as_deltas(fleet: &Fleet) -> anyhow::Result<u64> {
    let health = fleet.health();
    let scheduler = health.iter().find(|(role, _)| role == "scheduler");
    let (_, address) = scheduler.context("no scheduler tells its health")?;
    let text = http::get(*address, "/metrics", None).await?.ok()?;
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("heddle_scheduler_pushes_as_deltas_total "));
    Ok(count.context("the scheduler does not count deltas")?.parse()?)
}

#[test]
fn a_host_that_joined_gets_its_share_when_somebody_asks_and_no_request_fails() -> Outcome {
    cluster(FleetOptions::hosts(2), async |fleet| {
        // Enough of them that a host's spec is worth a delta.
        let others = (0..8).map(|n| hello(&format!("other-{n}")).replicas(2).yaml());
        let all = others.chain([PLATFORM.to_owned(), hello("web").replicas(6).yaml()]);
        fleet.apply_and_wait(&together(all)).await?;
        let before = fleet.spread("web").await?;
        ensure!(before.values().eq([&3, &3]), "{before:?}");
        fleet.add_agent("host-3", &[], None)?;
        fleet.host_in_state("host-3", HostState::Ready, SOON).await?;

        let dry = fleet.ask(&asked(100, true)).await?;
        ensure!(
            !dry.moves.is_empty() && dry.moves.iter().all(|m| m.to.as_str() == "host-3"),
            "{dry:?}"
        );
        ensure!(fleet.spread("web").await? == before, "a dry run moved something");

        let load = Load::start(&LoadOptions::proxied(&["/web"]), fleet.webs());
        load.after_more(20).await?;
        let moved = fleet.ask(&asked(2, false)).await?;
        ensure!(moved.moves.len() == 2 && moved.more, "{moved:?}");
        // Then all the rest of it, once those have arrived.
        eventually(SOON, "web is spread over three hosts", async || {
            fleet.ask(&asked(50, false)).await?;
            let spread = fleet.spread("web").await?;
            ensure!(spread.values().eq([&2, &2, &2]), "{spread:?}");
            Ok(())
        })
        .await?;
        fleet.serves("host-3", "/web", SOON).await?;
        load.after_more(20).await?;
        load.stop().flawless(40)?;

        eventually(SOON, "nothing is left to move", async || {
            // What arrived last may leave something to move, and nothing moves that nobody asks for.
            let left = fleet.ask(&asked(50, false)).await?;
            ensure!(left.moves.is_empty() && left.restless == 0, "{left:?}");
            Ok(())
        })
        .await?;
        ensure!(moved.moves.iter().all(|m| m.because != Better::Preferred), "{moved:?}");
        let deltas = pushed_as_deltas(fleet).await?;
        ensure!(deltas > 0, "every push was whole");
        Ok(())
    })
}
