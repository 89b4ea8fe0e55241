//! Chooses hosts for replicas, one after the other, each where it should go.
//!
//! In: the room, what a workload wants, and how many replicas. Out: hosts with how many each gets; fewer than asked where
//! no host is left. The order of wishes: the spread rules, fewest replicas of this workload, the greatest preference, a
//! host that runs an earlier generation of it already (so that a new generation appears where the old one was), a host that
//! holds its images if it minds, the emptiest host, and last the host id, so that the same world always yields the same plan. A workload that packs does
//! not mind how many of its replicas a host has, and takes the fullest.
//!
//! Hosts are looked at by class: of hosts that the workload has nothing to do with yet, only the next of each class is.

use super::capacity::{Take, fullness_with_room_max};
use super::company::Surroundings;
use super::filter::HOST_LABEL;
use super::index::{ClassNo, HostNo, Seat};
use super::ladder::{Rung, Step};
use super::room::Room;
use super::shape::{Layout, Tree, levels};
use super::tally::Tally;
use heddle_protocol::record::{Intent, Spread, Strategy};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

/// Hosts for which room is made at once at most.
const CANDIDATES_EXPECTED_MAX: u32 = 4_096;

/// What is to be placed.
pub(crate) struct Wants<'w> {
    /// What is meant.
    pub(crate) intent: &'w Intent,
    /// Replicas in all, which weights share out.
    pub(crate) wanted: u32,
    /// Replicas of the newest generation that stay.
    pub(crate) kept: &'w [(HostNo, u32)],
    /// Replicas of earlier generations that still serve.
    pub(crate) earlier: &'w BTreeMap<HostNo, u32>,
    /// Hosts that hold its images already, if it minds.
    pub(crate) holders: &'w BTreeSet<HostNo>,
    /// Where others are.
    pub(crate) surroundings: &'w Surroundings,
    /// Whether a host would not begin a replica now.
    pub(crate) busy: &'w dyn Fn(HostNo) -> bool,
}

/// Chooses hosts for up to `missing` replicas. Each host is named once, with how many it gets.
pub(crate) fn choose(room: &Room<'_>, layout: &Layout, wants: &Wants<'_>, missing: u32) -> Vec<(HostNo, u32)> {
    let mut choice = Choice::new(room, layout, wants);
    choice.candidates.reserve(missing.min(CANDIDATES_EXPECTED_MAX) as usize);
    let mut placed = 0;
    while placed < missing && choice.place_one() {
        placed += 1;
    }
    let chosen = choice.candidates.iter().filter(|c| c.placed > 0);
    chosen.map(|c| (c.host, c.placed)).collect()
}

/// How good a host is: the least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Replicas of this workload's newest generation there; 0 for all if it packs and hosts may differ.
    count: u32,
    /// The preference, negated.
    disliked: i64,
    /// Replicas of earlier generations there.
    earlier: Reverse<u32>,
    /// Whether its images are not there, if it minds.
    lacks_image: bool,
    /// How full it is; how empty, if the workload packs.
    fill: u32,
    /// Its place in the order of ids.
    rank: u64,
}

/// A host that may take replicas.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    key: Key,
    host: HostNo,
    /// Replicas of this workload's newest generation there.
    count: u32,
    placed: u32,
    /// How many more have room there.
    room: u32,
}

/// How far a class was looked at.
struct Cursor {
    class: ClassNo,
    leaf: u32,
    disliked: i64,
    /// Fuller hosts have no room.
    fullness_max: u32,
    /// The next host, and where it is on its ladder.
    next: Option<(Rung, Step)>,
    /// Whether the next host was looked at and takes a replica.
    is_sure: bool,
}

/// What a place of the spread offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Offer {
    /// A host, by its place among the candidates.
    Host(u32),
    /// The next host of a class, by its place among the cursors.
    Class(u32),
}

/// The hosts at one place of the spread.
#[derive(Default)]
struct Leaf {
    offers: BinaryHeap<Reverse<(Key, Offer)>>,
    /// Hosts that fit, whether or not they have room.
    members: u32,
    /// How many hosts have how many replicas; those with none are not counted.
    counts: BTreeMap<u32, u32>,
}

