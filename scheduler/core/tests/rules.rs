//! The rules of placement, each by itself and all together. Intents are made by hand here: what a manifest says of them is
//! tested where manifests are read.

// In a test a broken expectation is its own message.
#![allow(clippy::unwrap_used)]

use heddle_protocol::key::Key;
use heddle_protocol::record::{
    Company, Intent, LabelRule, Preference, Requirement, Spread, Strategy as Packing, Taint, TaintEffect, Taken,
    Toleration,
};
use heddle_protocol::report::{Rejection, WaitingOn};
use heddle_scheduler_core::apply::Write;
use heddle_scheduler_core::testing::{TestFleet, fleet, host, id, workload_yaml};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Applies a workload whose intent is changed by hand before anything is planned.
fn apply(fleet: &mut TestFleet, name: &str, fields: &str, change: impl FnOnce(&mut Intent)) {
    fleet.automatic = false;
    fleet.apply(&workload_yaml(name, fields)).unwrap();
    fleet.automatic = true;
    let mut record = (*fleet.world.workloads[&id(name)]).clone();
    change(&mut record.intent);
    let value = serde_json::to_vec(&record).unwrap();
    fleet.commit(&[Write {
        key: Key::Workload(id(name)),
        value: Some(value),
    }]);
}

/// Puts a taint on a host, or takes all off.
fn taint(fleet: &mut TestFleet, name: &str, taint: Option<(&str, TaintEffect)>) {
    let mut record = (*fleet.world.hosts[&host(name)]).clone();
    record.taints = taint
        .map(|(name, effect)| {
            let value = String::new();
            (name.to_owned(), Taint { value, effect })
        })
        .into_iter()
        .collect();
    let value = serde_json::to_vec(&record).unwrap();
    fleet.commit(&[Write {
        key: Key::Host(host(name)),
        value: Some(value),
    }]);
}

fn zoned(zones: &[&str]) -> TestFleet {
    let mut fleet = fleet();
    for (n, zone) in (1..).zip(zones) {
        fleet.add_host(&format!("host-{n}"), &[("zone", zone)], 1 << 30, 10);
    }
    fleet
}

fn by(label: &str, max_skew: Option<u32>, hard: bool) -> Spread {
    Spread {
        by: label.to_owned(),
        weights: BTreeMap::new(),
        max_skew,
        hard,
    }
}

fn company(workload: &str, by: &str, weight: Option<u32>) -> Company {
    Company {
        workload: id(workload),
        by: by.to_owned(),
        weight,
    }
}

/// Why a workload waits: the refusals that decide, the commonest first.
fn refused(fleet: &TestFleet, name: &str) -> Vec<Rejection> {
    let waiting = fleet.status(name).unwrap().waiting;
    let each = waiting.into_iter().filter_map(|on| match on {
        WaitingOn::Hosts { rejections, .. } => Some(rejections),
        _ => None,
    });
    each.flatten().map(|count| count.rejection).collect()
}

#[test]
fn a_hard_bound_on_skew_waits_and_a_soft_one_does_not() {
    let full = |hard| {
        let mut fleet = zoned(&["a", "b", "b"]);
        // One replica of this size fits a host, so zone a has room for one.
        apply(&mut fleet, "web", "replicas: 3\nreserve: { memory: 600Mi }", |intent| {
            intent.spread = vec![by("zone", Some(1), hard)];
        });
        let more = |fleet: &mut TestFleet| {
            apply(fleet, "more", "replicas: 3\nreserve: { memory: 200Mi }", |intent| {
                intent.spread = vec![by("zone", Some(1), hard)];
                intent.require = vec![one_of("zone", &["a", "b"])];
            });
        };
        more(&mut fleet);
        fleet
    };
    assert_eq!(full(true).place("web"), "@1 host-1 ×1, host-2 ×1, host-3 ×1");
    let mut fleet = zoned(&["a", "b", "b", "b"]);
    apply(&mut fleet, "web", "replicas: 4\nreserve: { memory: 600Mi }", |intent| {
        intent.spread = vec![by("zone", Some(1), true)];
    });
    assert_eq!(fleet.place("web"), "@1 host-1 ×1, host-2 ×1, host-3 ×1");
    let skew = Rejection::Skew {
        by: "zone".into(),
        value: "b".into(),
        most: 1,
    };
    assert!(refused(&fleet, "web").contains(&skew), "{:?}", refused(&fleet, "web"));
    let mut fleet = zoned(&["a", "b", "b", "b"]);
    apply(&mut fleet, "web", "replicas: 4\nreserve: { memory: 600Mi }", |intent| {
        intent.spread = vec![by("zone", Some(1), false)];
    });
    assert_eq!(fleet.place("web"), "@1 host-1 ×1, host-2 ×1, host-3 ×1, host-4 ×1");
}

