//! Points in time that the scheduler says are due now. In: what should run. Out: that it runs, once, however often it is
//! said; how it ends is in the workload's log.

use crate::instance::PreparedUnit;
use crate::run::command::{Command, Ran};
use heddle_capability::Level;
use heddle_protocol::host_report::{Fire, FireAnswer};
use heddle_protocol::id::{ComponentName, UnitId};
use heddle_protocol::time::UnixMs;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long it is remembered what ran: the scheduler says nothing twice after so long.
const REMEMBERED: Duration = Duration::from_secs(3_600);
/// Points in time that are remembered at most.
const REMEMBERED_MAX: usize = 10_000;

type Point = (UnitId, ComponentName, UnixMs);

/// What ran of late.
#[derive(Default)]
pub(crate) struct Fired {
    points: BTreeSet<Point>,
    order: VecDeque<(Instant, Point)>,
}

impl Fired {
    /// Notes a point; whether it is new.
    fn note(&mut self, point: Point, now: Instant) -> bool {
        while let Some((at, _)) = self.order.front() {
            if self.order.len() < REMEMBERED_MAX && now.saturating_duration_since(*at) < REMEMBERED {
                break;
            }
            if let Some((_, point)) = self.order.pop_front() {
                self.points.remove(&point);
            }
        }
        if !self.points.insert(point.clone()) {
            return false;
        }
        self.order.push_back((now, point));
        true
    }

    /// Begins what is due, in a unit that is live.
    pub(crate) fn begin(&mut self, fire: &Fire, unit: Option<&Arc<PreparedUnit>>) -> FireAnswer {
        let refused = |reason: String| FireAnswer::Refused { reason };
        let Some(unit) = unit else {
            return refused(format!("{} is not ready here", fire.unit));
        };
        let Some(command) = unit.callable(&fire.component).and_then(Command::find) else {
            return refused(format!("component {} exports no wasi:cli/run", fire.component));
        };
        if !self.note((fire.unit.clone(), fire.component.clone(), fire.due), Instant::now()) {
            return FireAnswer::Known;
        }
        let due = fire.due.0;
        // On its own: the unit drains only when it has ended, as with any other call.
        tokio::spawn(async move {
            let deadline = Instant::now() + command.component.time_limit();
            let ran = command.run(deadline).await;
            if let (Ran::Failed(failure), Some(log)) = (&ran, command.component.log()) {
                let text = format!("the run that was due at {due} came to nothing: {failure}");
                log.write(Level::Error, &text);
            }
        });
        FireAnswer::Begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::id::{Generation, WorkloadId};

    fn point(due: u64) -> Point {
        let unit = UnitId {
            workload: WorkloadId::parse("tick").unwrap(),
            generation: Generation(1),
        };
        (unit, ComponentName::parse("main").unwrap(), UnixMs(due))
    }

    #[test]
    fn a_point_in_time_is_new_once_within_the_hour() {
        let (mut fired, now) = (Fired::default(), Instant::now());
        assert!(fired.note(point(1), now));
        assert!(!fired.note(point(1), now + REMEMBERED / 2));
        assert!(fired.note(point(2), now));
        assert!(fired.note(point(1), now + REMEMBERED), "an hour later it is forgotten");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut fired, now) = (Fired::default(), Instant::now());
        for due in 0..REMEMBERED_MAX as u64 + 10 {
            assert!(fired.note(point(due), now));
        }
        assert_eq!(
            (fired.points.len(), fired.order.len()),
            (REMEMBERED_MAX, REMEMBERED_MAX)
        );
    }
}
