//! ACK-AFTER-COMMIT: who hears of success hears it of something that is in the store; the same request has the same answer;
//! an id that was used for something else is refused.

use crate::agent::host_id;
use crate::people::Asked;
use crate::scenario::AskOf;
use crate::truth::Truth;
use heddle_protocol::key::Key;
use heddle_protocol::record::{HostAdmin, HostRecord, PlaceRecord, Replicas, WorkloadRecord};
use serde_json::Value;

/// Looks at the first definite answer to a request.
pub fn first(truth: &Truth, asked: &Asked) -> Option<(&'static str, String)> {
    let Some(Ok(answer)) = &asked.answer else { return None };
    let id = asked.id.as_str();
    match &asked.what {
        AskOf::Status => None,
        _ => {
            let said = answer["commit"].as_u64();
            let mut objects = answer["objects"].as_array().into_iter().flatten();
            let about_objects = !matches!(asked.what, AskOf::Rebalance(_));
            if about_objects && !objects.any(|object| object["name"] == asked.about().as_str()) {
                return Some((
                    "one-effect",
                    format!("{id} asked for {}, and the answer is {answer}", asked.about()),
                ));
            }
            if let Some(what) = truth
                .requests
                .get(&asked.id)
                .and_then(|n| without_effect(truth, asked, *n))
            {
                return Some(("ack-after-commit", format!("{id} is acknowledged: {what}")));
            }
            match (truth.requests.get(&asked.id), said) {
                (Some(n), Some(said)) if *n == said => None,
                (None, Some(said)) if said <= truth.n() && changes_nothing(answer) => None,
                (n, said) => {
                    let what = format!("{id} was answered with commit {said:?}, and is in {n:?}: {answer}");
                    Some(("ack-after-commit", what))
                }
            }
        }
    }
}

/// Looks at a good answer after a good answer.
pub fn again(truth: &Truth, asked: &Asked, answer: &Value) -> Option<(&'static str, String)> {
    let Some(Ok(first)) = &asked.answer else { return None };
    if asked.what == AskOf::Status {
        return None;
    }
    // What changes nothing is kept in memory alone: another scheduler finds it out anew.
    let epoch = |answer: &Value| {
        let commit = answer["commit"].as_u64().and_then(|n| truth.commits.get(&n));
        commit.map(|commit| commit.version.epoch)
    };
    let in_the_store = truth.requests.get(&asked.id).is_some_and(|n| first["commit"] == *n);
    if !in_the_store && epoch(first) != epoch(answer) {
        return None;
    }
    let differs = ["commit", "objects", "moves"]
        .iter()
        .any(|part| first[part] != answer[part]);
    let what = || {
        format!(
            "{} was answered with {first}, and again with {answer}",
            asked.id.as_str()
        )
    };
    differs.then(|| ("same-answer", what()))
}

/// What of a request is not so after the commit that it is in.
fn without_effect(truth: &Truth, asked: &Asked, n: u64) -> Option<String> {
    let commit = truth.commits.get(&n)?;
    let written = |key: Key| commit.changes.iter().find(|change| change.key == key);
    let about = asked.about();
    match &asked.what {
        AskOf::Apply(wish) => {
            let record: WorkloadRecord = written(Key::Workload(about.parse().ok()?))?.is()?;
            // A later request in the same commit may have changed it again.
            let others = commit.audit.as_ref().map_or(0, |audit| audit.requests.len());
            let wanted = wish.replicas.map_or(Replicas::Daemon, Replicas::Count);
            let zoned = !record.intent.require.is_empty();
            let is_so = record.intent.replicas == wanted && zoned == wish.zone.is_some();
            (!is_so && others == 1).then(|| format!("{about} wants {:?}, and {wish:?} was asked", record.intent))
        }
        AskOf::Rebalance(budget) => {
            let moving = |place: Option<PlaceRecord>| {
                let sets = place.into_iter().flat_map(|place| place.sets);
                sets.flat_map(|set| set.moving.into_values()).sum::<u32>()
            };
            let places = commit
                .changes
                .iter()
                .filter(|change| matches!(change.key, Key::Place(_)));
            let more = places.map(|change| moving(change.is()).saturating_sub(moving(change.was())));
            let others = commit.audit.as_ref().map_or(0, |audit| audit.requests.len());
            let more: u32 = more.sum();
            (more > *budget && others == 1).then(|| format!("{more} replicas move, and {budget} may"))
        }
        AskOf::SetHost(host, admin) => {
            let known: HostRecord = written(Key::Host(host_id(*host)))?.is()?;
            let wanted = [HostAdmin::Open, HostAdmin::Cordoned, HostAdmin::Draining][*admin as usize % 3];
            let others = commit.audit.as_ref().map_or(0, |audit| audit.requests.len());
            (known.admin != wanted && others == 1).then(|| format!("{about} is {:?}", known.admin))
        }
        AskOf::Delete(_) => {
            let others = commit.audit.as_ref().map_or(0, |audit| audit.requests.len());
            let gone = written(Key::Workload(about.parse().ok()?)).is_some_and(|change| change.after.is_none());
            (!gone && others == 1).then(|| format!("{about} was not deleted"))
        }
        _ => None,
    }
}

fn changes_nothing(answer: &Value) -> bool {
    let objects = answer["objects"].as_array().into_iter().flatten();
    objects.into_iter().all(|object| object["change"] == "unchanged")
}
