//! One world from its beginning to its end: starts what there is, lets happen what the queue says, breaks and mends.
//!
//! In: a scenario. Out: what came of it. Everything runs on one thread whose clock moves only when nothing is left to do.

use crate::agent::{Agent, Keys, NOTICE_MS, Seen, host_id};
use crate::check::available::Floors;
use crate::check::{self, Fleet, HostFacts};
use crate::net::{End, Event, Net, Reply};
use crate::people::{Heard, People};
use crate::process::{Commons, Process, Pushes, lock, scheduler_id};
use crate::scenario::{AskOf, Fault, IMAGES, Scenario, StoreFaults, is_bad};
use crate::truth::Truth;
use async_nats::Message;
use bytes::Bytes;
use heddle_agent_core::Fact;
use heddle_protocol::digest::Digest;
use heddle_protocol::id::Realm;
use heddle_scheduler::store::{ArtifactStore, LostRecord, MemoryRealm, PastStore};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long it may take until all is well, once everything is mended, in milliseconds.
const BOUND_MS: u64 = 150_000;
/// How long all must be well and still.
const STILL_MS: u64 = 8_000;
/// How often it is looked.
const LOOK_MS: u64 = 1_000;
/// How long a process may have been gone when what it asked of the store arrives, where that may be late at all.
const LATE_MS: u64 = 40_000;
/// In every so-manieth world all decisions are made again at the end.
const REPLAYED_EVERY: u64 = 4;
/// Events in one world at most, and so many more for each host: more is something that never comes to rest.
const EVENTS_MAX: u64 = 500_000;
const EVENTS_PER_HOST_MAX: u64 = 20_000;

/// What came of a world.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Rules that were broken.
    pub broken: Vec<String>,
    /// Faults that happened, those of single messages and questions among them.
    pub faults: u64,
    /// Commits.
    pub commits: u64,
    /// Decisions that were made again.
    pub replayed: u64,
    /// Events.
    pub events: u64,
    /// How long it lasted, in milliseconds of its own time.
    pub virtual_ms: u64,
    /// A number into which every event went.
    pub hash: u64,
    /// What happened, line by line, if that was asked for.
    pub trace: Vec<String>,
}

/// A world.
struct World {
    commons: Arc<Commons>,
    scenario: Scenario,
    agents: Vec<Agent>,
    processes: BTreeMap<u32, Process>,
    processes_begun: u32,
    people: People,
    truth: Arc<Mutex<Truth>>,
    fleet: Fleet,
    floors: Floors,
    artifacts: BTreeSet<Digest>,
    bad: Arc<BTreeSet<Digest>>,
    lost: Vec<LostRecord>,
    faults: u64,
    /// Whether nothing breaks in this world.
    calm: bool,
    healed: bool,
    well_since: Option<u64>,
    missing: String,
}

/// Runs a world to its end.
pub async fn run(scenario: Scenario, keys: &Keys, images: &[Bytes], tracing: bool) -> Outcome {
    let mut world = World::new(scenario, keys, images, tracing).await;
    world.begin();
    let net = Arc::clone(&world.commons.net);
    loop {
        while let Some(event) = net.take_due() {
            if world.happen(event) {
                let replayed = world.replay().await;
                return Outcome {
                    replayed,
                    ..world.end()
                };
            }
            // What processes do now comes before what happens next.
            tokio::task::yield_now().await;
        }
        let next = net.next_at().unwrap_or(net.now() + 1_000);
        let at = net.started() + Duration::from_millis(next);
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(at) => {}
            () = net.wake.notified() => {}
        }
    }
}

