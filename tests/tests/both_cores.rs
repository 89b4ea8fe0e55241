//! The scheduler's core and the agent's core together, with nothing between them but the messages that they exchange:
//! specs one way, hellos, heartbeats and status messages the other. Shells, clocks and networks are played by the test.
//!
//! What is looked at is what agents really route to, not what the scheduler believes.

// In a test a broken expectation is its own message.
#![allow(clippy::unwrap_used)]

use heddle_agent_core::{Action, Fact as Did, Jitter, Machine, Reporter, RunId, Running, reconcile};
use heddle_protocol::api::objects::{ObjectKind, ObjectRef};
use heddle_protocol::host_report::{Accepted, Heartbeat, Hello};
use heddle_protocol::host_spec::{CapabilityOffer, HostSpecBody};
use heddle_protocol::id::{BootId, HostId, UnitId, WorkloadId};
use heddle_protocol::time::Mono;
use heddle_scheduler_core::apply::decide_delete;
use heddle_scheduler_core::testing::{TestFleet, fleet, id, workload_yaml};
use heddle_scheduler_core::{Dirty, Fact, Noted, host_specs, plan_only};
use std::collections::{BTreeMap, BTreeSet};

/// One agent: its core, and a shell that does what it is told, at once or only when the test says so.
struct Agent {
    hello: Hello,
    spec: HostSpecBody,
    accepted: Option<Accepted>,
    running: Running,
    reporter: Reporter,
    seq: u64,
    /// Whether preparing units waits for the test.
    slow: bool,
    pending: Vec<Action>,
    /// The runs that routes lead to.
    serving: BTreeMap<UnitId, RunId>,
    silent: bool,
}

impl Agent {
    fn new(hello: Hello) -> Self {
        let machine = Machine {
            features: hello.features.clone(),
            instance_memory_bytes_max: None,
        };
        Self {
            reporter: Reporter::new(hello.boot_id.clone()),
            hello,
            spec: HostSpecBody::default(),
            accepted: None,
            running: Running::new(machine),
            seq: 0,
            slow: false,
            pending: Vec::new(),
            serving: BTreeMap::new(),
            silent: false,
        }
    }

    fn take_spec(&mut self, spec: HostSpecBody, accepted: Accepted, now: Mono) {
        self.spec = spec;
        self.accepted = Some(accepted);
        self.learn(Did::SpecAccepted, now);
    }

    /// Takes a fact in and carries out what follows, until nothing more does.
    fn learn(&mut self, fact: Did, now: Mono) {
        let mut facts = vec![fact];
        while !facts.is_empty() {
            self.running
                .apply(&self.spec, std::mem::take(&mut facts), now, Jitter(0));
            for action in reconcile(&self.spec, &self.running, now) {
                self.running.begin(&action);
                if self.slow && matches!(action, Action::PrepareUnit { .. }) {
                    self.pending.push(action);
                } else {
                    facts.extend(self.carry_out(action));
                }
            }
        }
    }

    /// Plays the shell.
    fn carry_out(&mut self, action: Action) -> Option<Did> {
        match action {
            Action::SetCapability { name, offer } => {
                let bound = match &offer {
                    CapabilityOffer::Http { listen, .. } => Some(listen.clone()),
                    _ => None,
                };
                Some(Did::CapabilitySet { name, offer, bound })
            }
            Action::FetchArtifact { digest, .. } => Some(Did::ArtifactFetched { digest }),
            Action::CompileArtifact { digest, wasi, .. } => Some(Did::ComponentCompiled { digest, wasi }),
            Action::PrepareUnit { run, unit, count, .. } => Some(Did::UnitPrepared { run, unit, count }),
            Action::SetRoutes { serving } => {
                self.serving = serving;
                None
            }
            Action::DrainUnit { run, .. } => Some(Did::UnitDrained { run }),
            Action::ResizeUnit { .. }
            | Action::DropUnit { .. }
            | Action::RemoveCapability { .. }
            | Action::ForgetComponent { .. } => None,
        }
    }

    fn finish_pending(&mut self, now: Mono) {
        for action in std::mem::take(&mut self.pending) {
            if let Some(fact) = self.carry_out(action) {
                self.learn(fact, now);
            }
        }
    }

    /// Replicas that requests can reach here.
    fn serves(&self, workload: &WorkloadId) -> u32 {
        let runs: BTreeMap<RunId, u32> = self.running.runs().map(|(id, run)| (id, run.held_count)).collect();
        let mine = self.serving.iter().filter(|(unit, _)| unit.workload == *workload);
        mine.filter_map(|(_, run)| runs.get(run)).sum()
    }
}

