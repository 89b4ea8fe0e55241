//! Moving replicas to where they are better by now: what moves and what does not, that never fewer serve, and that it comes
//! to an end.

// In a test a broken expectation is its own message.
#![allow(clippy::unwrap_used)]

use heddle_protocol::api::ErrorCode;
use heddle_protocol::api::rebalance::{BUDGET_MAX, Better, Rebalance, Rebalanced};
use heddle_protocol::id::Namespace;
use heddle_scheduler_core::decide_rebalance;
use heddle_scheduler_core::testing::{TestFleet, fleet, id, workload_yaml};
use proptest::prelude::*;

fn apply(fleet: &mut TestFleet, name: &str, fields: &str) {
    fleet.apply(&workload_yaml(name, fields)).unwrap();
    fleet.make_ready(|_, _| true);
}

fn told(moves: &Rebalanced) -> Vec<String> {
    let each = moves.moves.iter();
    each.map(|m| format!("{} {}→{} {:?}", m.workload.name, m.from, m.to, m.because))
        .collect()
}

fn join(fleet: &mut TestFleet, name: &str, zone: &str) {
    fleet.add_host(name, &[("zone", zone)], 1 << 30, 40);
}

#[test]
fn a_host_that_joined_gets_its_share_and_never_fewer_serve() {
    let mut fleet = fleet().hosts(2);
    apply(&mut fleet, "web", "replicas: 6");
    fleet.add_host("host-3", &[], 1 << 30, 20);
    assert_eq!(fleet.place("web"), "@1 host-1 ×3, host-2 ×3", "nothing moves by itself");
    let moves = fleet.rebalance(10).unwrap();
    assert_eq!(
        told(&moves),
        ["web host-2→host-3 FewerReplicas", "web host-1→host-3 FewerReplicas"]
    );
    assert!(!moves.more);
    // Start first: the old ones serve until the new ones do.
    assert_eq!(
        (fleet.place("web"), fleet.serving("web")),
        ("@1 host-1 ×3, host-2 ×3, host-3 ×2".into(), 6)
    );
    fleet.make_ready(|_, _| true);
    assert_eq!(
        (fleet.place("web"), fleet.serving("web")),
        ("@1 host-1 ×2, host-2 ×2, host-3 ×2".into(), 6)
    );
    assert_eq!(told(&fleet.rebalance(10).unwrap()), Vec::<String>::new());
}

#[test]
fn no_more_than_the_budget_moves() {
    let mut fleet = fleet().hosts(1);
    apply(&mut fleet, "web", "replicas: 6");
    apply(&mut fleet, "api", "replicas: 6");
    fleet.add_host("host-2", &[], 1 << 30, 20);
    let moves = fleet.rebalance(3).unwrap();
    assert_eq!((moves.moves.len(), moves.considered, moves.more), (3, 2, true));
    // What is on its way is left alone.
    let again = fleet.rebalance(3).unwrap();
    assert_eq!((again.moves.len(), again.restless), (0, 2));
    for refused in [0, BUDGET_MAX + 1] {
        assert_eq!(fleet.rebalance(refused).unwrap_err().code, ErrorCode::BadRequest);
    }
}

#[test]
fn the_spread_comes_before_all_else() {
    let mut fleet = fleet();
    join(&mut fleet, "host-1", "a");
    join(&mut fleet, "host-2", "a");
    apply(&mut fleet, "web", "replicas: 4\nplacement: { spread: [{ by: zone }] }");
    join(&mut fleet, "host-3", "b");
    let moves = fleet.rebalance(10).unwrap();
    assert!(moves.moves.iter().all(|m| m.because == Better::Spread), "{moves:?}");
    fleet.make_ready(|_, _| true);
    assert_eq!(fleet.place("web"), "@1 host-1 ×1, host-2 ×1, host-3 ×2");
}

