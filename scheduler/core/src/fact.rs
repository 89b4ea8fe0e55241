//! What can happen to the world besides commits, in the past tense, and what follows from it.
//!
//! In: facts, each with the time at which it was learned. Out: the changed world, and as data what the shell should do:
//! plan again, ask a host, tell people.

use crate::liveness::{HostLiveness, half_way_until, is_settling, judge};
use crate::observed::{ObservedHost, TakenReport};
use crate::world::{Dirty, World};
use heddle_protocol::host_report::{Accepted, Heartbeat, Hello, HostReport, UnitPhase, UnitStatus};
use heddle_protocol::id::{BootId, HostId, UnitId};
use heddle_protocol::mutant::mutant;
use heddle_protocol::time::Mono;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A host is asked for a full report at most so often, in milliseconds: half a heartbeat.
pub const REPORT_ASKED_EVERY_MS: u64 = 500;
/// A host is asked for a hello at most so often, in milliseconds. A hello may commit a record, so it is asked for less.
pub const HELLO_ASKED_EVERY_MS: u64 = 1_000;
/// A host that is not admitted is asked for a hello at most so often, in milliseconds: it is most likely refused again, and
/// each refusal is a line in two logs.
pub const STRANGER_ASKED_EVERY_MS: u64 = 10_000;
/// Hosts that are not admitted and yet remembered, so as not to ask them too often.
const STRANGERS_MAX: usize = 1_000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// This scheduler took over, its state loaded and its link up.
    SchedulerStarted {
        /// When.
        now: Mono,
    },
    /// Our own link to NATS came up.
    LinkUp {
        /// When.
        now: Mono,
    },
    /// Our own link to NATS went down.
    LinkDown {
        /// When.
        now: Mono,
    },
    /// Messages to this scheduler were lost because it was too slow to take them.
    MessagesMissed {
        /// When.
        now: Mono,
    },
    /// An admitted host introduced itself; the shell has checked its signature against the host's record.
    HostSaidHello {
        /// What it said.
        hello: Box<Hello>,
        /// When.
        now: Mono,
    },
    /// A host gave its regular sign of life.
    HostBeat {
        /// The host, by the subject.
        host: HostId,
        /// What it said.
        heartbeat: Heartbeat,
        /// When.
        now: Mono,
    },
    /// A host said how its units fare.
    HostReported {
        /// The host, by the subject.
        host: HostId,
        /// What it said.
        report: HostReport,
        /// When.
        now: Mono,
    },
    /// A host answered a push: the spec is what it should run now.
    HostAcceptedSpec {
        /// The host.
        host: HostId,
        /// The start of its agent that answered.
        boot_id: BootId,
        /// What it holds.
        accepted: Accepted,
    },
    /// Time passed: somebody's silence may have become too long.
    TimePassed {
        /// Until when.
        now: Mono,
    },
}

/// What follows from a fact.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Noted {
    /// Workloads that may have to be placed differently.
    pub dirty: Dirty,
    /// Whether to plan at all: with nothing dirty that still looks at workloads that lack a place.
    pub replan: bool,
    /// A host to ask for a full report.
    pub ask_report: Option<HostId>,
    /// A host to ask for a hello.
    pub ask_hello: Option<HostId>,
    /// What to tell people.
    pub events: Vec<EventDraft>,
    /// When hosts were lost, and more have been silent for half as long: when all of these are heard or lost. A plan before
    /// that plans much of the same again.
    pub more_lost_until: Option<Mono>,
}

/// Something to tell people, before it has a number and a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDraft {
    /// What kind, in kebab-case.
    pub kind: &'static str,
    /// The object or host that it is about.
    pub about: String,
    /// What happened, in words.
    pub message: String,
}

impl Noted {
    fn plan_for(&mut self, dirty: Dirty) {
        self.replan = true;
        self.dirty.join(dirty);
    }

    fn tell(&mut self, kind: &'static str, about: impl ToString, message: impl Into<String>) {
        self.events.push(EventDraft {
            kind,
            about: about.to_string(),
            message: message.into(),
        });
    }
}

