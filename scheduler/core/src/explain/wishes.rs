//! The wishes that decide among hosts that fit, and the host that came second.
//!
//! In: a workload, where it is, and the hosts. Out: for a host with replicas, the best other host that would take one of
//! them, and by which wish it is worse. The wishes are the planner's, in its order; what they were when a replica was
//! placed is not kept, so they are asked as things are now.

use super::label;
use crate::place::room::{holders, images_of};
use crate::place::{Fleet, HostView};
use crate::world::World;
use heddle_protocol::id::{HostId, WorkloadId};
use heddle_protocol::record::{Company, Intent, Replicas, Strategy, WorkloadRecord};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Hosts that are the best of their place in the spread: so many of each are compared.
const RIVALS_PER_PLACE: usize = 2;
/// Places of the spread whose best hosts are compared.
const PLACES_MAX: usize = 500;

/// The wishes of one workload.
pub(super) struct Wishes<'a> {
    intent: &'a Intent,
    counts: &'a BTreeMap<HostId, u32>,
    /// Replicas by label and value, for each spread rule; of hosts without the label under none.
    by_value: BTreeMap<&'a str, (u32, BTreeMap<String, u32>)>,
    /// Where workloads are that are to be near or away, by label, and how much that matters.
    company: Vec<(&'a str, BTreeSet<String>, i64)>,
    /// The hosts that hold its images, if it minds.
    holders: BTreeSet<&'a HostId>,
}

impl<'a> Wishes<'a> {
    pub(super) fn new(
        world: &'a World,
        id: &WorkloadId,
        record: &'a WorkloadRecord,
        fleet: &Fleet<'_>,
        counts: &'a BTreeMap<HostId, u32>,
    ) -> Self {
        let intent = &record.intent;
        let mut by_value: BTreeMap<&str, (u32, BTreeMap<String, u32>)> = BTreeMap::new();
        for rule in &intent.spread {
            for (_, count, view) in fleet.each(counts.iter()) {
                let value = view.and_then(|view| label(view, &rule.by));
                let (without, with) = by_value.entry(rule.by.as_str()).or_default();
                match value {
                    Some(value) => *with.entry(value.to_owned()).or_default() += count,
                    None => *without += count,
                }
            }
        }
        let near = intent.rules.near.iter().map(|company| (company, 1));
        let avoid = intent.rules.avoid.iter().filter(|c| c.workload != *id);
        let avoid = avoid.map(|company| (company, -1));
        let wished = near.chain(avoid).filter_map(|(company, sign)| {
            let weight = i64::from(company.weight?) * sign;
            Some((company.by.as_str(), values(world, fleet, company), weight))
        });
        let template = world.templates.get(&record.template);
        let images = template.filter(|_| intent.rules.prefer_image).map(|t| images_of(t));
        let holders = images.map(|images| holders(world, &images)).unwrap_or_default();
        let holders = holders.into_iter().filter_map(|host| world.fleet().who(host));
        Self {
            intent,
            counts,
            by_value,
            company: wished.collect(),
            holders: holders.map(|who| &who.id).collect(),
        }
    }

    /// The wishes, the most important first.
    pub(super) fn in_words(&self) -> String {
        let intent = self.intent;
        if intent.replicas == Replicas::Daemon {
            return "one replica on each host that fits".to_owned();
        }
        let mut wishes: Vec<String> = Vec::new();
        for spread in &intent.spread {
            let weights = spread.weights.iter().map(|(value, weight)| format!("{value} {weight}"));
            let weights: Vec<String> = weights.collect();
            let mut text = match weights.is_empty() {
                true => format!("evenly by {}", spread.by),
                false => format!("by {} as {}", spread.by, weights.join(" : ")),
            };
            match spread.max_skew {
                Some(most) if spread.hard => text.push_str(&format!(", at most {most} apart")),
                Some(most) => text.push_str(&format!(", at most {most} apart if it can be")),
                None => {}
            }
            wishes.push(text);
        }
        let packs = intent.rules.strategy == Strategy::Pack;
        if !packs && !intent.spread.iter().any(|s| s.by == super::HOST_LABEL) {
            wishes.push("evenly over hosts".to_owned());
        }
        let preferred = !intent.rules.prefer.is_empty() || !self.company.is_empty();
        if preferred {
            wishes.push("the most preferred host".to_owned());
        }
        if intent.rules.prefer_image {
            wishes.push("a host that holds the image".to_owned());
        }
        let fill = if packs {
            "the fullest host that has room"
        } else {
            "the emptiest host"
        };
        wishes.push(fill.to_owned());
        wishes.join(", then ")
    }