impl World {
    async fn new(scenario: Scenario, keys: &Keys, images: &[Bytes], tracing: bool) -> Self {
        let net = Net::new(scenario.seed, scenario.messages, tracing);
        let store = ArtifactStore::in_memory();
        let (mut digests, mut bad) = (Vec::new(), BTreeSet::new());
        for (number, image) in (0u32..).zip(images) {
            let digest = Digest::of(image);
            // Memory takes everything.
            let _ = store.put(image.clone()).await;
            digests.push(digest);
            if is_bad(number) {
                bad.insert(digest);
            }
        }
        let forgets = scenario.asks.iter().any(|ask| matches!(ask.what, AskOf::Forget { .. }));
        let commons = Arc::new(Commons {
            net,
            realm: MemoryRealm::new(),
            artifacts: store,
            past: PastStore::in_memory(),
            key: Arc::clone(&keys.realm),
            name: Realm::parse("sim").unwrap_or_else(|_| unreachable!()),
            store: Mutex::new(scenario.store),
            stalled_until: AtomicU64::new(0),
            store_hurt: AtomicU64::new(0),
            pushes: Mutex::new(Pushes::default()),
            leaving: Mutex::default(),
            forgets,
            begun: Mutex::default(),
            broken: Mutex::new(Vec::new()),
        });
        let agents: Vec<Agent> = (0..scenario.hosts)
            .map(|number| {
                commons.net.know(host_id(number), number);
                let zone = number % scenario.zones;
                Agent::new(number, zone, scenario.slots, scenario.pace, scenario.seed, keys)
            })
            .collect();
        let facts = agents.iter().map(|agent| {
            let facts = HostFacts {
                labels: agent.labels.clone(),
                slots: agent.capacity.replica_slots,
            };
            (agent.id.clone(), facts)
        });
        let fleet: Fleet = Arc::new(facts.collect());
        let truth = Arc::new(Mutex::new(Truth {
            late_ms: match scenario.store.very_late > 0.0 {
                true => LATE_MS,
                false => scenario.store.delay_ms,
            },
            ..Truth::default()
        }));
        check::watch(&commons, &truth, &fleet);
        let quiet = scenario.messages.lost + scenario.messages.twice + scenario.messages.late + scenario.pace.fails;
        let store = scenario.store.request_lost + scenario.store.answer_lost + scenario.store.very_late;
        Self {
            // Whom an operator forgets is told to stop everything at once.
            calm: scenario.faults.is_empty() && quiet + store == 0.0 && !forgets,
            people: People::new(digests.clone()),
            artifacts: digests.into_iter().collect(),
            bad: Arc::clone(&keys.bad),
            commons,
            scenario,
            agents,
            processes: BTreeMap::new(),
            processes_begun: 0,
            truth,
            fleet,
            floors: Floors::default(),
            lost: Vec::new(),
            faults: 0,
            healed: false,
            well_since: None,
            missing: String::new(),
        }
    }

    fn begin(&mut self) {
        let net = Arc::clone(&self.commons.net);
        let mut draw = crate::draw::Draw::part(self.scenario.seed, "begin", 0);
        for host in 0..self.scenario.hosts {
            net.at(draw.between(0, 2_000), Event::StartAgent { host });
        }
        for (number, fault) in self.scenario.faults.iter().enumerate() {
            net.at(fault.at, Event::Fault(number));
        }
        for (number, ask) in self.scenario.asks.iter().enumerate() {
            net.at(ask.at, Event::Ask { number, attempt: 0 });
        }
        net.at(self.scenario.storm_ms, Event::Heal);
        net.at(0, Event::Supervise);
    }

    fn end(&mut self) -> Outcome {
        let net = &self.commons.net;
        self.processes.values().for_each(Process::kill);
        let counts = net.counts();
        let truth = lock(&self.truth);
        for key in &truth.unreadable {
            self.commons.break_rule("simulator", key.clone());
        }
        net.mix(truth.n());
        Outcome {
            seed: self.scenario.seed,
            broken: lock(&self.commons.broken).clone(),
            faults: self.faults + counts.hurt + self.commons.store_hurt.load(Ordering::Relaxed),
            commits: truth.n(),
            replayed: 0,
            events: counts.events,
            virtual_ms: net.now(),
            hash: net.hash(),
            trace: net.take_trace(),
        }
    }