#[test]
fn a_preferred_host_that_was_full_is_taken_once_it_has_room() {
    let mut fleet = fleet();
    join(&mut fleet, "host-1", "a");
    join(&mut fleet, "host-2", "b");
    apply(
        &mut fleet,
        "big",
        "replicas: 1\nreserve: { memory: 1Gi }\nplacement: { require: [{ zone: { in: [b] } }] }",
    );
    let prefers = "replicas: 1\nplacement: { prefer: [{ label: { zone: b }, weight: 5 }] }";
    apply(&mut fleet, "web", prefers);
    assert_eq!(fleet.place("web"), "@1 host-1 ×1");
    assert_eq!(
        told(&fleet.rebalance(1).unwrap()),
        Vec::<String>::new(),
        "it has no room"
    );
    let objects = [heddle_protocol::api::objects::ObjectRef {
        kind: heddle_protocol::api::objects::ObjectKind::Workload,
        name: id("big").to_string(),
    }];
    let decision = heddle_scheduler_core::apply::decide_delete(&fleet.world, &objects, false, fleet.at()).unwrap();
    fleet.carry_out(decision);
    assert_eq!(told(&fleet.rebalance(1).unwrap()), ["web host-1→host-2 Preferred"]);
}

#[test]
fn fullness_alone_moves_only_what_gains_clearly() {
    let mut fleet = fleet().hosts(1);
    for name in ["a", "b", "c", "d"] {
        apply(&mut fleet, name, "replicas: 1\nreserve: { memory: 200Mi }");
    }
    fleet.add_host("host-2", &[], 1 << 30, 20);
    let moves = fleet.rebalance(10).unwrap();
    assert!(moves.moves.iter().all(|m| m.because == Better::Emptier), "{moves:?}");
    fleet.make_ready(|_, _| true);
    // Two on each: a third one would be no better there than here.
    assert_eq!(moves.moves.len(), 2);
    assert_eq!(told(&fleet.rebalance(10).unwrap()), Vec::<String>::new());
    // A little emptier is no reason.
    fleet.add_host("host-3", &[], 1 << 30, 20);
    apply(&mut fleet, "e", "replicas: 1\nreserve: { memory: 180Mi }");
    assert_eq!(fleet.place("e"), "@1 host-3 ×1");
    assert_eq!(told(&fleet.rebalance(10).unwrap()), Vec::<String>::new());
}

#[test]
fn what_packs_moves_together() {
    let mut fleet = fleet().hosts(1);
    let packs = "replicas: 2\nreserve: { memory: 300Mi }\nplacement: { strategy: pack }";
    apply(&mut fleet, "base", "replicas: 1\nreserve: { memory: 500Mi }");
    fleet.add_host("host-2", &[], 1 << 30, 20);
    apply(&mut fleet, "web", packs);
    assert_eq!(fleet.place("web"), "@1 host-1 ×1, host-2 ×1");
    apply(&mut fleet, "base", "replicas: 0");
    assert_eq!(told(&fleet.rebalance(10).unwrap()), ["web host-2→host-1 Together"]);
    fleet.make_ready(|_, _| true);
    assert_eq!(fleet.place("web"), "@1 host-1 ×2");
    assert_eq!(told(&fleet.rebalance(10).unwrap()), Vec::<String>::new());
}

#[test]
fn what_finds_no_place_after_all_stays() {
    let mut fleet = fleet().hosts(1);
    apply(&mut fleet, "web", "replicas: 2\nreserve: { memory: 400Mi }");
    fleet.add_host("host-2", &[], 1 << 30, 20);
    assert_eq!(fleet.rebalance(10).unwrap().moves.len(), 1);
    assert_eq!(fleet.place("web"), "@1 host-1 ×2, host-2 ×1");
    // The new host goes before the replica on it was ready, and no other has room.
    fleet.silence("host-2");
    fleet.tick(10_000);
    assert_eq!(fleet.place("web"), "@1 host-1 ×2");
    assert_eq!(
        (fleet.serving("web"), fleet.status("web").unwrap().waiting),
        (2, Vec::new())
    );
}

