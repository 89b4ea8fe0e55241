//! Jobs and cron triggers as the scheduler decides them: what ends is counted once, what is lost runs again, and what
//! was due is due once.

// In a test a broken expectation is its own message.
#![allow(clippy::unwrap_used)]

use heddle_protocol::api::status::{WorkloadState, WorkloadStatus};
use heddle_protocol::host_report::UnitPhase;
use heddle_protocol::time::UnixMs;
use heddle_scheduler_core::testing::{TestFleet, fleet, id};
use heddle_scheduler_core::{Dirty, cron, plan, plan_only};

fn manifest(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: {name} }}\nspec:\n  components:\n    \
         - {{ name: main, image: \"oci://test.example/silent-runner:v1\" }}\n  {rest}\n"
    )
}

/// The units of a host end, with so many runs that ended well and so many that were given up.
fn end(fleet: &mut TestFleet, host: &str, completed: u32, failed: u32) {
    for unit in fleet.host_mut(host).units.values_mut() {
        (unit.completed, unit.failed) = (completed, failed);
    }
    let reason = (failed > 0).then_some("it left with code 3");
    fleet.set_phase(UnitPhase::Ended, reason, |on, _, _| on.as_str() == host);
    fleet.plan();
    fleet.deliver();
}

fn status(fleet: &TestFleet) -> WorkloadStatus {
    fleet.status("import").unwrap()
}

#[test]
fn a_job_whose_runs_all_ended_well_is_completed_and_runs_nothing_more() {
    let mut fleet = fleet().hosts(2);
    fleet.apply(&manifest("import", "job: { completions: 2 }")).unwrap();
    let mut fleet = fleet.ready();
    assert_eq!(fleet.place("import"), "@1 host-1 ×1, host-2 ×1");
    end(&mut fleet, "host-1", 1, 0);
    assert_eq!(fleet.place("import"), "@1 host-2 ×1", "what ended is not begun again");
    assert_eq!(status(&fleet).job.unwrap().completed, 1);
    end(&mut fleet, "host-2", 1, 0);
    let done = status(&fleet);
    assert_eq!((done.state, done.job.unwrap().completed), (WorkloadState::Completed, 2));
    fleet.tick(60_000);
    assert_eq!(fleet.place("import"), "");
    // Another scheduler knows as much.
    fleet.restart_scheduler();
    fleet.tick(10_000);
    assert_eq!(status(&fleet).state, WorkloadState::Completed);
    assert!(fleet.world.places[&id("import")].sets.is_empty());
}

#[test]
fn a_run_that_was_given_up_fails_the_job_with_its_reason_and_nothing_begins_again() {
    let mut fleet = fleet().hosts(2);
    fleet.apply(&manifest("import", "job: { completions: 2 }")).unwrap();
    let mut fleet = fleet.ready();
    end(&mut fleet, "host-1", 0, 1);
    let failed = status(&fleet);
    assert_eq!(failed.state, WorkloadState::Failed);
    assert_eq!(failed.job.unwrap().reason.as_deref(), Some("it left with code 3"));
    assert_eq!(fleet.place("import"), "@1 host-2 ×1", "what runs may end");
    end(&mut fleet, "host-2", 1, 0);
    fleet.tick(60_000);
    assert_eq!(fleet.place("import"), "");
    assert_eq!(status(&fleet).state, WorkloadState::Failed);
}

#[test]
fn another_host_runs_what_was_lost_and_nothing_that_was_done() {
    let mut fleet = fleet().hosts(2);
    fleet.apply(&manifest("import", "job: { completions: 2 }")).unwrap();
    let mut fleet = fleet.ready();
    end(&mut fleet, "host-1", 1, 0);
    fleet.silence("host-2");
    fleet.tick(10_000);
    let mut fleet = fleet.ready();
    fleet.tick(1_000);
    assert_eq!(fleet.place("import"), "@1 host-1 ×1");
    end(&mut fleet, "host-1", 1, 0);
    assert_eq!(status(&fleet).state, WorkloadState::Completed);
}

#[test]
fn a_new_generation_of_a_job_begins_anew() {
    let mut fleet = fleet().hosts(1);
    fleet.apply(&manifest("import", "job: { completions: 1 }")).unwrap();
    let mut fleet = fleet.ready();
    end(&mut fleet, "host-1", 1, 0);
    fleet.apply(&manifest("import", "job: { completions: 3 }")).unwrap();
    assert_eq!(status(&fleet).job.unwrap().completed, 0);
    assert_eq!(fleet.place("import"), "@2 host-1 ×3");
}

#[test]
fn planning_what_ended_again_changes_nothing() {
    let mut fleet = fleet().hosts(3);
    fleet.apply(&manifest("import", "job: { completions: 3 }")).unwrap();
    let mut fleet = fleet.ready();
    for unit in fleet.host_mut("host-1").units.values_mut() {
        unit.completed = 1;
    }
    fleet.set_phase(UnitPhase::Ended, None, |on, _, _| on.as_str() == "host-1");
    // The ended unit is still reported while its removal is planned, committed, and planned again.
    let mut world = fleet.world.clone();
    let (first, _) = plan(&world, fleet.now);
    first.carry_out(&mut world);
    let (second, _) = plan(&world, fleet.now);
    assert!(second.is_empty(), "{second:?}");
    assert_eq!(world.places[&id("import")].job.as_ref().unwrap().completed, 1);
    let (only, _) = plan_only(&world, fleet.now, &Dirty::one(id("import")));
    assert!(only.is_empty(), "{only:?}");
}

#[test]
fn a_point_in_time_is_due_once_and_what_is_too_old_is_told_as_missed() {
    let mut fleet = fleet().hosts(1);
    fleet
        .apply(&manifest(
            "tick",
            "triggers:\n    - cron: { schedule: \"*/5 * * * *\" }",
        ))
        .unwrap();
    let mut fleet = fleet.ready();
    let applied = fleet.world.workloads[&id("tick")].applied_at;
    let first = cron::next_due(&fleet.world, applied).unwrap();
    assert!(cron::due(&fleet.world, UnixMs(first.0 - 1)).is_empty());
    let due = cron::due(&fleet.world, UnixMs(first.0 + 10));
    assert_eq!(due.len(), 1);
    assert_eq!(
        (due[0].due, due[0].too_late, due[0].missed_older),
        (first, false, false)
    );
    let (unit, hosts) = cron::takers(&fleet.world, &id("tick"), fleet.now).unwrap();
    assert_eq!((unit.to_string(), hosts.len()), ("default/tick@1".to_owned(), 1));
    let writes = cron::note_fired(&fleet.world, &[(id("tick"), 0, first)]).unwrap();
    fleet.commit(&writes);
    assert!(
        cron::due(&fleet.world, UnixMs(first.0 + 10)).is_empty(),
        "the same point is not due again"
    );
    // Nobody led for a quarter of an hour: of three points the newest alone counts, and it is too old.
    let late = UnixMs(first.0 + 15 * 60_000 + cron::LATE_MS + 1);
    let due = cron::due(&fleet.world, late);
    assert_eq!((due.len(), due[0].too_late, due[0].missed_older), (1, true, true));
    assert_eq!(due[0].due, UnixMs(first.0 + 15 * 60_000));
    // What was fired outlives planning.
    fleet.plan();
    fleet.tick(5_000);
    assert_eq!(fleet.world.places[&id("tick")].fired[&0], first);
}
