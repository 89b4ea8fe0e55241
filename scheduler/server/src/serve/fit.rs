//! Makes answers fit one NATS message: what is one per host may be thousands, and an answer of more than 1 MiB would
//! never arrive.
//!
//! In: an answer as it was worked out. Out: the same, with its longest lists cut to some bytes; the numbers beside the
//! lists (`placed`, `ready`) speak of all. Reading verbs with many items have pages; this is for what one item holds.

use heddle_protocol::api::apply::Applied;
use heddle_protocol::api::explain::Explanation;
use heddle_protocol::api::status::{Waited, WorkloadStatus};
use heddle_protocol::report::WaitingOn;
use serde::Serialize;

/// Reasons for which hosts refuse, in one list. The commonest come first; a thousand hosts can have a thousand reasons
/// that differ by some bytes of memory.
const REJECTIONS_MAX: usize = 50;
/// Bytes of the units of one workload.
const UNITS_BYTES_MAX: usize = 200 << 10;
/// Bytes of its endpoints: some thousands, which proxies follow.
const ENDPOINTS_BYTES_MAX: usize = 500 << 10;
/// Bytes of units, and of endpoints, of each of several workloads that are waited for.
const MISSING_BYTES_MAX: usize = 16 << 10;
/// Bytes of the chosen hosts in an explanation.
const CHOSEN_BYTES_MAX: usize = 100 << 10;
/// Bytes of the objects of an apply: more than 2,000 documents take.
const OBJECTS_BYTES_MAX: usize = 500 << 10;
/// Bytes of the placements that change.
const CHANGES_BYTES_MAX: usize = 130 << 10;
/// Bytes of the steps that they come to.
const STEPS_BYTES_MAX: usize = 130 << 10;
/// Bytes of each of the shorter lists.
const REST_BYTES_MAX: usize = 50 << 10;

/// A workload's status, as one item of a page or in an explanation.
pub fn status(mut status: WorkloadStatus) -> WorkloadStatus {
    cut_status(&mut status, UNITS_BYTES_MAX, ENDPOINTS_BYTES_MAX);
    status
}

/// How far waited-for workloads are: up to 20 statuses.
pub fn waited(mut waited: Waited) -> Waited {
    for status in &mut waited.missing {
        cut_status(status, MISSING_BYTES_MAX, MISSING_BYTES_MAX);
    }
    cut(&mut waited.superseded, REST_BYTES_MAX);
    waited
}

/// Why a workload is where it is.
pub fn explanation(mut explanation: Explanation) -> Explanation {
    explanation.status = status(explanation.status);
    cut(&mut explanation.chosen, CHOSEN_BYTES_MAX);
    explanation.refusing.truncate(REJECTIONS_MAX);
    cut(&mut explanation.refusing, REST_BYTES_MAX);
    cut(&mut explanation.nearest, REST_BYTES_MAX);
    explanation
}

/// What an apply did. What is left out is said in a note.
pub fn applied(mut applied: Applied) -> Applied {
    cut(&mut applied.notes, REST_BYTES_MAX);
    for waiting in &mut applied.waiting {
        cut_rejections(&mut waiting.on);
    }
    cut(&mut applied.waiting, REST_BYTES_MAX);
    let (objects, changes) = (applied.objects.len(), applied.changes.len());
    cut(&mut applied.objects, OBJECTS_BYTES_MAX);
    cut(&mut applied.changes, CHANGES_BYTES_MAX);
    cut(&mut applied.steps, STEPS_BYTES_MAX);
    for (what, all, listed) in [
        ("objects", objects, applied.objects.len()),
        ("placement changes", changes, applied.changes.len()),
    ] {
        if listed < all {
            applied
                .notes
                .push(format!("of {all} {what} the first {listed} are listed"));
        }
    }
    applied
}

fn cut_status(status: &mut WorkloadStatus, units_max: usize, endpoints_max: usize) {
    cut(&mut status.units, units_max);
    cut(&mut status.endpoints, endpoints_max);
    status.waiting.iter_mut().for_each(cut_rejections);
    cut(&mut status.waiting, MISSING_BYTES_MAX);
}

fn cut_rejections(on: &mut WaitingOn) {
    if let WaitingOn::Hosts { rejections, .. } = on {
        rejections.truncate(REJECTIONS_MAX);
    }
}