#[test]
fn a_hard_bound_by_host_counts_full_hosts_too() {
    let mut fleet = zoned(&["a", "a"]);
    apply(&mut fleet, "big", "replicas: 1\nreserve: { memory: 1Gi }", |_| {});
    apply(&mut fleet, "web", "replicas: 3", |intent| {
        intent.spread = vec![by("host", Some(2), true)];
    });
    assert_eq!(fleet.place("web"), "@1 host-2 ×2");
}

fn one_of(label: &str, values: &[&str]) -> Requirement {
    Requirement {
        label: label.to_owned(),
        rule: LabelRule::In(values.iter().map(|v| (*v).to_owned()).collect()),
    }
}

#[test]
fn the_preferred_host_comes_first_among_equals_and_the_spread_before_it() {
    let mut fleet = zoned(&["a", "b", "c"]);
    let prefer = |intent: &mut Intent| {
        let wish = |zone: &str, weight| Preference {
            labels: vec![one_of("zone", &[zone])],
            weight,
        };
        intent.rules.prefer = vec![wish("b", 5), wish("c", 10)];
    };
    apply(&mut fleet, "web", "replicas: 1", prefer);
    assert_eq!(fleet.place("web"), "@1 host-3 ×1");
    apply(&mut fleet, "api", "replicas: 2", prefer);
    assert_eq!(fleet.place("api"), "@1 host-2 ×1, host-3 ×1");
}

#[test]
fn a_host_that_holds_the_image_comes_before_emptier_ones_for_who_minds() {
    let mut fleet = zoned(&["a", "b", "c"]);
    apply(&mut fleet, "web", "replicas: 1", |_| {});
    assert_eq!(fleet.place("web"), "@1 host-1 ×1");
    let minds = |intent: &mut Intent| intent.rules.prefer_image = true;
    apply(&mut fleet, "plain", "replicas: 1", |_| {});
    apply(&mut fleet, "api", "replicas: 1", minds);
    // Both have the image of the first one; the other hosts would be emptier.
    assert_eq!(fleet.place("plain"), "@1 host-2 ×1");
    assert_eq!(fleet.place("api"), "@1 host-1 ×1");
    let explained =
        heddle_scheduler_core::explain::explain(&fleet.world, &"default/api".parse().unwrap(), fleet.now).unwrap();
    assert!(
        explained.wishes.contains("a host that holds the image"),
        "{}",
        explained.wishes
    );
    let second = explained.chosen[0].second.as_ref().unwrap();
    assert!(
        second.host.as_str() == "host-2" && second.why.contains("equal"),
        "{second:?}"
    );
    // Its own replicas still share the hosts, and who minds nothing goes where it is emptiest.
    apply(&mut fleet, "wide", "replicas: 3", minds);
    assert_eq!(fleet.place("wide"), "@1 host-1 ×1, host-2 ×1, host-3 ×1");
    apply(&mut fleet, "last", "replicas: 1", |_| {});
    assert_eq!(fleet.place("last"), "@1 host-3 ×1");
    let planned = heddle_scheduler_core::plan(&fleet.world, fleet.now).0;
    assert!(planned.is_empty(), "{planned:?}");
}

