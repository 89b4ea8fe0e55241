//! Hosts are looked at by what rules ask about their labels. Nobody must notice: neither after what is asked has changed, nor
//! after hosts changed, nor beside a scheduler that learned all of it in another order.

// In a test a broken expectation is its own message.
#![allow(clippy::unwrap_used)]

use heddle_protocol::api::explain::Explanation;
use heddle_protocol::id::WorkloadId;
use heddle_protocol::key::Key;
use heddle_protocol::label::HOST_NAME_LABEL;
use heddle_protocol::record::LabelRule;
use heddle_protocol::report::{Rejection, WaitingOn};
use heddle_scheduler_core::apply::Write;
use heddle_scheduler_core::explain::explain;
use heddle_scheduler_core::plan::plan;
use heddle_scheduler_core::testing::{TestFleet, fleet, host, id, workload_yaml};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const HOSTS: usize = 6;

fn name(host: usize) -> String {
    format!("host-{}", host + 1)
}

/// A fleet whose hosts say their names, as agents do, and have a serial number beside.
fn named() -> TestFleet {
    let mut fleet = fleet();
    for n in 0..HOSTS {
        let (name, serial) = (name(n), format!("s-{n}"));
        let labels = [
            (HOST_NAME_LABEL, name.as_str()),
            ("serial", serial.as_str()),
            ("zone", ["x", "y"][n % 2]),
        ];
        fleet.add_host(&name, &labels, 1 << 30, 100);
    }
    fleet
}

fn delete(fleet: &mut TestFleet, name: &str) {
    fleet.commit(&[Write {
        key: Key::Workload(id(name)),
        value: None,
    }]);
}

fn placed(fleet: &mut TestFleet, name: &str, placement: &str) -> String {
    let fields = format!("replicas: 2\nplacement: {placement}");
    fleet.apply(&workload_yaml(name, &fields)).unwrap();
    fleet.place(name)
}

#[test]
fn a_host_is_found_by_its_name_and_by_any_other_label() {
    let mut fleet = named();
    assert_eq!(placed(&mut fleet, "free", "{}"), "@1 host-1 ×1, host-2 ×1");
    let by_name = r#"{ require: [{ "heddle.dev/host": { in: [host-5] } }] }"#;
    assert_eq!(placed(&mut fleet, "pinned", by_name), "@1 host-5 ×2");
    let not = r#"{ require: [{ "heddle.dev/host": { notIn: [host-3] } }], maxPerHost: 1 }"#;
    assert_eq!(placed(&mut fleet, "elsewhere", not), "@1 host-4 ×1, host-6 ×1");
    let wished = r#"{ prefer: [{ label: { "heddle.dev/host": host-2 }, weight: 5 }], maxPerHost: 1 }"#;
    assert_eq!(placed(&mut fleet, "wished", wished), "@1 host-2 ×1, host-3 ×1");
    let by_serial = "{ require: [{ serial: { in: [s-0] } }] }";
    assert_eq!(placed(&mut fleet, "serial", by_serial), "@1 host-1 ×2");
    let above = r#"{ require: [{ "heddle.dev/host": { exists: false } }] }"#;
    assert_eq!(placed(&mut fleet, "nameless", above), "nowhere");
    let spread = r#"{ spread: [{ by: "heddle.dev/host" }] }"#;
    assert_eq!(placed(&mut fleet, "spread", spread), "@1 host-3 ×1, host-4 ×1");
}

/// A platform that lends the listener `more` to some hosts.
fn lending(hosts: &str) -> String {
    format!(
        "apiVersion: heddle.dev/v1\nkind: Platform\nmetadata: {{ name: more }}\nspec:\n  hosts: {hosts}\n  \
         capabilities: {{ more: {{ http: {{ listen: \"127.0.0.1:9090\" }} }} }}\n"
    )
}

