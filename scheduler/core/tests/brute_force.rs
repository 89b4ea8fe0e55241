//! The planner beside brute force on small worlds: a few hosts, a few workloads, every way to place them tried.
//!
//! What it holds to, for workloads that are placed one after the other:
//! - feasible: what the planner placed keeps every hard rule, and where it placed too few, no host takes one more;
//! - as many: with nothing that ties replicas to each other's place, no other way places more;
//! - skew: the values of the first spread rule differ as little as so many replicas can;
//! - preferences, where only hosts are spread over: of all ways with the same numbers on hosts, none is preferred more.
//!
//! The rules are written down here a second time, over plain numbers. `BRUTE_FORCE_CASES` asks for more cases and
//! `BRUTE_FORCE_SEED` repeats one.

// In a test a broken expectation is its own message.
#![allow(clippy::unwrap_used, clippy::panic)]

use heddle_protocol::key::Key;
use heddle_protocol::record::{Company, LabelRule, Preference, Requirement, Spread};
use heddle_scheduler_core::apply::Write;
use heddle_scheduler_core::testing::{TestFleet, fleet, id, workload_yaml};
use std::collections::BTreeMap;

const ZONES: [&str; 3] = ["x", "y", "z"];
const MI: u64 = 1 << 20;

/// Chance with a seed: xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn often(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug, Clone)]
struct Host {
    zone: usize,
    memory_mi: u64,
    slots: u32,
}

#[derive(Debug, Clone)]
struct Workload {
    replicas: u32,
    memory_mi: u64,
    /// Zones that are required; empty takes any.
    zones: Vec<usize>,
    /// Whether zones come before hosts in the spread, and the hard bound.
    by_zone: bool,
    skew: Option<u32>,
    prefer: Vec<(usize, u32)>,
    avoid: Option<(usize, bool)>,
    near: Option<(usize, bool)>,
    most: Option<u32>,
}

/// Replicas by workload and host.
type Placed = Vec<Vec<u32>>;

struct Case {
    hosts: Vec<Host>,
    workloads: Vec<Workload>,
}

impl Case {
    fn draw(chance: &mut Chance) -> Self {
        let hosts = (0..1 + chance.below(6)).map(|_| Host {
            zone: chance.below(3) as usize,
            memory_mi: 100 * (1 + chance.below(10)),
            slots: 1 + chance.below(6) as u32,
        });
        let hosts: Vec<Host> = hosts.collect();
        let count = 1 + chance.below(6) as usize;
        let mut workloads = Vec::new();
        for n in 0..count {
            let by_zone = chance.often(60);
            let company = |chance: &mut Chance| {
                let other = chance.below(count as u64) as usize;
                (chance.often(25) && other != n).then(|| (other, chance.often(50)))
            };
            workloads.push(Workload {
                replicas: chance.below(6) as u32,
                memory_mi: 100 * (1 + chance.below(4)),
                zones: (0..3).filter(|_| chance.often(20)).collect(),
                by_zone,
                skew: (by_zone && chance.often(40)).then(|| 1 + chance.below(2) as u32),
                prefer: (0..3)
                    .filter(|_| chance.often(25))
                    .map(|zone| (zone, 1 + zone as u32 * 3))
                    .collect(),
                avoid: company(chance),
                near: company(chance),
                most: chance.often(25).then(|| 1 + chance.below(2) as u32),
            });
        }
        Self { hosts, workloads }
    }

    fn same(&self, a: usize, b: usize, by_host: bool) -> bool {
        a == b || (!by_host && self.hosts[a].zone == self.hosts[b].zone)
    }

    fn fits(&self, w: usize, host: usize) -> bool {
        let zones = &self.workloads[w].zones;
        zones.is_empty() || zones.contains(&self.hosts[host].zone)
    }

    /// The zones that count for a bound on skew: those with a host that fits.
    fn open_zones(&self, w: usize) -> Vec<usize> {
        let open = |zone: &usize| (0..self.hosts.len()).any(|h| self.hosts[h].zone == *zone && self.fits(w, h));
        (0..3).filter(open).collect()
    }

    fn in_zone(&self, row: &[u32], zone: usize) -> u32 {
        let hosts = (0..self.hosts.len()).filter(|h| self.hosts[*h].zone == zone);
        hosts.map(|h| row[h]).sum()
    }

    /// How much the zones that count differ.
    fn zone_skew(&self, w: usize, row: &[u32]) -> u32 {
        let counts: Vec<u32> = self.open_zones(w).iter().map(|zone| self.in_zone(row, *zone)).collect();
        counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
    }

