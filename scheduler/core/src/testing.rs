//! A fleet in memory, for tests of this crate and of others: `fleet().hosts(3).workload("web", 4)`.
//!
//! [`TestFleet`] keeps a [`World`], a clock that only tests move, and hosts that do what their specs say and report it,
//! each as an agent would. It commits what is decided, plans when the world says so, and checks every placement that it
//! carries out. Nothing in here waits.

// Tests call this: a broken expectation is their message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::apply::{
    Decision, Joining, Known, Needed, SecretAnswer, Undecided, Write, decide_apply, decide_join, renew_secrets,
    secrets_followed,
};
use crate::check::{check_places, check_plan, check_specs};
use crate::fact::{EventDraft, Fact, Noted};
use crate::host_specs::host_specs;
use crate::plan::rebalance::decide_rebalance;
use crate::plan::{PlanReport, plan, plan_only};
use crate::world::{Dirty, World};
use heddle_protocol::api::ApiError;
use heddle_protocol::api::apply::Applied;
use heddle_protocol::api::rebalance::{Rebalance, Rebalanced};
use heddle_protocol::api::status::WorkloadStatus;
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::{Capacity, Heartbeat, Hello, HostReport, UnitPhase, UnitStatus};
use heddle_protocol::host_spec::{CapabilityOffer, Feature, HostSpecBody, Wasi};
use heddle_protocol::id::{BootId, HostId, Namespace, Realm, UnitId, Version, WorkloadId};
use heddle_protocol::report::PlacementChange;
use heddle_protocol::time::{Mono, UnixMs};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod made;
pub mod story;
mod words;

pub use made::{artifact, resolve, workload_yaml};

/// How often test hosts beat, in milliseconds.
const BEAT_MS: u64 = 1_000;
/// How finely the test clock moves, in milliseconds.
const STEP_MS: u64 = 100;

/// A platform that lends a listener `web`, and key-value stores `kv` in memory, to every host.
pub const PLATFORM: &str = r#"
apiVersion: heddle.dev/v1
kind: Platform
metadata: { name: local }
spec:
  capabilities:
    web: { http: { listen: "127.0.0.1:8080" } }
    kv: { keyvalue: { memory: {} } }
"#;

/// A fleet with no hosts, [`PLATFORM`], and nothing to run.
pub fn fleet() -> TestFleet {
    let mut fleet = TestFleet::empty();
    fleet.apply(PLATFORM).unwrap();
    fleet
}

/// Reads an id, `default/` understood.
pub fn id(text: &str) -> WorkloadId {
    WorkloadId::parse(text).unwrap()
}

/// Reads a host's id.
pub fn host(text: &str) -> HostId {
    HostId::parse(text).unwrap()
}

/// One host as an agent would play it.
#[derive(Debug, Clone)]
pub struct TestHost {
    /// Its introduction.
    pub hello: Hello,
    /// Whether nothing that it says is heard, and no spec reaches it.
    pub silent: bool,
    /// Whether its agent was told to stop.
    pub leaving: bool,
    /// Whether its units become ready as soon as they are started.
    pub quick: bool,
    /// What it runs.
    pub units: BTreeMap<UnitId, UnitStatus>,
    boots: u64,
    seq: u64,
    status_seq: u64,
}

/// A fleet in memory.
#[derive(Debug, Clone)]
pub struct TestFleet {
    /// What the scheduler knows.
    pub world: World,
    /// The time.
    pub now: Mono,
    /// The hosts.
    pub hosts: BTreeMap<HostId, TestHost>,
    /// Everything that was told, in order.
    pub events: Vec<EventDraft>,
    /// Placements that changed since they were last asked for.
    pub changes: Vec<PlacementChange>,
    /// Whether plans are carried out when the world says so. Otherwise only [`TestFleet::plan`] does.
    pub automatic: bool,
    /// Work on artifacts that fails: a word of the task, and why.
    pub tasks_refused: Vec<(String, String)>,
    /// What backends say of secrets, by their path.
    pub secrets: BTreeMap<String, SecretAnswer>,
}