#[test]
fn a_platform_lends_to_a_host_by_its_name() {
    let mut fleet = named();
    for (hosts, placed) in [
        (
            r#"{ "heddle.dev/host": { in: [host-2, host-4] } }"#,
            "@1 host-2 ×2, host-4 ×1",
        ),
        (
            r#"{ "heddle.dev/host": { notIn: [host-1, host-6] }, zone: { in: [x] } }"#,
            "@1 host-3 ×2, host-5 ×1",
        ),
        ("{ serial: { in: [s-0] } }", "@1 host-1 ×3"),
    ] {
        fleet.apply(&lending(hosts)).unwrap();
        let fields = "replicas: 3\ntriggers: [{ http: { capability: more, path: /user } }]";
        fleet.apply(&workload_yaml("user", fields)).unwrap();
        assert_eq!(fleet.place("user"), placed, "{hosts}");
        delete(&mut fleet, "user");
    }
}

#[test]
fn a_host_that_was_given_another_name_is_found_by_that() {
    let mut fleet = named();
    fleet.add_host("twin", &[(HOST_NAME_LABEL, "host-3")], 1 << 30, 100);
    fleet.add_host("stranger", &[(HOST_NAME_LABEL, "Some_One")], 1 << 30, 100);
    let both = r#"{ require: [{ "heddle.dev/host": { in: [host-3] } }], maxPerHost: 1 }"#;
    assert_eq!(placed(&mut fleet, "both", both), "@1 host-3 ×1, twin ×1");
    let neither = r#"{ require: [{ "heddle.dev/host": { in: [twin, stranger] } }] }"#;
    assert_eq!(placed(&mut fleet, "neither", neither), "nowhere");
    let one = r#"{ require: [{ "heddle.dev/host": { in: ["Some_One"] } }] }"#;
    assert_eq!(placed(&mut fleet, "one", one), "@1 stranger ×2");
}

#[test]
fn company_is_told_apart_by_any_label() {
    let mut fleet = named();
    assert_eq!(placed(&mut fleet, "first", "{}"), "@1 host-1 ×1, host-2 ×1");
    let apart = "{ avoid: [{ workload: first, by: serial }], maxPerHost: 1 }";
    assert_eq!(placed(&mut fleet, "apart", apart), "@1 host-3 ×1, host-4 ×1");
    let near = "{ near: [{ workload: apart, by: serial }] }";
    assert_eq!(placed(&mut fleet, "near", near), "@1 host-3 ×1, host-4 ×1");
    let by_name = r#"{ near: [{ workload: apart, by: "heddle.dev/host", weight: 3 }] }"#;
    assert_eq!(placed(&mut fleet, "wish", by_name), "@1 host-3 ×1, host-4 ×1");
}

#[test]
fn hosts_that_are_refused_for_their_names_are_told_together_each_by_its_own() {
    let mut fleet = named();
    fleet.add_host("stranger", &[(HOST_NAME_LABEL, "other")], 1 << 30, 100);
    let by_name = r#"{ require: [{ "heddle.dev/host": { in: [host-9] } }] }"#;
    assert_eq!(placed(&mut fleet, "pinned", by_name), "nowhere");
    let told = |found: &str| Rejection::Label {
        label: HOST_NAME_LABEL.to_owned(),
        wanted: "host-9".to_owned(),
        found: Some(found.to_owned()),
        embedded: None,
    };
    let waiting = fleet.status("pinned").unwrap().waiting;
    let [WaitingOn::Hosts { rejections, .. }] = waiting.as_slice() else {
        panic!("{waiting:?}");
    };
    let [all] = rejections.as_slice() else {
        panic!("{rejections:?}");
    };
    assert_eq!(
        (all.hosts, all.example.as_str(), &all.rejection),
        (7, "host-1", &told("host-1"))
    );
    let explained = explain(&fleet.world, &id("pinned"), fleet.now).unwrap();
    let [kind] = explained.refusing.as_slice() else {
        panic!("{:?}", explained.refusing);
    };
    assert_eq!((kind.hosts, kind.nearest.as_str()), (7, "host-1"));
    assert_eq!(kind.rejections, [told("host-1")]);
    for verdict in &explained.nearest {
        let own = &fleet.hosts[&verdict.host].hello.labels[HOST_NAME_LABEL];
        assert_eq!(verdict.rejections, [told(own)], "{}", verdict.host);
    }
}

