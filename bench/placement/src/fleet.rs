//! Fleets and workloads for the placement benchmark, made of records and facts as a store and agents would give them.

use anyhow::{Context as _, Result, bail};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::{Capacity, Hello, HostReport};
use heddle_protocol::host_spec::{Instances, Limits, Template};
use heddle_protocol::id::{BootId, Generation, HostId, Realm, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::label::HOST_NAME_LABEL;
use heddle_protocol::record::{
    Company, HostAdmin, HostRecord, Intent, LabelRule, Preference, Replicas, Requirement, Rules, Spread, WorkloadRecord,
};
use heddle_protocol::time::{Mono, UnixMs};
use heddle_scheduler_core::explain::explain;
use heddle_scheduler_core::{Dirty, Fact, LivenessOptions, World, plan_only};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::time::Duration;

/// When everything happens: nobody falls silent.
const NOW: Mono = Mono(10_000);
/// The memory of one replica.
const RESERVE_BYTES: u64 = 64 << 20;

/// The memory of one host.
const HOST_BYTES: u64 = 256 << 30;

/// What every host lacks for a workload.
#[derive(Debug, Clone, Copy)]
pub enum Lacking {
    /// A label that no host has.
    Label,
    /// More memory than any host has.
    Memory,
}

/// A fleet under measurement.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// What the scheduler knows.
    pub world: World,
    /// Classes of hosts.
    pub classes: usize,
    template: Digest,
    made: usize,
}

impl Fleet {
    /// So many hosts with room for many replicas, of 216 classes (as far as there are hosts).
    pub fn new(hosts: usize) -> Result<Self> {
        let mut world = World::new(LivenessOptions::default());
        world.apply(Fact::SchedulerStarted { now: NOW });
        let template = Template {
            requires: BTreeSet::new(),
            components: Vec::new(),
            limits: Limits {
                memory_bytes: RESERVE_BYTES,
                time_ms: 1_000,
                concurrency: 16,
                egress: Vec::new(),
                cpu_millis: None,
            },
            instances: Instances {
                reuse: 1,
                concurrency: 1,
            },
            run: None,
            consumes: Vec::new(),
        };
        let bytes = serde_json::to_vec(&template)?;
        let template = Digest::of(&bytes);
        world.apply_record(&Key::Template(template), Some(&bytes))?;
        let mut fleet = Self {
            world,
            classes: 0,
            template,
            made: 0,
        };
        let mut classes = BTreeSet::new();
        for number in 0..hosts {
            let mut labels = fleet.join(number)?;
            // No rule asks for it.
            labels.remove(HOST_NAME_LABEL);
            classes.insert(labels);
        }
        fleet.classes = classes.len();
        Ok(fleet)
    }

    /// A host joins, introduces itself and says that it runs nothing.
    fn join(&mut self, number: usize) -> Result<BTreeMap<String, String>> {
        let host = HostId::parse(&format!("host-{number:06}"))?;
        let record = HostRecord {
            public_key: "key".to_owned(),
            admin: HostAdmin::Open,
            taints: BTreeMap::new(),
            joined_at: UnixMs(0),
        };
        self.take(&Key::Host(host.clone()), &record)?;
        let zone = number % 12;
        let pick = |names: &[&str], by: usize| names.get(number / by % names.len()).copied().unwrap_or("").to_owned();
        let labels = BTreeMap::from([
            // Every agent adds it.
            (HOST_NAME_LABEL.to_owned(), host.to_string()),
            ("zone".to_owned(), format!("zone-{zone:02}")),
            ("region".to_owned(), format!("region-{}", zone / 3)),
            ("arch".to_owned(), pick(&["amd64", "arm64"], 12)),
            ("disk".to_owned(), pick(&["hdd", "nvme", "ssd"], 24)),
            ("tier".to_owned(), pick(&["bronze", "gold", "silver"], 72)),
        ]);
        let boot_id = BootId::new(format!("{host}-1"));
        let hello = Hello {
            realm: Realm::parse("bench")?,
            host: host.clone(),
            boot_id: boot_id.clone(),
            join_token: None,
            labels: labels.clone(),
            capacity: Capacity {
                memory_bytes: HOST_BYTES,
                replica_slots: 4_000,
                instance_memory_bytes_max: None,
                cpu_millis: None,
                resources: BTreeMap::new(),
            },
            features: BTreeSet::new(),
            engine: Default::default(),
            seal_key: String::new(),
            version: "0.1.0".to_owned(),
            bound: BTreeMap::new(),
            accepted: None,
        };
        let hello = Box::new(hello);
        self.world.apply(Fact::HostSaidHello { hello, now: NOW });
        let report = HostReport {
            boot_id,
            status_seq: 1,
            full: true,
            accepted: None,
            units: Vec::new(),
            removed: Vec::new(),
            running_digest: Digest::of(b""),
            bound: BTreeMap::new(),
            capability_errors: BTreeMap::new(),
        };
        self.world.apply(Fact::HostReported { host, report, now: NOW });
        Ok(labels)
    }