/// Keeps the items that fit into so many bytes of JSON.
fn cut<T: Serialize>(items: &mut Vec<T>, bytes_max: usize) {
    let mut bytes = 0;
    let fits = |item: &&T| {
        bytes += serde_json::to_vec(item).map_or(bytes_max, |json| json.len() + 1);
        bytes <= bytes_max
    };
    let kept = items.iter().take_while(fits).count();
    items.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::api::apply::{AppliedObject, Change, Waiting};
    use heddle_protocol::api::status::{Endpoint, PlacedUnit, WorkloadState};
    use heddle_protocol::api::step::{Action, Step};
    use heddle_protocol::host_report::UnitPhase;
    use heddle_protocol::id::{Generation, HostId, WorkloadId};
    use heddle_protocol::report::{PlacementChange, Rejection, RejectionCount};

    /// Below NATS's limit of 1 MiB, with room for the rest of the answer.
    const FITS: usize = 1_000_000;

    fn host(i: u32) -> HostId {
        format!("host-{i:058}").parse().unwrap()
    }

    fn workload() -> WorkloadId {
        format!("{}/{}", "n".repeat(63), "w".repeat(63)).parse().unwrap()
    }

    /// A daemon on ten thousand hosts, each of which fails with a long reason of its own.
    fn daemon() -> WorkloadStatus {
        let units = (0..10_000).map(|i| PlacedUnit {
            host: host(i),
            generation: Generation(1),
            count: 1,
            phase: Some(UnitPhase::Failed),
            reason: Some("x".repeat(500)),
            host_lost: false,
        });
        let endpoints = (0..10_000).map(|i| Endpoint {
            host: host(i),
            url: format!("http://10.0.0.1:8080/{i}"),
            host_header: None,
        });
        WorkloadStatus {
            workload: workload(),
            generation: Generation(1),
            state: WorkloadState::Waiting,
            desired: 10_000,
            placed: 10_000,
            ready: 0,
            ready_old: 0,
            units: units.collect(),
            waiting: vec![waiting()],
            endpoints: endpoints.collect(),
            job: None,
            fired: Vec::new(),
        }
    }

    fn waiting() -> WaitingOn {
        let rejections = (0..10_000).map(|i| RejectionCount {
            rejection: Rejection::Memory {
                needed_bytes: 1 << 40,
                free_bytes: u64::from(i),
            },
            hosts: 1,
            example: host(i),
        });
        WaitingOn::Hosts {
            missing: 3,
            rejections: rejections.collect(),
        }
    }

    #[test]
    fn a_daemon_on_ten_thousand_hosts_has_a_status_that_arrives() {
        let status = status(daemon());
        assert!(serde_json::to_vec(&status).unwrap().len() < FITS);
        assert_eq!(status.placed, 10_000);
        assert!(status.endpoints.len() > 3_000 && status.units.len() > 200);
        let waited = waited(Waited {
            done: false,
            reached: 0,
            superseded: vec![workload(); 10_000],
            missing: vec![daemon(); 20],
        });
        assert!(serde_json::to_vec(&waited).unwrap().len() < FITS);
    }

    #[test]
    fn an_apply_that_changes_ten_thousand_objects_has_an_answer_that_arrives() {
        let object = AppliedObject {
            kind: "Workload".into(),
            name: workload().to_string(),
            generation: Generation(1),
            change: Change::Updated,
        };
        let change = PlacementChange {
            workload: workload(),
            generation: Generation(1),
            host: host(1),
            before: 0,
            after: 1,
            preempted_by: None,
        };
        let step = Step {
            action: Action::Move,
            workload: workload(),
            generation: Generation(1),
            count: 1,
            from: Some(host(1)),
            to: Some(host(2)),
            before: None,
            room_for: None,
        };
        let waiting = Waiting {
            workload: workload(),
            on: waiting(),
        };
        let applied = applied(Applied {
            commit: 1,
            objects: vec![object; 10_000],
            steps: vec![step; 2_000],
            changes: vec![change; 2_000],
            waiting: vec![waiting; 200],
            notes: vec!["an import was bound by itself".into(); 10_000],
        });
        assert!(serde_json::to_vec(&applied).unwrap().len() < FITS);
        assert!(applied.objects.len() > 2_000);
        assert!(applied.notes.iter().any(|note| note.contains("of 10000 objects")));
    }
}
