//! One pretended host, with this test in the place of NATS, the clock and the scheduler.

use super::*;
use crate::delay::StartDelay;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::UnitPhase;
use heddle_protocol::host_spec::{HostSpec, HostSpecBody, Unit};
use heddle_protocol::id::{Generation, Realm, Version};
use std::collections::BTreeMap;

struct World {
    options: FleetOptions,
    counters: Counters,
    ledger: Shared,
    timers: Timers,
    key: SigningKey,
    host: Host,
    now: u64,
}

impl World {
    fn new() -> Self {
        let key = SigningKey::generate();
        let realm = Realm::parse("eu").unwrap();
        let mut options = FleetOptions::new("nats://nowhere", realm, vec![key.public()], 1);
        options.delay = StartDelay {
            start_ms: (100, 100),
            ..StartDelay::default()
        };
        let mut world = Self {
            host: Host::new(0, &options).unwrap(),
            options,
            counters: Counters::default(),
            ledger: Shared::default(),
            timers: Timers::default(),
            key,
            now: 0,
        };
        world.act(|host, turn| host.start(turn, 0, false));
        world
    }

    fn act(&mut self, act: impl FnOnce(&mut Host, &mut Turn<'_>)) -> Vec<Outgoing> {
        let mut out = Vec::new();
        let mut turn = Turn {
            now: self.now,
            options: &self.options,
            counters: &self.counters,
            ledger: &self.ledger,
            timers: &mut self.timers,
            out: &mut out,
        };
        act(&mut self.host, &mut turn);
        out
    }

    fn until(&mut self, now: u64) -> Vec<Outgoing> {
        self.now = now;
        let mut out = Vec::new();
        while let Some((_, life, due)) = self.timers.pop(now) {
            out.extend(self.act(|host, turn| host.due(turn, life, due)));
        }
        out
    }

    fn spec(&self, n: u64, count: u32) -> HostSpec {
        let unit = Unit {
            workload: "w".parse().unwrap(),
            generation: Generation(1),
            template: Digest::of(b"t"),
            count,
        };
        let body = HostSpecBody {
            units: if count == 0 { Vec::new() } else { vec![unit] },
            ..HostSpecBody::default()
        };
        HostSpec {
            realm: self.options.realm.clone(),
            host: self.host.me.host.clone(),
            boot_id: self.host.me.boot_id.clone(),
            version: Version { epoch: 1, n },
            body_digest: body.digest().unwrap(),
            body,
            secrets: BTreeMap::new(),
        }
    }

    /// Pushes a spec, and returns the answer and the status messages.
    fn push(&mut self, spec: &HostSpec, key: &SigningKey) -> (SpecAnswer, Vec<HostReport>) {
        let sealed = envelope::seal(Kind::Spec, &serde_json::to_vec(spec).unwrap(), key).unwrap();
        let mut out = self.act(|host, turn| host.take_spec(turn, &sealed, Some("reply".into())));
        let answer = out.remove(0);
        assert_eq!(answer.subject, "reply");
        (serde_json::from_slice(&answer.payload).unwrap(), reports(out))
    }

    fn good(&mut self, n: u64, count: u32) -> (SpecAnswer, Vec<HostReport>) {
        let (spec, seed) = (self.spec(n, count), self.key.seed().unwrap());
        self.push(&spec, &SigningKey::from_seed(&seed).unwrap())
    }
}

fn reports(out: Vec<Outgoing>) -> Vec<HostReport> {
    let status = out.into_iter().filter(|out| out.subject.contains(".st."));
    status
        .map(|out| serde_json::from_slice(&out.payload).unwrap())
        .collect()
}

fn is_accepted(answer: &SpecAnswer) -> bool {
    matches!(answer, SpecAnswer::Accepted(_))
}

#[test]
fn a_spec_is_taken_only_with_a_trusted_signature_and_for_this_start_of_this_host() {
    let mut world = World::new();
    let spec = world.spec(7, 2);
    assert!(!is_accepted(&world.push(&spec, &SigningKey::generate()).0), "forged");
    assert!(is_accepted(&world.good(7, 2).0));
    assert!(is_accepted(&world.good(7, 2).0), "the same again has the same answer");
    assert!(!is_accepted(&world.good(6, 1).0), "older");
    assert!(!is_accepted(&world.good(7, 1).0), "another one of the held version");
    let trusted = SigningKey::from_seed(&world.key.seed().unwrap()).unwrap();
    let of_another_boot = HostSpec {
        boot_id: BootId::new("another"),
        ..world.spec(8, 1)
    };
    assert!(!is_accepted(&world.push(&of_another_boot, &trusted).0));
    let counted = world.counters.read();
    assert_eq!((counted.accepted, counted.accepted_again, counted.refused), (1, 1, 4));
    assert_eq!(world.ledger.total().starts, 2);
}

#[test]
fn units_are_reported_when_they_start_when_they_are_ready_and_when_they_are_gone() {
    let mut world = World::new();
    let (_, said) = world.good(1, 3);
    assert_eq!(
        (said[0].units[0].phase, said[0].units[0].count),
        (UnitPhase::Starting, 3)
    );
    let ready = reports(world.until(100));
    assert_eq!(ready[0].units[0].phase, UnitPhase::Ready);
    assert_eq!(ready[0].status_seq, said[0].status_seq + 1);
    assert_ne!(ready[0].running_digest, said[0].running_digest);
    let (_, more) = world.good(2, 5);
    assert_eq!((more[0].units[0].phase, more[0].units[0].count), (UnitPhase::Ready, 5));
    let (_, gone) = world.good(3, 0);
    assert_eq!(gone[0].removed.len(), 1);
    let total = world.ledger.total();
    assert_eq!(
        (total.starts, total.running_max, total.running, total.ready),
        (5, 5, 0, 0)
    );
}

#[test]
fn a_hello_is_said_again_until_it_is_answered_and_everything_is_said_then() {
    let mut world = World::new();
    let hellos = |out: &[Outgoing]| out.iter().filter(|out| out.subject.contains(".hello.")).count();
    assert_eq!(hellos(&world.until(0)), 1);
    assert_eq!(hellos(&world.until(2_999)), 0, "it waits for the answer");
    assert_eq!(hellos(&world.until(3_200)), 1);
    assert_eq!(hellos(&world.until(6_700)), 1);
    let welcome = serde_json::json!({"answer": "welcome", "scheduler": "s", "epoch": 1}).to_string();
    let out = world.act(|host, turn| host.take_welcome(turn, welcome.as_bytes()));
    assert!(reports(out)[0].full);
    assert_eq!(hellos(&world.until(60_000)), 0);
}

#[test]
fn the_dead_say_nothing_and_a_new_start_begins_with_nothing() {
    let mut world = World::new();
    world.good(1, 3);
    world.until(100);
    world.act(|host, turn| host.die(turn));
    assert_eq!(world.ledger.total().ready, 0);
    assert!(world.until(5_000).is_empty());
    world.act(|host, turn| host.start(turn, 0, false));
    assert!(is_accepted(&world.good(1, 3).0));
    assert_eq!(world.ledger.total().starts, 6);
    world.act(|host, turn| host.start(turn, 0, true));
    assert_eq!(
        world.ledger.total().starts,
        9,
        "what its disk says is started without anybody"
    );
}

#[test]
fn a_host_that_leaves_goes_once_nothing_is_left_for_it_to_do() {
    let mut world = World::new();
    world.good(1, 3);
    let said = world.act(|host, turn| host.leave(turn));
    let beat: Heartbeat = serde_json::from_slice(&said[0].payload).unwrap();
    assert!(beat.leaving && world.host.is_here());
    world.good(2, 0);
    assert!(!world.host.is_here());
}