    fn take(&mut self, key: &Key, value: &impl Serialize) -> Result<Dirty> {
        let bytes = serde_json::to_vec(value)?;
        self.world
            .apply_record(key, Some(&bytes))
            .with_context(|| format!("failed to take in {key}"))
    }

    /// Means another workload with so many replicas; kinds of rules take turns. With `apart`, it keeps off the hosts of
    /// the one before.
    pub fn mean(&mut self, replicas: u32, apart: bool) -> Result<WorkloadId> {
        let id = WorkloadId::parse(&format!("bench/w-{:07}", self.made))?;
        let before = WorkloadId::parse(&format!("bench/w-{:07}", self.made.saturating_sub(1)))?;
        let kind = self.made % 4;
        self.made += 1;
        let mut intent = Intent {
            unit_generation: Generation(1),
            replicas: Replicas::Count(replicas),
            require: Vec::new(),
            spread: vec![spread("zone"), spread("host")],
            capabilities: BTreeSet::new(),
            reserve_bytes: RESERVE_BYTES,
            http: Vec::new(),
            cron: Vec::new(),
            calls: BTreeSet::new(),
            serves: BTreeSet::new(),
            job: None,
            features: BTreeSet::new(),
            embedded: BTreeMap::new(),
            rules: Rules::default(),
        };
        match kind {
            0 => {}
            1 => intent.require.push(one_of("disk", &["nvme", "ssd"])),
            2 => {
                for rule in intent.spread.iter_mut().take(1) {
                    (rule.max_skew, rule.hard) = (Some(1), true);
                }
                intent.rules.prefer.push(Preference {
                    labels: vec![one_of("tier", &["gold"])],
                    weight: 10,
                });
            }
            _ => {
                intent.require.push(one_of("arch", &["amd64"]));
                intent.require.push(Requirement {
                    label: "region".to_owned(),
                    rule: LabelRule::NotIn(BTreeSet::from(["region-3".to_owned()])),
                });
            }
        }
        if apart {
            intent.rules.avoid.push(Company {
                workload: before,
                by: "host".to_owned(),
                weight: None,
            });
        }
        self.mean_so(id, intent)
    }

    /// Means another workload with one replica that no host takes.
    pub fn mean_impossible(&mut self, lacking: Lacking) -> Result<WorkloadId> {
        let id = self.mean(1, false)?;
        let Some(record) = self.world.workloads.get(&id) else {
            bail!("failed to mean {id}: it is not there");
        };
        let mut intent = record.intent.clone();
        match lacking {
            Lacking::Label => intent.require.push(one_of("disk", &["tape"])),
            Lacking::Memory => intent.reserve_bytes = HOST_BYTES * 2,
        }
        self.mean_so(id, intent)
    }

    fn mean_so(&mut self, id: WorkloadId, intent: Intent) -> Result<WorkloadId> {
        let record = WorkloadRecord {
            generation: Generation(1),
            manifest: serde_json::Value::Null,
            artifacts: BTreeMap::new(),
            intent,
            template: self.template,
            configs: BTreeSet::new(),
            secret_refs: BTreeSet::new(),
            embeds: BTreeMap::new(),
            secret_versions: BTreeMap::new(),
            history: Vec::new(),
            applied_at: UnixMs(0),
        };
        self.take(&Key::Workload(id.clone()), &record)?;
        Ok(id)
    }

    /// Plans workloads in one decision and carries it out. Returns how long that took, and how many replicas got a place.
    pub fn decide(&mut self, ids: BTreeSet<WorkloadId>) -> (Duration, u64) {
        let dirty = Dirty::Only(ids);
        let started = processor_time();
        let (plan, report) = plan_only(&self.world, NOW, &dirty);
        plan.carry_out(&mut self.world);
        self.world.note_plan(&report);
        let took = processor_time().saturating_sub(started);
        let places = plan.places.values().flatten();
        let hosts = places.flat_map(|place| &place.sets).flat_map(|set| set.hosts.values());
        (took, hosts.map(|count| u64::from(*count)).sum())
    }

    /// Says why a workload is where it is, as an API client would be told. Returns how long that took.
    pub fn explain(&self, id: &WorkloadId) -> Result<Duration> {
        let started = processor_time();
        let explanation = explain(&self.world, id, NOW).with_context(|| format!("failed to explain {id}"))?;
        let bytes = serde_json::to_vec(&explanation)?;
        let took = processor_time().saturating_sub(started);
        black_box(bytes);
        Ok(took)
    }
}

/// How long this thread has had a processor. On a machine that does nothing else it passes as time does; on a busy one
/// what the others do is not counted.
pub fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or(0));
    seconds + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0))
}

fn spread(by: &str) -> Spread {
    Spread {
        by: by.to_owned(),
        weights: BTreeMap::new(),
        max_skew: None,
        hard: false,
    }
}

fn one_of(label: &str, values: &[&str]) -> Requirement {
    Requirement {
        label: label.to_owned(),
        rule: LabelRule::In(values.iter().map(|value| (*value).to_owned()).collect()),
    }
}