    /// Lets one thing happen. Says whether the world is at its end.
    fn happen(&mut self, event: Event) -> bool {
        let commons = Arc::clone(&self.commons);
        let net = &commons.net;
        if let Some(host) = host_of(&event)
            && let Some(agent) = self.agents.get(host as usize)
            && agent.paused_until > net.now()
        {
            net.at(agent.paused_until, event);
            return false;
        }
        match event {
            Event::Message { to, message } => self.deliver(to, *message),
            Event::Work { host, boot, fact } => self.of_boot(host, boot, |agent| agent.learn(&commons, fact)),
            Event::Wake { host, boot } => self.of_boot(host, boot, |agent| agent.learn(&commons, Fact::TimePassed)),
            Event::Beat { host, boot } => self.of_boot(host, boot, |agent| {
                agent.beat(&commons);
                commons
                    .net
                    .after(heddle_protocol::defaults::HEARTBEAT_MS, Event::Beat { host, boot });
                Seen::default()
            }),
            Event::HelloAgain { host, boot, number } => self.of_boot(host, boot, |agent| {
                agent.hello_again(&commons, number);
                Seen::default()
            }),
            Event::Cached { host, boot, envelope } => self.of_boot(host, boot, |agent| {
                agent.cached(boot, envelope);
                Seen::default()
            }),
            Event::StartAgent { host } => self.start_agent(host),
            Event::LookAtLink { host } => {
                if let Some(agent) = self.agents.get_mut(host as usize) {
                    agent.look_at_link(&commons);
                }
            }
            Event::LookAtProcessLink { process } => self.look_at_process_link(process),
            Event::Resume { process } => {
                if let Some(process) = self.processes.get(&process) {
                    process.pause(false);
                }
            }
            Event::Fault(number) => self.fault(number),
            Event::Ask { number, attempt } => {
                if let Some(ask) = self.scenario.asks.get(number) {
                    self.people.ask(&commons, number, &ask.what, attempt);
                }
            }
            Event::Ended { process, reason } => {
                net.say(|| format!("scheduler process {process} ended: {reason}"));
                self.processes.remove(&process);
                net.forget(process);
            }
            Event::Supervise => self.supervise(),
            Event::EmptyDisk => commons.realm.set_bytes_max(usize::MAX),
            Event::Heal => self.heal(),
            Event::Look => return self.look(),
        }
        if self.calm {
            let low = self
                .floors
                .check(&lock(&self.truth), &self.agents, self.commons.net.now());
            if let Some(what) = low {
                commons.break_rule("new-before-old", what);
            }
        }
        let events_max = EVENTS_MAX + u64::from(self.scenario.hosts) * EVENTS_PER_HOST_MAX;
        let too_long = net.counts().events > events_max || net.waiting() > EVENTS_MAX;
        if too_long {
            commons.break_rule("bounded", "the world never comes to rest".to_owned());
        }
        too_long || !lock(&commons.broken).is_empty()
    }

    fn deliver(&mut self, to: End, message: Message) {
        let commons = Arc::clone(&self.commons);
        let net = &commons.net;
        if net.now() < net.link(to).in_until {
            return;
        }
        match to {
            End::Process(_) if message.subject.starts_with("_INBOX.") => {
                let subject = message.subject.to_string();
                net.answer(&subject, Reply::Message(message));
            }
            End::Process(process) => net.hand_over(process, message),
            End::Host(host) => {
                let Some(agent) = self.agents.get_mut(host as usize) else {
                    return;
                };
                if agent.life.is_none() {
                    if let Some(reply) = &message.reply {
                        net.answer(reply, Reply::NoResponders);
                    }
                    return;
                }
                let seen = agent.take(&commons, &message);
                self.see(host, seen);
            }
            End::People => {
                let truth = lock(&self.truth);
                let broken = match self.people.hear(&commons, &message.subject, &message.payload) {
                    Heard::First(asked) => check::acked::first(&truth, asked),
                    Heard::Again(asked, answer) => check::acked::again(&truth, asked, &answer),
                    Heard::Nothing => None,
                };
                if let Some((rule, what)) = broken {
                    commons.break_rule(rule, what);
                }
            }
        }
    }

