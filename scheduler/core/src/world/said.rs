//! What hosts said, taken over from elsewhere: from the world before, or from what was kept with a decision.
//!
//! A decision follows from the records and from what hosts had said. The records are in the store; [`Premises`] hold the rest,
//! as far as the decision looked at it, so that it can be made again. What is as it should be is not listed: a host is
//! named when something else is known of it than at the decision before, and a unit when it is not simply ready.

use super::World;
use crate::liveness::{HostLiveness, Verdicts, is_settling, verdicts_at};
use crate::observed::ObservedHost;
use heddle_protocol::host_report::{Hello, UnitPhase, UnitStatus};
use heddle_protocol::id::{Generation, HostId, UnitId, WorkloadId};
use heddle_protocol::mutant::mutant;
use heddle_protocol::record::PlaceRecord;
use heddle_protocol::time::Mono;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Units that are looked up for the premises of one decision: some tens of milliseconds' worth.
const LOOKUPS_MAX: usize = 50_000;

/// What was known besides the records when a decision was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Premises {
    /// When it was made, on the clock of the scheduler that made it.
    pub now: Mono,
    /// Whether hosts that were not heard yet were waited for.
    pub settling: bool,
    /// The hosts of which something else was known than at the decision before; none of those that were not heard.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<HostId, Option<HostWord>>,
    /// The hosts that were not alive.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub odd: BTreeMap<HostId, HostLiveness>,
    /// The workloads of which it mattered how their units fared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looked_at: Vec<LookedAt>,
    /// Whether there were too many units to keep how they fared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_out: bool,
}

/// What a host had said of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostWord {
    /// Its introduction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello: Option<Arc<Hello>>,
    /// Whether its agent was told to stop.
    pub leaving: bool,
    /// Whether it had said what it runs.
    pub reported: bool,
}

/// How the units of a workload fared. Those that are not listed were ready, with as many replicas as are placed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LookedAt {
    /// The workload.
    pub workload: WorkloadId,
    /// Units that were not simply ready, and units on hosts on which none is placed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub odd: Vec<OddUnit>,
}

/// A unit that was not simply ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OddUnit {
    /// Its host.
    pub host: HostId,
    /// Its generation.
    pub generation: Generation,
    /// What the host said of it; none if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<UnitStatus>,
}

impl World {
    /// Takes over what hosts said, and who judges them, from the world before: this one's records replace that one's.
    /// Only hosts of which `same` says so are still those that spoke.
    pub fn take_over(&mut self, before: &World, same: impl Fn(&HostId) -> bool) {
        let observed = before.observed.iter().filter(|(host, _)| same(host));
        self.seen.observed = Arc::new(observed.map(|(host, said)| (host.clone(), said.clone())).collect());
        self.seen.watch = before.watch.clone();
        self.seen.watch.announced.doubt();
        self.index.reporting = Arc::default();
        let observed: Vec<(HostId, Arc<ObservedHost>)> = self
            .observed
            .iter()
            .map(|(host, said)| (host.clone(), said.clone()))
            .collect();
        for (_, said) in &observed {
            said.units.keys().for_each(|unit| self.count_unit(unit, true));
        }
        let odd = self.watch.announced.odd().keys();
        let strange: Vec<HostId> = odd.filter(|host| !self.hosts.contains_key(*host)).cloned().collect();
        for host in &strange {
            self.seen.watch.announced.forget(host);
        }
        let hosts: Vec<HostId> = self.hosts.keys().cloned().collect();
        for host in &hosts {
            self.refresh_host(host);
            let verdict = self.watch.announced.of(host);
            self.set_mood(host, &verdict);
        }
    }

    /// Takes the hosts of which something else may be known than when this was asked last.
    pub fn take_news(&mut self) -> BTreeSet<HostId> {
        std::mem::take(Arc::make_mut(&mut self.index.news))
    }

    /// The workloads of which it matters to a plan how their units fare: those that are not at rest, those on hosts whose
    /// replicas go, and those that the plan placed differently.
    pub fn looked_at<'a>(&'a self, planned: impl Iterator<Item = &'a WorkloadId>) -> BTreeSet<&'a WorkloadId> {
        let odd = self.watch.announced.odd().keys();
        let odd = odd.filter_map(|host| self.index.fleet.number(host));
        let hosts: BTreeSet<_> = self.index.fleet.left().chain(odd).collect();
        let stranded = hosts.into_iter().flat_map(|host| self.residents_of(host));
        planned.chain(&self.index.restless).chain(stranded).collect()
    }