    /// Replicas on hosts with a value of a label.
    pub(super) fn count_at(&self, by: &str, value: Option<&str>) -> u32 {
        let Some((without, with)) = self.by_value.get(by) else {
            return 0;
        };
        match value {
            Some(value) => with.get(value).copied().unwrap_or(0),
            None => *without,
        }
    }

    /// How much a host is preferred.
    pub(super) fn preference(&self, host: &HostView<'_>) -> i64 {
        let kept = |wish: &&heddle_protocol::record::Preference| {
            let mut labels = wish.labels.iter();
            labels.all(|required| required.rule.allows(label(host, &required.label)))
        };
        let preferred = self.intent.rules.prefer.iter().filter(kept);
        let preferred: i64 = preferred.map(|wish| i64::from(wish.weight)).sum();
        let company = self.company.iter();
        let company = company.filter(|(by, values, _)| label(host, by).is_some_and(|value| values.contains(value)));
        preferred + company.map(|(_, _, weight)| weight).sum::<i64>()
    }

    /// The hosts that could come second to any other: the best of each place in the spread.
    pub(super) fn rivals<'h, 'v>(&self, open: &[&'h HostView<'v>]) -> Vec<&'h HostView<'v>> {
        type Place<'p> = Vec<Option<&'p str>>;
        let mut places: BTreeMap<Place<'h>, usize> = BTreeMap::new();
        let mut best: Vec<Vec<(Rank, &'h HostView<'v>)>> = Vec::new();
        // Hosts of a class are in one place, and preferred alike unless hosts are named.
        let mut classes: Vec<Option<(Option<usize>, i64)>> = Vec::new();
        let by_class = self.prefers_by_class();
        // Both are ordered by id.
        let mut counts = self.counts.iter().peekable();
        for host in open {
            while counts.next_if(|(other, _)| *other < host.id).is_some() {}
            let count = counts
                .next_if(|(other, _)| *other == host.id)
                .map_or(0, |(_, count)| *count);
            let known = host
                .class
                .and_then(|class| classes.get(class as usize).copied().flatten());
            let (place, preference) = known.unwrap_or_else(|| {
                let rules = self
                    .intent
                    .spread
                    .iter()
                    .take_while(|rule| rule.by != super::HOST_LABEL);
                let place: Place<'h> = rules.map(|rule| label(host, &rule.by)).collect();
                let place = match places.get(&place) {
                    Some(place) => Some(*place),
                    None if best.len() >= PLACES_MAX => None,
                    None => {
                        best.push(Vec::new());
                        places.insert(place, best.len() - 1);
                        Some(best.len() - 1)
                    }
                };
                let found = (place, self.preference(host));
                if let Some(class) = host.class {
                    let place = class as usize;
                    if classes.len() <= place {
                        classes.resize(place + 1, None);
                    }
                    if let Some(known) = classes.get_mut(place) {
                        *known = Some(found);
                    }
                }
                found
            });
            let Some(ranked) = place.and_then(|place| best.get_mut(place)) else {
                continue;
            };
            let preference = if by_class { preference } else { self.preference(host) };
            let rank = self.ranked(host, count, super::fullness_ppm(host, self.intent, 0), preference);
            let at = ranked.partition_point(|(other, view)| (other, view.id) < (&rank, host.id));
            if at < RIVALS_PER_PLACE {
                ranked.insert(at, (rank, host));
                ranked.truncate(RIVALS_PER_PLACE);
            }
        }
        let in_order = places.into_values().filter_map(|place| best.get(place));
        in_order.flatten().map(|(_, host)| *host).collect()
    }

    /// Whether all hosts of a class are preferred alike.
    fn prefers_by_class(&self) -> bool {
        let mut wishes = self.intent.rules.prefer.iter().flat_map(|wish| &wish.labels);
        let mut company = self.company.iter();
        wishes.all(|required| required.label != super::HOST_LABEL) && company.all(|(by, ..)| *by != super::HOST_LABEL)
    }

    /// What of a host decides, apart from its place in the spread, with so many of its replicas thought away.
    fn rank(&self, host: &HostView<'_>, less: u32) -> Rank {
        let count = self.counts.get(host.id).copied().unwrap_or(0).saturating_sub(less);
        let fullness = super::fullness_ppm(host, self.intent, less);
        self.ranked(host, count, fullness, self.preference(host))
    }

    fn ranked(&self, host: &HostView<'_>, count: u32, fullness: u32, preference: i64) -> Rank {
        let packs = self.packs();
        Rank {
            count: if packs { 0 } else { count },
            disliked: -preference,
            lacks_image: !self.holders.contains(host.id),
            fill: if packs {
                1_000_000_u32.saturating_sub(fullness)
            } else {
                fullness
            },
        }
    }

