//! The hosts by number, with what is free on each, in classes.
//!
//! In: hosts that join, speak, fall silent and go; replicas that come and go. Out: for each host its class and its seat,
//! for each class its hosts by fullness. Kept up to date by the world with every record and fact, and cheap to copy: a
//! plan tries its decisions on a copy.

use super::asked::{Ask, Asked};
use super::capacity::{Scarce, Take, Used};
use super::class::{Class, ClassKey, Mood};
use super::ladder::Rung;
use super::shape::{Layout, Shape};
use super::shared::Shared;
use crate::desired::{HostOffers, offers_of};
use heddle_protocol::host_report::{Capacity, Hello};
use heddle_protocol::id::{HostId, PlatformName};
use heddle_protocol::label::HOST_NAME_LABEL;
use heddle_protocol::record::{HostRecord, PlatformRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Bound;
use std::sync::Arc;

/// A host's number: its place in the index, for as long as it is admitted or holds replicas.
pub(crate) type HostNo = u32;
/// A class's number.
pub(crate) type ClassNo = u32;

/// Numbers by id. Looked up for each replica that is placed, where an ordered map compares too much text.
#[allow(
    clippy::disallowed_types,
    reason = "it is never iterated, and its hasher has no seed"
)]
type Numbers = std::collections::HashMap<HostId, HostNo, BuildHasherDefault<NameHash>>;

/// A hash for short names that is the same in every run: eight bytes at a time, each multiplied in.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NameHash(u64);

impl Hasher for NameHash {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(part) {
                *to = *from;
            }
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    // Text ends with this one.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        // The table takes its place from the lower bits and its tag from the upper ones.
        self.0 ^ (self.0 >> 32)
    }
}

/// The distance between the ranks of hosts that are added at the end: room for 40 that come in between, one between the
/// other, before all are ranked anew.
const RANK_STEP: u64 = 1 << 40;
/// Shapes whose layouts are remembered at most. A fleet has few; beyond this they are worked out again.
const LAYOUTS_MAX: usize = 4_096;

/// What a host has to give that has not said it yet.
pub(crate) static NO_CAPACITY: Capacity = Capacity {
    memory_bytes: 0,
    replica_slots: 0,
    instance_memory_bytes_max: None,
    cpu_millis: None,
    resources: BTreeMap::new(),
};
/// The class of a host that is not admitted.
const NO_CLASS: ClassNo = ClassNo::MAX;

/// What is free on one host. In a large fleet each replica that is placed fetches one from memory, so it is one line of the
/// processor's cache and begins with one.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(crate) struct Seat {
    /// Its place in the order of ids.
    pub(crate) rank: u64,
    /// Its class, or [`NO_CLASS`].
    class: ClassNo,
    /// How full it is.
    pub(crate) fullness: u32,
    /// What it has to give.
    pub(crate) scarce: Scarce,
    /// What replicas take of it.
    pub(crate) used: Used,
}

const _: () = assert!(size_of::<Seat>() == 64, "a seat is one line of the cache");

impl Seat {
    /// The seat of a host of which nothing is known but its place in the order of ids.
    fn new(rank: u64) -> Self {
        Self {
            rank,
            class: NO_CLASS,
            fullness: 0,
            scarce: Scarce::default(),
            used: Used::NONE,
        }
    }

    /// Its class; none if it is not admitted.
    pub(crate) fn class(&self) -> Option<ClassNo> {
        (self.class != NO_CLASS).then_some(self.class)
    }
}

/// Who one host is.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    /// Its id.
    pub(crate) id: HostId,
    /// Its record; none if it is not admitted.
    pub(crate) record: Option<Arc<HostRecord>>,
    /// Its introduction.
    pub(crate) hello: Option<Arc<Hello>>,
    /// Whether its agent was told to stop.
    pub(crate) leaving: bool,
    /// Whether it said yet what it runs.
    pub(crate) reported: bool,
    /// Whether it lives.
    pub(crate) mood: Mood,
}

