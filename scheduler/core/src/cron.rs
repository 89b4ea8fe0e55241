//! When cron triggers are due. In: schedules, the world, and the time, which nobody here looks up. Out: points in time.
//!
//! A schedule is read in its time zone. Where clocks are set forward, a point that does not exist there is passed over
//! or moved as the schedule's reader has it; where they are set back, a point with an hour of its own is due once.

use crate::apply::Write;
use crate::liveness::is_heard;
use crate::world::World;
use chrono::{DateTime, Utc};
use heddle_protocol::id::{HostId, UnitId, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::record::{CronTrigger, PlaceRecord, WorkloadRecord};
use heddle_protocol::time::{Mono, UnixMs};
use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;

/// How late a point in time is still fired, in milliseconds. What is older was missed while nobody led.
pub const LATE_MS: u64 = 60_000;

/// A trigger that is due, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The workload.
    pub workload: WorkloadId,
    /// Which of its cron triggers.
    pub trigger: u32,
    /// The newest point in time that it is due for.
    pub due: UnixMs,
    /// Whether it is too late for that point.
    pub too_late: bool,
    /// Whether there were older points that nobody fired.
    pub missed_older: bool,
}

/// The next point of a trigger after a time; none if there is none.
pub fn next(trigger: &CronTrigger, after: UnixMs) -> Option<UnixMs> {
    point(trigger, after, |cron, at| cron.find_next_occurrence(at, false))
}

/// The newest point of a trigger up to a time.
fn newest(trigger: &CronTrigger, at: UnixMs, inclusive: bool) -> Option<UnixMs> {
    point(trigger, at, |cron, at| cron.find_previous_occurrence(at, inclusive))
}

type Found = Result<DateTime<chrono_tz::Tz>, croner::errors::CronError>;

fn point(
    trigger: &CronTrigger,
    at: UnixMs,
    find: impl FnOnce(&croner::Cron, &DateTime<chrono_tz::Tz>) -> Found,
) -> Option<UnixMs> {
    // Both were read when the workload was applied; a release that reads them otherwise fires nothing.
    let cron = croner::Cron::from_str(&trigger.schedule).ok()?;
    let zone = match trigger.time_zone.as_deref() {
        Some(name) => chrono_tz::Tz::from_str(name).ok()?,
        None => chrono_tz::UTC,
    };
    // Points are whole seconds; what is left of one would be taken into what is found, and make another point of it.
    let seconds = i64::try_from(at.0 / 1_000).ok()?;
    let at = DateTime::<Utc>::from_timestamp(seconds, 0)?.with_timezone(&zone);
    let found = find(&cron, &at).ok()?.timestamp_millis();
    u64::try_from(found).ok().map(UnixMs)
}

/// What is due at a time and was not fired yet: of each trigger the newest point alone.
pub fn due(world: &World, at: UnixMs) -> Vec<Due> {
    let mut all = Vec::new();
    for (id, record) in with_cron(world) {
        let fired = fired(world, id);
        for (trigger, index) in record.intent.cron.iter().zip(0u32..) {
            // A generation is not due for what was before it.
            let since = fired.get(&index).copied().unwrap_or_default().max(record.applied_at);
            let Some(newest_due) = newest(trigger, at, true).filter(|due| *due > since) else {
                continue;
            };
            let older = newest(trigger, newest_due, false);
            all.push(Due {
                workload: id.clone(),
                trigger: index,
                due: newest_due,
                too_late: at.0.saturating_sub(newest_due.0) > LATE_MS,
                missed_older: older.is_some_and(|older| older > since),
            });
        }
    }
    all
}

/// When any trigger is due next after a time; none if there is none.
pub fn next_due(world: &World, after: UnixMs) -> Option<UnixMs> {
    let triggers = with_cron(world).flat_map(|(_, record)| &record.intent.cron);
    triggers.filter_map(|trigger| next(trigger, after)).min()
}

/// The writes that keep for which points triggers were fired. Of a workload that is gone nothing is kept.
///
/// # Errors
/// Never in practice: placements are plain JSON.
pub fn note_fired(world: &World, points: &[(WorkloadId, u32, UnixMs)]) -> Result<Vec<Write>, serde_json::Error> {
    let mut places: BTreeMap<&WorkloadId, PlaceRecord> = BTreeMap::new();
    for (id, trigger, due) in points {
        if !world.workloads.contains_key(id) {
            continue;
        }
        let place = places.entry(id).or_insert_with(|| {
            let place = world.places.get(id).map(|place| PlaceRecord::clone(place));
            place.unwrap_or_default()
        });
        let kept = place.fired.entry(*trigger).or_default();
        *kept = (*kept).max(*due);
    }
    let write = |(id, place): (&WorkloadId, PlaceRecord)| {
        Ok(Write {
            key: Key::Place(id.clone()),
            value: Some(serde_json::to_vec(&place)?),
        })
    };
    places.into_iter().map(write).collect()
}

