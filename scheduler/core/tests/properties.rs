//! What holds whatever happens: any sequence of changes, losses, returns and restarts.
//!
//! The fleet of `testing` asserts at each step that planning what is dirty decides what planning everything decides,
//! that planning again changes nothing, and that no placement breaks a rule (capacity among them). The tests here add
//! what needs to be seen over several steps.

// In a test a broken expectation is its own message.
#![allow(clippy::unwrap_used)]

use heddle_protocol::api::hosts::SetHost;
use heddle_protocol::api::objects::{ObjectKind, ObjectRef};
use heddle_protocol::api::status::WorkloadState;
use heddle_protocol::host_report::UnitPhase;
use heddle_protocol::record::{HostAdmin, Replicas};
use heddle_protocol::report::WaitingOn;
use heddle_scheduler_core::apply::{decide_delete, decide_set_host};
use heddle_scheduler_core::liveness::is_heard;
use heddle_scheduler_core::testing::{TestFleet, fleet, id, workload_yaml};
use proptest::prelude::*;
use std::collections::BTreeMap;

const HOSTS: usize = 6;
const WORKLOADS: [&str; 3] = ["web", "api", "shop/cart"];
/// Runs on each host; it has no replacement elsewhere, so draining a host takes it away.
const DAEMON: &str = "probe";

/// Is embedded in [`CALLER`], or called by it.
const LIB: &str = "lib";
const CALLER: &str = "caller";

#[derive(Debug, Clone)]
enum Step {
    Lib {
        image: u8,
    },
    Caller {
        replicas: u32,
        remote: bool,
    },
    Apply {
        workload: usize,
        replicas: u32,
        image: u8,
        shape: u8,
    },
    Daemon {
        image: u8,
    },
    Delete(usize),
    AddHost {
        zone: u8,
        memory_mi: u64,
        slots: u32,
    },
    ReadyOn(usize),
    FailOn(usize),
    Silence(usize),
    Wake(usize),
    RestartHost(usize),
    Leave(usize),
    Set(usize, HostAdmin),
    Tick(u64),
    RestartScheduler,
    Rebalance(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let host = 0..HOSTS;
    prop_oneof![
        4 => (0..WORKLOADS.len(), 0..9u32, 0..3u8, 0..5u8)
            .prop_map(|(workload, replicas, image, shape)| Step::Apply { workload, replicas, image, shape }),
        1 => (0..3u8).prop_map(|image| Step::Daemon { image }),
        1 => (0..3u8).prop_map(|image| Step::Lib { image }),
        1 => (1..3u32, any::<bool>()).prop_map(|(replicas, remote)| Step::Caller { replicas, remote }),
        1 => (0..WORKLOADS.len()).prop_map(Step::Delete),
        1 => (0..3u8, 1..12u64, 1..12u32)
            .prop_map(|(zone, memory, slots)| Step::AddHost { zone, memory_mi: memory * 100, slots }),
        6 => host.clone().prop_map(Step::ReadyOn),
        1 => host.clone().prop_map(Step::FailOn),
        2 => host.clone().prop_map(Step::Silence),
        2 => host.clone().prop_map(Step::Wake),
        1 => host.clone().prop_map(Step::RestartHost),
        1 => host.clone().prop_map(Step::Leave),
        1 => (host, prop_oneof![Just(HostAdmin::Open), Just(HostAdmin::Cordoned), Just(HostAdmin::Draining)])
            .prop_map(|(host, admin)| Step::Set(host, admin)),
        4 => (1..60u64).prop_map(|tenths| Step::Tick(tenths * 100)),
        1 => Just(Step::RestartScheduler),
        2 => (1..6u32).prop_map(Step::Rebalance),
    ]
}

fn start() -> TestFleet {
    let mut fleet = fleet();
    for n in 0..3 {
        let zone = ["a", "b", "c"][n];
        fleet.add_host(&format!("host-{}", n + 1), &[("zone", zone)], 1 << 30, 20);
    }
    fleet
}

fn shape_of(shape: u8) -> &'static str {
    match shape {
        0 => "",
        1 => "\nplacement: { spread: [{ by: zone }] }",
        2 => "\nplacement: { spread: [{ by: zone, weights: { a: 2, b: 1 } }] }",
        3 => "\nplacement: { require: [{ zone: { in: [a, b] } }] }",
        _ => "\nreserve: { memory: 200Mi }",
    }
}