#[test]
fn what_is_kept_apart_stays_apart_whichever_comes_first() {
    for first in ["web", "api"] {
        let mut fleet = zoned(&["a", "a", "b"]);
        let second = if first == "web" { "api" } else { "web" };
        for name in [first, second] {
            apply(&mut fleet, name, "replicas: 1", |intent| {
                if name == "web" {
                    intent.rules.avoid = vec![company("api", "zone", None)];
                }
            });
        }
        assert_eq!(
            (fleet.place(first), fleet.place(second)),
            ("@1 host-1 ×1".into(), "@1 host-3 ×1".into())
        );
        apply(&mut fleet, "third", "replicas: 1", |intent| {
            intent.rules.avoid = vec![company("web", "zone", None), company("api", "zone", None)];
        });
        assert_eq!(fleet.place("third"), "nowhere");
        assert!(matches!(refused(&fleet, "third")[0], Rejection::Avoid { .. }));
    }
}

#[test]
fn what_is_near_waits_for_company_and_follows_it() {
    let mut fleet = zoned(&["a", "b", "b"]);
    apply(&mut fleet, "cache", "replicas: 1", |intent| {
        intent.rules.near = vec![company("web", "zone", None)];
    });
    assert_eq!(fleet.place("cache"), "nowhere");
    assert!(matches!(refused(&fleet, "cache")[0], Rejection::Near { .. }));
    apply(&mut fleet, "web", "replicas: 1", |intent| {
        intent.require = vec![one_of("zone", &["b"])];
    });
    assert_eq!(
        (fleet.place("web"), fleet.place("cache")),
        ("@1 host-2 ×1".into(), "@1 host-3 ×1".into())
    );
    apply(&mut fleet, "together", "replicas: 4", |intent| {
        intent.rules.near = vec![company("together", "zone", None)];
    });
    assert_eq!(fleet.place("together"), "@1 host-1 ×4");
}

#[test]
fn wishes_about_company_decide_among_equals_only() {
    let mut fleet = zoned(&["a", "b", "c"]);
    apply(&mut fleet, "web", "replicas: 1", |intent| {
        intent.require = vec![one_of("zone", &["c"])];
    });
    apply(&mut fleet, "near", "replicas: 1", |intent| {
        intent.rules.near = vec![company("web", "host", Some(1))];
    });
    apply(&mut fleet, "far", "replicas: 3", |intent| {
        intent.rules.avoid = vec![company("web", "zone", Some(1))];
    });
    assert_eq!(fleet.place("near"), "@1 host-3 ×1");
    assert_eq!(fleet.place("far"), "@1 host-1 ×1, host-2 ×1, host-3 ×1");
}

#[test]
fn no_more_than_so_many_are_on_a_host() {
    let mut fleet = zoned(&["a", "a"]);
    let most = |n: u32| move |intent: &mut Intent| intent.rules.max_per_host = Some(n);
    apply(&mut fleet, "web", "replicas: 4", most(1));
    assert_eq!(fleet.place("web"), "@1 host-1 ×1, host-2 ×1");
    assert_eq!(refused(&fleet, "web"), [Rejection::PerHost { most: 1 }]);
    apply(&mut fleet, "two", "replicas: 4", most(2));
    assert_eq!(fleet.place("two"), "@1 host-1 ×2, host-2 ×2");
    for n in 3..5 {
        fleet.add_host(&format!("host-{n}"), &[], 1 << 30, 10);
    }
    fleet.make_ready(|_, _| true);
    assert_eq!(fleet.place("web"), "@1 host-1 ×1, host-2 ×1, host-3 ×1, host-4 ×1");
    assert_eq!(fleet.place("two"), "@1 host-1 ×2, host-2 ×2");
}

