//! What a pretended host runs: numbers in a list, because a fleet has a million of them.
//!
//! In: a spec's body, or that time has passed. Out: what changed, as it is reported, and every start in the ledger.

use crate::delay::StartDelay;
use crate::ledger::{Change, Ledger, Shared, UnitNo};
use crate::timer::{Due, Timers};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::{UnitPhase, UnitStatus};
use heddle_protocol::host_spec::{CapabilityOffer, HostSpecBody};
use heddle_protocol::id::{CapabilityName, UnitId};
use std::collections::{BTreeMap, BTreeSet};

/// One unit on one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    unit: UnitNo,
    count: u32,
    /// When it has started, in milliseconds since the fleet began; none once it has.
    ready_at: Option<u64>,
}

/// What one host runs.
#[derive(Debug, Default)]
pub(crate) struct Units {
    /// Ordered by number.
    slots: Vec<Slot>,
    /// The images that are there, and when they are.
    images: BTreeMap<Digest, u64>,
    bound: BTreeMap<CapabilityName, String>,
    digest: Option<Digest>,
    starts: u64,
}

/// What a start needs to know.
pub(crate) struct Starting<'a> {
    pub(crate) now: u64,
    pub(crate) host: usize,
    pub(crate) life: u64,
    pub(crate) seed: u64,
    pub(crate) delay: &'a StartDelay,
    pub(crate) ledger: &'a Shared,
    pub(crate) timers: &'a mut Timers,
}

/// What is to be reported.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    pub(crate) units: Vec<UnitStatus>,
    pub(crate) removed: Vec<UnitId>,
}

impl Changed {
    /// The same in messages of so many units each; at least one, for a spec that was accepted is news by itself.
    pub(crate) fn in_parts(self, at_most: usize) -> Vec<Self> {
        let mut parts = vec![Self {
            units: Vec::new(),
            removed: self.removed,
        }];
        for unit in self.units {
            if parts.last().is_some_and(|part| part.units.len() >= at_most) {
                parts.push(Self::default());
            }
            if let Some(part) = parts.last_mut() {
                part.units.push(unit);
            }
        }
        parts
    }
}

/// A unit that a spec wants.
struct Wanted {
    unit: UnitNo,
    count: u32,
    images: Vec<Digest>,
}

/// What a host keeps on its disk.
pub(crate) struct Kept(Vec<(UnitNo, u32)>);

impl Units {
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The addresses of the listeners that the spec asks for.
    pub(crate) fn bound(&self) -> &BTreeMap<CapabilityName, String> {
        &self.bound
    }

    /// What a spec that is kept for a restart says.
    pub(crate) fn wanted(&self) -> Kept {
        Kept(self.slots.iter().map(|slot| (slot.unit, slot.count)).collect())
    }

    /// A digest of what runs: nobody but this host takes it apart.
    pub(crate) fn digest(&self) -> Digest {
        self.digest.unwrap_or_else(|| Digest::of(b""))
    }

    fn note_digest(&mut self) {
        let mut bytes = Vec::with_capacity(self.slots.len() * 9);
        for slot in &self.slots {
            bytes.extend_from_slice(&slot.unit.to_be_bytes());
            bytes.extend_from_slice(&slot.count.to_be_bytes());
            bytes.push(u8::from(slot.ready_at.is_some()));
        }
        self.digest = Some(Digest::of(&bytes));
    }

    /// Takes in what a new spec wants: starts what is missing, stops what is not wanted any more.
    pub(crate) fn take(&mut self, body: &HostSpecBody, starting: &mut Starting<'_>) -> Changed {
        let ids: Vec<UnitId> = body.units.iter().map(|unit| unit.id()).collect();
        let numbers = starting.ledger.numbers(ids.iter());
        let images = |template: &Digest| {
            let components = body.templates.get(template).into_iter().flat_map(|t| &t.components);
            components.map(|component| component.artifact).collect()
        };
        let wanted = body.units.iter().zip(&numbers).map(|(unit, number)| Wanted {
            unit: *number,
            count: unit.count,
            images: images(&unit.template),
        });
        self.bound = bound(body);
        self.want(wanted.collect(), starting)
    }

    /// Starts again what a spec of an earlier life said. Its images are on the disk.
    pub(crate) fn take_kept(&mut self, Kept(kept): Kept, starting: &mut Starting<'_>) {
        let wanted = kept.into_iter().map(|(unit, count)| Wanted {
            unit,
            count,
            images: Vec::new(),
        });
        self.want(wanted.collect(), starting);
    }

