//! What wadm was seen to fail at, each as a story about the core: many workloads on many hosts, overlapping spreads, a
//! change of number in place, and the last host lost.

// In a test a broken expectation is its own message.
#![allow(clippy::unwrap_used)]

use heddle_protocol::api::status::WorkloadState;
use heddle_protocol::report::WaitingOn;
use heddle_scheduler_core::plan;
use heddle_scheduler_core::testing::{fleet, id, workload_yaml};

/// wadm sent 24,000 commands for these 300 and never came to an end.
#[test]
fn three_hundred_workloads_on_thirty_hosts_start_each_replica_exactly_once() {
    let mut fleet = fleet();
    for n in 0..30 {
        fleet.add_host(
            &format!("host-{n:02}"),
            &[("zone", ["a", "b", "c"][n % 3])],
            4 << 30,
            100,
        );
    }
    let replicas = |n: usize| 1 + n % 4;
    let spread = |n: usize| {
        if n.is_multiple_of(2) {
            "\nplacement: { spread: [{ by: zone }] }"
        } else {
            ""
        }
    };
    let documents: Vec<String> = (0..300)
        .map(|n| workload_yaml(&format!("w-{n:03}"), &format!("replicas: {}{}", replicas(n), spread(n))))
        .collect();
    fleet.take_changes();
    fleet.apply(&documents.join("---\n")).unwrap();
    let starts: u32 = fleet.changes.iter().map(|change| change.after - change.before).sum();
    let wanted: usize = (0..300).map(replicas).sum();
    assert_eq!(starts as usize, wanted);
    fleet.take_changes();
    // However the units come up, in whatever order, nothing is started again and nothing is stopped.
    for n in 0..30 {
        fleet.make_ready(|host, _| host.as_str().ends_with(&format!("{:02}", n * 7 % 30)));
        fleet.tick(500);
    }
    assert_eq!(fleet.take_changes(), Vec::<String>::new());
    for n in 0..300 {
        assert_eq!(fleet.status(&format!("w-{n:03}")).unwrap().state, WorkloadState::Ready);
    }
    assert!(plan(&fleet.world, fleet.now).0.is_empty());
}

/// With wadm a slow image pull started the same instances again on other hosts.
#[test]
fn a_slow_start_is_waited_for_and_never_started_twice() {
    let mut fleet = fleet().hosts(4).workload("slow", 4);
    let placed = fleet.place("slow");
    fleet.take_changes();
    fleet.tick(120_000);
    assert_eq!((fleet.take_changes(), fleet.place("slow")), (Vec::new(), placed));
    fleet.make_ready(|_, _| true);
    assert_eq!(fleet.serving("slow"), 4);
}

/// wadm gave one command each half minute and never settled.
#[test]
fn spreads_whose_values_overlap_settle_at_once() {
    let mut fleet = fleet();
    for (n, (zone, disk)) in [("a", "ssd"), ("a", "hdd"), ("b", "ssd"), ("b", "hdd")]
        .into_iter()
        .enumerate()
    {
        fleet.add_host(
            &format!("host-{}", n + 1),
            &[("zone", zone), ("disk", disk)],
            1 << 30,
            10,
        );
    }
    let fields = "replicas: 4\nplacement: { spread: [{ by: zone, weights: { a: 1, b: 1 } }, { by: disk, weights: { ssd: 3, hdd: 1 } }] }";
    fleet.apply(&workload_yaml("web", fields)).unwrap();
    let placed = fleet.place("web");
    assert_eq!(placed, "@1 host-1 ×1, host-2 ×1, host-3 ×1, host-4 ×1");
    fleet.make_ready(|_, _| true);
    fleet.tick(10_000);
    assert_eq!(fleet.place("web"), placed);
    assert_eq!(fleet.status("web").unwrap().state, WorkloadState::Ready);
}

/// wadm's chance to scale in place was one in as many hosts as were eligible.
#[test]
fn a_change_of_number_in_place_adds_what_is_missing_and_touches_nothing_else() {
    for hosts in [1, 2, 4, 10] {
        let mut fleet = fleet().hosts(hosts).workload("web", 2).ready();
        fleet.take_changes();
        fleet.apply(&workload_yaml("web", "replicas: 5")).unwrap();
        let added: u32 = fleet.changes.iter().map(|c| c.after.saturating_sub(c.before)).sum();
        let removed: u32 = fleet.changes.iter().map(|c| c.before.saturating_sub(c.after)).sum();
        assert_eq!((added, removed), (3, 0), "{hosts} hosts: {:?}", fleet.changes);
        fleet.make_ready(|_, _| true);
        assert_eq!(fleet.status("web").unwrap().state, WorkloadState::Ready);
    }
}

/// wadm went on saying "deployed" for ever.
#[test]
fn the_last_host_that_is_lost_is_told_within_seconds() {
    let mut fleet = fleet().hosts(1).workload("web", 1).ready();
    assert_eq!(fleet.status("web").unwrap().state, WorkloadState::Ready);
    fleet.silence("host-1");
    fleet.events.clear();
    fleet.tick(4_000);
    let told = fleet.events.iter().any(|event| event.about == "host-1");
    assert!(told, "{:?}", fleet.events);
    let status = fleet.status("web").unwrap();
    assert_eq!((status.state, status.ready), (WorkloadState::Waiting, 0));
    let waits = |on: &WaitingOn| matches!(on, WaitingOn::Partition { .. } | WaitingOn::Hosts { .. });
    assert!(status.waiting.iter().any(waits), "{status:?}");
    assert_eq!(fleet.world.places[&id("web")].sets.len(), 1, "silence stops nothing");
}