struct Choice<'c> {
    room: &'c Room<'c>,
    layout: &'c Layout,
    wants: &'c Wants<'c>,
    take: Take<'c>,
    packs: bool,
    rules: &'c [Spread],
    /// The most by which hosts of one leaf may differ.
    host_skew: Option<u32>,
    tree: Arc<Tree>,
    tally: Tally,
    /// By node; empty but where hosts are.
    leaves: Vec<Leaf>,
    /// The best child of each node that has any, or itself where hosts are.
    best: Vec<Option<u32>>,
    candidates: Vec<Candidate>,
    cursors: Vec<Cursor>,
    /// Hosts that are not taken from their class, because there is something to say of each.
    special: BTreeSet<HostNo>,
}

impl<'c> Choice<'c> {
    fn new(room: &'c Room<'c>, layout: &'c Layout, wants: &'c Wants<'c>) -> Self {
        let all = &wants.intent.spread;
        let rules = if layout.by_host { all } else { levels(all) };
        let by_host = all.iter().filter(|rule| rule.by == HOST_LABEL && rule.hard);
        let host_skew = by_host.filter_map(|rule| rule.max_skew).min();
        let tree = layout.tree.clone();
        let mut choice = Self {
            room,
            layout,
            wants,
            take: Take::from(wants.intent),
            packs: wants.intent.rules.strategy == Strategy::Pack,
            rules,
            host_skew: host_skew.filter(|_| !layout.by_host),
            tally: Tally::new(tree.clone()),
            leaves: tree.nodes().iter().map(|_| Leaf::default()).collect(),
            tree,
            best: Vec::new(),
            candidates: Vec::new(),
            cursors: Vec::new(),
            special: BTreeSet::new(),
        };
        match layout.by_host {
            true => choice.add_each_host(),
            false => choice.add_classes(),
        }
        choice.tally.set_targets(rules, wants.wanted);
        choice.best = vec![None; choice.tree.nodes().len()];
        for node in (0..choice.best.len()).rev() {
            choice.choose_best(node);
        }
        choice
    }

    /// Adds the hosts that fit, by class.
    fn add_classes(&mut self) {
        let (room, wants) = (self.room, self.wants);
        let open = wants.surroundings.open_hosts().is_none();
        let mut offers: Vec<Vec<Reverse<(Key, Offer)>>> = vec![Vec::new(); self.leaves.len()];
        for number in self.layout.takers() {
            let Some(class) = room.index().class(*number).filter(|class| class.members > 0) else {
                continue;
            };
            let fit = self.layout.fit(*number);
            let Some(leaf) = self.leaves.get_mut(fit.leaf as usize) else {
                continue;
            };
            if leaf.members == 0 {
                self.tally.open(fit.leaf);
            }
            leaf.members += class.members;
            if !open || !wants.surroundings.opens_class(&class.key) {
                continue;
            }
            let fullness_max = fullness_with_room_max(class.most, self.take);
            let next = match self.packs {
                true => class
                    .ladder
                    .top(fullness_max)
                    .and_then(|step| Some((class.ladder.at(step)?, step))),
                false => class.first.map(|rung| (rung, class.ladder.bottom())),
            };
            let cursor = Cursor {
                class: *number,
                leaf: fit.leaf,
                disliked: -(fit.preferred + wants.surroundings.weight_of_class(&class.key)),
                fullness_max,
                next: next.filter(|(rung, _)| rung.fullness <= fullness_max),
                is_sure: false,
            };
            if let (Some((rung, _)), Some(offers)) = (cursor.next, offers.get_mut(fit.leaf as usize)) {
                let number = u32::try_from(self.cursors.len()).unwrap_or(u32::MAX);
                let key = self.key(0, cursor.disliked, 0, rung);
                offers.push(Reverse((key, Offer::Class(number))));
                self.cursors.push(cursor);
            }
        }
        for (leaf, offers) in self.leaves.iter_mut().zip(offers) {
            leaf.offers = BinaryHeap::from(offers);
        }
        let mut counts: BTreeMap<HostNo, u32> = BTreeMap::new();
        for (host, count) in wants.kept {
            let Some(class) = room.seat(*host).and_then(Seat::class) else {
                continue;
            };
            let fit = self.layout.fit(class);
            self.tally.add(fit.leaf, *count);
            if let Some(leaf) = self.leaves.get_mut(fit.leaf as usize).filter(|_| fit.takes) {
                *leaf.counts.entry(*count).or_default() += 1;
            }
            counts.insert(*host, *count);
        }
        let named = counts.keys().chain(wants.earlier.keys()).chain(wants.holders).copied();
        self.special = named.chain(wants.surroundings.hosts()).collect();
        for host in self.special.clone() {
            let class = room.seat(host).and_then(Seat::class);
            let leaf = class.map_or(0, |class| self.layout.fit(class).leaf);
            self.add_at(host, leaf, counts.get(&host).copied().unwrap_or(0));
        }
    }

