//! What rules ask about labels. Nothing else of them tells hosts apart: each host has a label with its own name, and many
//! have a serial number or an address beside it.
//!
//! In: what workloads and platforms ask, as they come, change and go. Out: what of a host's labels counts.

use crate::desired::Labels;
use heddle_protocol::label::{HOST_NAME_LABEL, LabelRule, Requirement};
use heddle_protocol::record::{Intent, PlatformRecord};
use std::collections::{BTreeMap, BTreeSet};

/// Stands for the names of all hosts that no rule names. No rule can name it: no manifest takes such a value.
const OTHER_NAME: &str = "\0";

/// Something that rules ask about labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ask<'a> {
    /// What value a label has.
    Value(&'a str),
    /// Whether [`HOST_NAME_LABEL`] has this value. Whoever names a host tells that one from all others, which stay as alike
    /// as they were.
    HostName(&'a str),
}

/// What rules ask about labels, with how many records ask it. What none asks any more is kept until it is forgotten: most
/// comes back with the next record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    values: BTreeMap<String, u32>,
    host_names: BTreeMap<String, u32>,
}

impl Asked {
    fn count(&mut self, ask: &Ask<'_>) -> (&mut BTreeMap<String, u32>, String) {
        match ask {
            Ask::Value(label) => (&mut self.values, (*label).to_owned()),
            Ask::HostName(name) => (&mut self.host_names, (*name).to_owned()),
        }
    }

    /// Counts in what a record asks. Returns what nobody asked before.
    pub(crate) fn enter<'a>(&mut self, asks: &BTreeSet<Ask<'a>>) -> BTreeSet<Ask<'a>> {
        let mut new = BTreeSet::new();
        for ask in asks {
            let (counts, name) = self.count(ask);
            let count = counts.entry(name).or_insert_with(|| {
                new.insert(ask.clone());
                0
            });
            *count += 1;
        }
        new
    }

    /// Counts out what a record asked.
    pub(crate) fn leave(&mut self, asks: &BTreeSet<Ask<'_>>) {
        for ask in asks {
            let (counts, name) = self.count(ask);
            if let Some(count) = counts.get_mut(&name) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// Forgets what no record asks any more, and returns that: values of labels, and names of hosts.
    pub(crate) fn forget(&mut self) -> (BTreeSet<String>, BTreeSet<String>) {
        let forget = |counts: &mut BTreeMap<String, u32>| {
            let gone = counts.iter().filter(|(_, count)| **count == 0);
            let gone = gone.map(|(name, _)| name.clone()).collect();
            counts.retain(|_, count| *count > 0);
            gone
        };
        (forget(&mut self.values), forget(&mut self.host_names))
    }

    /// Whether there is anything that no record asks any more.
    pub(crate) fn is_stale(&self) -> bool {
        let mut counts = self.values.values().chain(self.host_names.values());
        counts.any(|count| *count == 0)
    }

    /// What of a host's labels tells it apart.
    pub(crate) fn of(&self, labels: &Labels) -> Labels {
        let asked = labels.iter().filter_map(|(label, value)| {
            if self.values.contains_key(label) {
                return Some((label, value.as_str()));
            }
            // It is there whoever asks, so that the first to name one host tells no others apart.
            let named = (label == HOST_NAME_LABEL).then(|| self.host_names.contains_key(value))?;
            Some((label, if named { value } else { OTHER_NAME }))
        });
        asked.map(|(label, value)| (label.clone(), value.to_owned())).collect()
    }
}

/// What a workload asks.
pub(crate) fn asks_of(intent: &Intent) -> BTreeSet<Ask<'_>> {
    let rules = &intent.rules;
    let preferred = rules.prefer.iter().flat_map(|wish| &wish.labels);
    let spread = intent.spread.iter().map(|rule| rule.by.as_str());
    let company = rules.avoid.iter().chain(&rules.near).map(|company| company.by.as_str());
    let mut asks: BTreeSet<Ask<'_>> = spread.chain(company).map(Ask::Value).collect();
    for condition in intent.require.iter().chain(preferred) {
        add(&mut asks, condition);
    }
    asks
}

/// What a platform asks, to choose its hosts.
pub(crate) fn asks_of_platform(record: &PlatformRecord) -> BTreeSet<Ask<'_>> {
    let mut asks = BTreeSet::new();
    for condition in &record.hosts {
        add(&mut asks, condition);
    }
    asks
}

fn add<'a>(asks: &mut BTreeSet<Ask<'a>>, condition: &'a Requirement) {
    if condition.label != HOST_NAME_LABEL {
        asks.insert(Ask::Value(&condition.label));
        return;
    }
    match &condition.rule {
        LabelRule::In(names) | LabelRule::NotIn(names) => {
            asks.extend(names.iter().map(|name| Ask::HostName(name)));
        }
        // A host without a name differs from all others anyway.
        LabelRule::Exists(_) => {}
        _ => {
            asks.insert(Ask::Value(&condition.label));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestFleet, fleet, id, workload_yaml};

    /// How many classes there are.
    fn classes(fleet: &TestFleet) -> usize {
        let classes = fleet.world.fleet().classes();
        classes.filter(|(_, class)| class.members > 0).count()
    }

    #[test]
    fn hosts_are_told_apart_by_what_is_asked_and_by_nothing_else() {
        let mut fleet = fleet();
        for n in 0..40 {
            let (name, zone) = (format!("host-{n}"), format!("z-{}", n % 4));
            let labels = [
                (HOST_NAME_LABEL, name.as_str()),
                ("serial", name.as_str()),
                ("zone", zone.as_str()),
            ];
            fleet.add_host(&name, &labels, 1 << 30, 10);
        }
        assert_eq!(classes(&fleet), 1);
        let apply = |fleet: &mut TestFleet, placement: &str| {
            let fields = format!("replicas: 2\nplacement: {placement}");
            fleet.apply(&workload_yaml("web", &fields)).unwrap();
            classes(fleet)
        };
        assert_eq!(apply(&mut fleet, "{ spread: [{ by: zone }, { by: host }] }"), 4);
        let names = r#"{ require: [{ "heddle.dev/host": { notIn: [host-1, host-2, nobody] } }] }"#;
        assert_eq!(apply(&mut fleet, names), 3, "two are named");
        let any = r#"{ require: [{ "heddle.dev/host": { exists: true } }] }"#;
        assert_eq!(apply(&mut fleet, any), 1, "all have a name");
        assert_eq!(apply(&mut fleet, "{ require: [{ serial: { exists: true } }] }"), 40);
        fleet.commit(&[crate::apply::Write {
            key: heddle_protocol::key::Key::Workload(id("web")),
            value: None,
        }]);
        assert_eq!(classes(&fleet), 1, "who asked is gone");
    }

    #[test]
    fn what_two_ask_is_told_apart_until_both_are_gone() {
        let mut asked = Asked::default();
        let zone = BTreeSet::from([Ask::Value("zone")]);
        assert_eq!(asked.enter(&zone), zone);
        assert!(asked.enter(&zone).is_empty());
        asked.leave(&zone);
        assert!(!asked.is_stale());
        asked.leave(&zone);
        assert!(asked.is_stale());
        assert_eq!(asked.forget(), (BTreeSet::from(["zone".to_owned()]), BTreeSet::new()));
        let labels = Labels::from([("zone".to_owned(), "a".to_owned())]);
        assert!(asked.of(&labels).is_empty());
    }
}