    fn of_boot(&mut self, host: u32, boot: u64, what: impl FnOnce(&mut Agent) -> Seen) {
        let Some(agent) = self.agents.get_mut(host as usize) else {
            return;
        };
        if agent.life.as_ref().is_some_and(|life| life.boot == boot) {
            let seen = what(agent);
            self.see(host, seen);
        }
    }

    /// Checks what an agent did.
    fn see(&mut self, host: u32, seen: Seen) {
        let Some(agent) = self.agents.get_mut(host as usize) else {
            return;
        };
        if let Some((read, before)) = &seen.accepted {
            let truth = lock(&self.truth);
            for (rule, what) in check::newer::check(&truth, agent, read, *before, &self.artifacts) {
                self.commons.break_rule(rule, what);
            }
        } else if let Some(before) = &seen.served_before
            && let Some(what) = check::silence::check_agent(agent, before)
        {
            self.commons.break_rule("silence-stops-nothing", what);
        }
        if seen.served_before.is_some() {
            self.commons.net.say(|| {
                let served = agent.served();
                let served: Vec<String> = served.iter().map(|(unit, count)| format!("{unit}×{count}")).collect();
                format!("{} serves {}", agent.id, served.join(" "))
            });
        }
        if let Some(what) = check::silence::check_routes(agent) {
            self.commons.break_rule("routes-to-ready", what);
        }
        if seen.left {
            self.commons.net.say(|| format!("{} has stopped in peace", agent.id));
            agent.crash(true);
        }
    }

    fn start_agent(&mut self, host: u32) {
        let commons = Arc::clone(&self.commons);
        let Some(agent) = self.agents.get_mut(host as usize) else {
            return;
        };
        if agent.life.is_some() {
            return;
        }
        let seen = agent.start(&commons);
        self.see(host, seen);
    }

    fn start_process(&mut self, slot: u32) {
        let number = self.processes_begun;
        self.processes_begun += 1;
        self.commons
            .net
            .say(|| format!("scheduler {slot} starts as process {number}"));
        let mut truth = lock(&self.truth);
        let starts = truth.started.entry(scheduler_id(slot)).or_default();
        starts.push(self.commons.net.now());
        drop(truth);
        let process = Process::start(&self.commons, self.scenario.seed, slot, number);
        self.processes.insert(number, process);
    }

    /// Starts a scheduler where none runs.
    fn supervise(&mut self) {
        if self.processes.is_empty() {
            let slot = self.processes_begun % self.scenario.schedulers;
            self.start_process(slot);
        }
        self.commons.net.after(1_000, Event::Supervise);
    }

    /// The process of a slot, or of another one where it has none.
    fn process_of(&self, slot: u32) -> Option<&Process> {
        let of_slot = self.processes.values().find(|process| process.slot == slot);
        of_slot.or_else(|| self.processes.values().next())
    }

    fn look_at_process_link(&mut self, process: u32) {
        let net = &self.commons.net;
        let (now, link) = (net.now(), net.link(End::Process(process)));
        let up = !link.is_cut(now) || !(link.noticed || now >= link.since + NOTICE_MS);
        let Some(process) = self.processes.get(&process) else {
            return;
        };
        process.link.send_if_modified(|state| {
            let changed = state.up != up;
            state.up = up;
            state.connects += u64::from(changed && up);
            changed
        });
    }