    /// How much the hosts that fit differ.
    fn host_skew(&self, w: usize, row: &[u32]) -> u32 {
        let counts: Vec<u32> = (0..self.hosts.len())
            .filter(|h| self.fits(w, *h))
            .map(|h| row[h])
            .collect();
        counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
    }

    /// Whether a host is open to a workload whatever is free: labels and company.
    fn is_open(&self, placed: &Placed, w: usize, host: usize, known: usize) -> bool {
        let with = |other: usize, by_host: bool| {
            (0..self.hosts.len()).any(|h| placed[other][h] > 0 && self.same(h, host, by_host))
        };
        let this = &self.workloads[w];
        let apart = this.avoid.is_none_or(|(other, by_host)| !with(other, by_host));
        let let_be = (0..known).all(|other| match self.workloads[other].avoid {
            Some((avoided, by_host)) if avoided == w && other != w => !with(other, by_host),
            _ => true,
        });
        let near = this.near.is_none_or(|(other, by_host)| with(other, by_host));
        self.fits(w, host) && apart && let_be && near
    }

    fn has_room(&self, placed: &Placed, host: usize) -> bool {
        let memory: u64 = (0..self.workloads.len())
            .map(|w| u64::from(placed[w][host]) * self.workloads[w].memory_mi)
            .sum();
        let slots: u32 = (0..self.workloads.len()).map(|w| placed[w][host]).sum();
        memory <= self.hosts[host].memory_mi && slots <= self.hosts[host].slots
    }

    /// Whether a whole row keeps the hard rules.
    fn is_valid(&self, placed: &mut Placed, w: usize, row: &[u32], known: usize) -> bool {
        let before = std::mem::replace(&mut placed[w], row.to_vec());
        let this = &self.workloads[w];
        let valid = (0..self.hosts.len()).filter(|h| row[*h] > 0).all(|h| {
            self.is_open(placed, w, h, known) && self.has_room(placed, h) && this.most.is_none_or(|most| row[h] <= most)
        });
        let valid = valid && this.skew.is_none_or(|most| self.zone_skew(w, row) <= most);
        placed[w] = before;
        valid
    }

    /// Every way to place up to so many replicas.
    fn ways(&self, left: u32) -> Vec<Vec<u32>> {
        fn go(hosts: usize, left: u32, row: &mut Vec<u32>, all: &mut Vec<Vec<u32>>) {
            if hosts == 0 {
                all.push(row.clone());
                return;
            }
            for count in 0..=left {
                row.push(count);
                go(hosts - 1, left - count, row, all);
                row.pop();
            }
        }
        let mut all = Vec::new();
        go(self.hosts.len(), left, &mut Vec::new(), &mut all);
        all
    }

    fn preference(&self, w: usize, row: &[u32]) -> u32 {
        let weight = |zone: usize| {
            self.workloads[w]
                .prefer
                .iter()
                .filter(|(z, _)| *z == zone)
                .map(|(_, w)| w)
                .sum::<u32>()
        };
        (0..self.hosts.len()).map(|h| row[h] * weight(self.hosts[h].zone)).sum()
    }

    /// Looks at one row that the planner chose.
    fn judge(&self, placed: &mut Placed, w: usize, known: usize) -> Result<(), String> {
        let this = &self.workloads[w];
        let row = placed[w].clone();
        let total: u32 = row.iter().sum();
        if !self.is_valid(placed, w, &row, known) {
            return Err(format!("{row:?} breaks a hard rule"));
        }
        if total < this.replicas {
            for host in 0..self.hosts.len() {
                let mut more = row.clone();
                more[host] += 1;
                if self.is_valid(placed, w, &more, known) {
                    return Err(format!("{row:?}: host {host} takes one more"));
                }
            }
        }
        let ways: Vec<Vec<u32>> = self.ways(this.replicas);
        let valid: Vec<&Vec<u32>> = ways.iter().filter(|way| self.is_valid(placed, w, way, known)).collect();
        let most = valid.iter().map(|way| way.iter().sum::<u32>()).max().unwrap_or(0);
        if total != most {
            return Err(format!("{row:?}: {most} could be placed"));
        }
        let as_many: Vec<&&Vec<u32>> = valid.iter().filter(|way| way.iter().sum::<u32>() == total).collect();
        let skew = |row: &[u32]| match this.by_zone {
            true => self.zone_skew(w, row),
            false => self.host_skew(w, row),
        };
        let least = as_many.iter().map(|way| skew(way)).min().unwrap_or(0);
        if skew(&row) != least {
            return Err(format!("{row:?}: a skew of {least} is possible"));
        }
        if !this.by_zone {
            let sorted = |row: &[u32]| {
                let mut sorted = row.to_vec();
                sorted.sort_unstable();
                sorted
            };
            let alike = as_many.iter().filter(|way| sorted(way) == sorted(&row));
            let best = alike.map(|way| self.preference(w, way)).max().unwrap_or(0);
            if self.preference(w, &row) != best {
                return Err(format!("{row:?}: a preference of {best} is possible"));
            }
        }
        Ok(())
    }
}

