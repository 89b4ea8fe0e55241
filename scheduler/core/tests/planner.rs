//! Single rules of the planner that a story does not show.

// In a test a broken expectation is its own message, and one test measures.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

use heddle_protocol::api::apply::Change;
use heddle_protocol::host_report::UnitPhase;
use heddle_protocol::id::Generation;
use heddle_protocol::record::WaitTarget;
use heddle_protocol::report::WaitingOn;
use heddle_scheduler_core::apply::{Joining, collect_garbage, decide_join, decide_token};
use heddle_scheduler_core::testing::{fleet, host, id, workload_yaml};
use heddle_scheduler_core::{Fact, World, host_spec, plan, plan_only, waited};
use std::time::Instant;

#[test]
fn workloads_with_one_replica_share_hosts_too() {
    let fleet = fleet().hosts(3).workload("a", 1).workload("b", 1).workload("c", 1);
    let places = [fleet.place("a"), fleet.place("b"), fleet.place("c")];
    assert_eq!(places, ["@1 host-1 ×1", "@1 host-2 ×1", "@1 host-3 ×1"]);
}

#[test]
fn applying_the_same_manifest_again_changes_nothing() {
    let mut fleet = fleet().hosts(2).workload("web", 2);
    let decision = fleet.decide(&workload_yaml("web", "replicas: 2")).unwrap();
    assert!(decision.writes.is_empty(), "{decision:?}");
    assert_eq!(decision.applied.objects[0].change, Change::Unchanged);
    // The same amounts written in another way are the same manifest.
    fleet
        .apply(&workload_yaml("web", "replicas: 2\nreserve: { memory: 128Mi }"))
        .unwrap();
    let again = fleet
        .decide(&workload_yaml("web", "replicas: 2\nreserve: { memory: 134217728 }"))
        .unwrap();
    assert!(again.writes.is_empty(), "{again:?}");
}

#[test]
fn a_refused_change_changes_nothing_at_all() {
    let fleet = fleet().hosts(1);
    let both = format!(
        "{}---\n{}",
        workload_yaml("good", ""),
        workload_yaml("bad", "image: tax:v1")
    );
    let error = fleet.decide(&both).unwrap_err();
    assert_eq!(error.problems.len(), 1);
    assert!(error.problems[0].message.contains("acme:tax/rates@1.0.0"), "{error:?}");
    assert!(fleet.world.workloads.is_empty());
}

#[test]
fn ten_generations_are_kept_for_undo() {
    let mut fleet = fleet().hosts(1);
    for n in 0..15 {
        fleet
            .apply(&workload_yaml("web", &format!("image: hello:v{n}")))
            .unwrap();
    }
    let record = &fleet.world.workloads[&id("web")];
    assert_eq!(record.generation, Generation(15));
    assert_eq!(record.history.first().unwrap().generation, Generation(14));
    assert_eq!(record.history.len(), 10);
}

#[test]
fn templates_that_nothing_names_are_garbage_and_others_are_not() {
    let mut fleet = fleet().hosts(1).workload("web", 1).ready();
    fleet.apply(&workload_yaml("web", "image: hello:v2")).unwrap();
    // While the first generation still serves, its template is in use.
    assert_eq!(collect_garbage(&fleet.world, fleet.at()), []);
    let mut fleet = fleet.ready();
    let garbage = collect_garbage(&fleet.world, fleet.at());
    assert_eq!(garbage.len(), 1);
    fleet.commit(&garbage);
    assert_eq!(fleet.world.templates.len(), 1);
    assert_eq!(host_spec(&fleet.world, &host("host-1")).units.len(), 1);
}