impl Who {
    /// The name that its labels give it.
    pub(crate) fn name(&self) -> Option<&String> {
        self.hello.as_ref()?.labels.get(HOST_NAME_LABEL)
    }
}

/// All hosts, by number, class and fullness.
#[derive(Debug, Clone, Default)]
pub(crate) struct FleetIndex {
    /// The hosts in the order of their ids.
    numbers: Arc<BTreeMap<HostId, HostNo>>,
    /// The same, for looking one up.
    by_id: Arc<Numbers>,
    free: Arc<BTreeSet<HostNo>>,
    who: Shared<Who, 16>,
    seats: Shared<Seat>,
    classes: Shared<Class, 16>,
    by_key: Arc<BTreeMap<Arc<ClassKey>, ClassNo>>,
    /// What of labels tells hosts apart.
    asked: Arc<Asked>,
    /// Hosts that somebody gave another name than their own.
    misnamed: Arc<BTreeSet<HostNo>>,
    /// Hosts with replicas that may have to go.
    left: Arc<BTreeSet<HostNo>>,
    /// What was worked out for shapes of workloads.
    layouts: Arc<BTreeMap<Arc<Shape>, Arc<Layout>>>,
    /// One more for each change of what hosts are, so that one can tell whether anything did.
    version: u64,
}

impl FleetIndex {
    /// A host's number.
    pub(crate) fn number(&self, host: &HostId) -> Option<HostNo> {
        self.by_id.get(host).copied()
    }

