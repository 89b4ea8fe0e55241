//! The property that all else serves: whatever happens on the way, a host ends with exactly what its spec says.

use crate::fact::Fact;
use crate::testing::{Host, Spec, unit_id};
use heddle_protocol::host_report::UnitPhase;
use proptest::prelude::*;

/// One thing that happens to a host.
#[derive(Debug, Clone)]
enum Event {
    /// A new spec: which of the units, and how many of each.
    Spec(Vec<(u8, u8)>),
    /// The pending action at this index (of as many as there are) ends, well or badly.
    Finish(usize, bool),
    /// Time passes.
    Pass(u64),
    /// The link is back.
    Link,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => proptest::collection::vec((0u8..6, 1u8..4), 0..5).prop_map(Event::Spec),
        6 => (any::<usize>(), proptest::bool::weighted(0.8)).prop_map(|(i, well)| Event::Finish(i, well)),
        1 => (0u64..20_000).prop_map(Event::Pass),
        1 => Just(Event::Link),
    ]
}

fn spec_of(units: &[(u8, u8)]) -> Spec {
    let mut seen = Vec::new();
    units.iter().fold(Spec::default(), |spec, (unit, count)| {
        if seen.contains(unit) {
            return spec;
        }
        seen.push(*unit);
        // Three workloads of two generations each.
        spec.unit(
            ["a", "b", "c"][usize::from(unit / 2)],
            u64::from(unit % 2) + 1,
            u32::from(*count),
        )
    })
}

fn play(host: &mut Host, events: &[Event]) {
    for event in events {
        match event {
            Event::Spec(units) => host.accept(&spec_of(units)),
            Event::Finish(index, well) if !host.pending.is_empty() => {
                host.finish(index % host.pending.len(), *well);
            }
            Event::Finish(..) => {}
            Event::Pass(ms) => host.pass(*ms),
            Event::Link => host.tell(Fact::LinkRestored),
        }
    }
}

fn settle(host: &mut Host) {
    for _ in 0..10_000 {
        host.finish_all();
        match host.running.wake_at() {
            Some(at) => {
                host.now = host.now.max(at);
                host.tell(Fact::TimePassed);
            }
            None => return,
        }
    }
    panic!("the host does not come to rest: {}", host.in_words());
}

proptest! {
    #[test]
    fn facts_in_any_order_end_in_exactly_what_the_spec_says(
        events in proptest::collection::vec(event(), 0..120),
        last in proptest::collection::vec((0u8..6, 1u8..4), 0..5),
    ) {
        let mut host = Host::new();
        play(&mut host, &events);
        let spec = spec_of(&last);
        host.accept(&spec);
        settle(&mut host);
        let mut wanted: Vec<_> = spec.0.units.iter().map(|u| (u.id(), u.count)).collect();
        wanted.sort();
        let mut held: Vec<_> = host.held.values().cloned().collect();
        held.sort();
        prop_assert_eq!(&held, &wanted);
        prop_assert!(host.running.runs().all(|(_, run)| run.phase == UnitPhase::Ready));
        prop_assert_eq!(host.routes.len(), wanted.len());
        prop_assert_eq!(host.lent.len(), spec.0.capabilities.len());
    }

    #[test]
    fn the_same_facts_give_the_same_host(events in proptest::collection::vec(event(), 0..80)) {
        let (mut one, mut two) = (Host::new(), Host::new());
        play(&mut one, &events);
        play(&mut two, &events);
        prop_assert_eq!(one.in_words(), two.in_words());
        prop_assert_eq!(one.pending, two.pending);
    }

    #[test]
    fn a_ready_unit_that_every_spec_wants_serves_without_a_break(
        events in proptest::collection::vec(event(), 0..80),
    ) {
        let mut host = Host::new();
        host.accept(&Spec::default().unit("kept", 1, 1));
        host.finish_all();
        for event in &events {
            match event {
                Event::Spec(units) => host.accept(&spec_of(units).unit("kept", 1, 1)),
                other => play(&mut host, std::slice::from_ref(other)),
            }
            prop_assert!(host.routes.contains_key(&unit_id("kept", 1)));
        }
    }
}