/// Carries a step out. Returns whether it is a fault: something that may itself take a serving replica away.
fn carry_out(fleet: &mut TestFleet, step: &Step) -> bool {
    let name = |index: usize| format!("host-{}", index + 1);
    let known = |fleet: &TestFleet, index: usize| fleet.hosts.keys().any(|h| h.as_str() == name(index));
    match step {
        Step::Apply {
            workload,
            replicas,
            image,
            shape,
        } => {
            let fields = format!("image: hello:v{image}\nreplicas: {replicas}{}", shape_of(*shape));
            fleet.apply(&workload_yaml(WORKLOADS[*workload], &fields)).unwrap();
        }
        Step::Daemon { image } => {
            let fields = format!("image: hello:v{image}\ndaemon: true");
            fleet.apply(&workload_yaml(DAEMON, &fields)).unwrap();
        }
        Step::Lib { image } => {
            let fields = format!("image: silent-rates:v{image}\ntriggers: []");
            fleet.apply(&workload_yaml(LIB, &fields)).unwrap();
        }
        Step::Caller { replicas, remote } if fleet.world.workloads.contains_key(&id(LIB)) => {
            let to = if *remote {
                "workload: lib, via: wrpc"
            } else {
                "workload: lib"
            };
            let link = format!("links: [{{ from: main, import: \"acme:tax/rates\", to: {{ {to} }} }}]");
            let fields = format!("image: tax:v1\nreplicas: {replicas}\n{link}");
            fleet.apply(&workload_yaml(CALLER, &fields)).unwrap();
        }
        Step::Delete(workload) => {
            let object = ObjectRef {
                kind: ObjectKind::Workload,
                name: id(WORKLOADS[*workload]).to_string(),
            };
            let decision = decide_delete(&fleet.world, &[object], true, fleet.at()).unwrap();
            fleet.carry_out(decision);
        }
        Step::AddHost { zone, memory_mi, slots } if fleet.hosts.len() < HOSTS => {
            let zone = ["a", "b", "c"][usize::from(*zone)];
            let next = name(fleet.hosts.len());
            fleet.add_host(&next, &[("zone", zone)], memory_mi << 20, *slots);
        }
        Step::ReadyOn(host) => fleet.make_ready(|h, _| h.as_str() == name(*host)),
        Step::FailOn(host) => {
            let starting = |phase| phase == UnitPhase::Starting;
            fleet.set_phase(UnitPhase::Failed, Some("no luck"), |h, _, phase| {
                h.as_str() == name(*host) && starting(phase)
            });
        }
        Step::Silence(host) if known(fleet, *host) => {
            fleet.silence(&name(*host));
            return true;
        }
        Step::Wake(host) if known(fleet, *host) => fleet.wake(&name(*host)),
        Step::RestartHost(host) if known(fleet, *host) => {
            fleet.restart_host(&name(*host));
            return true;
        }
        Step::Leave(host) if known(fleet, *host) => fleet.leave(&name(*host)),
        Step::Set(host, admin) if known(fleet, *host) => {
            let host = fleet.hosts.keys().find(|h| h.as_str() == name(*host)).unwrap().clone();
            let decision = decide_set_host(&fleet.world, &SetHost { host, admin: *admin }, fleet.at()).unwrap();
            fleet.carry_out(decision);
        }
        Step::Tick(ms) => fleet.tick(*ms),
        Step::RestartScheduler => fleet.restart_scheduler(),
        Step::Rebalance(budget) => drop(fleet.rebalance(*budget).unwrap()),
        _ => {}
    }
    false
}

fn serving(fleet: &TestFleet) -> BTreeMap<&'static str, u32> {
    WORKLOADS.iter().map(|name| (*name, fleet.serving(name))).collect()
}

fn wanted(fleet: &TestFleet, name: &str) -> u32 {
    match fleet.world.workloads.get(&id(name)).map(|r| r.intent.replicas) {
        Some(Replicas::Count(count)) => count,
        Some(Replicas::Daemon) | None => 0,
    }
}

/// Cases enough to find what was found so far; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(64);
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Hosts that the scheduler hears, of those that are silent or of those that are not.
fn heard(fleet: &TestFleet, silent: bool) -> usize {
    let hosts = fleet.hosts.iter().filter(|(_, host)| host.silent == silent);
    hosts.filter(|(id, _)| is_heard(&fleet.world, id, fleet.now)).count()
}