#[test]
fn a_join_token_admits_one_host_once() {
    let mut fleet = fleet().hosts(1);
    let token = decide_token(&fleet.world, "secret", 60_000, fleet.at()).unwrap();
    assert!(
        !format!("{token:?}").contains("secret"),
        "only the token's digest is kept"
    );
    fleet.commit(&token.writes);
    let mut hello = fleet.hosts[&host("host-1")].hello.clone();
    hello.host = host("new-1");
    hello.join_token = Some("secret".into());
    let join = |fleet: &heddle_scheduler_core::testing::TestFleet, hello: &_, key| {
        decide_join(
            &fleet.world,
            &Joining {
                hello,
                public_key: key,
                trust_on_first_use: false,
            },
            fleet.at(),
        )
    };
    let admitted = join(&fleet, &hello, "KEY").unwrap();
    fleet.commit(&admitted.writes);
    assert!(fleet.world.hosts.contains_key(&host("new-1")));
    // The same host again needs no token; another key is not the same host; the token is spent.
    hello.join_token = None;
    assert!(join(&fleet, &hello, "KEY").unwrap().writes.is_empty());
    assert!(join(&fleet, &hello, "OTHER").is_err());
    hello.host = host("new-2");
    hello.join_token = Some("secret".into());
    assert!(join(&fleet, &hello, "KEY").is_err());
}

#[test]
fn waiting_ends_when_the_generation_or_a_later_one_runs_and_nothing_else() {
    let mut fleet = fleet().hosts(2).workload("web", 2);
    let target = |generation: Option<u64>| {
        [WaitTarget {
            workload: id("web"),
            generation: generation.map(Generation),
        }]
    };
    let done = |fleet: &heddle_scheduler_core::testing::TestFleet, g| waited(&fleet.world, &target(g), fleet.now);
    assert!(!done(&fleet, Some(1)).done);
    fleet.make_ready(|host, _| host.as_str() == "host-1");
    assert!(!done(&fleet, Some(1)).done);
    fleet.make_ready(|_, _| true);
    assert!(done(&fleet, Some(1)).done);
    fleet
        .apply(&workload_yaml("web", "replicas: 2\nimage: hello:v2"))
        .unwrap();
    let waiting = done(&fleet, Some(1));
    assert!(
        !waiting.done && waiting.superseded == [id("web")] && waiting.missing[0].ready_old == 2,
        "{waiting:?}"
    );
    let fleet = fleet.ready();
    assert!(done(&fleet, Some(1)).done && done(&fleet, Some(2)).done && !done(&fleet, Some(3)).done);
    assert!(!done(&fleet, None).done);
}

#[test]
fn a_scheduler_that_just_started_crowds_nothing_onto_the_first_hosts_that_it_hears() {
    let mut fleet = fleet().hosts(3).workload("web", 3).ready();
    fleet.silence("host-2");
    fleet.silence("host-3");
    fleet.restart_scheduler();
    fleet.tick(1_000);
    fleet
        .apply(&workload_yaml("web", "replicas: 3\nimage: hello:v2"))
        .unwrap();
    assert_eq!(fleet.place("web"), "@1 host-1 ×1, host-2 ×1, host-3 ×1");
    let status = fleet.status("web").unwrap();
    assert!(
        status
            .waiting
            .iter()
            .any(|on| matches!(on, WaitingOn::Hosts { missing: 3, .. })),
        "{status:?}"
    );
    fleet.wake("host-2");
    fleet.wake("host-3");
    fleet.make_ready(|_, _| true);
    assert_eq!(fleet.place("web"), "@2 host-1 ×1, host-2 ×1, host-3 ×1");
}

#[test]
fn a_host_that_stays_silent_after_the_scheduler_started_is_waited_for_no_longer_than_the_timeout() {
    let mut fleet = fleet().hosts(3);
    fleet.silence("host-3");
    fleet.restart_scheduler();
    fleet.tick(1_000);
    fleet.apply(&workload_yaml("web", "replicas: 2")).unwrap();
    assert_eq!(fleet.place("web"), "nowhere");
    fleet.tick(2_500);
    assert_eq!(fleet.place("web"), "@1 host-1 ×1, host-2 ×1");
}

#[test]
fn a_missing_status_message_is_asked_for_once_and_then_known() {
    let mut fleet = fleet().hosts(1).workload("web", 1);
    // A message is lost: the host's number goes up without the scheduler hearing why.
    fleet.now = fleet.now.plus(1_000);
    for unit in fleet.host_mut("host-1").units.values_mut() {
        unit.phase = UnitPhase::Ready;
    }
    assert_eq!(fleet.status("web").unwrap().ready, 0);
    fleet.beat(&host("host-1"));
    assert_eq!(
        fleet.status("web").unwrap().ready,
        1,
        "the digest differed, so a full report was asked for"
    );
}

