//! What the planner must do, one sentence each.

use heddle_scheduler_core::testing::fleet;

#[test]
fn replicas_share_hosts_evenly_and_the_rest_goes_to_the_first() {
    let fleet = fleet().hosts(3).workload("web", 4);
    assert_eq!(fleet.place("web"), "@1 host-1 ×2, host-2 ×1, host-3 ×1");
}

#[test]
fn workloads_with_one_replica_share_hosts_too() {
    let fleet = fleet().hosts(3).workload("a", 1).workload("b", 1).workload("c", 1);
    assert_eq!(
        [fleet.place("a"), fleet.place("b"), fleet.place("c")],
        ["@1 host-1 ×1", "@1 host-2 ×1", "@1 host-3 ×1"]
    );
}

#[test]
fn a_host_that_joins_moves_nothing() {
    let fleet = fleet().hosts(2).workload("web", 4).ready();
    let before = fleet.place("web");
    let fleet = fleet.hosts(1);
    assert_eq!(fleet.place("web"), before);
}