impl TestFleet {
    /// A realm with nothing in it, whose scheduler has just started.
    pub fn empty() -> Self {
        let mut fleet = Self {
            world: World::default(),
            now: Mono(10_000),
            hosts: BTreeMap::new(),
            events: Vec::new(),
            changes: Vec::new(),
            automatic: true,
            tasks_refused: Vec::new(),
            secrets: BTreeMap::new(),
        };
        fleet.world.set_head(Version { epoch: 1, n: 1 });
        let now = fleet.now;
        fleet.tell(Fact::SchedulerStarted { now });
        fleet
    }

    /// Adds hosts `host-1`, `host-2` and so on, with 1 GiB and 100 slots each.
    pub fn hosts(mut self, count: usize) -> Self {
        for _ in 0..count {
            let name = format!("host-{}", self.hosts.len() + 1);
            self.add_host(&name, &[], 1 << 30, 100);
        }
        self
    }

    /// Applies a workload that serves `/name` on `web`, with so many replicas.
    pub fn workload(mut self, name: &str, replicas: u32) -> Self {
        self.apply(&workload_yaml(name, &format!("replicas: {replicas}")))
            .unwrap();
        self
    }

    /// Makes everything that starts ready at once.
    pub fn ready(mut self) -> Self {
        self.make_ready(|_, _| true);
        self
    }

    /// Adds one host, which says hello.
    pub fn add_host(&mut self, name: &str, labels: &[(&str, &str)], memory_bytes: u64, slots: u32) {
        let features = [
            Feature::WASI_P2,
            Feature::WASI_P3,
            Feature::HTTP,
            Feature::KEYVALUE_MEMORY,
            Feature::KEYVALUE_NATS,
            Feature::MESSAGING_NATS,
            Feature::CONFIG,
            Feature::LOGGING,
            Feature::SECRETS,
            Feature::RUN,
            Feature::WRPC,
        ];
        let hello = Hello {
            realm: Realm::parse("test").unwrap(),
            host: host(name),
            boot_id: BootId::new(format!("{name}-1")),
            join_token: None,
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            capacity: Capacity {
                cpu_millis: None,
                resources: BTreeMap::new(),
                memory_bytes,
                replica_slots: slots,
                instance_memory_bytes_max: None,
            },
            features: features.into_iter().collect(),
            engine: Default::default(),
            version: "0.1.0".into(),
            bound: BTreeMap::new(),
            accepted: None,
            seal_key: String::new(),
        };
        let joining = Joining {
            hello: &hello,
            public_key: name,
            trust_on_first_use: true,
        };
        let decision = decide_join(&self.world, &joining, self.at()).unwrap();
        let host = TestHost {
            hello,
            silent: false,
            leaving: false,
            quick: false,
            units: BTreeMap::new(),
            boots: 1,
            seq: 0,
            status_seq: 0,
        };
        self.hosts.insert(host.hello.host.clone(), host);
        self.commit(&decision.writes);
        self.say_hello(name);
    }

    /// The wall clock, which nothing depends on.
    pub fn at(&self) -> UnixMs {
        UnixMs(1_800_000_000_000 + self.now.0)
    }

    /// Applies a manifest and plans.
    ///
    /// # Errors
    /// As `decide_apply`; a manifest that breaks rules is one of them.
    pub fn apply(&mut self, text: &str) -> Result<Applied, ApiError> {
        let decision = self.decide(text)?;
        Ok(self.carry_out(decision))
    }

    /// What applying a manifest would change.
    ///
    /// # Errors
    /// As [`TestFleet::apply`].
    pub fn decide(&self, text: &str) -> Result<Decision, ApiError> {
        let documents = resolve(text)?;
        self.decided(|known| decide_apply(&self.world, &documents, known, self.at()))
    }

