//! One-line worlds for this crate's tests: a spec in words, and a shell that does nothing but remember.

use crate::action::Action;
use crate::backoff::Jitter;
use crate::fact::Fact;
use crate::reconcile::reconcile;
use crate::running::{Machine, RunId, Running};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{
    CapabilityOffer, Compile, Feature, HostSpecBody, Instances, Limits, Route, RouteTarget, Template,
    TemplateComponent, Unit, Wasi,
};
use heddle_protocol::id::{CapabilityName, ComponentName, Generation, UnitId, WorkloadId};
use heddle_protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) fn unit_id(name: &str, generation: u64) -> UnitId {
    UnitId {
        workload: WorkloadId::parse(name).unwrap(),
        generation: Generation(generation),
    }
}

pub(crate) fn artifact(name: &str, generation: u64) -> Digest {
    Digest::of(format!("{name}/{generation}").as_bytes())
}

/// A spec made of `unit` calls; each unit is served on the listener `web` under its own path.
#[derive(Clone, Default)]
pub(crate) struct Spec(pub(crate) HostSpecBody);

impl Spec {
    pub(crate) fn unit(self, name: &str, generation: u64, count: u32) -> Self {
        self.unit_that_needs(name, generation, count, [Feature::WASI_P2])
    }

    pub(crate) fn unit_that_needs<const N: usize>(
        mut self,
        name: &str,
        generation: u64,
        count: u32,
        features: [Feature; N],
    ) -> Self {
        // The longer way: the other one leaves a step out.
        self.0.compile = Compile::Local;
        let component = ComponentName::parse("main").unwrap();
        let template = Template {
            requires: features.into_iter().collect(),
            components: vec![TemplateComponent {
                name: component.clone(),
                artifact: artifact(name, generation),
                artifact_bytes: 10,
                wasi: Wasi::P2,
                config: BTreeMap::new(),
                bindings: BTreeMap::new(),
                secrets: BTreeMap::new(),
                parts: BTreeMap::new(),
                calls: BTreeMap::new(),
            }],
            limits: Limits {
                memory_bytes: 1 << 20,
                time_ms: 1_000,
                concurrency: 10,
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
        let digest = Digest::of_json(&template).unwrap();
        let id = unit_id(name, generation);
        self.0.templates.insert(digest, Arc::new(template));
        self.0.units.push(Unit {
            workload: id.workload.clone(),
            generation: id.generation,
            template: digest,
            count,
        });
        let web = CapabilityName::parse("web").unwrap();
        let offer = CapabilityOffer::Http {
            listen: "127.0.0.1:0".into(),
            max_connections: 10,
        };
        self.0.capabilities.insert(web.clone(), offer);
        let target = RouteTarget { unit: id, component };
        let path = format!("/{name}");
        match self.0.routes.iter_mut().find(|route| route.path == path) {
            Some(route) => route.targets.insert(0, target),
            None => self.0.routes.push(Route {
                capability: web,
                host: None,
                path,
                methods: BTreeSet::new(),
                targets: vec![target],
            }),
        }
        self
    }
}

/// A host whose shell remembers what it was told, and does each thing when the test says so.
pub(crate) struct Host {
    pub(crate) spec: HostSpecBody,
    pub(crate) running: Running,
    pub(crate) now: Mono,
    pub(crate) jitter: Jitter,
    pub(crate) pending: Vec<Action>,
    /// Runs that the shell holds prepared.
    pub(crate) held: BTreeMap<RunId, (UnitId, u32)>,
    pub(crate) routes: BTreeMap<UnitId, RunId>,
    pub(crate) lent: BTreeSet<CapabilityName>,
}

impl Host {
    pub(crate) fn new() -> Self {
        let machine = Machine {
            features: [Feature::WASI_P2, Feature::HTTP].into_iter().collect(),
            instance_memory_bytes_max: Some(64 << 20),
        };
        Self {
            spec: HostSpecBody::default(),
            running: Running::new(machine),
            now: Mono(0),
            jitter: Jitter(999),
            pending: Vec::new(),
            held: BTreeMap::new(),
            routes: BTreeMap::new(),
            lent: BTreeSet::new(),
        }
    }

    pub(crate) fn accept(&mut self, spec: &Spec) {
        self.spec = spec.0.clone();
        self.tell(Fact::SpecAccepted);
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        self.tell(Fact::TimePassed);
    }

    pub(crate) fn tell(&mut self, fact: Fact) {
        self.running.apply(&self.spec, [fact], self.now, self.jitter);
        self.decide();
    }

    fn decide(&mut self) {
        // What takes no time is done at once and may allow more.
        loop {
            let actions = reconcile(&self.spec, &self.running, self.now);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.running.begin(&action);
                self.start(action);
            }
            assert_eq!(
                reconcile(&self.spec, &self.running, self.now),
                [],
                "deciding again after everything has begun gives something new"
            );
        }
    }

    fn start(&mut self, action: Action) {
        match action {
            Action::SetRoutes { serving } => {
                for run in serving.values() {
                    assert!(self.held.contains_key(run), "a route leads to a unit that is not there");
                }
                self.routes = serving;
            }
            Action::ResizeUnit { run, count, .. } => self.held.get_mut(&run).unwrap().1 = count,
            Action::DropUnit { run, .. } => {
                assert!(self.held.remove(&run).is_some(), "a unit is dropped that is not held");
            }
            Action::RemoveCapability { name } => assert!(self.lent.remove(&name)),
            Action::ForgetComponent { .. } => {}
            Action::DrainUnit { run, .. } => {
                assert!(
                    !self.routes.values().any(|serving| *serving == run),
                    "a unit drains while routes lead to it"
                );
                self.pending.push(action);
            }
            _ => self.pending.push(action),
        }
    }

    /// Does the pending action at an index, well or badly, and tells the fact.
    pub(crate) fn finish(&mut self, index: usize, well: bool) {
        let fact = match (self.pending.remove(index), well) {
            (Action::SetCapability { name, offer }, true) => {
                self.lent.insert(name.clone());
                Fact::CapabilitySet {
                    name,
                    offer,
                    bound: Some("127.0.0.1:1".into()),
                }
            }
            (Action::SetCapability { name, offer }, false) => {
                self.lent.insert(name.clone());
                Fact::CapabilityFailed {
                    name,
                    offer,
                    reason: "address in use".into(),
                }
            }
            (Action::FetchArtifact { digest, .. }, true) => Fact::ArtifactFetched { digest },
            (Action::FetchArtifact { digest, .. }, false) => Fact::ArtifactFetchFailed {
                digest,
                reason: "nobody answers".into(),
            },
            (Action::CompileArtifact { digest, wasi, .. }, true) => Fact::ComponentCompiled { digest, wasi },
            (Action::CompileArtifact { digest, wasi, .. }, false) => Fact::ArtifactLost { digest, wasi },
            (Action::PrepareUnit { run, unit, count, .. }, true) => {
                self.held.insert(run, (unit.clone(), count));
                Fact::UnitPrepared { run, unit, count }
            }
            (Action::PrepareUnit { run, .. }, false) => Fact::UnitPrepareFailed {
                run,
                reason: "it traps".into(),
                for_good: false,
                lacks_secret: false,
            },
            (Action::DrainUnit { run, .. }, true) => Fact::UnitDrained { run },
            // A call that does not end: its deadline takes care of it.
            (Action::DrainUnit { .. }, false) => Fact::TimePassed,
            (action, _) => panic!("{action:?} is done at once"),
        };
        self.tell(fact);
    }

    /// Does everything well until nothing is left to do.
    pub(crate) fn finish_all(&mut self) {
        while !self.pending.is_empty() {
            self.finish(0, true);
        }
    }

    /// The runs in words, one per line.
    pub(crate) fn in_words(&self) -> String {
        let line = |run: &crate::running::Run| {
            let reason = run
                .reason
                .as_ref()
                .map_or(String::new(), |reason| format!(": {reason}"));
            format!("{} ×{} {}{reason}", run.unit, run.count, run.phase.as_str())
        };
        self.running
            .runs()
            .map(|(_, run)| line(run))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Who serves a route, in words.
    pub(crate) fn serves(&self, name: &str) -> Vec<u64> {
        let workload = WorkloadId::parse(name).unwrap();
        self.routes
            .keys()
            .filter(|unit| unit.workload == workload)
            .map(|unit| unit.generation.0)
            .collect()
    }

    pub(crate) fn find(&self, which: impl Fn(&Action) -> bool) -> usize {
        self.pending
            .iter()
            .position(which)
            .unwrap_or_else(|| panic!("not pending: {:?}", self.pending))
    }
}