#[test]
fn hosts_that_are_not_admitted_are_asked_for_a_hello_and_not_remembered() {
    let mut fleet = fleet().hosts(1);
    let heartbeat = {
        fleet.beat(&host("host-1"));
        fleet.world.observed[&host("host-1")].heartbeat.clone().unwrap()
    };
    let stranger = host("stranger");
    let now = fleet.now;
    let beat = |world: &mut World| {
        world.apply(Fact::HostBeat {
            host: stranger.clone(),
            heartbeat: heartbeat.clone(),
            now,
        })
    };
    assert_eq!(beat(&mut fleet.world).ask_hello, Some(stranger.clone()));
    assert_eq!(beat(&mut fleet.world).ask_hello, None, "not twice at once");
    assert!(!fleet.world.observed.contains_key(&stranger));
}

/// Not a benchmark: a bound that a quadratic planner would miss by far, even unoptimised.
#[test]
fn ten_thousand_workloads_are_planned_in_seconds_even_unoptimised() {
    let mut fleet = fleet();
    fleet.automatic = false;
    for n in 0..100 {
        fleet.add_host(
            &format!("host-{n}"),
            &[("zone", ["a", "b", "c"][n % 3])],
            1 << 40,
            10_000,
        );
    }
    for chunk in 0..10 {
        let documents: Vec<String> = (0..1_000)
            .map(|n| workload_yaml(&format!("w{chunk}-{n}"), "replicas: 2"))
            .collect();
        let decision = fleet.decide(&documents.join("---\n")).unwrap();
        fleet.commit(&decision.writes);
    }
    let started = Instant::now();
    let (all, _) = plan(&fleet.world, fleet.now);
    let first_ms = started.elapsed().as_millis();
    assert_eq!(all.places.len(), 10_000);
    all.carry_out(&mut fleet.world);
    let started = Instant::now();
    assert!(plan(&fleet.world, fleet.now).0.is_empty());
    let again_ms = started.elapsed().as_millis();
    let one = heddle_scheduler_core::Dirty::one(id("w1-1"));
    let started = Instant::now();
    assert!(plan_only(&fleet.world, fleet.now, &one).0.is_empty());
    let one_us = started.elapsed().as_micros();
    println!("10,000 workloads on 100 hosts: {first_ms} ms to place, {again_ms} ms to look again, {one_us} µs for one");
    assert!(first_ms < 30_000 && again_ms < 10_000);
}

#[test]
fn hosts_that_fall_silent_together_are_waited_for_and_one_alone_is_not() {
    let mut fleet = fleet().hosts(8).workload("web", 8).ready();
    // All are heard at whole seconds; one that is lost was heard three seconds ago.
    let lose = |fleet: &mut heddle_scheduler_core::testing::TestFleet, names: [&str; 2]| {
        let lost = |fleet: &heddle_scheduler_core::testing::TestFleet, name: &str| {
            fleet
                .events
                .iter()
                .any(|event| event.kind == "host-lost" && event.about == name)
        };
        fleet.silence(names[0]);
        fleet.tick(1_000);
        fleet.silence(names[1]);
        for _ in 0..50 {
            let now = fleet.now.plus(100);
            fleet.now = now;
            let hosts = fleet.hosts.keys().cloned().collect::<Vec<_>>();
            hosts
                .iter()
                .filter(|_| now.0.is_multiple_of(1_000))
                .for_each(|host| fleet.beat(host));
            let noted = fleet.tell(Fact::TimePassed { now });
            if lost(fleet, names[0]) {
                return noted.more_lost_until.map(|until| until.since(now));
            }
        }
        panic!("{} is never lost", names[0])
    };
    fleet.tick(1_000 - fleet.now.0 % 1_000);
    assert_eq!(
        lose(&mut fleet, ["host-1", "host-2"]),
        Some(1_000),
        "the other is lost a second later"
    );
    fleet.tick(3_000);
    assert_eq!(lose(&mut fleet, ["host-3", "host-3"]), None);
}