    /// Adds the hosts that fit, each at a place of its own.
    fn add_each_host(&mut self) {
        let index = self.room.index();
        let mut tree = Tree::new();
        let mut hosts: Vec<(HostNo, u32, u32)> = Vec::new();
        let kept: BTreeMap<HostNo, u32> = self.wants.kept.iter().copied().collect();
        let named = self.layout.named.iter().flatten().filter_map(|id| index.number(id));
        let of_classes = self.layout.takers().iter().filter(|_| self.layout.named.is_none());
        let of_classes = of_classes.filter_map(|class| index.class(*class));
        let all: BTreeSet<HostNo> = of_classes
            .flat_map(|class| class.ladder.iter().map(|rung| rung.host))
            .collect();
        let all: BTreeSet<HostNo> = all.into_iter().chain(named).chain(kept.keys().copied()).collect();
        for host in all {
            let (Some(who), Some(class)) = (self.room.who(host), self.room.class_of(host)) else {
                continue;
            };
            let leaf = tree.path(self.rules, |label| match label {
                HOST_LABEL => who.id.as_str(),
                label => class.key.label(label).unwrap_or(""),
            });
            hosts.push((host, leaf, kept.get(&host).copied().unwrap_or(0)));
        }
        self.tree = Arc::new(tree);
        self.tally = Tally::new(self.tree.clone());
        self.leaves = self.tree.nodes().iter().map(|_| Leaf::default()).collect();
        for (host, leaf, count) in hosts {
            let class = self.room.seat(host).and_then(Seat::class);
            if class.is_some_and(|class| self.layout.fit(class).takes) && self.room.fits(self.layout, host) {
                self.tally.open(leaf);
            }
            self.tally.add(leaf, count);
            self.add_at(host, leaf, count);
        }
    }

    /// Adds one host by itself, if it takes replicas.
    fn add_at(&mut self, host: HostNo, leaf: u32, count: u32) {
        let (Some(seat), Some(class)) = (self.room.seat(host), self.room.class_of(host)) else {
            return;
        };
        let fit = seat.class().map(|class| self.layout.fit(class)).unwrap_or_default();
        let surroundings = self.wants.surroundings;
        let open = surroundings.opens_class(&class.key) && surroundings.opens_host(host);
        let room = self.room_on(host, count);
        if !fit.takes || !open || room == 0 || (self.wants.busy)(host) || !self.room.fits(self.layout, host) {
            return;
        }
        let weight = surroundings.weight_of_class(&class.key) + surroundings.weight_of_host(host);
        let rung = Rung {
            fullness: seat.fullness,
            rank: seat.rank,
            host,
        };
        let earlier = self.wants.earlier.get(&host).copied().unwrap_or(0);
        let key = self.key(count, -(fit.preferred + weight), earlier, rung);
        self.offer(
            leaf,
            Candidate {
                key,
                host,
                count,
                placed: 0,
                room,
            },
        );
    }

    fn key(&self, count: u32, disliked: i64, earlier: u32, rung: Rung) -> Key {
        Key {
            count: self.counted(count),
            disliked,
            earlier: Reverse(earlier),
            lacks_image: !self.wants.holders.contains(&rung.host),
            fill: if self.packs {
                u32::MAX - rung.fullness
            } else {
                rung.fullness
            },
            rank: rung.rank,
        }
    }

    /// How much the replicas that a host has count against it: not at all if they are packed, unless hosts may differ only by
    /// so much. Then those with the fewest come first, so that where the first of them may take none, none may.
    fn counted(&self, count: u32) -> u32 {
        match self.packs && self.host_skew.is_none() {
            true => 0,
            false => count,
        }
    }