    /// What was known at a time besides the records: of the hosts in `news`, and of the units of the workloads in
    /// `looked_at`.
    pub fn premises<'a>(
        &self,
        now: Mono,
        news: impl IntoIterator<Item = &'a HostId>,
        looked_at: &BTreeSet<&WorkloadId>,
    ) -> Premises {
        let word = |host: &HostId| {
            let said = self.observed.get(host)?;
            Some(HostWord {
                hello: said.hello.as_ref().map(without_token),
                leaving: said.leaving,
                reported: said.status_seq.is_some(),
            })
        };
        let mut lookups = LOOKUPS_MAX;
        let units = looked_at.iter().map(|id| self.look_at(id, &mut lookups));
        let units: Option<Vec<LookedAt>> = units.collect();
        Premises {
            now,
            settling: is_settling(self, now),
            hosts: match mutant("news-of-hosts-are-not-kept") {
                true => BTreeMap::new(),
                false => news.into_iter().map(|host| (host.clone(), word(host))).collect(),
            },
            odd: verdicts_at(self, now).odd().clone(),
            left_out: units.is_none(),
            looked_at: units.unwrap_or_default(),
        }
    }

    /// How a workload's units fare; none if there are more than may be looked up.
    fn look_at(&self, id: &WorkloadId, lookups: &mut usize) -> Option<LookedAt> {
        let place = self.places.get(id).map(Arc::as_ref);
        let mut odd = Vec::new();
        let mut found = 0;
        for (host, generation, count) in placed(place) {
            *lookups = lookups.checked_sub(1)?;
            let Some(said) = self.observed.get(host).filter(|said| said.status_seq.is_some()) else {
                continue;
            };
            let status = said.unit(id, generation);
            found += usize::from(status.is_some());
            let is_ready = status.is_some_and(|status| *status == simply_ready(id, generation, count));
            if !is_ready && !mutant("odd-units-are-not-kept") {
                odd.push(OddUnit {
                    host: host.clone(),
                    generation,
                    status: status.cloned(),
                });
            }
        }
        // Others hold it too: hosts that came back with it, or that were not told yet to let it go.
        if self
            .index
            .reporting
            .get(id)
            .is_some_and(|units| *units as usize > found)
        {
            let there: BTreeSet<(&HostId, Generation)> =
                placed(place).map(|(host, generation, _)| (host, generation)).collect();
            for (host, said) in self.observed.iter() {
                *lookups = lookups.checked_sub(1)?;
                let first = UnitId {
                    workload: id.clone(),
                    generation: Generation(0),
                };
                let held = said.units.range(first..).take_while(|(unit, _)| unit.workload == *id);
                let elsewhere = held.filter(|(unit, _)| !there.contains(&(host, unit.generation)));
                odd.extend(elsewhere.map(|(unit, status)| OddUnit {
                    host: host.clone(),
                    generation: unit.generation,
                    status: Some(status.clone()),
                }));
            }
        }
        Some(LookedAt {
            workload: id.clone(),
            odd,
        })
    }

    /// Takes in what hosts had said of themselves.
    pub fn learn(&mut self, premises: &Premises) {
        for (host, word) in &premises.hosts {
            let observed = Arc::make_mut(&mut self.seen.observed);
            match word {
                Some(word) => {
                    let said = ObservedHost {
                        boot_id: word.hello.as_ref().map(|hello| hello.boot_id.clone()),
                        bound: word.hello.as_ref().map(|hello| hello.bound.clone()).unwrap_or_default(),
                        hello: word.hello.clone(),
                        leaving: word.leaving,
                        status_seq: word.reported.then_some(0),
                        last_heard: premises.now,
                        ..ObservedHost::default()
                    };
                    observed.insert(host.clone(), Arc::new(said));
                }
                None => drop(observed.remove(host)),
            }
            self.refresh_host(host);
        }
    }

    /// Takes in what else a decision was made from: who lived, and how units fared. `also` is a workload whose units were not
    /// looked at, because they were all at rest.
    pub fn suppose(&mut self, premises: &Premises, also: Option<&WorkloadId>) {
        let watch = &mut self.seen.watch;
        let since = if premises.settling { premises.now } else { Mono(0) };
        (watch.started_at, watch.link_up_since, watch.missed_at) = (since, Some(since), None);
        watch.settling = premises.settling;
        watch.announced = Verdicts::kept(premises.odd.clone(), premises.now);
        let hosts: Vec<HostId> = self.hosts.keys().cloned().collect();
        for host in &hosts {
            let verdict = self.watch.announced.of(host);
            self.set_mood(host, &verdict);
        }
        for looked_at in &premises.looked_at {
            self.suppose_units(&looked_at.workload, &looked_at.odd);
        }
        if let Some(id) = also.filter(|id| premises.looked_at.iter().all(|known| known.workload != **id)) {
            self.suppose_units(id, &[]);
        }
    }

    fn suppose_units(&mut self, id: &WorkloadId, odd: &[OddUnit]) {
        let place = self.places.get(id).cloned();
        let listed: BTreeSet<(&HostId, Generation)> = odd.iter().map(|unit| (&unit.host, unit.generation)).collect();
        let ready = placed(place.as_deref()).filter(|(host, generation, _)| !listed.contains(&(*host, *generation)));
        let ready = ready.map(|(host, generation, count)| (host, simply_ready(id, generation, count)));
        let odd = odd.iter().filter_map(|unit| Some((&unit.host, unit.status.clone()?)));
        for (host, status) in ready.chain(odd) {
            let unit = status.unit.clone();
            let Some(said) = self.observed_mut(host).filter(|said| said.status_seq.is_some()) else {
                continue;
            };
            if said.units.insert(unit.clone(), status).is_none() {
                self.count_unit(&unit, true);
            }
        }
    }
}

/// An introduction without its token, which is nobody else's business.
fn without_token(hello: &Arc<Hello>) -> Arc<Hello> {
    match &hello.join_token {
        None => Arc::clone(hello),
        Some(_) => Arc::new(Hello {
            join_token: None,
            ..Hello::clone(hello)
        }),
    }
}

/// Where replicas are placed: host, generation, count.
fn placed(place: Option<&PlaceRecord>) -> impl Iterator<Item = (&HostId, Generation, u32)> {
    let sets = place.into_iter().flat_map(|place| &place.sets);
    sets.flat_map(|set| set.hosts.iter().map(|(host, count)| (host, set.generation, *count)))
}

/// What a host says of a unit with which all is well.
fn simply_ready(id: &WorkloadId, generation: Generation, count: u32) -> UnitStatus {
    UnitStatus {
        unit: UnitId {
            workload: id.clone(),
            generation,
        },
        count,
        phase: UnitPhase::Ready,
        reason: None,
        attempts: 0,
        completed: 0,
        failed: 0,
    }
}