#[test]
fn scaling_and_new_generations_take_precedence() {
    let mut fleet = fleet().hosts(1);
    apply(&mut fleet, "web", "replicas: 4");
    fleet.add_host("host-2", &[], 1 << 30, 20);
    assert_eq!(fleet.rebalance(10).unwrap().moves.len(), 2);
    fleet.apply(&workload_yaml("web", "replicas: 2")).unwrap();
    assert_eq!(fleet.serving("web"), 2);
    fleet.make_ready(|_, _| true);
    let placed: u32 = fleet.world.places[&id("web")].sets[0].hosts.values().sum();
    assert_eq!(placed, 2, "{}", fleet.place("web"));
    apply(&mut fleet, "web", "replicas: 2\nimage: hello:v2");
    let place = &fleet.world.places[&id("web")];
    assert!(place.sets.len() == 1 && place.sets[0].moving.is_empty(), "{place:?}");
}

#[test]
fn only_what_is_asked_for_moves() {
    let mut fleet = fleet().hosts(1);
    apply(&mut fleet, "web", "replicas: 4");
    apply(&mut fleet, "api", "replicas: 4");
    fleet.add_host("host-2", &[], 1 << 30, 20);
    let ask = |workloads: &[&str], in_namespace, namespace: &str| {
        let asked = Rebalance {
            workloads: workloads.iter().map(|name| id(name)).collect(),
            in_namespace,
            budget: 100,
            dry_run: true,
        };
        let namespace = Namespace::parse(namespace).unwrap();
        decide_rebalance(&fleet.world, &asked, &namespace, fleet.now).map(|(_, moves)| moves.moves.len())
    };
    assert_eq!(ask(&[], false, "other").unwrap(), 4);
    assert_eq!(ask(&["web"], false, "default").unwrap(), 2);
    assert_eq!(ask(&[], true, "default").unwrap(), 4);
    assert_eq!(ask(&[], true, "other").unwrap(), 0);
    assert_eq!(ask(&["none"], false, "default").unwrap_err().code, ErrorCode::NotFound);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// However the fleet came to be, moving what gains comes to an end, and a fleet at its end has nothing to move.
    #[test]
    fn it_comes_to_an_end(
        first in 1..3usize,
        workloads in proptest::collection::vec((1..7u32, 1..4u32, 0..4u8), 1..6),
        joined in proptest::collection::vec((0..3usize, 2..12u64), 1..4),
    ) {
        let mut fleet = fleet();
        let zone = |n: usize| ["a", "b", "c"][n % 3];
        for n in 0..first {
            join(&mut fleet, &format!("host-{n}"), zone(n));
        }
        for (n, (replicas, memory, kind)) in workloads.iter().enumerate() {
            let rules = match kind {
                0 => "",
                1 => "\nplacement: { spread: [{ by: zone }] }",
                2 => "\nplacement: { prefer: [{ label: { zone: b }, weight: 5 }] }",
                _ => "\nplacement: { strategy: pack }",
            };
            apply(&mut fleet, &format!("w{n}"), &format!("replicas: {replicas}\nreserve: {{ memory: {memory}0Mi }}{rules}"));
        }
        for (n, (in_zone, memory)) in joined.iter().enumerate() {
            fleet.add_host(&format!("new-{n}"), &[("zone", zone(*in_zone))], (memory * 100) << 20, 20);
        }
        let wanted: Vec<u32> = workloads.iter().map(|(replicas, ..)| *replicas).collect();
        let mut rounds = 0;
        loop {
            let moves = fleet.rebalance(7).unwrap();
            for (n, wanted) in wanted.iter().enumerate() {
                prop_assert_eq!(fleet.serving(&format!("w{n}")), *wanted, "while it moves");
            }
            fleet.make_ready(|_, _| true);
            for (n, wanted) in wanted.iter().enumerate() {
                let place = &fleet.world.places[&id(&format!("w{n}"))];
                let placed: u32 = place.sets[0].hosts.values().sum();
                prop_assert!(placed == *wanted && place.sets[0].moving.is_empty(), "{place:?}");
            }
            if moves.moves.is_empty() {
                break;
            }
            rounds += 1;
            prop_assert!(rounds < 30, "it goes round in circles: {:?}", told(&moves));
        }
    }
}
