//! What must be so after every fault, once the fleet has settled: each check counts what breaks it.

use crate::writer::History;
use anyhow::{Context as _, Result, ensure};
use heddle_protocol::api::status::{Status, WorkloadStatus};
use heddle_protocol::host_report::HostReport;
use heddle_protocol::id::{HostId, UnitId};
use heddle_protocol::subject::{HostVerb, Subject};
use heddle_tests::fleet::Fleet;
use heddle_tests::fleet::ask::RUNS_WITHIN;
use heddle_tests::until::eventually;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a host may take to say what it runs.
const REPORTS_WITHIN: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Acknowledged changes that are not there.
    pub lost_acked: usize,
    /// Units that run where nothing places them.
    pub orphans: usize,
    /// Workloads with one replica that several hosts serve.
    pub duplicate_singletons: usize,
    /// Each of those in words.
    pub broken: Vec<String>,
}

/// Waits until the fleet has settled, and checks everything.
pub async fn all(fleet: &Fleet, history: &History, single: &str) -> Result<Found> {
    let mut found = Found::default();
    let statuses = settled(fleet).await?;
    acknowledged(history, &statuses, &mut found);
    no_orphans(fleet, &mut found).await?;
    one_serves(fleet, single, &mut found).await?;
    Ok(found)
}

async fn settled(fleet: &Fleet) -> Result<Vec<WorkloadStatus>> {
    eventually(RUNS_WITHIN, "every workload is ready", async || {
        let statuses = fleet.ask(&Status::default()).await?;
        ensure!(!statuses.more, "there are more workloads than one page takes");
        let waits = statuses
            .workloads
            .iter()
            .find(|status| status.state.as_str() != "ready");
        ensure!(waits.is_none(), "{waits:#?}");
        Ok(statuses.workloads)
    })
    .await
}

/// What was acknowledged last of each workload is what is there.
fn acknowledged(history: &History, statuses: &[WorkloadStatus], found: &mut Found) {
    for (name, generation) in &history.newest {
        let status = statuses.iter().find(|status| status.workload.name.as_str() == name);
        let there = status.map(|status| status.generation);
        if there != *generation {
            found.lost_acked += 1;
            found
                .broken
                .push(format!("{name} was acknowledged at {generation:?} and is at {there:?}"));
        }
    }
    found.lost_acked += history.broken.len();
    found.broken.extend(history.broken.iter().cloned());
}

/// Every unit that a host runs is placed there. Units that are being stopped get their time.
async fn no_orphans(fleet: &Fleet, found: &mut Found) -> Result<()> {
    let looked = eventually(RUNS_WITHIN, "no host runs what nothing places", async || {
        let orphans = orphans(fleet).await?;
        ensure!(orphans.is_empty(), "{orphans:?}");
        Ok(())
    });
    if let Err(error) = looked.await {
        let orphans = orphans(fleet).await.with_context(|| format!("after {error:#}"))?;
        found.orphans += orphans.len();
        found.broken.extend(
            orphans
                .iter()
                .map(|(host, unit)| format!("{host} runs {unit}, which nothing places there")),
        );
    }
    Ok(())
}

async fn orphans(fleet: &Fleet) -> Result<Vec<(HostId, UnitId)>> {
    let statuses = fleet.ask(&Status::default()).await?.workloads;
    let placed: BTreeSet<(HostId, UnitId)> = statuses
        .iter()
        .flat_map(|status| status.units.iter().map(|unit| (status.workload.clone(), unit)))
        .map(|(workload, unit)| {
            (
                unit.host.clone(),
                UnitId {
                    workload,
                    generation: unit.generation,
                },
            )
        })
        .collect();
    let mut orphans = Vec::new();
    for (host, _) in fleet.health().into_iter().filter(|(role, _)| role != "scheduler") {
        let host = HostId::parse(&host)?;
        let report = report(fleet, &host).await?;
        ensure!(report.full, "{host} gives only a part of its report");
        let runs = report.units.into_iter().map(|status| (host.clone(), status.unit));
        orphans.extend(runs.filter(|unit| !placed.contains(unit)));
    }
    Ok(orphans)
}

/// What a host itself says that it runs.
async fn report(fleet: &Fleet, host: &HostId) -> Result<HostReport> {
    let subject = Subject::Host(fleet.realm()?, host.clone(), HostVerb::Report).to_string();
    let asked = fleet.client().nats().request(subject, Vec::new().into());
    let answer = tokio::time::timeout(REPORTS_WITHIN, asked)
        .await
        .with_context(|| format!("{host} does not report"))??;
    serde_json::from_slice(&answer.payload).with_context(|| format!("failed to read the report of {host}"))
}

/// A workload with one replica answers on one host.
async fn one_serves(fleet: &Fleet, single: &str, found: &mut Found) -> Result<()> {
    let mut serving = Vec::new();
    for web in fleet.webs() {
        if heddle_tests::http::get(web, &format!("/{single}"), None).await?.status == 200 {
            serving.push(web);
        }
    }
    ensure!(!serving.is_empty(), "nobody serves {single} although it is ready");
    if serving.len() > 1 {
        found.duplicate_singletons += 1;
        found
            .broken
            .push(format!("{single} has one replica and is served by {serving:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::id::Generation;
    use serde_json::json;

    #[test]
    fn what_was_acknowledged_and_is_not_there_counts_as_lost() {
        let status = |name: &str, generation: u64| -> WorkloadStatus {
            let value = json!({
                "workload": format!("default/{name}"), "generation": generation, "state": "ready",
                "desired": 1, "placed": 1, "ready": 1, "ready_old": 0, "units": [],
            });
            serde_json::from_value(value).unwrap()
        };
        let history = |of: &[(&str, Option<u64>)]| History {
            newest: of
                .iter()
                .map(|(name, g)| ((*name).to_owned(), g.map(Generation)))
                .collect(),
            ..History::default()
        };
        let lost = |history: &History, statuses: &[WorkloadStatus]| {
            let mut found = Found::default();
            acknowledged(history, statuses, &mut found);
            (found.lost_acked, found.broken.len())
        };
        let all = history(&[("kept", Some(2)), ("deleted", None)]);
        assert_eq!(lost(&all, &[status("kept", 2)]), (0, 0));
        assert_eq!(lost(&all, &[status("kept", 1)]), (1, 1), "an older generation");
        assert_eq!(lost(&all, &[]), (1, 1), "gone");
        assert_eq!(
            lost(&all, &[status("kept", 2), status("deleted", 1)]),
            (1, 1),
            "back from the dead"
        );
        let refused = History {
            broken: vec!["a change was refused".into()],
            ..history(&[])
        };
        assert_eq!(lost(&refused, &[]), (1, 1));
    }
}