/// The unit that a trigger's run goes to, and the hosts that can take it: those where the newest generation that is ready
/// anywhere is ready, as far as they are heard.
pub fn takers(world: &World, id: &WorkloadId, now: Mono) -> Option<(UnitId, Vec<HostId>)> {
    // The newest generation comes first.
    let sets = &world.places.get(id)?.sets;
    sets.iter().find_map(|set| {
        let ready = |host: &HostId| {
            let observed = world.observed.get(host);
            let ready = observed.map_or(0, |o| o.ready(id, set.generation, 1));
            ready > 0 && is_heard(world, host, now)
        };
        let hosts: Vec<HostId> = set.hosts.keys().filter(|host| ready(host)).cloned().collect();
        let unit = UnitId {
            workload: id.clone(),
            generation: set.generation,
        };
        (!hosts.is_empty()).then_some((unit, hosts))
    })
}

fn with_cron(world: &World) -> impl Iterator<Item = (&WorkloadId, &Arc<WorkloadRecord>)> {
    world
        .workloads
        .iter()
        .filter(|(_, record)| !record.intent.cron.is_empty())
}

fn fired(world: &World, id: &WorkloadId) -> BTreeMap<u32, UnixMs> {
    world
        .places
        .get(id)
        .map(|place| place.fired.clone())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::id::ComponentName;

    fn trigger(schedule: &str, zone: Option<&str>) -> CronTrigger {
        CronTrigger {
            component: ComponentName::parse("main").unwrap(),
            schedule: schedule.to_owned(),
            time_zone: zone.map(ToOwned::to_owned),
        }
    }

    fn at(text: &str) -> UnixMs {
        let time = DateTime::parse_from_rfc3339(text).unwrap();
        UnixMs(time.timestamp_millis() as u64)
    }

    /// The first points after a time, as they are called in UTC.
    fn points(trigger: &CronTrigger, after: &str, count: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut after = at(after);
        for _ in 0..count {
            after = next(trigger, after).unwrap();
            let time = DateTime::<Utc>::from_timestamp_millis(after.0 as i64).unwrap();
            found.push(time.format("%m-%d %H:%M").to_string());
        }
        found
    }

    #[test]
    fn a_schedule_without_a_zone_is_in_utc() {
        let every = trigger("*/5 * * * *", None);
        assert_eq!(
            points(&every, "2026-01-01T00:01:00Z", 2),
            ["01-01 00:05", "01-01 00:10"]
        );
        assert_eq!(
            points(&every, "2026-01-01T00:05:00Z", 1),
            ["01-01 00:10"],
            "after means after"
        );
        assert_eq!(
            newest(&every, at("2026-01-01T00:05:00Z"), true),
            Some(at("2026-01-01T00:05:00Z"))
        );
        assert_eq!(
            newest(&every, at("2026-01-01T00:05:00Z"), false),
            Some(at("2026-01-01T00:00:00Z"))
        );
    }

    #[test]
    fn a_zone_keeps_its_clock_in_summer_and_winter() {
        let nine = trigger("0 9 * * *", Some("Europe/Berlin"));
        assert_eq!(points(&nine, "2026-01-01T00:00:00Z", 1), ["01-01 08:00"]);
        assert_eq!(points(&nine, "2026-07-01T00:00:00Z", 1), ["07-01 07:00"]);
    }

    #[test]
    fn where_clocks_go_forward_no_day_is_lost_or_doubled() {
        // 02:30 does not exist in Berlin on 29 March 2026.
        let gap = trigger("30 2 * * *", Some("Europe/Berlin"));
        let found = points(&gap, "2026-03-28T00:00:00Z", 3);
        assert_eq!((found[0].as_str(), found[2].as_str()), ("03-28 01:30", "03-30 00:30"));
        assert!(found[1].starts_with("03-29 01:"), "{found:?}");
    }

    #[test]
    fn where_clocks_go_back_a_point_of_the_day_is_due_once() {
        // 02:30 is there twice in Berlin on 25 October 2026.
        let twice = trigger("30 2 * * *", Some("Europe/Berlin"));
        let found = points(&twice, "2026-10-24T12:00:00Z", 2);
        assert!(found[0].starts_with("10-25"), "{found:?}");
        assert_eq!(found[1], "10-26 01:30");
    }

    #[test]
    fn what_cannot_be_read_is_never_due() {
        for broken in [trigger("never", None), trigger("* * * * *", Some("Moon/Crater"))] {
            assert_eq!(next(&broken, at("2026-01-01T00:00:00Z")), None);
        }
    }
}