    /// Decides, with what was needed found out as a shell would: see [`TestFleet::tasks_refused`] and
    /// [`TestFleet::secrets`].
    ///
    /// # Errors
    /// As the decision.
    pub fn decided(&self, decide: impl Fn(&Known) -> Result<Decision, Undecided>) -> Result<Decision, ApiError> {
        let mut known = Known::default();
        loop {
            match decide(&known) {
                Ok(decision) => return Ok(decision),
                Err(Undecided::Refused(error)) => return Err(error),
                Err(Undecided::Needs(needed)) => {
                    let asked_before = known.tasks.len() + known.secrets.len();
                    self.find_out(&needed, &mut known);
                    assert!(
                        known.tasks.len() + known.secrets.len() > asked_before,
                        "{needed:?} is asked for again"
                    );
                }
            }
        }
    }

    fn find_out(&self, needed: &Needed, known: &mut Known) {
        for task in &needed.tasks {
            let digest = task.digest().unwrap();
            let text = serde_json::to_string(task).unwrap();
            let refused = self.tasks_refused.iter().find(|(word, _)| text.contains(word.as_str()));
            let outcome = match refused {
                Some((_, why)) => Err(why.clone()),
                None => Ok(ArtifactInfo {
                    digest,
                    bytes: 1_000,
                    imports: BTreeSet::new(),
                    exports: BTreeSet::new(),
                    wasi: Wasi::P2,
                    verified_by: BTreeSet::new(),
                }),
            };
            known.tasks.insert(digest, outcome);
        }
        for asked in &needed.secrets {
            let answer = match self.secrets.get(&asked.path) {
                Some(answer) => answer.clone(),
                None => SecretAnswer::Refused(format!("{} has no secret {}", asked.from, asked.path)),
            };
            let answer = match (answer, &asked.version) {
                (SecretAnswer::Version(_), Some(named)) => SecretAnswer::Version(named.clone()),
                (answer, _) => answer,
            };
            known.secrets.insert(asked.id(), answer);
        }
    }

    /// Asks backends for newer versions of the secrets that name none, as the leading scheduler does now and then, and
    /// takes what they say.
    ///
    /// # Errors
    /// As the decision.
    pub fn renew_secrets(&mut self) -> Result<Applied, ApiError> {
        let newest =
            secrets_followed(&self.world)
                .into_iter()
                .filter_map(|followed| match self.secrets.get(&followed.path) {
                    Some(SecretAnswer::Version(version)) => Some((followed.id(), version.clone())),
                    _ => None,
                });
        let newest: BTreeMap<Digest, String> = newest.collect();
        let decision = self.decided(|known| renew_secrets(&self.world, &newest, known, self.at()))?;
        Ok(self.carry_out(decision))
    }

    /// Commits a decision and plans.
    pub fn carry_out(&mut self, decision: Decision) -> Applied {
        let (applied, _) = decision.preview(&self.world, self.world.head.n + 1, self.now);
        self.commit(&decision.writes);
        applied
    }

    /// Moves at most so many replicas to where they are better by now.
    ///
    /// # Errors
    /// As [`decide_rebalance`].
    pub fn rebalance(&mut self, budget: u32) -> Result<Rebalanced, ApiError> {
        let asked = Rebalance {
            workloads: Vec::new(),
            in_namespace: false,
            budget,
            dry_run: false,
        };
        let (writes, moves) = decide_rebalance(&self.world, &asked, &Namespace::fallback(), self.now)?;
        self.commit(&writes);
        Ok(moves)
    }

    /// Takes committed writes in.
    pub fn commit(&mut self, writes: &[Write]) {
        let dirty = self.commit_only(writes);
        if self.automatic {
            self.plan_dirty(&dirty);
        }
    }