    fn fault(&mut self, number: usize) {
        let commons = Arc::clone(&self.commons);
        let net = &commons.net;
        let Some(fault) = self.scenario.faults.get(number).map(|fault| fault.what.clone()) else {
            return;
        };
        if self.healed {
            return;
        }
        self.faults += 1;
        net.say(|| format!("FAULT {fault:?}"));
        let now = net.now();
        match fault {
            Fault::CrashScheduler(slot) => {
                let Some(number) = self.process_of(slot).map(|process| process.number) else {
                    return;
                };
                if let Some(process) = self.processes.remove(&number) {
                    process.kill();
                }
                net.forget(number);
            }
            Fault::StartRival(slot) => {
                if !self.processes.values().any(|process| process.slot == slot) {
                    self.start_process(slot);
                }
            }
            Fault::PauseScheduler(slot, ms) => {
                if let Some(process) = self.process_of(slot) {
                    process.pause(true);
                    net.after(
                        ms,
                        Event::Resume {
                            process: process.number,
                        },
                    );
                }
            }
            Fault::CutScheduler { slot, cut, noticed, ms } => {
                let Some(process) = self.process_of(slot).map(|process| process.number) else {
                    return;
                };
                net.cut(End::Process(process), cut, noticed, ms);
                for at in [now, now + NOTICE_MS, now + ms + 50] {
                    net.at(at, Event::LookAtProcessLink { process });
                }
            }
            Fault::JumpClock(slot, ms) => {
                if let Some(process) = self.process_of(slot) {
                    process.clock.fetch_add(ms, Ordering::Relaxed);
                }
            }
            Fault::CrashAgent { host, keeps_cache, ms } => {
                if let Some(agent) = self.agents.get_mut(host as usize) {
                    agent.crash(keeps_cache);
                    net.after(ms, Event::StartAgent { host });
                }
            }
            Fault::StopAgent { host, ms } => {
                if let Some(agent) = self.agents.get_mut(host as usize) {
                    lock(&commons.leaving).insert(agent.id.clone());
                    agent.stop(&commons);
                    net.after(
                        ms + heddle_protocol::defaults::LEAVING_DEADLINE_MS,
                        Event::StartAgent { host },
                    );
                }
            }
            Fault::PauseAgent(host, ms) => {
                if let Some(agent) = self.agents.get_mut(host as usize) {
                    agent.paused_until = agent.paused_until.max(now + ms);
                }
            }
            Fault::CutAgent { host, cut, noticed, ms } => self.cut_agent(host, cut, noticed, ms),
            Fault::CutZone { zone, cut, ms } => {
                let of_zone = |host: &u32| host % self.scenario.zones == zone;
                let hosts: Vec<u32> = (0..self.scenario.hosts).filter(of_zone).collect();
                hosts.into_iter().for_each(|host| self.cut_agent(host, cut, false, ms));
            }
            Fault::StallStore(ms) => {
                commons.stalled_until.fetch_max(now + ms, Ordering::Relaxed);
                lock(&self.truth).stalled(now, ms);
            }
            Fault::FillDisk(ms) => {
                commons.realm.set_bytes_max(0);
                net.after(ms, Event::EmptyDisk);
            }
            Fault::LoseRecord(number) => self.lose_record(number),
            Fault::LoseArtifact(host) => {
                if let Some(agent) = self.agents.get_mut(host as usize) {
                    agent.lose_artifact();
                }
            }
        }
    }

    fn cut_agent(&mut self, host: u32, cut: crate::scenario::Cut, noticed: bool, ms: u64) {
        let net = &self.commons.net;
        net.cut(End::Host(host), cut, noticed, ms);
        let now = net.now();
        for at in [now, now + NOTICE_MS, now + ms + 50] {
            net.at(at, Event::LookAtLink { host });
        }
    }

    fn lose_record(&mut self, number: u64) {
        let mut truth = lock(&self.truth);
        let keys: Vec<String> = truth.values.keys().cloned().collect();
        if keys.is_empty() {
            return;
        }
        let key = &keys[(number % keys.len() as u64) as usize];
        if let Some(record) = self.commons.realm.lose(key) {
            self.commons.net.say(|| format!("the store loses {key}"));
            truth.lost.insert(key.clone(), self.commons.net.now());
            self.lost.push(record);
        }
    }