    /// All hosts in the order of their ids.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (&HostId, HostNo)> {
        self.numbers.iter().map(|(id, number)| (id, *number))
    }

    /// Who a host is.
    pub(crate) fn who(&self, host: HostNo) -> Option<&Who> {
        self.who.get(host)
    }

    /// What is free on a host.
    pub(crate) fn seat(&self, host: HostNo) -> Option<&Seat> {
        self.seats.get(host)
    }

    /// All that a host has to give.
    pub(crate) fn capacity(&self, host: HostNo) -> &Capacity {
        let hello = self.who.get(host).and_then(|who| who.hello.as_ref());
        hello.map_or(&NO_CAPACITY, |hello| &hello.capacity)
    }

    /// How many more replicas have room on a host.
    pub(crate) fn room_on(&self, host: HostNo, take: Take<'_>) -> u32 {
        let seat = self.seat(host);
        seat.map_or(0, |seat| seat.used.room(seat.scarce, || self.capacity(host), take))
    }

    /// A class.
    pub(crate) fn class(&self, class: ClassNo) -> Option<&Class> {
        self.classes.get(class)
    }

    /// How many classes there are, the empty ones counted.
    pub(crate) fn class_count(&self) -> u32 {
        u32::try_from(self.classes.len()).unwrap_or(u32::MAX)
    }

    /// All classes.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (ClassNo, &Class)> {
        (0..).zip(self.classes.iter())
    }

    /// A host's class.
    pub(crate) fn class_of(&self, host: HostNo) -> Option<&Class> {
        self.class(self.seat(host)?.class()?)
    }

    /// The admitted hosts with replicas that may have to go.
    pub(crate) fn left(&self) -> impl Iterator<Item = HostNo> {
        self.left.iter().copied()
    }

    /// How often what hosts are has changed.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// What was worked out for a shape, if it was.
    pub(crate) fn layout(&self, shape: &Shape) -> Option<&Arc<Layout>> {
        self.layouts.get(shape)
    }

    /// Remembers what was worked out for a shape.
    pub(crate) fn remember(&mut self, shape: Arc<Shape>, layout: Arc<Layout>) {
        let layouts = Arc::make_mut(&mut self.layouts);
        if layouts.len() >= LAYOUTS_MAX {
            layouts.clear();
        }
        layouts.insert(shape, layout);
    }

    /// The number of a host, which gets one if it has none.
    fn numbered(&mut self, host: &HostId) -> HostNo {
        if let Some(number) = self.number(host) {
            return number;
        }
        let rank = self.rank_for(host);
        let seat = Seat::new(rank);
        let who = Who {
            id: host.clone(),
            record: None,
            hello: None,
            leaving: false,
            reported: false,
            mood: Mood::Alive,
        };
        let number = match Arc::make_mut(&mut self.free).pop_first() {
            Some(number) => {
                if let (Some(old), Some(place)) = (self.who.get_mut(number), self.seats.get_mut(number)) {
                    (*old, *place) = (who, seat);
                }
                number
            }
            None => {
                self.who.push(who);
                self.seats.push(seat);
                u32::try_from(self.seats.len() - 1).unwrap_or(u32::MAX)
            }
        };
        Arc::make_mut(&mut self.numbers).insert(host.clone(), number);
        Arc::make_mut(&mut self.by_id).insert(host.clone(), number);
        number
    }

    /// A rank between the neighbours'; if there is none, all are ranked anew.
    fn rank_for(&mut self, host: &HostId) -> u64 {
        let rank_of = |entry: Option<(&HostId, &HostNo)>| entry.and_then(|(_, n)| self.seat(*n)).map(|seat| seat.rank);
        let before = rank_of(self.numbers.range::<HostId, _>(..host).next_back());
        let after = rank_of(
            self.numbers
                .range::<HostId, _>((Bound::Excluded(host), Bound::Unbounded))
                .next(),
        );
        match (before, after) {
            (before, None) => {
                let rank = before.unwrap_or(u64::MAX / 2).checked_add(RANK_STEP);
                return rank.unwrap_or_else(|| self.rank_anew(host));
            }
            (before, Some(after)) => {
                let before = before.unwrap_or(after.saturating_sub(2 * RANK_STEP));
                if after - before >= 2 {
                    return before + (after - before) / 2;
                }
            }
        }
        self.rank_anew(host)
    }

    /// Ranks all hosts anew, evenly, with a place for one more, and returns that.
    fn rank_anew(&mut self, new: &HostId) -> u64 {
        let numbers = self.numbers.clone();
        let step = u64::MAX / (u64::try_from(numbers.len()).unwrap_or(u64::MAX) + 4);
        let step = step.min(RANK_STEP);
        let mut rank = u64::MAX / 4;
        let mut found = None;
        for (id, number) in numbers.iter() {
            if id > new && found.is_none() {
                rank += step;
                found = Some(rank);
            }
            rank += step;
            self.off_ladder(*number);
            if let Some(seat) = self.seats.get_mut(*number) {
                seat.rank = rank;
            }
            self.on_ladder(*number);
        }
        found.unwrap_or(rank + step)
    }

    /// Takes in what is known of a host now: its record, what it said, and whether it lives. Says whether that is new.
    pub(crate) fn set_host(
        &mut self,
        host: &HostId,
        now: Known<'_>,
        platforms: &BTreeMap<PlatformName, Arc<PlatformRecord>>,
    ) -> bool {
        if now.record.is_none() && self.number(host).is_none() {
            return false;
        }
        let number = self.numbered(host);
        let Some(who) = self.who.get(number) else {
            return false;
        };
        let same_hello = match (&who.hello, now.hello) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        let same_record = match (&who.record, now.record) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        let same = same_hello && same_record && who.leaving == now.leaving;
        if same && who.reported == now.reported {
            return false;
        }
        let Some(who) = self.who.get_mut(number) else {
            return false;
        };
        who.record = now.record.cloned();
        who.hello = now.hello.cloned();
        (who.leaving, who.reported) = (now.leaving, now.reported);
        if now.record.is_none() {
            who.mood = Mood::Alive;
        }
        if !same {
            self.place_in_class(number, platforms);
            self.version += 1;
        }
        self.free_if_gone(number);
        true
    }

    /// Takes in whether a host lives.
    pub(crate) fn set_mood(
        &mut self,
        host: &HostId,
        mood: Mood,
        platforms: &BTreeMap<PlatformName, Arc<PlatformRecord>>,
    ) {
        let Some(number) = self.number(host) else { return };
        if self.who.get(number).is_none_or(|who| who.mood == mood) {
            return;
        }
        if let Some(who) = self.who.get_mut(number) {
            who.mood = mood;
        }
        self.place_in_class(number, platforms);
        self.version += 1;
    }

    /// Takes in what a record asks about labels now, and what it asked before.
    pub(crate) fn set_asked(
        &mut self,
        before: &BTreeSet<Ask<'_>>,
        now: &BTreeSet<Ask<'_>>,
        platforms: &BTreeMap<PlatformName, Arc<PlatformRecord>>,
    ) {
        if before == now {
            return;
        }
        let asked = Arc::make_mut(&mut self.asked);
        let new = asked.enter(now);
        asked.leave(before);
        self.tell_apart(&new, platforms);
    }

    /// Forgets what nobody asks about labels any more: hosts that only that told apart are of one class again.
    pub(crate) fn forget_asked(&mut self, platforms: &BTreeMap<PlatformName, Arc<PlatformRecord>>) {
        if !self.asked.is_stale() {
            return;
        }
        let (labels, names) = Arc::make_mut(&mut self.asked).forget();
        let labels = labels.iter().map(|label| Ask::Value(label));
        let gone = labels.chain(names.iter().map(|name| Ask::HostName(name))).collect();
        self.tell_apart(&gone, platforms);
    }

    /// Places hosts anew after it changed whether something tells them apart. What they are has not changed by that.
    fn tell_apart(&mut self, asks: &BTreeSet<Ask<'_>>, platforms: &BTreeMap<PlatformName, Arc<PlatformRecord>>) {
        let mut hosts: BTreeSet<HostNo> = BTreeSet::new();
        let mut labels: Vec<&str> = Vec::new();
        for ask in asks {
            match ask {
                Ask::Value(label) => labels.push(label),
                Ask::HostName(name) => {
                    hosts.extend(HostId::parse(name).ok().and_then(|host| self.number(&host)));
                    hosts.extend(self.misnamed.iter());
                }
            }
        }
        if !labels.is_empty() {
            let has = |host: &HostNo| {
                let hello = self.who.get(*host).and_then(|who| who.hello.as_ref());
                hello.is_some_and(|hello| labels.iter().any(|label| hello.labels.contains_key(*label)))
            };
            hosts.extend(self.numbers.values().copied().filter(has));
        }
        for host in &hosts {
            self.place_in_class(*host, platforms);
        }
        if !hosts.is_empty() {
            self.forget_empty_classes(8);
        }
    }

    /// Works out anew what all classes are lent.
    pub(crate) fn set_platforms(&mut self, platforms: &BTreeMap<PlatformName, Arc<PlatformRecord>>) {
        for number in 0..self.class_count() {
            if let Some(class) = self.classes.get_mut(number) {
                class.offers = offers(&class.key, platforms);
            }
        }
        self.layouts = Arc::default();
        self.version += 1;
    }

    fn place_in_class(&mut self, number: HostNo, platforms: &BTreeMap<PlatformName, Arc<PlatformRecord>>) {
        let Some(who) = self.who.get(number).cloned() else {
            return;
        };
        let hello = who.hello.as_deref();
        let key = who
            .record
            .as_ref()
            .map(|record| ClassKey::of(record, hello, who.leaving, who.mood, &self.asked));
        let is_left = key.as_ref().is_some_and(ClassKey::is_left);
        let name = hello.and_then(|hello| hello.labels.get(HOST_NAME_LABEL));
        let is_misnamed = name.is_some_and(|name| name != who.id.as_str());
        for (set, is_in) in [(&mut self.left, is_left), (&mut self.misnamed, is_misnamed)] {
            if is_in != set.contains(&number) {
                let set = Arc::make_mut(set);
                match is_in {
                    true => set.insert(number),
                    false => set.remove(&number),
                };
            }
        }
        let class = key.map(|key| self.class_for(key, platforms));
        self.off_ladder(number);
        let before = self.seats.get(number).and_then(Seat::class);
        if let Some(class) = before.and_then(|class| self.classes.get_mut(class)) {
            class.members -= 1;
        }
        if let Some(seat) = self.seats.get_mut(number) {
            seat.class = class.unwrap_or(NO_CLASS);
            seat.scarce = hello.map_or(&NO_CAPACITY, |hello| &hello.capacity).into();
            seat.fullness = seat.used.fullness_ppm(seat.scarce);
        }
        if let Some(class) = class.and_then(|class| self.classes.get_mut(class)) {
            class.members += 1;
        }
        self.on_ladder(number);
    }

    fn class_for(&mut self, key: ClassKey, platforms: &BTreeMap<PlatformName, Arc<PlatformRecord>>) -> ClassNo {
        if let Some(class) = self.by_key.get(&key) {
            return *class;
        }
        if self.classes.len() > 1_024 {
            self.forget_empty_classes(2);
        }
        let key = Arc::new(key);
        let number = self.class_count();
        self.classes.push(Class {
            offers: offers(&key, platforms),
            key: key.clone(),
            ladder: Default::default(),
            first: None,
            members: 0,
            most: (0, 0, Some(0)),
        });
        Arc::make_mut(&mut self.by_key).insert(key, number);
        number
    }

    /// Once more than one of so many classes is empty, the others are numbered anew, so that what once was does not slow what is.
    fn forget_empty_classes(&mut self, one_of: usize) {
        let empty = self.classes.iter().filter(|class| class.members == 0).count();
        if empty * one_of <= self.classes.len() {
            return;
        }
        let before = std::mem::take(&mut self.classes);
        let mut numbers: BTreeMap<ClassNo, ClassNo> = BTreeMap::new();
        let mut by_key = BTreeMap::new();
        for (number, class) in (0..).zip(before.iter()).filter(|(_, class)| class.members > 0) {
            let new = self.class_count();
            numbers.insert(number, new);
            by_key.insert(class.key.clone(), new);
            self.classes.push(class.clone());
        }
        self.by_key = Arc::new(by_key);
        self.layouts = Arc::default();
        for host in 0..u32::try_from(self.seats.len()).unwrap_or(u32::MAX) {
            if let Some(seat) = self.seats.get_mut(host) {
                seat.class = numbers.get(&seat.class).copied().unwrap_or(NO_CLASS);
            }
        }
    }

    fn rung(seat: &Seat, host: HostNo) -> Rung {
        Rung {
            fullness: seat.fullness,
            rank: seat.rank,
            host,
        }
    }

    fn off_ladder(&mut self, host: HostNo) {
        let Some(seat) = self.seats.get(host) else { return };
        let rung = Self::rung(seat, host);
        if let Some(class) = seat.class().and_then(|class| self.classes.get_mut(class)) {
            class.remove(rung);
        }
    }

    fn on_ladder(&mut self, host: HostNo) {
        let Some(seat) = self.seats.get(host) else { return };
        let rung = Self::rung(seat, host);
        let capacity = self.who.get(host).and_then(|who| who.hello.as_ref());
        let capacity = capacity.map_or(&NO_CAPACITY, |hello| &hello.capacity);
        if let Some(class) = seat.class().and_then(|class| self.classes.get_mut(class)) {
            class.insert(rung);
            let (bytes, slots, cpu) = class.most;
            class.most = (
                bytes.max(capacity.memory_bytes),
                slots.max(capacity.replica_slots),
                cpu.zip(capacity.cpu_millis).map(|(a, b)| a.max(b)),
            );
        }
    }

    /// Counts replicas in on hosts. One look after the other at the seats, and then one class after the other: what
    /// one waits for, the next does not.
    pub(crate) fn add_all(&mut self, hosts: &[(HostNo, u32)], take: Take<'_>) {
        let mut moves: Vec<(ClassNo, Rung, Rung)> = Vec::with_capacity(hosts.len());
        for (host, count) in hosts {
            moves.extend(self.seat_change(*host, |used| used.add(take, *count)));
        }
        moves.sort_unstable();
        for moves in moves.chunk_by(|(a, ..), (b, ..)| a == b) {
            if let Some(class) = moves.first().and_then(|(class, ..)| self.classes.get_mut(*class)) {
                class.shift(moves.iter().map(|(_, before, after)| (*before, *after)));
            }
        }
    }

    /// Counts replicas out on a host.
    pub(crate) fn remove(&mut self, host: HostNo, take: Take<'_>, count: u32) {
        self.change(host, |used| used.remove(take, count));
    }

    fn change(&mut self, host: HostNo, how: impl FnOnce(&mut Used)) {
        let Some((class, before, after)) = self.seat_change(host, how) else {
            return;
        };
        if let Some(class) = self.classes.get_mut(class) {
            class.shift([(before, after)].into_iter());
        }
    }

    /// Changes what is taken on a host; returns where it was on the ladder of its class and where it belongs now, if that
    /// is elsewhere.
    fn seat_change(&mut self, host: HostNo, how: impl FnOnce(&mut Used)) -> Option<(ClassNo, Rung, Rung)> {
        let seat = self.seats.get_mut(host)?;
        let before = Self::rung(seat, host);
        how(&mut seat.used);
        seat.fullness = seat.used.fullness_ppm(seat.scarce);
        let after = Self::rung(seat, host);
        Some((seat.class()?, before, after)).filter(|_| before != after)
    }

    /// Counts replicas in on hosts by id, which get numbers if they have none. Returns the numbers.
    pub(crate) fn add_to<'h>(
        &mut self,
        hosts: impl Iterator<Item = (&'h HostId, u32)>,
        take: Take<'_>,
    ) -> Vec<(HostNo, u32)> {
        let hosts: Vec<(HostNo, u32)> = hosts.map(|(host, count)| (self.numbered(host), count)).collect();
        self.add_all(&hosts, take);
        hosts
    }

    /// Counts replicas out on a host by id.
    pub(crate) fn remove_from(&mut self, host: &HostId, take: Take<'_>, count: u32) -> Option<HostNo> {
        let number = self.number(host)?;
        self.remove(number, take, count);
        self.free_if_gone(number);
        Some(number)
    }

    /// Gives the number of a host back that is not admitted and holds nothing.
    fn free_if_gone(&mut self, number: HostNo) {
        let gone = self.who.get(number).is_some_and(|who| who.record.is_none())
            && self.seats.get(number).is_some_and(|seat| seat.used.replicas == 0);
        if let Some(who) = self.who.get(number).filter(|_| gone) {
            let id = who.id.clone();
            Arc::make_mut(&mut self.numbers).remove(&id);
            Arc::make_mut(&mut self.by_id).remove(&id);
            Arc::make_mut(&mut self.free).insert(number);
        }
    }
}

/// What is known of a host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    /// Its record; none if it is not admitted.
    pub(crate) record: Option<&'a Arc<HostRecord>>,
    /// Its introduction.
    pub(crate) hello: Option<&'a Arc<Hello>>,
    /// Whether its agent was told to stop.
    pub(crate) leaving: bool,
    /// Whether it said yet what it runs.
    pub(crate) reported: bool,
}

fn offers(key: &ClassKey, platforms: &BTreeMap<PlatformName, Arc<PlatformRecord>>) -> Arc<HostOffers> {
    Arc::new(match &key.labels {
        Some(labels) => offers_of(labels, platforms),
        None => HostOffers::default(),
    })
}