#[test]
fn a_taint_keeps_new_replicas_away_and_an_evicting_one_moves_those_that_are_there() {
    let mut fleet = zoned(&["a", "a"]);
    apply(&mut fleet, "web", "replicas: 2", |_| {});
    fleet.make_ready(|_, _| true);
    taint(&mut fleet, "host-1", Some(("gpu", TaintEffect::NoNew)));
    apply(&mut fleet, "api", "replicas: 2", |_| {});
    assert_eq!(
        (fleet.place("web"), fleet.place("api")),
        ("@1 host-1 ×1, host-2 ×1".into(), "@1 host-2 ×2".into())
    );
    fleet.add_host("host-3", &[], 1 << 30, 10);
    apply(&mut fleet, "bold", "replicas: 3", |intent| {
        let (taint, value) = ("gpu".to_owned(), None);
        intent.rules.tolerate = BTreeSet::from([Toleration { taint, value }]);
    });
    assert_eq!(fleet.place("bold"), "@1 host-1 ×1, host-2 ×1, host-3 ×1");
    fleet.make_ready(|_, _| true);
    taint(&mut fleet, "host-1", Some(("gpu", TaintEffect::Evict)));
    let serves = "it serves until it is replaced";
    assert_eq!(fleet.place("web"), "@1 host-1 ×1, host-2 ×1, host-3 ×1", "{serves}");
    fleet.make_ready(|_, _| true);
    assert_eq!(fleet.place("web"), "@1 host-2 ×1, host-3 ×1");
    assert_eq!(fleet.place("bold"), "@1 host-1 ×1, host-2 ×1, host-3 ×1");
    taint(&mut fleet, "host-1", None);
    assert_eq!(
        fleet.place("web"),
        "@1 host-2 ×1, host-3 ×1",
        "a host that is open again moves nothing"
    );
}

#[test]
fn what_packs_fills_one_host_after_the_other() {
    let mut fleet = fleet().hosts(3);
    apply(&mut fleet, "base", "replicas: 1", |intent| {
        intent.require = vec![];
    });
    let packs = |intent: &mut Intent| intent.rules.strategy = Packing::Pack;
    apply(&mut fleet, "web", "replicas: 4\nreserve: { memory: 200Mi }", packs);
    // The host that holds something already is the fullest.
    assert_eq!(fleet.place("web"), "@1 host-1 ×4");
    apply(&mut fleet, "api", "replicas: 6\nreserve: { memory: 200Mi }", packs);
    assert_eq!(fleet.place("api"), "@1 host-2 ×5, host-3 ×1");
}

#[test]
fn processor_time_and_countable_things_are_given_out_once() {
    let mut fleet = fleet().hosts(2);
    let capacity = &mut fleet.host_mut("host-1").hello.capacity;
    capacity.cpu_millis = Some(1_000);
    capacity.resources = BTreeMap::from([("acme.dev/gpu".to_owned(), 2)]);
    fleet.say_hello("host-1");
    let takes = |cpu_millis, gpus: u32| {
        move |intent: &mut Intent| {
            let resources = (gpus > 0)
                .then(|| ("acme.dev/gpu".to_owned(), gpus))
                .into_iter()
                .collect();
            intent.rules.takes = Taken { cpu_millis, resources };
        }
    };
    apply(&mut fleet, "web", "replicas: 4", takes(600, 0));
    assert_eq!(fleet.place("web"), "@1 host-1 ×1, host-2 ×3");
    apply(&mut fleet, "model", "replicas: 3", takes(0, 1));
    assert_eq!(fleet.place("model"), "@1 host-1 ×2");
    let lacking = |free| Rejection::Resource {
        resource: "acme.dev/gpu".into(),
        needed: 1,
        free,
    };
    assert_eq!(refused(&fleet, "model"), [lacking(0)]);
}

fn urgent(priority: u32) -> impl Fn(&mut Intent) {
    move |intent| intent.rules.priority = priority
}

#[test]
fn the_highest_priority_is_served_first_and_takes_the_place_of_lower_ones() {
    let mut fleet = fleet().hosts(2);
    let size = "replicas: 2\nreserve: { memory: 500Mi }";
    apply(&mut fleet, "low", size, urgent(1));
    apply(&mut fleet, "middle", size, urgent(5));
    fleet.take_changes();
    apply(&mut fleet, "high", "replicas: 1\nreserve: { memory: 500Mi }", urgent(9));
    assert_eq!(
        fleet.take_changes(),
        [
            "+ default/high@1 ×1 on host-1".to_owned(),
            "- default/low@1 ×1 on host-1, preempted by default/high".to_owned(),
        ]
    );
    assert_eq!(
        (fleet.place("low"), fleet.place("middle")),
        ("@1 host-2 ×1".into(), "@1 host-1 ×1, host-2 ×1".into())
    );
    // Once there is room again, what was taken away comes back.
    fleet.add_host("host-3", &[], 1 << 30, 10);
    assert_eq!(fleet.place("low"), "@1 host-2 ×1, host-3 ×1");
}