/// What a workload asks, drawn by chance.
#[derive(Debug, Clone)]
struct Drawn {
    replicas: u32,
    require: Option<Condition>,
    prefer: Option<(usize, usize)>,
    spread: Option<usize>,
    uses_more: bool,
}

/// A label, how it is compared, and with which values.
type Condition = (usize, u8, BTreeSet<usize>);

#[derive(Debug, Clone)]
enum Step {
    Apply(usize, Drawn),
    Delete(usize),
    Lend(Option<Condition>),
    Relabel(usize, usize, Option<usize>),
    Leave(usize),
    Restart(usize),
}

const LABELS: [&str; 3] = [HOST_NAME_LABEL, "serial", "zone"];
const NAMES: [&str; 3] = ["a", "b", "c"];

fn value(label: usize, n: usize) -> String {
    match label {
        0 => name(n),
        1 => format!("s-{n}"),
        _ => ["x", "y"][n % 2].to_owned(),
    }
}

fn condition() -> impl Strategy<Value = Condition> {
    (0..3usize, 0..4u8, proptest::collection::btree_set(0..HOSTS, 1..3))
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        0..5u32,
        proptest::option::weighted(0.6, condition()),
        proptest::option::weighted(0.4, (0..3usize, 0..HOSTS)),
        proptest::option::weighted(0.4, 0..3usize),
        any::<bool>(),
    )
        .prop_map(|(replicas, require, prefer, spread, uses_more)| Drawn {
            replicas,
            require,
            prefer,
            spread,
            uses_more,
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3usize, drawn()).prop_map(|(name, drawn)| Step::Apply(name, drawn)),
        2 => (0..3usize).prop_map(Step::Delete),
        2 => proptest::option::weighted(0.7, condition()).prop_map(Step::Lend),
        4 => (0..HOSTS, 0..3usize, proptest::option::weighted(0.7, 0..HOSTS))
            .prop_map(|(host, label, value)| Step::Relabel(host, label, value)),
        1 => (0..HOSTS).prop_map(Step::Leave),
        1 => (0..HOSTS).prop_map(Step::Restart),
    ]
}

fn in_yaml((label, how, values): &Condition) -> String {
    let several: BTreeSet<String> = values.iter().map(|n| value(*label, *n)).collect();
    let several: Vec<String> = several.into_iter().collect();
    let rule = match how {
        0 | 1 => format!("in: [{}]", several.join(", ")),
        2 => format!("notIn: [{}]", several.join(", ")),
        _ => format!("exists: {}", values.len() == 1),
    };
    format!("{{ \"{}\": {{ {rule} }} }}", LABELS[*label])
}

fn rule((label, how, values): &Condition) -> LabelRule {
    let several: BTreeSet<String> = values.iter().map(|n| value(*label, *n)).collect();
    match how {
        0 | 1 => LabelRule::In(several),
        2 => LabelRule::NotIn(several),
        _ => LabelRule::Exists(values.len() == 1),
    }
}