    fn heal(&mut self) {
        let commons = Arc::clone(&self.commons);
        let net = &commons.net;
        net.say(|| "everything is mended".to_owned());
        self.healed = true;
        net.heal();
        let delay_ms = self.scenario.store.delay_ms;
        *lock(&commons.store) = StoreFaults {
            delay_ms,
            ..StoreFaults::default()
        };
        commons.stalled_until.store(0, Ordering::Relaxed);
        commons.realm.set_bytes_max(usize::MAX);
        // What was lost last first: of a key that was lost twice that is what belongs there.
        let lost = self.lost.drain(..).rev();
        lost.for_each(|record| commons.realm.find_again(record));
        lock(&self.truth).lost.clear();
        for process in self.processes.values() {
            process.pause(false);
            net.after(
                10,
                Event::LookAtProcessLink {
                    process: process.number,
                },
            );
        }
        for agent in &mut self.agents {
            agent.storm = false;
            agent.paused_until = 0;
            let host = agent.number;
            net.after(10, Event::LookAtLink { host });
            net.after(20 + u64::from(host % 50), Event::StartAgent { host });
        }
        net.after(LOOK_MS, Event::Look);
    }

    /// Makes every decision again that is kept, and counts them. Not in each world, since that takes long.
    async fn replay(&self) -> u64 {
        if !self.scenario.seed.is_multiple_of(REPLAYED_EVERY) {
            return 0;
        }
        let mut broken = Vec::new();
        let replayed = check::replayed::check(&self.commons.past, &mut broken).await;
        for (rule, what) in broken {
            self.commons.break_rule(rule, what);
        }
        replayed as u64
    }

    /// Looks whether all has come to rest. Says whether this is the end.
    fn look(&mut self) -> bool {
        let net = &self.commons.net;
        let now = net.now();
        for agent in &self.agents {
            // One that was told to stop comes back.
            if agent.life.is_none() {
                net.after(10, Event::StartAgent { host: agent.number });
            }
        }
        let truth = lock(&self.truth);
        let leaders = self.processes.len();
        let missing = check::converged::missing(&truth, &self.agents, &self.people, &self.fleet, &self.bad, leaders);
        let last_commit = truth.commits.values().next_back().map_or(0, |commit| commit.at);
        let last = last_commit.max(lock(&self.commons.pushes).last_at);
        match missing {
            None => {
                let since = *self.well_since.get_or_insert(now);
                self.missing =
                    format!("all is well since {since}, and it goes on: the last commit or push was at {last}");
                if now >= since.max(last) + STILL_MS {
                    return true;
                }
            }
            Some(what) => {
                self.well_since = None;
                self.missing = what;
            }
        }
        if now > self.scenario.storm_ms + BOUND_MS {
            let what = format!("{BOUND_MS} ms after everything was mended: {}", self.missing);
            self.commons.break_rule("converges", what);
            return true;
        }
        net.after(LOOK_MS, Event::Look);
        false
    }
}

fn host_of(event: &Event) -> Option<u32> {
    match event {
        Event::Message {
            to: End::Host(host), ..
        }
        | Event::Work { host, .. }
        | Event::Beat { host, .. }
        | Event::Wake { host, .. }
        | Event::HelloAgain { host, .. }
        | Event::LookAtLink { host }
        | Event::Cached { host, .. } => Some(*host),
        _ => None,
    }
}

/// The images that there are: components that serve HTTP and differ in a name.
pub fn images() -> anyhow::Result<Vec<Bytes>> {
    let one = |number: u32| {
        let text = format!(
            "(component (core module (func (export \"v{number}\"))) (instance $i) (export \
             \"wasi:http/incoming-handler@0.2.6\" (instance $i)))"
        );
        Ok(Bytes::from(wat::parse_str(text)?))
    };
    (0..IMAGES).map(one).collect()
}