/// Carries steps out, and looks after each whether one took away what must serve.
fn keeps_serving(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut fleet = start();
    // The least that was wanted since every host that can be reached was given its spec: hosts that the scheduler
    // does not know yet follow an earlier decision late.
    let mut floor: BTreeMap<&str, u32> = WORKLOADS.iter().map(|name| (*name, 0)).collect();
    for step in steps {
        let before = serving(&fleet);
        // A host that fell silent a moment ago is still taken to serve: nobody can know better. Time may pass until it is
        // noticed, and with it decisions that counted on that host.
        let unnoticed = heard(&fleet, true) > 0;
        let fault = carry_out(&mut fleet, step);
        let excused = fault || unnoticed || heard(&fleet, true) > 0;
        for (name, after) in serving(&fleet) {
            let least = wanted(&fleet, name).min(floor[name]).min(before[name]);
            let place = fleet.place(name);
            prop_assert!(
                excused || after >= least,
                "{step:?}: {name} had {} serving, has {after}, {place}",
                before[name]
            );
        }
        let followed = heard(&fleet, false) == fleet.hosts.values().filter(|host| !host.silent).count();
        for (name, least) in &mut floor {
            let wanted = wanted(&fleet, name);
            *least = if followed { wanted } else { wanted.min(*least) };
        }
    }
    Ok(())
}

/// A host is silent, and taken to serve, when a scheduler that was started again hears the others and lets go what it counts as
/// replaced. By the end of the step its silence is noticed.
#[test]
fn a_host_whose_silence_is_noticed_within_a_step_is_taken_to_serve_at_its_beginning() {
    let cart = |replicas, shape| Step::Apply {
        workload: 2,
        replicas,
        image: 0,
        shape,
    };
    let steps = [
        cart(8, 2),
        cart(6, 4),
        Step::ReadyOn(0),
        Step::RestartScheduler,
        Step::ReadyOn(2),
        Step::Wake(2),
        Step::Silence(2),
        Step::Tick(3_000),
    ];
    keeps_serving(&steps).unwrap();
}

proptest! {
    #![proptest_config(config())]

    /// The rule of the roll-out: whatever is decided, never fewer serve than min(wanted, as many as did before).
    #[test]
    fn no_decision_takes_away_what_must_serve(steps in proptest::collection::vec(step(), 1..40)) {
        keeps_serving(&steps)?;
    }

    #[test]
    fn the_same_facts_give_the_same_plan_bytes(steps in proptest::collection::vec(step(), 1..30)) {
        let run = || {
            let mut fleet = start();
            for step in &steps {
                carry_out(&mut fleet, step);
            }
            let places: Vec<_> = fleet.world.places.iter().map(|(id, place)| (id.clone(), place.clone())).collect();
            (serde_json::to_vec(&places).unwrap(), fleet.take_changes(), format!("{:?}", fleet.events))
        };
        prop_assert_eq!(run(), run());
    }

    /// Once faults end, everything is ready or says which hosts refuse it, and hosts run exactly what is placed.
    #[test]
    fn a_healed_fleet_converges(steps in proptest::collection::vec(step(), 1..30)) {
        let mut fleet = start();
        for step in &steps {
            carry_out(&mut fleet, step);
        }
        let hosts: Vec<String> = fleet.hosts.keys().map(ToString::to_string).collect();
        for name in &hosts {
            fleet.host_mut(name).leaving = false;
            let host = fleet.host_mut(name).hello.host.clone();
            let decision = decide_set_host(&fleet.world, &SetHost { host, admin: HostAdmin::Open }, fleet.at()).unwrap();
            fleet.carry_out(decision);
            fleet.wake(name);
        }
        for _ in 0..20 {
            fleet.tick(2_000);
            fleet.deliver();
            fleet.set_phase(UnitPhase::Starting, None, |_, _, phase| phase == UnitPhase::Failed);
            fleet.make_ready(|_, _| true);
        }
        for name in WORKLOADS.into_iter().chain([DAEMON, LIB, CALLER]) {
            let Some(status) = fleet.status(name) else { continue };
            let no_room = status.waiting.iter().any(|w| matches!(w, WaitingOn::Hosts { .. }));
            prop_assert!(status.state == WorkloadState::Ready || no_room, "{name}: {status:?}");
            let placed: u32 = status.units.iter().map(|u| u.count).sum();
            prop_assert_eq!(fleet.serving(name), placed, "{} runs what is placed", name);
        }
    }
}