fn name(n: usize) -> String {
    format!("w-{n}")
}

/// Places one workload, as the planner would.
fn place(fleet: &mut TestFleet, case: &Case, w: usize) -> Vec<u32> {
    let this = &case.workloads[w];
    fleet.automatic = false;
    let fields = format!(
        "replicas: {}\nreserve: {{ memory: {}Mi }}",
        this.replicas, this.memory_mi
    );
    fleet.apply(&workload_yaml(&name(w), &fields)).unwrap();
    fleet.automatic = true;
    let mut record = (*fleet.world.workloads[&id(&name(w))]).clone();
    let zones = |zones: &[usize]| Requirement {
        label: "zone".to_owned(),
        rule: LabelRule::In(zones.iter().map(|zone| ZONES[*zone].to_owned()).collect()),
    };
    let company = |(other, by_host): (usize, bool)| Company {
        workload: id(&name(other)),
        by: if by_host { "host" } else { "zone" }.to_owned(),
        weight: None,
    };
    let intent = &mut record.intent;
    intent.require = (!this.zones.is_empty())
        .then(|| zones(&this.zones))
        .into_iter()
        .collect();
    if this.by_zone {
        intent.spread = vec![Spread {
            by: "zone".to_owned(),
            weights: BTreeMap::new(),
            max_skew: this.skew,
            hard: this.skew.is_some(),
        }];
    }
    let wish = |(zone, weight): &(usize, u32)| Preference {
        labels: vec![zones(&[*zone])],
        weight: *weight,
    };
    intent.rules.prefer = this.prefer.iter().map(wish).collect();
    intent.rules.avoid = this.avoid.map(company).into_iter().collect();
    intent.rules.near = this.near.map(company).into_iter().collect();
    intent.rules.max_per_host = this.most;
    let value = serde_json::to_vec(&record).unwrap();
    fleet.commit(&[Write {
        key: Key::Workload(id(&name(w))),
        value: Some(value),
    }]);
    row_of(fleet, case, w)
}

fn row_of(fleet: &TestFleet, case: &Case, w: usize) -> Vec<u32> {
    let place = fleet.world.places.get(&id(&name(w)));
    let count = |host: usize| {
        let host = heddle_scheduler_core::testing::host(&format!("host-{host}"));
        place.map_or(0, |place| place.on_host(&host))
    };
    (0..case.hosts.len()).map(count).collect()
}

fn check(seed: u64) -> Result<(), String> {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        chance.below(2);
    }
    let case = Case::draw(&mut chance);
    let mut fleet = fleet();
    for (n, host) in case.hosts.iter().enumerate() {
        let labels = [("zone", ZONES[host.zone])];
        fleet.add_host(&format!("host-{n}"), &labels, host.memory_mi * MI, host.slots);
    }
    let mut placed: Placed = vec![vec![0; case.hosts.len()]; case.workloads.len()];
    for w in 0..case.workloads.len() {
        placed[w] = place(&mut fleet, &case, w);
        // Those that waited may have found company meanwhile; then the others' room is not what it was.
        let others = (0..w).all(|other| row_of(&fleet, &case, other) == placed[other]);
        if !others {
            return Ok(());
        }
        case.judge(&mut placed, w, w + 1).map_err(|why| {
            format!(
                "workload {w}: {why}\nhosts {:#?}\nworkloads {:#?}",
                case.hosts, case.workloads
            )
        })?;
    }
    Ok(())
}

#[test]
fn the_planner_does_as_well_as_brute_force() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("BRUTE_FORCE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("BRUTE_FORCE_CASES").unwrap_or(if cfg!(debug_assertions) { 1_000 } else { 10_000 }),
    };
    for seed in seeds {
        if let Err(why) = check(seed) {
            panic!("BRUTE_FORCE_SEED={seed}: {why}");
        }
    }
}