/// The scheduler's core with agents of the real core.
struct Line {
    fleet: TestFleet,
    agents: BTreeMap<HostId, Agent>,
    pushes: u32,
}

impl Line {
    fn new(hosts: usize) -> Self {
        let mut fleet = fleet().hosts(hosts);
        // The fleet's own hosts only lend their hellos: agents of the real core take their place.
        fleet.automatic = false;
        let agents = fleet
            .hosts
            .iter()
            .map(|(id, host)| (id.clone(), Agent::new(host.hello.clone())))
            .collect();
        fleet.hosts.clear();
        let mut line = Self {
            fleet,
            agents,
            pushes: 0,
        };
        line.turn(&Dirty::All);
        line
    }

    fn apply(&mut self, name: &str, fields: &str) {
        let decision = self.fleet.decide(&workload_yaml(name, fields)).unwrap();
        self.fleet.commit(&decision.writes);
        self.turn(&Dirty::All);
    }

    /// Plans, pushes and reports until nothing changes any more.
    fn turn(&mut self, dirty: &Dirty) {
        let (plan, report) = plan_only(&self.fleet.world, self.fleet.now, dirty);
        self.fleet.commit(&plan.writes().unwrap());
        self.fleet.world.note_plan(&report);
        let specs = host_specs(&self.fleet.world, self.fleet.world.hosts.keys());
        for (host, spec) in specs {
            let Some(agent) = self.agents.get_mut(&host).filter(|agent| !agent.silent) else {
                continue;
            };
            let digest = spec.digest().unwrap();
            if agent.accepted.map(|a| a.digest) != Some(digest) {
                self.pushes += 1;
                let version = self.fleet.world.head;
                agent.take_spec(spec, Accepted { version, digest }, self.fleet.now);
            }
        }
        self.hear_reports();
    }

    fn hear_reports(&mut self) {
        let now = self.fleet.now;
        let hosts: Vec<HostId> = self.agents.keys().cloned().collect();
        for host in hosts {
            let Some(agent) = self.agents.get_mut(&host).filter(|agent| !agent.silent) else {
                continue;
            };
            for report in agent.reporter.changes(&agent.running, agent.accepted) {
                self.tell(Fact::HostReported {
                    host: host.clone(),
                    report,
                    now,
                });
            }
        }
    }

    fn tell(&mut self, fact: Fact) {
        let Noted {
            dirty,
            replan,
            ask_report,
            ask_hello,
            ..
        } = self.fleet.world.apply(fact);
        let now = self.fleet.now;
        if let Some(agent) = ask_hello.and_then(|host| self.agents.get(&host)) {
            let hello = Box::new(agent.hello.clone());
            self.tell(Fact::HostSaidHello { hello, now });
        }
        if let Some(host) = ask_report
            && let Some(agent) = self.agents.get_mut(&host)
        {
            for report in agent.reporter.full(&agent.running, agent.accepted) {
                let host = host.clone();
                self.tell(Fact::HostReported { host, report, now });
            }
        }
        if replan {
            self.turn(&dirty);
        }
    }

    /// A second passes: heartbeats, and then the look at silences.
    fn second(&mut self) {
        self.fleet.now = self.fleet.now.plus(1_000);
        let now = self.fleet.now;
        let hosts: Vec<HostId> = self.agents.keys().cloned().collect();
        for host in hosts {
            let Some(agent) = self.agents.get_mut(&host) else {
                continue;
            };
            agent.learn(Did::TimePassed, now);
            if agent.silent {
                continue;
            }
            agent.seq += 1;
            let heartbeat = Heartbeat {
                boot_id: agent.hello.boot_id.clone(),
                seq: agent.seq,
                accepted: agent.accepted,
                running_digest: agent.reporter.running_digest(),
                status_seq: agent.reporter.status_seq(),
                leaving: false,
                rss_bytes: 0,
                in_flight: 0,
            };
            self.tell(Fact::HostBeat { host, heartbeat, now });
        }
        self.tell(Fact::TimePassed { now });
        self.hear_reports();
    }

    fn agent(&mut self, name: &str) -> &mut Agent {
        self.agents.get_mut(&HostId::parse(name).unwrap()).unwrap()
    }

    fn finish_pending(&mut self) {
        let now = self.fleet.now;
        for agent in self.agents.values_mut() {
            agent.finish_pending(now);
        }
        self.hear_reports();
    }