impl World {
    /// Takes in a fact and says what follows.
    pub fn apply(&mut self, fact: Fact) -> Noted {
        let mut noted = Noted::default();
        match fact {
            Fact::SchedulerStarted { now } => {
                let watch = self.watch_mut();
                watch.started_at = now;
                watch.link_up_since = Some(now);
                watch.settling = true;
                watch.announced.doubt();
                noted.plan_for(Dirty::All);
            }
            Fact::LinkUp { now } => {
                if self.watch.link_up_since.is_none() {
                    let watch = self.watch_mut();
                    watch.link_up_since = Some(now);
                    watch.settling = true;
                    watch.announced.doubt();
                    noted.tell("link-up", "scheduler", "link to NATS is up");
                }
                self.announce(now, &mut noted);
            }
            Fact::LinkDown { now } => {
                self.watch_mut().announced.doubt();
                if self.watch_mut().link_up_since.take().is_some() {
                    noted.tell(
                        "link-down",
                        "scheduler",
                        "link to NATS is down: no host is judged by its silence",
                    );
                }
                self.announce(now, &mut noted);
            }
            Fact::MessagesMissed { now } => {
                let watch = self.watch_mut();
                watch.missed_at = Some(now);
                // Those that would be lost by now are not.
                watch.announced.doubt();
            }
            Fact::HostSaidHello { hello, now } => self.take_hello(*hello, now, &mut noted),
            Fact::HostBeat { host, heartbeat, now } => self.take_beat(&host, heartbeat, now, &mut noted),
            Fact::HostReported { host, report, now } => self.take_report(&host, report, now, &mut noted),
            Fact::HostAcceptedSpec {
                host,
                boot_id,
                accepted,
            } => {
                let observed = self
                    .observed_mut(&host)
                    .filter(|o| o.boot_id.as_ref() == Some(&boot_id));
                if let Some(observed) = observed {
                    observed.note_accepted(Some(accepted));
                }
            }
            Fact::TimePassed { now } => {
                self.announce(now, &mut noted);
                if self.watch.settling && !is_settling(self, now) {
                    // What waited for hosts that were not heard is placed on those that were.
                    self.watch_mut().settling = false;
                    noted.plan_for(Dirty::none());
                }
            }
        }
        noted
    }

    fn take_hello(&mut self, hello: Hello, now: Mono, noted: &mut Noted) {
        let host = hello.host.clone();
        if !self.hosts.contains_key(&host) {
            return;
        }
        self.watch_mut().strangers.remove(&host);
        // Also of an earlier start of its agent: what fits there is the same if that said the same.
        let before = self.observed.get(&host).and_then(|o| o.hello.clone());
        self.heard(&host, &hello.boot_id, now);
        let observed = self.observed_entry(&host);
        observed.hello = Some(Arc::new(hello.clone()));
        observed.note_accepted(hello.accepted);
        if observed.bound.is_empty() {
            observed.bound = hello.bound.clone();
        }
        self.refresh_host(&host);
        let same = before
            .as_ref()
            .is_some_and(|b| b.labels == hello.labels && b.capacity == hello.capacity && b.features == hello.features);
        let concerned = match same {
            true => self.restless_on(&host),
            false => self.workloads_on(&host),
        };
        noted.plan_for(Dirty::Only(concerned));
        if before.as_ref().is_none_or(|b| b.boot_id != hello.boot_id) {
            let labels: Vec<String> = hello.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let message = format!(
                "said hello, version {}, labels: {}",
                hello.version,
                or_none(&labels.join(" "))
            );
            noted.tell("host-hello", &host, message);
        }
        self.ask_report_if(&host, now, noted, |o| o.status_seq.is_none());
        self.announce_one(&host, now, noted);
    }

    fn take_beat(&mut self, host: &HostId, heartbeat: Heartbeat, now: Mono, noted: &mut Noted) {
        if !self.hosts.contains_key(host) {
            self.ask_stranger(host, now, noted);
            return;
        }
        let known = self.observed.get(host);
        let repeated = known
            .and_then(|o| o.heartbeat.as_ref())
            .is_some_and(|last| last.boot_id == heartbeat.boot_id && last.seq >= heartbeat.seq);
        if repeated {
            return;
        }
        self.heard(host, &heartbeat.boot_id, now);
        let observed = self.observed_entry(host);
        let left = observed.leaving != heartbeat.leaving;
        observed.leaving = heartbeat.leaving;
        observed.note_accepted(heartbeat.accepted);
        observed.heartbeat = Some(heartbeat.clone());
        if left {
            self.refresh_host(host);
            noted.plan_for(Dirty::Only(self.workloads_on(host)));
            let message = if heartbeat.leaving {
                "was told to stop; its work moves away"
            } else {
                "stays after all"
            };
            noted.tell("host-leaving", host, message);
        }
        self.ask_report_if(host, now, noted, |o| o.is_behind(&heartbeat));
        self.ask_hello_if(host, now, noted, |o| o.hello.is_none());
        self.announce_one(host, now, noted);
    }