    fn commit_only(&mut self, writes: &[Write]) -> Dirty {
        let mut dirty = Dirty::none();
        if !writes.is_empty() {
            let head = self.world.head;
            self.world.set_head(Version { n: head.n + 1, ..head });
        }
        for write in writes {
            dirty.join(
                self.world
                    .apply_write(&write.key.to_string(), write.value.as_deref())
                    .unwrap(),
            );
        }
        dirty
    }

    /// Takes a fact in, does what follows, and says what that was.
    pub fn tell(&mut self, fact: Fact) -> Noted {
        let noted = self.world.apply(fact);
        self.events.extend(noted.events.iter().cloned());
        if noted.replan && self.automatic {
            self.plan_dirty(&noted.dirty);
        }
        if !noted.replan && self.automatic && self.world.watch.announced.hold_at(self.now) {
            let (whole, _) = plan(&self.world, self.now);
            assert!(whole.is_empty(), "a fact that asks for no plan changes none: {whole:?}");
        }
        if let Some(host) = &noted.ask_hello {
            self.say_hello(host.as_str());
        }
        if let Some(host) = &noted.ask_report {
            self.report(&host.clone(), true);
        }
        noted
    }

    /// Plans everything, carries it out, and delivers the specs.
    pub fn plan(&mut self) -> PlanReport {
        self.plan_dirty(&Dirty::All)
    }

    fn plan_dirty(&mut self, dirty: &Dirty) -> PlanReport {
        let (decided, report) = plan_only(&self.world, self.now, dirty);
        let (whole, _) = plan(&self.world, self.now);
        assert_eq!(
            decided, whole,
            "planning what is dirty decides what planning everything does"
        );
        self.world.note_plan(&report);

        if !decided.is_empty() {
            self.changes.extend(report.changes());
            let before = self.world.clone();
            self.commit_only(&decided.writes().unwrap());
            assert_eq!(check_plan(&before, &self.world, self.now), Vec::<String>::new());
            let (again, _) = plan(&self.world, self.now);
            assert!(again.is_empty(), "planning again changes nothing: {again:?}");
            assert_eq!(check_places(&self.world, self.now), Vec::<String>::new());
        }
        self.deliver();
        report
    }

    /// What each host should run now.
    pub fn specs(&self) -> BTreeMap<HostId, HostSpecBody> {
        let specs = host_specs(&self.world, self.world.hosts.keys());
        assert_eq!(check_specs(&specs), Vec::<String>::new());
        specs
    }

    /// Gives every host that can be reached its spec; those that change anything report it.
    pub fn deliver(&mut self) {
        let hosts: Vec<HostId> = self.specs().into_keys().collect();
        for id in hosts {
            // What one host reports may change what the next ones are to run: nobody is given a spec that is old by then.
            let Some(spec) = host_specs(&self.world, [&id]).remove(&id) else {
                continue;
            };
            let Some(host) = self.hosts.get_mut(&id).filter(|host| !host.silent) else {
                continue;
            };
            if host.follow(&spec) {
                self.report(&id, false);
            }
        }
    }

    /// Lets every unit become ready that is starting and of which the test says so.
    pub fn make_ready(&mut self, which: impl Fn(&HostId, &UnitId) -> bool) {
        self.set_phase(UnitPhase::Ready, None, |host, unit, phase| {
            phase == UnitPhase::Starting && which(host, unit)
        });
    }

    /// Sets the phase of units, and has their hosts report it.
    pub fn set_phase(
        &mut self,
        phase: UnitPhase,
        reason: Option<&str>,
        which: impl Fn(&HostId, &UnitId, UnitPhase) -> bool,
    ) {
        let mut changed = BTreeSet::new();
        for (id, host) in self.hosts.iter_mut().filter(|(_, host)| !host.silent) {
            for (unit, status) in &mut host.units {
                if which(id, unit, status.phase) {
                    status.phase = phase;
                    status.reason = reason.map(str::to_owned);
                    changed.insert(id.clone());
                }
            }
        }
        for id in changed {
            self.report(&id, false);
        }
    }

