//! Jobs: replicas that run to their end, and are not replaced when they did.
//!
//! In: what hosts say of a job's units. Out: how far the job is, kept with its placement in the same write that takes the
//! ended replicas away, so that no run is counted twice whoever plans next. A run that is lost with its host is run
//! again elsewhere; a new generation begins anew.

use super::{Draft, Outgoing};
use crate::place::index::HostNo;
use crate::place::room::Room;
use heddle_protocol::host_report::{UnitPhase, UnitStatus};
use heddle_protocol::record::{Intent, JobProgress, PlaceRecord, Replicas};

/// How far a job is, as its placement says.
pub(crate) fn progress(intent: &Intent, place: Option<&PlaceRecord>) -> JobProgress {
    let kept = place.and_then(|place| place.job.clone());
    let of_this = kept.filter(|job| job.generation == intent.unit_generation);
    of_this.unwrap_or_else(|| JobProgress {
        generation: intent.unit_generation,
        ..JobProgress::default()
    })
}

/// Replicas that there should be: of a job, the runs that are still to end well. One that was given up ends the job:
/// what runs may end, and nothing begins.
pub(crate) fn wanted(intent: &Intent, place: Option<&PlaceRecord>) -> u32 {
    let count = match intent.replicas {
        Replicas::Count(count) => count,
        Replicas::Daemon => 0,
    };
    let Some(job) = &intent.job else { return count };
    let progress = progress(intent, place);
    let placed = place.map_or(0, |place| place.count_of(intent.unit_generation));
    outstanding(job.completions, &progress, placed)
}

fn outstanding(completions: u32, progress: &JobProgress, placed: u32) -> u32 {
    let left = completions.saturating_sub(progress.completed);
    match progress.failed {
        0 => left,
        _ => left.min(placed),
    }
}

/// Takes the runs that have ended into the job's progress, and their replicas from their hosts.
pub(super) fn settle(draft: &mut Draft<'_>, room: &mut Room<'_>) {
    let intent = &draft.record.intent;
    let Some(job) = intent.job else { return };
    let mut progress = progress(intent, draft.place);
    let (id, take) = (draft.id, draft.take());
    let ended = |room: &Room<'_>, host: HostNo| {
        let status = room.observed(host)?.unit(id, intent.unit_generation)?;
        (status.phase == UnitPhase::Ended).then(|| status.clone())
    };
    let kept = std::mem::take(&mut draft.kept);
    for (rank, replicas) in kept {
        match ended(room, replicas.host) {
            Some(status) => {
                count(&mut progress, &status, replicas.count);
                room.remove(replicas.host, take, replicas.count);
            }
            None => drop(draft.kept.insert(rank, replicas)),
        }
    }
    let before = draft.place.map_or(&[][..], |place| &place.sets);
    let outgoing = std::mem::take(&mut draft.outgoing);
    for replicas in outgoing {
        let set = before.get(replicas.set);
        // What an earlier generation began is of no use to this one.
        let is_newest = set.is_some_and(|set| set.generation == intent.unit_generation);
        match is_newest.then(|| ended(room, replicas.host)) {
            Some(None) => draft.outgoing.push(replicas),
            Some(Some(status)) => {
                count(&mut progress, &status, replicas.count);
                let_go(draft, room, &replicas);
            }
            None => let_go(draft, room, &replicas),
        }
    }
    draft.wanted = outstanding(job.completions, &progress, draft.placed());
    draft.job = Some(progress);
}

fn let_go(draft: &Draft<'_>, room: &mut Room<'_>, replicas: &Outgoing) {
    room.remove(replicas.host, draft.take_of(replicas.set), replicas.count);
}

/// Counts what a host says of its runs, as far as they were placed there.
fn count(progress: &mut JobProgress, status: &UnitStatus, placed: u32) {
    let completed = status.completed.min(placed);
    let failed = status.failed.min(placed - completed);
    progress.completed = progress.completed.saturating_add(completed);
    progress.failed = progress.failed.saturating_add(failed);
    if failed > 0 {
        progress.reason.clone_from(&status.reason);
    }
}

/// Whether a host still holds runs of this generation, going on or ended: it would not begin others.
pub(super) fn is_busy(draft: &Draft<'_>, room: &Room<'_>, host: HostNo) -> bool {
    let held = room
        .observed(host)
        .and_then(|o| o.unit(draft.id, draft.record.intent.unit_generation));
    held.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_failed_begins_nothing_and_one_that_is_done_wants_nothing() {
        let at = |completed, failed| JobProgress {
            completed,
            failed,
            ..JobProgress::default()
        };
        assert_eq!(outstanding(5, &at(0, 0), 0), 5);
        assert_eq!(outstanding(5, &at(2, 0), 3), 3);
        assert_eq!(outstanding(5, &at(5, 0), 0), 0);
        assert_eq!(outstanding(5, &at(1, 1), 3), 3, "what runs may end");
        assert_eq!(outstanding(5, &at(1, 1), 0), 0, "and nothing begins");
    }
}