    fn take_report(&mut self, host: &HostId, report: HostReport, now: Mono, noted: &mut Noted) {
        if !self.hosts.contains_key(host) {
            return;
        }
        // A hello or heartbeat begins a boot; a report that was under way meanwhile does not end it.
        let boot = self.observed.get(host).and_then(|o| o.boot_id.as_ref());
        if boot.is_some_and(|boot| *boot != report.boot_id) {
            return;
        }
        self.heard(host, &report.boot_id.clone(), now);
        let observed = self.observed_entry(host);
        let errors_before = observed.capability_errors.clone();
        let first = observed.status_seq.is_none();
        let named = report.units.iter().map(|status| &status.unit);
        let new: BTreeSet<UnitId> = named
            .filter(|unit| !observed.units.contains_key(*unit))
            .cloned()
            .collect();
        match observed.take_report(report) {
            TakenReport::Old => {}
            TakenReport::Gap => self.ask_report_if(host, now, noted, |_| true),
            TakenReport::Taken(changed) => {
                let errors = observed.capability_errors.clone();
                for (unit, status) in &changed {
                    match status {
                        None => self.count_unit(unit, false),
                        Some(_) if new.contains(unit) => self.count_unit(unit, true),
                        Some(_) => {}
                    }
                }
                if first {
                    self.refresh_host(host);
                    // Only now is known what the host runs, and what it does not.
                    noted.plan_for(Dirty::Only(self.restless_on(host)));
                }
                for (name, why) in errors {
                    if errors_before.get(&name) != Some(&why) {
                        noted.tell(
                            "capability-failed",
                            host,
                            format!("capability {name} cannot be set up: {why}"),
                        );
                    }
                }
                for (unit, status) in changed {
                    self.note_unit(host, &unit, status.as_ref(), noted);
                }
            }
        }
        self.announce_one(host, now, noted);
    }

    fn note_unit(&self, host: &HostId, unit: &UnitId, status: Option<&UnitStatus>, noted: &mut Noted) {
        if self.is_restless(&unit.workload) {
            noted.plan_for(Dirty::one(unit.workload.clone()));
        }
        let Some(status) = status else {
            noted.tell(
                "unit-gone",
                &unit.workload,
                format!("generation {} is gone from {host}", unit.generation),
            );
            return;
        };
        let what = format!("generation {} ×{}", unit.generation, status.count);
        let why = status.reason.as_deref().unwrap_or("no reason given");
        match status.phase {
            UnitPhase::Ready => noted.tell("unit-ready", &unit.workload, format!("{what} is ready on {host}")),
            UnitPhase::Failed => noted.tell("unit-failed", &unit.workload, format!("{what} failed on {host}: {why}")),
            UnitPhase::Refused => {
                noted.tell(
                    "unit-refused",
                    &unit.workload,
                    format!("{what} was refused by {host}: {why}"),
                );
            }
            UnitPhase::Ended => noted.tell("unit-ended", &unit.workload, format!("{what} ended on {host}")),
            UnitPhase::Fetching | UnitPhase::Compiling | UnitPhase::Starting | UnitPhase::Draining => {}
        }
    }

    fn heard(&mut self, host: &HostId, boot_id: &BootId, now: Mono) {
        // When a cut-off zone comes back, its other hosts get a while to follow.
        let verdict = self.watch.announced.odd().get(host).cloned();
        if let Some(HostLiveness::Partitioned { zone }) = &verdict {
            self.watch_mut().thawed_at.insert(zone.clone(), now);
        }
        // A silence that ends may have made others count as cut off.
        let silent = self.observed.get(host).map_or(Mono(0), |o| o.last_heard);
        let counted = now.since(silent) >= self.watch.options.lost_after_ms / 2;
        let grave = matches!(
            verdict,
            Some(HostLiveness::Partitioned { .. } | HostLiveness::Lost { .. })
        );
        if grave || (counted && self.watch.announced.is_grave()) {
            self.watch_mut().announced.doubt();
        }
        let observed = self.observed_entry(host);
        observed.last_heard = observed.last_heard.max(now);
        if observed.boot_id.as_ref() != Some(boot_id) {
            let gone = std::mem::take(&mut observed.units);
            observed.begin_boot(boot_id);
            gone.keys().for_each(|unit| self.count_unit(unit, false));
        }
        self.refresh_host(host);
    }

    fn ask_report_if(&mut self, host: &HostId, now: Mono, noted: &mut Noted, when: impl Fn(&ObservedHost) -> bool) {
        let Some(observed) = self.observed_mut(host) else {
            return;
        };
        let asked_lately = observed
            .report_asked_at
            .is_some_and(|at| now.since(at) < REPORT_ASKED_EVERY_MS);
        if !asked_lately && when(observed) && !mutant("reports-are-never-asked-for") {
            observed.report_asked_at = Some(now);
            noted.ask_report = Some(host.clone());
        }
    }