    /// Lets time pass: hosts beat, silences become too long.
    pub fn tick(&mut self, ms: u64) {
        let end = self.now.plus(ms);
        while self.now < end {
            let before = self.now;
            self.now = Mono((self.now.0 + STEP_MS).min(end.0));
            if before.0 / BEAT_MS != self.now.0 / BEAT_MS {
                let ids: Vec<HostId> = self.hosts.keys().cloned().collect();
                for id in ids {
                    self.beat(&id);
                }
            }
            let now = self.now;
            self.tell(Fact::TimePassed { now });
        }
    }

    /// One heartbeat of one host, if it can be heard.
    pub fn beat(&mut self, id: &HostId) {
        let Some(host) = self.hosts.get_mut(id).filter(|host| !host.silent) else {
            return;
        };
        host.seq += 1;
        let heartbeat = Heartbeat {
            boot_id: host.hello.boot_id.clone(),
            seq: host.seq,
            accepted: None,
            running_digest: host.running_digest(),
            status_seq: host.status_seq,
            leaving: host.leaving,
            rss_bytes: 0,
            in_flight: 0,
        };
        let now = self.now;
        self.tell(Fact::HostBeat {
            host: id.clone(),
            heartbeat,
            now,
        });
    }

    /// One hello of one host, if it can be heard.
    pub fn say_hello(&mut self, name: &str) {
        let now = self.now;
        if let Some(host) = self.hosts.get(&host(name)).filter(|host| !host.silent) {
            let hello = Box::new(host.hello.clone());
            self.tell(Fact::HostSaidHello { hello, now });
        }
    }