fn carry_out(fleet: &mut TestFleet, meant: &mut BTreeMap<usize, Drawn>, lent: &mut Option<Condition>, step: &Step) {
    match step {
        Step::Apply(which, drawn) => {
            let mut fields: Vec<String> = Vec::new();
            fields.extend(drawn.require.iter().map(|c| format!("require: [{}]", in_yaml(c))));
            fields.extend(drawn.prefer.iter().map(|(label, n)| {
                let (label, value) = (LABELS[*label], value(*label, *n));
                format!("prefer: [{{ label: {{ \"{label}\": {value} }}, weight: 2 }}]")
            }));
            let by = drawn
                .spread
                .iter()
                .map(|label| format!("spread: [{{ by: \"{}\" }}]", LABELS[*label]));
            fields.extend(by);
            let on = if drawn.uses_more { "more" } else { "web" };
            let trigger = format!(
                "triggers: [{{ http: {{ capability: {on}, path: /{} }} }}]",
                NAMES[*which]
            );
            let fields = format!(
                "replicas: {}\nplacement: {{ {} }}\n{trigger}",
                drawn.replicas,
                fields.join(", ")
            );
            fleet.apply(&workload_yaml(NAMES[*which], &fields)).unwrap();
            meant.insert(*which, drawn.clone());
        }
        Step::Delete(which) => {
            if meant.remove(which).is_some() {
                delete(fleet, NAMES[*which]);
            }
        }
        Step::Lend(condition) => {
            let hosts = condition.as_ref().map_or("{}".to_owned(), in_yaml);
            fleet.apply(&lending(&hosts)).unwrap();
            lent.clone_from(condition);
        }
        Step::Relabel(n, label, to) => {
            let labels = &mut fleet.host_mut(&name(*n)).hello.labels;
            match to {
                Some(to) => labels.insert(LABELS[*label].to_owned(), value(*label, *to)),
                None => labels.remove(LABELS[*label]),
            };
            fleet.say_hello(&name(*n));
        }
        Step::Leave(n) => fleet.leave(&name(*n)),
        Step::Restart(n) => fleet.restart_host(&name(*n)),
    }
    // What moves does so once its replacement is ready.
    for _ in 0..4 {
        fleet.make_ready(|_, _| true);
        fleet.tick(1_000);
    }
}

/// Replicas are where their conditions hold if there is any such host, and all of them: no host is ever full.
fn check(fleet: &TestFleet, meant: &BTreeMap<usize, Drawn>, lent: &Option<Condition>) -> Result<(), TestCaseError> {
    for (which, drawn) in meant {
        let fits = |host: &str| {
            let labels = &fleet.hosts[&self::host(host)].hello.labels;
            let holds =
                |condition: &Condition| rule(condition).allows(labels.get(LABELS[condition.0]).map(String::as_str));
            drawn.require.as_ref().is_none_or(holds) && (!drawn.uses_more || lent.as_ref().is_none_or(holds))
        };
        let takes = |n: usize| fits(&name(n)) && !fleet.hosts[&host(&name(n))].leaving;
        let record = &fleet.world.workloads[&id(NAMES[*which])];
        let sets = fleet
            .world
            .places
            .get(&id(NAMES[*which]))
            .into_iter()
            .flat_map(|place| &place.sets);
        let newest = sets.filter(|set| set.generation == record.intent.unit_generation);
        let hosts: Vec<(String, u32)> = newest
            .flat_map(|set| &set.hosts)
            .map(|(host, count)| (host.to_string(), *count))
            .collect();
        let placed: u32 = hosts.iter().map(|(_, count)| count).sum();
        if (0..HOSTS).any(takes) {
            prop_assert_eq!(placed, drawn.replicas, "{}: {:?}", NAMES[*which], hosts);
            prop_assert!(
                hosts.iter().all(|(host, _)| fits(host)),
                "{}: {:?}",
                NAMES[*which],
                hosts
            );
        }
    }
    Ok(())
}

/// All that a fleet's scheduler would do and say.
fn answers(fleet: &TestFleet) -> (String, BTreeMap<WorkloadId, Explanation>) {
    let (decided, _) = plan(&fleet.world, fleet.now);
    let explained = fleet.world.workloads.keys().map(|id| {
        let mut explained = explain(&fleet.world, id, fleet.now).unwrap();
        explained.commit = 0;
        (id.clone(), explained)
    });
    (format!("{decided:?}"), explained.collect())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_asked_and_whenever(steps in proptest::collection::vec(step(), 1..16)) {
        let mut fleet = named();
        fleet.apply(&lending("{}")).unwrap();
        let (mut meant, mut lent) = (BTreeMap::new(), None);
        for step in &steps {
            carry_out(&mut fleet, &mut meant, &mut lent, step);
            check(&fleet, &meant, &lent)?;
            let mut beside = fleet.clone();
            beside.restart_scheduler();
            beside.tick(5_000);
            let mut same = fleet.clone();
            same.tick(5_000);
            prop_assert_eq!(answers(&same), answers(&beside));
        }
    }
}