#[test]
fn the_fewest_go_and_those_that_are_not_ready_first_and_never_an_equal() {
    let mut fleet = fleet().hosts(3);
    apply(
        &mut fleet,
        "small",
        "replicas: 6\nreserve: { memory: 150Mi }",
        |intent| {
            intent.rules.max_per_host = Some(3);
            intent.rules.strategy = Packing::Pack;
        },
    );
    apply(&mut fleet, "large", "replicas: 1\nreserve: { memory: 900Mi }", |_| {});
    assert_eq!(fleet.place("large"), "@1 host-3 ×1");
    apply(&mut fleet, "high", "replicas: 1\nreserve: { memory: 900Mi }", urgent(1));
    assert_eq!(
        (fleet.place("high"), fleet.place("large")),
        ("@1 host-3 ×1".into(), "nowhere".into())
    );
    apply(
        &mut fleet,
        "equal",
        "replicas: 1\nreserve: { memory: 900Mi }",
        urgent(1),
    );
    // The equal one gets a host where three small ones were.
    assert_eq!(fleet.place("high"), "@1 host-3 ×1");
    assert_eq!(fleet.place("equal"), "@1 host-1 ×1");
    let small: u32 = fleet.world.places[&id("small")].sets[0].hosts.values().sum();
    assert_eq!(small, 3);
}

#[test]
fn nobody_takes_the_place_of_what_another_one_must_be_near() {
    let mut fleet = fleet().hosts(2);
    apply(
        &mut fleet,
        "guest",
        "replicas: 2\nreserve: { memory: 400Mi }",
        |intent| {
            intent.rules.priority = 1;
            intent.rules.near = vec![company("base", "host", None)];
        },
    );
    apply(&mut fleet, "base", "replicas: 2\nreserve: { memory: 700Mi }", |_| {});
    assert_eq!(fleet.place("base"), "@1 host-1 ×1, host-2 ×1");
    assert_eq!(fleet.place("guest"), "nowhere");
}

#[test]
fn what_is_packed_within_a_bound_on_skew_is_placed_whole_at_once() {
    let mut fleet = fleet().hosts(4);
    apply(
        &mut fleet,
        "packed",
        "replicas: 5\nreserve: { memory: 100Mi }",
        |intent| {
            intent.spread = vec![by("host", Some(1), true)];
            intent.rules.strategy = Packing::Pack;
        },
    );
    assert_eq!(fleet.place("packed"), "@1 host-1 ×2, host-2 ×1, host-3 ×1, host-4 ×1");
}

/// A workload with rules drawn by chance.
#[derive(Debug, Clone)]
struct Drawn {
    replicas: u32,
    memory_mi: u32,
    skew: Option<(bool, bool)>,
    prefer: Option<u8>,
    avoid: Option<(u8, bool, bool)>,
    near: Option<(u8, bool, bool)>,
    most: Option<u32>,
    packs: bool,
    minds_image: bool,
    tolerates: bool,
    priority: u32,
}