    /// How many replicas have room on a host that has so many.
    fn room_on(&self, host: HostNo, count: u32) -> u32 {
        let most = self.wants.intent.rules.max_per_host.unwrap_or(u32::MAX);
        let room = self.room.index().room_on(host, self.take);
        room.min(most.saturating_sub(count))
    }

    fn offer(&mut self, leaf: u32, candidate: Candidate) {
        let number = u32::try_from(self.candidates.len()).unwrap_or(u32::MAX);
        self.candidates.push(candidate);
        if let Some(leaf) = self.leaves.get_mut(leaf as usize) {
            leaf.offers.push(Reverse((candidate.key, Offer::Host(number))));
        }
    }

    /// Goes through a place's offers until the best is a host that takes a replica.
    fn make_sure(&mut self, leaf: usize) {
        loop {
            let Some(Reverse((_, Offer::Class(number)))) = self.leaves.get(leaf).and_then(|l| l.offers.peek()) else {
                return;
            };
            let number = *number;
            let Some(cursor) = self.cursors.get(number as usize) else {
                return;
            };
            let Some((rung, _)) = cursor.next.filter(|_| !cursor.is_sure) else {
                return;
            };
            let takes = !self.special.contains(&rung.host)
                && self.wants.surroundings.opens_host(rung.host)
                && !(self.wants.busy)(rung.host)
                && self.room_on(rung.host, 0) > 0;
            if takes {
                if let Some(cursor) = self.cursors.get_mut(number as usize) {
                    cursor.is_sure = true;
                }
                return;
            }
            if let Some(leaf) = self.leaves.get_mut(leaf) {
                leaf.offers.pop();
            }
            self.advance(number);
        }
    }

    /// Offers the next host of a class.
    fn advance(&mut self, number: u32) {
        let Some(cursor) = self.cursors.get_mut(number as usize) else {
            return;
        };
        cursor.is_sure = false;
        let ladder = self.room.index().class(cursor.class).map(|class| &class.ladder);
        let step = match (cursor.next, ladder) {
            (Some((_, now)), Some(ladder)) if self.packs => ladder.down(now),
            (Some((_, now)), Some(ladder)) => Some(ladder.up(now)),
            _ => None,
        };
        let next = step.and_then(|step| Some((ladder?.at(step)?, step)));
        cursor.next = next.filter(|(rung, _)| rung.fullness <= cursor.fullness_max);
        let (leaf, disliked) = (cursor.leaf as usize, cursor.disliked);
        if let Some((rung, _)) = cursor.next {
            let key = self.key(0, disliked, 0, rung);
            if let Some(leaf) = self.leaves.get_mut(leaf) {
                leaf.offers.push(Reverse((key, Offer::Class(number))));
            }
        }
    }

    /// Places one more replica where it should go. Returns whether there was a place.
    fn place_one(&mut self) -> bool {
        let mut node = 0;
        loop {
            match self.best.get(node).copied().flatten() {
                None => return false,
                Some(best) if best as usize == node => break,
                Some(best) => node = best as usize,
            }
        }
        let Some(Reverse((_, offer))) = self.leaves.get_mut(node).and_then(|leaf| leaf.offers.pop()) else {
            return false;
        };
        let number = match offer {
            Offer::Host(number) => number as usize,
            Offer::Class(cursor) => {
                let Some(candidate) = self.candidate_of(cursor) else {
                    return false;
                };
                self.advance(cursor);
                self.candidates.push(candidate);
                self.candidates.len() - 1
            }
        };
        let Some(candidate) = self.candidates.get_mut(number) else {
            return false;
        };
        candidate.placed += 1;
        candidate.room -= 1;
        candidate.count += 1;
        let (count, left) = (candidate.count, candidate.room);
        if left > 0 {
            self.offer_again(node, number);
        }
        if self.host_skew.is_some() {
            self.count_host(node, count);
        }
        self.tally.add(u32::try_from(node).unwrap_or(0), 1);
        loop {
            self.choose_best(node);
            if node == 0 {
                return true;
            }
            node = self.tree.nodes().get(node).map_or(0, |node| node.parent as usize);
        }
    }