    fn want(&mut self, mut wanted: Vec<Wanted>, starting: &mut Starting<'_>) -> Changed {
        wanted.sort_by_key(|w| w.unit);
        let before = std::mem::take(&mut self.slots);
        let mut changes: Vec<(UnitNo, Change)> = Vec::new();
        let mut changed: Vec<Slot> = Vec::new();
        let mut wakes: BTreeSet<u64> = BTreeSet::new();
        for want in &wanted {
            let held = find(&before, want.unit);
            let slot = match held {
                Some(held) => Slot {
                    count: want.count,
                    ..held
                },
                None => {
                    let ready_at = self.begin(want, starting);
                    wakes.insert(ready_at);
                    Slot {
                        unit: want.unit,
                        count: want.count,
                        ready_at: Some(ready_at),
                    }
                }
            };
            if held != Some(slot) {
                changed.push(slot);
                changes.push((want.unit, change(held, Some(slot))));
            }
            self.slots.push(slot);
        }
        let gone: Vec<Slot> = before
            .into_iter()
            .filter(|slot| wanted.binary_search_by_key(&slot.unit, |w| w.unit).is_err())
            .collect();
        changes.extend(gone.iter().map(|slot| (slot.unit, change(Some(*slot), None))));
        starting.ledger.take(changes.into_iter());
        for at in wakes {
            starting.timers.set(at, starting.host, starting.life, Due::Started);
        }
        self.note_digest();
        Changed {
            units: statuses(starting.ledger, &changed),
            removed: starting.ledger.ids(gone.iter().map(|slot| slot.unit)),
        }
    }

    /// When a unit that is begun now has started.
    fn begin(&mut self, want: &Wanted, starting: &Starting<'_>) -> u64 {
        let (delay, seed, host) = (starting.delay, starting.seed, starting.host);
        let mut there = starting.now;
        for image in &want.images {
            let at = self
                .images
                .entry(*image)
                .or_insert_with(|| starting.now + delay.pull(seed, host, image));
            there = there.max(*at);
        }
        self.starts += 1;
        there + delay.start(seed, host, self.starts)
    }

    /// Takes in that time has passed.
    pub(crate) fn started(&mut self, now: u64, ledger: &Shared) -> Changed {
        let mut changed = Vec::new();
        for slot in &mut self.slots {
            if slot.ready_at.is_some_and(|at| at <= now) {
                slot.ready_at = None;
                changed.push(*slot);
            }
        }
        ledger.take(changed.iter().map(|slot| {
            let ready = i64::from(slot.count);
            (
                slot.unit,
                Change {
                    ready,
                    ..Change::default()
                },
            )
        }));
        self.note_digest();
        Changed {
            units: statuses(ledger, &changed),
            removed: Vec::new(),
        }
    }

    /// All that there is.
    pub(crate) fn all(&self, ledger: &Shared) -> Changed {
        Changed {
            units: statuses(ledger, &self.slots),
            removed: Vec::new(),
        }
    }

    /// Everything ends. The images stay on the disk.
    pub(crate) fn end(&mut self, ledger: &Shared) {
        let gone = std::mem::take(&mut self.slots);
        ledger.take(gone.iter().map(|slot| (slot.unit, change(Some(*slot), None))));
        self.bound.clear();
        self.note_digest();
    }
}

fn find(slots: &[Slot], unit: UnitNo) -> Option<Slot> {
    let at = slots.binary_search_by_key(&unit, |slot| slot.unit).ok()?;
    slots.get(at).copied()
}

/// What a slot's change is to the ledger.
fn change(before: Option<Slot>, after: Option<Slot>) -> Change {
    let count = |slot: Option<Slot>| slot.map_or(0, |slot| i64::from(slot.count));
    let ready = |slot: Option<Slot>| count(slot.filter(|slot| slot.ready_at.is_none()));
    let more = count(after) - count(before);
    Change {
        starts: more.max(0),
        running: more,
        ready: ready(after) - ready(before),
    }
}

fn statuses(ledger: &Ledger, slots: &[Slot]) -> Vec<UnitStatus> {
    let ids = ledger.ids(slots.iter().map(|slot| slot.unit));
    let status = |(unit, slot): (UnitId, &Slot)| UnitStatus {
        unit,
        count: slot.count,
        phase: match slot.ready_at {
            Some(_) => UnitPhase::Starting,
            None => UnitPhase::Ready,
        },
        reason: None,
        attempts: 0,
        completed: 0,
        failed: 0,
    };
    ids.into_iter().zip(slots).map(status).collect()
}

fn bound(body: &HostSpecBody) -> BTreeMap<CapabilityName, String> {
    let listens = |(name, offer): (&CapabilityName, &CapabilityOffer)| match offer {
        CapabilityOffer::Http { listen, .. } => Some((name.clone(), listen.clone())),
        _ => None,
    };
    body.capabilities.iter().filter_map(listens).collect()
}