    fn report(&mut self, id: &HostId, full: bool) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id).filter(|host| !host.silent) else {
            return;
        };
        if !full {
            host.status_seq += 1;
        }
        let report = HostReport {
            boot_id: host.hello.boot_id.clone(),
            status_seq: host.status_seq,
            // A test host always says everything, which is what a full report is.
            full: true,
            accepted: None,
            units: host.units.values().cloned().collect(),
            removed: Vec::new(),
            running_digest: host.running_digest(),
            bound: host.hello.bound.clone(),
            capability_errors: BTreeMap::new(),
        };
        self.tell(Fact::HostReported {
            host: id.clone(),
            report,
            now,
        });
    }

    /// Nothing that a host says is heard any more.
    pub fn silence(&mut self, name: &str) {
        self.host_mut(name).silent = true;
    }

    /// A silent host is heard again, with what it ran meanwhile.
    pub fn wake(&mut self, name: &str) {
        self.host_mut(name).silent = false;
        self.beat(&host(name));
        self.deliver();
    }

    /// A host's agent starts again, with nothing running.
    pub fn restart_host(&mut self, name: &str) {
        let host = self.host_mut(name);
        host.boots += 1;
        host.hello.boot_id = BootId::new(format!("{name}-{}", host.boots));
        (host.silent, host.leaving, host.seq, host.status_seq) = (false, false, 0, 0);
        host.units.clear();
        self.say_hello(name);
        self.deliver();
    }

    /// A host's agent is told to stop.
    pub fn leave(&mut self, name: &str) {
        self.host_mut(name).leaving = true;
        self.beat(&host(name));
    }

    /// The scheduler starts again: it knows what was committed, and nothing else.
    pub fn restart_scheduler(&mut self) {
        let mut writes: Vec<(String, Vec<u8>)> = Vec::new();
        fn all<K: Clone, V: serde::Serialize>(
            writes: &mut Vec<(String, Vec<u8>)>,
            map: &BTreeMap<K, Arc<V>>,
            key: impl Fn(K) -> heddle_protocol::key::Key,
        ) {
            writes.extend(
                map.iter()
                    .map(|(k, v)| (key(k.clone()).to_string(), serde_json::to_vec(v).unwrap())),
            );
        }
        use heddle_protocol::key::Key;
        all(&mut writes, &self.world.workloads, Key::Workload);
        all(&mut writes, &self.world.platforms, Key::Platform);
        all(&mut writes, &self.world.configs, Key::Config);
        all(&mut writes, &self.world.secret_refs, Key::SecretRef);
        all(&mut writes, &self.world.namespace_policies, Key::NamespacePolicy);
        all(&mut writes, &self.world.quotas, Key::Quota);
        all(&mut writes, &self.world.places, Key::Place);
        all(&mut writes, &self.world.templates, Key::Template);
        all(&mut writes, &self.world.hosts, Key::Host);
        all(&mut writes, &self.world.policies, Key::Policy);
        let mut world = World::new(self.world.watch.options);
        for (key, value) in writes {
            world.apply_write(&key, Some(&value)).unwrap();
        }
        world.set_head(Version {
            epoch: self.world.head.epoch + 1,
            n: self.world.head.n + 1,
        });
        self.world = world;
        let now = self.now;
        self.tell(Fact::SchedulerStarted { now });
    }

    /// A host, to be changed by hand.
    pub fn host_mut(&mut self, name: &str) -> &mut TestHost {
        self.hosts
            .get_mut(&host(name))
            .unwrap_or_else(|| panic!("there is no host {name}"))
    }

    /// How a workload fares.
    pub fn status(&self, name: &str) -> Option<WorkloadStatus> {
        crate::workload_status::workload_status(&self.world, &id(name), self.now)
    }

    /// Replicas of all generations that really are ready on hosts that can be reached, whatever the scheduler knows.
    pub fn serving(&self, name: &str) -> u32 {
        let id = id(name);
        let reachable = self.hosts.values().filter(|host| !host.silent);
        let units = reachable.flat_map(|host| host.units.values());
        units
            .filter(|u| u.unit.workload == id && u.phase == UnitPhase::Ready)
            .map(|u| u.count)
            .sum()
    }

    /// Where a workload's replicas are, in one line: `@1 host-1 ×2, host-2 ×1`.
    pub fn place(&self, name: &str) -> String {
        let Some(place) = self.world.places.get(&id(name)) else {
            return "nowhere".to_owned();
        };
        let sets = place.sets.iter().map(|set| {
            let hosts: Vec<String> = set
                .hosts
                .iter()
                .map(|(host, count)| format!("{host} ×{count}"))
                .collect();
            format!("@{} {}", set.generation, hosts.join(", "))
        });
        sets.collect::<Vec<_>>().join(" | ")
    }

    /// The placements that changed since this was last asked, one per line.
    pub fn take_changes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.changes)
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

impl TestHost {
    fn running_digest(&self) -> Digest {
        Digest::of_json(&self.units.values().collect::<Vec<_>>()).unwrap()
    }

    /// Does what a spec says. Returns whether anything changed.
    fn follow(&mut self, spec: &HostSpecBody) -> bool {
        let before = self.units.clone();
        let wanted: BTreeMap<UnitId, u32> = spec.units.iter().map(|unit| (unit.id(), unit.count)).collect();
        self.units.retain(|id, _| wanted.contains_key(id));
        let phase = if self.quick {
            UnitPhase::Ready
        } else {
            UnitPhase::Starting
        };
        for (id, count) in wanted {
            let unit = id.clone();
            let start = || UnitStatus {
                unit,
                count,
                phase,
                reason: None,
                attempts: 0,
                completed: 0,
                failed: 0,
            };
            self.units.entry(id).or_insert_with(start).count = count;
        }
        let http = spec.capabilities.iter().filter_map(|(name, offer)| match offer {
            CapabilityOffer::Http { listen, .. } => Some((name.clone(), listen.clone())),
            _ => None,
        });
        let bound: BTreeMap<_, _> = http.collect();
        let changed = before != self.units || bound != self.hello.bound;
        self.hello.bound = bound;
        changed
    }
}