    /// The next host of a class, as a candidate of its own.
    fn candidate_of(&self, cursor: u32) -> Option<Candidate> {
        let cursor = self.cursors.get(cursor as usize)?;
        let (rung, _) = cursor.next?;
        Some(Candidate {
            key: self.key(0, cursor.disliked, 0, rung),
            host: rung.host,
            count: 0,
            placed: 0,
            room: self.room_on(rung.host, 0),
        })
    }

    fn offer_again(&mut self, leaf: usize, number: usize) {
        let packs = self.packs;
        let Some(count) = self.candidates.get(number).map(|c| self.counted(c.count)) else {
            return;
        };
        let Some(candidate) = self.candidates.get_mut(number) else {
            return;
        };
        let Some(seat) = self.room.seat(candidate.host) else {
            return;
        };
        let fullness = seat.used.fullness_with_ppm(seat.scarce, self.take, candidate.placed);
        candidate.key.fill = if packs { u32::MAX - fullness } else { fullness };
        candidate.key.count = count;
        let offer = Offer::Host(u32::try_from(number).unwrap_or(u32::MAX));
        let key = candidate.key;
        if let Some(leaf) = self.leaves.get_mut(leaf) {
            leaf.offers.push(Reverse((key, offer)));
        }
    }

    /// Counts a host that has one replica more, for bounds on skew.
    fn count_host(&mut self, leaf: usize, count: u32) {
        let Some(leaf) = self.leaves.get_mut(leaf) else { return };
        if let Some(hosts) = leaf.counts.get_mut(&(count - 1)) {
            *hosts -= 1;
            if *hosts == 0 {
                leaf.counts.remove(&(count - 1));
            }
        }
        *leaf.counts.entry(count).or_default() += 1;
    }

    /// Finds the best child of a node again, after something changed below it.
    fn choose_best(&mut self, node: usize) {
        let level = self.tree.nodes().get(node).map_or(0, |node| node.level);
        let best = if level == self.rules.len() {
            self.make_sure(node);
            self.has_host(node).then_some(node)
        } else {
            self.best_child(node)
        };
        if let Some(place) = self.best.get_mut(node) {
            *place = best.and_then(|best| u32::try_from(best).ok());
        }
    }

    fn best_child(&self, node: usize) -> Option<usize> {
        let this = self.tree.nodes().get(node)?;
        let rule = self.rules.get(this.level)?;
        let least = self.tally.least(node, rule);
        let children = this.children.iter().map(|child| *child as usize);
        let filled = children.filter(|child| self.best.get(*child).is_some_and(Option::is_some));
        let open = filled.filter(|child| self.tally.has_leeway(*child, rule, least));
        open.min_by(|a, b| self.compare(*a, *b))
    }

    /// Whether a place of the spread has a host that takes one more.
    fn has_host(&self, leaf: usize) -> bool {
        let Some(leaf) = self.leaves.get(leaf) else {
            return false;
        };
        let Some(Reverse((_, offer))) = leaf.offers.peek() else {
            return false;
        };
        let Some(most) = self.host_skew else { return true };
        let with_some: u32 = leaf
            .counts
            .iter()
            .filter(|(count, _)| **count > 0)
            .map(|(_, hosts)| hosts)
            .sum();
        let least = match with_some < leaf.members {
            true => 0,
            false => leaf.counts.keys().copied().find(|count| *count > 0).unwrap_or(0),
        };
        let count = match offer {
            Offer::Host(number) => self.candidates.get(*number as usize).map_or(0, |c| c.count),
            Offer::Class(_) => 0,
        };
        count < least.saturating_add(most)
    }

    /// Which of two nodes beside each other has the host that should take one more: the lesser one.
    fn compare(&self, a: usize, b: usize) -> Ordering {
        let mut at = (a, b);
        loop {
            let by_need = match at.0 == at.1 {
                true => Ordering::Equal,
                false => self.tally.compare(at.0, at.1),
            };
            let next = |node: usize| self.best.get(node).copied().flatten().map(|best| best as usize);
            match (next(at.0), next(at.1)) {
                _ if by_need.is_ne() => return by_need,
                (Some(a), Some(b)) if (a, b) != at => at = (a, b),
                _ => return self.top_of(at.0).cmp(&self.top_of(at.1)),
            }
        }
    }

    fn top_of(&self, leaf: usize) -> Option<Key> {
        let leaf = self.leaves.get(leaf)?;
        leaf.offers.peek().map(|Reverse((key, _))| *key)
    }
}