    /// The best other host, and by which wish it is worse.
    pub(super) fn second<'h, 'v>(
        &self,
        host: &HostView<'_>,
        rivals: &[&'h HostView<'v>],
    ) -> Option<(&'h HostView<'v>, String)> {
        let others = rivals.iter().filter(|rival| rival.id != host.id);
        let best = others.min_by(|a, b| {
            let places = self.by_place(host, a).cmp(&self.by_place(host, b));
            places
                .then_with(|| self.rank(a, 0).cmp(&self.rank(b, 0)))
                .then_with(|| a.id.cmp(b.id))
        })?;
        Some((best, self.compare(host, best)))
    }

    /// How needy each value of a host is beside those of the host that would give up a replica: the least is the neediest.
    fn by_place(&self, from: &HostView<'_>, to: &HostView<'_>) -> Vec<Share> {
        let rules = self
            .intent
            .spread
            .iter()
            .take_while(|rule| rule.by != super::HOST_LABEL);
        rules.map(|rule| self.share(&rule.by, from, to)).collect()
    }

    /// What a value has, with a replica of another host thought away, by its weight.
    fn share(&self, by: &str, from: &HostView<'_>, host: &HostView<'_>) -> Share {
        let value = label(host, by);
        let less = u32::from(value == label(from, by));
        let rule = self.intent.spread.iter().find(|rule| rule.by == by);
        let weight = rule.filter(|rule| !rule.weights.is_empty());
        let weight = weight.map_or(1, |rule| value.and_then(|v| rule.weights.get(v)).copied().unwrap_or(0));
        Share {
            count: self.count_at(by, value).saturating_sub(less),
            weight,
        }
    }

    /// The first wish by which two hosts differ, in words.
    fn compare(&self, host: &HostView<'_>, other: &HostView<'_>) -> String {
        let now_better = |what: String| format!("{what} by now, but nothing moves for that alone");
        for rule in self
            .intent
            .spread
            .iter()
            .take_while(|rule| rule.by != super::HOST_LABEL)
        {
            let (mine, theirs) = (self.share(&rule.by, host, host), self.share(&rule.by, host, other));
            let value = label(other, &rule.by).unwrap_or("(none)");
            let told = |word: &str| {
                format!(
                    "{} {value} has {word} for its share ({} against {} without this one)",
                    rule.by, theirs.count, mine.count
                )
            };
            match mine.cmp(&theirs) {
                Ordering::Less => return told("more"),
                Ordering::Greater => return now_better(told("less")),
                Ordering::Equal => {}
            }
        }
        let (mine, theirs) = (self.rank(host, 1), self.rank(other, 0));
        let told = [
            (
                mine.count.cmp(&theirs.count),
                "it has more replicas",
                "it has fewer replicas",
            ),
            (
                mine.disliked.cmp(&theirs.disliked),
                "it is less preferred",
                "it is more preferred",
            ),
            (
                mine.lacks_image.cmp(&theirs.lacks_image),
                "it does not hold the image",
                "it holds the image",
            ),
            (
                mine.fill.cmp(&theirs.fill),
                if self.packs() { "it is emptier" } else { "it is fuller" },
                if self.packs() { "it is fuller" } else { "it is emptier" },
            ),
        ];
        for (order, worse, better) in told {
            match order {
                Ordering::Less => return worse.to_owned(),
                Ordering::Greater => return now_better(better.to_owned()),
                Ordering::Equal => {}
            }
        }
        "they are equal; the order of names decides".to_owned()
    }

    fn packs(&self) -> bool {
        self.intent.rules.strategy == Strategy::Pack
    }
}

/// What of a host decides once its place in the spread is equal. The least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    count: u32,
    disliked: i64,
    lacks_image: bool,
    fill: u32,
}

/// Replicas by weight, compared without division. What has no weight is never needy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    count: u32,
    weight: u32,
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (u64::from(self.count), u64::from(other.count));
        match (self.weight, other.weight) {
            (0, 0) => Ordering::Equal,
            (0, _) => Ordering::Greater,
            (_, 0) => Ordering::Less,
            (mine, theirs) => (a * u64::from(theirs)).cmp(&(b * u64::from(mine))),
        }
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The values of a label where a workload is.
fn values(world: &World, fleet: &Fleet<'_>, company: &Company) -> BTreeSet<String> {
    let sets = world.places.get(&company.workload).into_iter().flat_map(|p| &p.sets);
    let hosts = sets.flat_map(|set| set.hosts.keys());
    let value = |host: &HostId| label(fleet.get(host)?, &company.by).map(str::to_owned);
    hosts.filter_map(value).collect()
}