#[derive(Debug, Clone)]
enum Step {
    Apply(usize, Box<Drawn>),
    Taint(usize, u8),
    Silence(usize),
    Wake(usize),
    Ready(usize),
    Rebalance(u32),
    Tick(u64),
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn drawn() -> impl Strategy<Value = Drawn> {
    let company = || proptest::option::weighted(0.25, (0..5u8, any::<bool>(), any::<bool>()));
    let first = (
        0..6u32,
        1..8u32,
        proptest::option::weighted(0.4, (any::<bool>(), any::<bool>())),
    );
    let second = (proptest::option::weighted(0.3, 0..3u8), company(), company());
    let third = (
        proptest::option::weighted(0.2, 1..3u32),
        (any::<bool>(), any::<bool>()),
        any::<bool>(),
        0..3u32,
    );
    (first, second, third).prop_map(|((replicas, memory, skew), (prefer, avoid, near), third)| {
        let (most, (packs, minds_image), tolerates, priority) = third;
        let memory_mi = memory * 100;
        Drawn {
            replicas,
            memory_mi,
            skew,
            prefer,
            avoid,
            near,
            most,
            packs,
            minds_image,
            tolerates,
            priority,
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5usize, drawn()).prop_map(|(name, drawn)| Step::Apply(name, Box::new(drawn))),
        1 => (0..4usize, 0..3u8).prop_map(|(host, kind)| Step::Taint(host, kind)),
        1 => (0..4usize).prop_map(Step::Silence),
        1 => (0..4usize).prop_map(Step::Wake),
        3 => (0..4usize).prop_map(Step::Ready),
        2 => (1..5u32).prop_map(Step::Rebalance),
        2 => (1..50u64).prop_map(|tenths| Step::Tick(tenths * 100)),
    ]
}

fn carry_out(fleet: &mut TestFleet, step: &Step) {
    let name = |index: &usize| format!("host-{}", index + 1);
    match step {
        Step::Apply(which, drawn) => {
            let fields = format!(
                "replicas: {}\nreserve: {{ memory: {}Mi }}",
                drawn.replicas, drawn.memory_mi
            );
            let other = |n: u8| NAMES[usize::from(n)];
            let label = |by_host: bool| if by_host { "host" } else { "zone" };
            apply(fleet, NAMES[*which], &fields, |intent| {
                if let Some((by_host, hard)) = drawn.skew {
                    intent.spread = vec![by(label(by_host), Some(1), hard)];
                }
                let zone = |n: u8| one_of("zone", &[["x", "y", "z"][usize::from(n)]]);
                let rules = &mut intent.rules;
                let wish = |n| Preference {
                    labels: vec![zone(n)],
                    weight: 3,
                };
                rules.prefer = drawn.prefer.map(wish).into_iter().collect();
                let company =
                    |(n, by_host, hard): (u8, bool, bool)| company(other(n), label(by_host), (!hard).then_some(2));
                // Keeping away from itself is what a bound per host is for.
                let avoid = drawn.avoid.filter(|(n, _, _)| usize::from(*n) != *which);
                rules.avoid = avoid.map(company).into_iter().collect();
                rules.near = drawn.near.map(company).into_iter().collect();
                rules.max_per_host = drawn.most;
                rules.prefer_image = drawn.minds_image;
                rules.strategy = if drawn.packs { Packing::Pack } else { Packing::Spread };
                let toleration = Toleration {
                    taint: "t".to_owned(),
                    value: None,
                };
                rules.tolerate = drawn.tolerates.then_some(toleration).into_iter().collect();
                // What a replica takes is part of what it is: another amount would be another generation.
                rules.takes.cpu_millis = u32::try_from(which * 150).unwrap();
                rules.priority = drawn.priority;
            });
        }
        Step::Taint(index, kind) => {
            let effect = match kind {
                0 => None,
                1 => Some(("t", TaintEffect::NoNew)),
                _ => Some(("t", TaintEffect::Evict)),
            };
            taint(fleet, &name(index), effect);
        }
        Step::Silence(index) => fleet.silence(&name(index)),
        Step::Wake(index) => fleet.wake(&name(index)),
        Step::Ready(index) => fleet.make_ready(|host, _| host.as_str() == name(index)),
        Step::Rebalance(budget) => drop(fleet.rebalance(*budget).unwrap()),
        Step::Tick(ms) => fleet.tick(*ms),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(128),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// At each step the fleet of `testing` asserts that no rule is broken by what is placed, that planning what is dirty
    /// decides what planning everything does, and that planning again changes nothing: no two workloads ever take each
    /// other's place in turns.
    #[test]
    fn no_rule_is_broken_and_nothing_goes_round_in_circles(steps in proptest::collection::vec(step(), 1..25)) {
        let mut fleet = fleet();
        for n in 0..4 {
            let zone = ["x", "y", "z"][n % 3];
            fleet.add_host(&format!("host-{}", n + 1), &[("zone", zone)], 1 << 30, 6);
            let name = format!("host-{}", n + 1);
            fleet.host_mut(&name).hello.capacity.cpu_millis = Some(1_000);
            fleet.say_hello(&name);
        }
        for step in &steps {
            carry_out(&mut fleet, step);
        }
    }
}