    fn ask_hello_if(&mut self, host: &HostId, now: Mono, noted: &mut Noted, when: impl Fn(&ObservedHost) -> bool) {
        let Some(observed) = self.observed_mut(host) else {
            return;
        };
        let asked_lately = observed
            .hello_asked_at
            .is_some_and(|at| now.since(at) < HELLO_ASKED_EVERY_MS);
        if !asked_lately && when(observed) {
            observed.hello_asked_at = Some(now);
            noted.ask_hello = Some(host.clone());
        }
    }

    /// A host that is not admitted may have joined a realm whose store was replaced: its hello would say so.
    fn ask_stranger(&mut self, host: &HostId, now: Mono, noted: &mut Noted) {
        let strangers = &mut self.watch_mut().strangers;
        if strangers.len() >= STRANGERS_MAX {
            strangers.retain(|_, at| now.since(*at) < STRANGER_ASKED_EVERY_MS);
        }
        let asked_lately = strangers
            .get(host)
            .is_some_and(|at| now.since(*at) < STRANGER_ASKED_EVERY_MS);
        if !asked_lately && strangers.len() < STRANGERS_MAX && !mutant("strangers-are-left-alone") {
            strangers.insert(host.clone(), now);
            noted.ask_hello = Some(host.clone());
        }
    }

    /// Tells what changed of one host that was just heard: it lives. What follows from that for its neighbours is told at the
    /// next look at all, so that a fleet that comes back at once costs one look and not one for each host.
    fn announce_one(&mut self, host: &HostId, now: Mono, noted: &mut Noted) {
        let alive = self.observed.get(host).is_some_and(|o| o.hello.is_some());
        let verdict = self.watch.announced.odd().get(host).cloned();
        let lost_after_ms = self.watch.options.lost_after_ms;
        match verdict {
            // It was introduced, and has to be again.
            None if !alive => self.watch_mut().announced.doubt(),
            None => {}
            Some(_) if !alive => {}
            Some(before) => {
                self.watch_mut().announced.hear(host, now, lost_after_ms);
                self.tell_verdict(host, &before, &HostLiveness::Alive, noted);
            }
        }
    }

    /// Tells what changed of any host's verdict, and has the concerned workloads planned again.
    fn announce(&mut self, now: Mono, noted: &mut Noted) {
        if self.watch.announced.hold_at(now) {
            return;
        }
        let verdicts = judge(self, now);
        let changes = self.watch.announced.changes(&verdicts);
        self.watch_mut().announced = verdicts;
        for (host, before, after) in &changes {
            self.tell_verdict(host, before, after, noted);
        }
        let lost = |(_, _, after): &(HostId, HostLiveness, HostLiveness)| matches!(after, HostLiveness::Lost { .. });
        if changes.iter().any(lost) {
            noted.more_lost_until = half_way_until(self, now);
        }
    }

    fn tell_verdict(&mut self, host: &HostId, before: &HostLiveness, verdict: &HostLiveness, noted: &mut Noted) {
        self.set_mood(host, verdict);
        let lost = |verdict: &HostLiveness| matches!(verdict, HostLiveness::Lost { .. });
        // A host that is not heard is taken to hold what it has, and one that is heard again goes on with it.
        let concerned = match lost(before) || lost(verdict) {
            true => self.workloads_on(host),
            false => self.restless_on(host),
        };
        noted.plan_for(Dirty::Only(concerned));
        let silent_ms = self.watch.options.lost_after_ms;
        match (before, verdict) {
            (HostLiveness::Lost { .. }, HostLiveness::Lost { .. }) => {}
            (_, HostLiveness::Lost { .. }) => {
                noted.tell(
                    "host-lost",
                    host,
                    format!("silent for {silent_ms} ms: its work is replaced elsewhere"),
                );
            }
            (HostLiveness::Lost { .. } | HostLiveness::Partitioned { .. }, HostLiveness::Alive) => {
                noted.tell("host-back", host, "is heard again");
            }
            (_, HostLiveness::Partitioned { zone }) => {
                let zone = if zone.is_empty() {
                    "the fleet".to_owned()
                } else {
                    format!("zone {zone}")
                };
                let message = format!("silent with much of {zone}, which counts as cut off: nothing is moved");
                noted.tell("host-cut-off", host, message);
            }
            (_, HostLiveness::Alive | HostLiveness::NotSeen) => {}
        }
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}