    /// Replicas that requests can reach on hosts that can be reached.
    fn serving(&self, name: &str) -> u32 {
        let workload = id(name);
        self.agents
            .values()
            .filter(|agent| !agent.silent)
            .map(|agent| agent.serves(&workload))
            .sum()
    }

    fn slow(&mut self, slow: bool) {
        self.agents.values_mut().for_each(|agent| agent.slow = slow);
    }
}

#[test]
fn an_applied_workload_is_routed_to_and_its_status_says_so() {
    let mut line = Line::new(3);
    line.second();
    line.apply("web", "replicas: 4");
    assert_eq!(line.serving("web"), 4);
    let status = line.fleet.status("web").unwrap();
    assert_eq!((status.ready, status.state.as_str()), (4, "ready"));
    assert_eq!(status.endpoints.len(), 3, "{:?}", status.endpoints);
}

#[test]
fn an_update_never_leaves_fewer_serving_and_ends_with_the_new_generation_alone() {
    let mut line = Line::new(3);
    line.second();
    line.apply("web", "replicas: 6\nimage: hello:v1");
    line.slow(true);
    line.apply("web", "replicas: 6\nimage: hello:v2");
    assert_eq!(
        line.serving("web"),
        6,
        "the new generation is not prepared yet, so the old one serves"
    );
    let hosts: Vec<HostId> = line.agents.keys().cloned().collect();
    for host in hosts {
        let now = line.fleet.now;
        line.agents.get_mut(&host).unwrap().finish_pending(now);
        line.hear_reports();
        assert!(line.serving("web") >= 6, "{} serve", line.serving("web"));
    }
    let generations: BTreeSet<u64> = line
        .agents
        .values()
        .flat_map(|a| a.serving.keys())
        .map(|unit| unit.generation.0)
        .collect();
    assert_eq!(generations, BTreeSet::from([2]));
    assert_eq!(line.fleet.status("web").unwrap().state.as_str(), "ready");
}

#[test]
fn a_lost_hosts_replicas_serve_elsewhere_within_the_timeout_and_nothing_is_pushed_again_and_again() {
    let mut line = Line::new(3);
    line.second();
    line.apply("web", "replicas: 6");
    line.agent("host-2").silent = true;
    assert_eq!(line.serving("web"), 4);
    for _ in 0..3 {
        line.second();
    }
    assert_eq!(line.serving("web"), 6);
    let pushes = line.pushes;
    for _ in 0..10 {
        line.second();
    }
    assert_eq!(line.pushes, pushes, "a fleet at rest is sent nothing");
}

#[test]
fn a_scheduler_that_starts_again_moves_nothing_and_stops_nothing() {
    let mut line = Line::new(3);
    line.second();
    line.apply("web", "replicas: 6");
    line.apply("api", "daemon: true");
    let (places, pushes) = (line.fleet.world.places.clone(), line.pushes);
    line.fleet.restart_scheduler();
    for _ in 0..6 {
        line.second();
        assert_eq!((line.serving("web"), line.serving("api")), (6, 3));
    }
    assert_eq!(line.fleet.world.places, places);
    assert_eq!(line.pushes, pushes, "what hosts hold is what they should hold");
    assert_eq!(line.fleet.status("web").unwrap().state.as_str(), "ready");
}

#[test]
fn an_agent_that_starts_again_gets_its_work_back() {
    let mut line = Line::new(2);
    line.second();
    line.apply("web", "replicas: 4");
    let mut hello = line.agent("host-1").hello.clone();
    hello.boot_id = BootId::new("host-1-again");
    *line.agent("host-1") = Agent::new(hello);
    assert_eq!(line.serving("web"), 2);
    line.second();
    assert_eq!(
        line.serving("web"),
        4,
        "its heartbeat names an unknown start, so it was asked who it is and given its spec"
    );
}

#[test]
fn deleting_leaves_no_route_and_no_run() {
    let mut line = Line::new(2);
    line.second();
    line.apply("web", "replicas: 4");
    line.slow(true);
    line.apply("web", "replicas: 4\nimage: hello:v2");
    let objects = [ObjectRef {
        kind: ObjectKind::Workload,
        name: "web".into(),
    }];
    let at = line.fleet.at();
    let decision = decide_delete(&line.fleet.world, &objects, false, at).unwrap();
    line.fleet.commit(&decision.writes);
    line.turn(&Dirty::All);
    line.finish_pending();
    line.second();
    assert_eq!(line.serving("web"), 0);
    assert!(
        line.agents.values().all(|agent| agent.running.runs().next().is_none()),
        "no run is left"
    );
    assert!(line.fleet.status("web").is_none());
}
