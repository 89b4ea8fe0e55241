//! Past decisions, made again from what was kept of them: with real processes, across a restart of the scheduler.

use anyhow::{Context as _, Result, ensure};
use heddle_protocol::api::ErrorCode;
use heddle_protocol::api::audit::Audit;
use heddle_protocol::api::hosts::HostState;
use heddle_protocol::api::replay::{Replay, Replayed};
use heddle_protocol::id::WorkloadId;
use heddle_protocol::record::HostAdmin;
use heddle_tests::cluster::{Outcome, cluster};
use heddle_tests::fleet::{Fleet, FleetOptions};
use heddle_tests::manifest::{PLATFORM, probe, together};
use heddle_tests::until::eventually;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// Makes the decisions of all commits again that changed anything.
async fn all_again(fleet: &Fleet) -> Result<Vec<Replayed>> {
    let audit = Audit {
        last: Some(100),
        ..Audit::default()
    };
    let mut all = Vec::new();
    for record in fleet.ask(&audit).await?.records {
        all.push(again(fleet, record.n, None).await?);
    }
    Ok(all)
}

/// Makes the decision of one commit again, once it is kept.
async fn again(fleet: &Fleet, commit: u64, explain: Option<&str>) -> Result<Replayed> {
    let explain = explain.map(WorkloadId::parse).transpose()?;
    let question = Replay { commit, explain };
    let replayed = eventually(SOON, &format!("commit {commit} is kept"), async || {
        fleet.ask(&question).await
    })
    .await?;
    ensure!(replayed.same, "{replayed:#?}");
    Ok(replayed)
}

#[test]
fn every_decision_is_made_again_and_comes_out_the_same_also_after_the_scheduler_was_replaced() -> Outcome {
    cluster(FleetOptions::hosts(3), async |fleet| {
        let two = together([PLATFORM, &probe("web", 1).replicas(2).yaml()]);
        let first = fleet.apply_and_wait(&two).await?.commit;
        fleet.apply_and_wait(&probe("web", 2).replicas(3).yaml()).await?;
        fleet.set_host("host-3", HostAdmin::Cordoned).await?;
        fleet.host_in_state("host-3", HostState::Cordoned, SOON).await?;
        fleet.agent("host-1")?.process.kill()?;
        fleet.host_in_state("host-1", HostState::Lost, SOON).await?;
        fleet.settled("web", SOON).await?;
        let before = all_again(fleet).await?;
        let moved = before.iter().any(|replayed| {
            let from = |change: &heddle_protocol::report::PlacementChange| {
                change.host.as_str() == "host-1" && change.after == 0
            };
            replayed.asked.is_empty() && replayed.changes.iter().any(from)
        });
        ensure!(moved, "no decision took the work from the lost host: {before:#?}");

        // Another scheduler knows nothing of it but what was kept.
        fleet.scheduler().kill()?;
        fleet.scheduler().start_again()?;
        fleet.apply_and_wait(&probe("web", 1).replicas(1).yaml()).await?;
        let after = all_again(fleet).await?;
        ensure!(after.len() > before.len(), "{} then, {} now", before.len(), after.len());

        let then = again(fleet, first, Some("default/web")).await?;
        let explanation = then.explanation.context("nothing is explained")?;
        let hosts: u32 = explanation.chosen.iter().map(|chosen| chosen.count).sum();
        ensure!((explanation.commit, hosts) == (first, 2), "{explanation:#?}");

        let refusal = fleet
            .refusal(&Replay {
                commit: 1_000_000,
                explain: None,
            })
            .await?;
        ensure!(
            refusal.code == ErrorCode::NotFound && !refusal.next.is_empty(),
            "{refusal:?}"
        );
        Ok(())
    })
}
