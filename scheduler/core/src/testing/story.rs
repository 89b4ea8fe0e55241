//! A line language for stories about a fleet, so that a test is text that a person can judge.
//!
//! In: a script. Out: the same script with what each question was answered now. A line that begins with `>` is a
//! question (or a command whose answer matters); the lines after it, up to the next blank one, are its answer. All
//! other lines are commands, and must succeed:
//!
//! ```text
//! hosts 3 zone=a,b memory=1Gi slots=10       adds host-1, host-2, host-3, labels given round robin
//! host edge-1 region=eu                      adds one
//! apply web replicas=4 image=hello:v2 spread=zone require=region:eu,us reserve=256Mi path=/x method=GET
//! apply web replicas=6 weights=region:eu=2,us=1
//! apply agent daemon
//! manifest                                   applies the lines that follow and begin with `| `
//! ready | ready web | ready host-2           starting units become ready
//! fail web@2 out of luck                     its units fail, with a reason
//! tick 3500ms                                time passes; hosts beat
//! silence host-2 host-3 | wake host-2 | restart host-2 | leave host-2 | link down | link up | restart scheduler
//! miss messages                              some to the scheduler were lost, because it was too slow
//! apply web cpu=250m resource=gpu:1 priority=50 perhost=1 strategy=pack preferImage=true tolerate=spot skew=zone:1
//! apply web avoid=batch:host near=db:zone:5 prefer=disk:ssd:20      a weight makes a wish of a condition
//! taint host-2 spot=yes:evict | untaint host-2 spot
//! cordon host-2 | uncordon host-2 | drain host-2 | forget host-2 | delete web | undo web 1
//! secret kv/payment 7                        the backend has it, in this version
//! secret kv/payment unreachable out of luck  the backend cannot be asked; `refused` says that it does not give it
//! task compose fails out of luck             work on artifacts whose task holds the word fails
//! renew                                      newer versions of secrets are taken
//! rebalance 3                                at most three replicas move to where they are better
//! > plan                                     the placements that changed since the last `> plan`
//! > place web | > status | > status web | > serving web | > hosts | > explain web | > events | > spec host-1
//! > apply …, > delete …, > undo …, > forget …, > rebalance … what became of it, or why it was refused
//! ```

use super::words::manifest_of;
use super::{TestFleet, fleet, host, id};
use crate::apply::{SecretAnswer, decide_delete, decide_forget, decide_set_host, decide_taint, decide_undo};
use crate::explain::explain;
use crate::fact::Fact;
use crate::host_status::host_statuses;
use crate::liveness::HostLiveness;
use crate::workload_status::workload_statuses;
use heddle_protocol::api::ApiError;
use heddle_protocol::api::apply::Applied;
use heddle_protocol::api::hosts::{ForgetHost, SetHost, TaintHost};
use heddle_protocol::api::objects::{ObjectKind, ObjectRef, Undo};
use heddle_protocol::api::status::WorkloadStatus;
use heddle_protocol::host_report::UnitPhase;
use heddle_protocol::host_spec::{Callee, Compile, Feature, HostSpecBody, Unit};
use heddle_protocol::id::{Generation, UnitId, WorkloadId};
use heddle_protocol::manifest::{Cpu, Duration, Size};
use heddle_protocol::record::{HostAdmin, Taint, TaintEffect};
use heddle_protocol::report::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Runs a script and returns it with today's answers.
///
/// # Panics
/// If a command is not understood, or is refused without being asked with `>`.
pub fn run(script: &str) -> String {
    let mut story = Story { fleet: fleet() };
    let mut told = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        told.push_str(line);
        told.push('\n');
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (asked, command) = match line.strip_prefix("> ") {
            Some(command) => (true, command),
            None => (false, line),
        };
        let mut block = String::new();
        while let Some(text) = lines.peek().and_then(|line| line.strip_prefix('|')) {
            block.push_str(text.strip_prefix(' ').unwrap_or(text));
            block.push('\n');
            told.push_str(lines.next().unwrap_or_default());
            told.push('\n');
        }
        let answer = story.carry_out(command, &block);
        if asked {
            while lines.peek().is_some_and(|line| !line.trim().is_empty()) {
                lines.next();
            }
            let answer = answer.unwrap_or_else(|error| refusal(&error));
            told.push_str(if answer.is_empty() { "nothing\n" } else { &answer });
        } else if let Err(error) = answer {
            panic!("`{line}` was refused: {}", refusal(&error));
        }
    }
    told
}

struct Story {
    fleet: TestFleet,
}

impl Story {
    fn carry_out(&mut self, line: &str, block: &str) -> Result<String, ApiError> {
        let line = line.split(" # ").next().unwrap_or_default().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        let fleet = &mut self.fleet;
        match words.as_slice() {
            ["hosts"] => return Ok(self.show_hosts()),
            ["hosts", count, options @ ..] => {
                let count: usize = count.parse().expect("a number of hosts");
                for _ in 0..count {
                    let number = self.fleet.hosts.len();
                    self.add_host(&format!("host-{}", number + 1), number, options);
                }
            }
            ["host", name, options @ ..] => self.add_host(name, 0, options),
            ["apply", name, options @ ..] => return fleet.apply(&manifest_of(name, options)).map(|a| applied(&a)),
            ["manifest"] => return fleet.apply(block).map(|a| applied(&a)),
            ["ready"] => fleet.make_ready(|_, _| true),
            ["ready", which @ ..] => {
                let names = |text: &str| which.contains(&text);
                fleet.make_ready(|host, unit| names(host.as_str()) || names(unit.workload.name.as_str()));
            }
            ["fail", name, reason @ ..] => {
                let (name, generation) = name.split_once('@').expect("fail name@generation");
                let (workload, reason) = (id(name), reason.join(" "));
                let generation = Generation(generation.parse().expect("a generation"));
                let named = |unit: &UnitId| unit.workload == workload && unit.generation == generation;
                fleet.set_phase(UnitPhase::Failed, Some(&reason), |_, unit, _| named(unit));
            }
            ["tick", time] => fleet.tick(time.parse::<Duration>().expect("a duration").as_ms()),
            ["secret", path, "unreachable", why @ ..] => {
                let answer = SecretAnswer::Unreachable(why.join(" "));
                fleet.secrets.insert((*path).to_owned(), answer);
            }
            ["secret", path, "refused", why @ ..] => {
                let answer = SecretAnswer::Refused(why.join(" "));
                fleet.secrets.insert((*path).to_owned(), answer);
            }
            ["secret", path, version] => {
                let answer = SecretAnswer::Version((*version).to_owned());
                fleet.secrets.insert((*path).to_owned(), answer);
            }
            ["task", word, "fails", why @ ..] => fleet.tasks_refused.push(((*word).to_owned(), why.join(" "))),
            ["task", word, "succeeds"] => fleet.tasks_refused.retain(|(other, _)| other != word),
            ["rebalance", budget] => {
                let moves = fleet.rebalance(budget.parse().expect("a number of replicas"))?;
                let told = moves.moves.iter();
                let told = told.map(|m| format!("{} moves from {} to {}: {}", m.workload, m.from, m.to, m.because));
                return Ok(lines(told.chain(moves.more.then(|| "there may be more".to_owned()))));
            }
            ["renew"] => return fleet.renew_secrets().map(|a| applied(&a)),
            ["silence", hosts @ ..] => hosts.iter().for_each(|name| fleet.silence(name)),
            ["wake", hosts @ ..] => hosts.iter().for_each(|name| fleet.wake(name)),
            ["leave", hosts @ ..] => hosts.iter().for_each(|name| fleet.leave(name)),
            ["restart", "scheduler"] => fleet.restart_scheduler(),
            ["restart", hosts @ ..] => hosts.iter().for_each(|name| fleet.restart_host(name)),
            ["link", way] => {
                let now = fleet.now;
                fleet.tell(if *way == "up" {
                    Fact::LinkUp { now }
                } else {
                    Fact::LinkDown { now }
                });
            }
            ["miss", "messages"] => {
                let now = fleet.now;
                fleet.tell(Fact::MessagesMissed { now });
            }
            ["cordon", hosts @ ..] => self.set_hosts(hosts, HostAdmin::Cordoned)?,
            ["uncordon", hosts @ ..] => self.set_hosts(hosts, HostAdmin::Open)?,
            ["drain", hosts @ ..] => self.set_hosts(hosts, HostAdmin::Draining)?,
            ["taint", name, taint] => {
                let (taint, effect) = taint.rsplit_once(':').expect("name=value:effect");
                let (taint, value) = taint.split_once('=').unwrap_or((taint, ""));
                let effect = match effect {
                    "evict" => TaintEffect::Evict,
                    _ => TaintEffect::NoNew,
                };
                let value = value.to_owned();
                return self.taint(name, taint, Some(Taint { value, effect }));
            }
            ["untaint", name, taint] => return self.taint(name, taint, None),
            ["forget", name, options @ ..] => {
                let forget = ForgetHost {
                    host: host(name),
                    force: options.contains(&"force"),
                };
                let decision = decide_forget(&fleet.world, &forget, fleet.now, fleet.at())?;
                return Ok(applied(&fleet.carry_out(decision)));
            }
            ["delete", names @ ..] => {
                let objects: Vec<ObjectRef> = names.iter().map(|name| object(name)).collect();
                let decision = decide_delete(&fleet.world, &objects, false, fleet.at())?;
                return Ok(applied(&fleet.carry_out(decision)));
            }
            ["undo", name, to @ ..] => {
                let to = to.first().map(|to| Generation(to.parse().expect("a generation")));
                let undo = Undo { workload: id(name), to };
                let decision = fleet.decided(|known| decide_undo(&fleet.world, &undo, known, fleet.at()))?;
                return Ok(applied(&fleet.carry_out(decision)));
            }
            ["plan"] => return Ok(lines(fleet.take_changes())),
            ["place", name] => return Ok(lines([fleet.place(name)])),
            ["serving", name] => return Ok(lines([fleet.serving(name).to_string()])),
            ["status", names @ ..] => return Ok(self.show_status(names)),
            ["explain", name] => return Ok(self.show_explanation(name)),
            ["events"] => {
                let told = std::mem::take(&mut fleet.events);
                return Ok(lines(
                    told.iter().map(|e| format!("{} {}: {}", e.kind, e.about, e.message)),
                ));
            }
            ["spec", name] => return Ok(self.show_spec(name)),
            _ => panic!("`{line}` is no command of the story language"),
        }
        Ok(String::new())
    }

    fn add_host(&mut self, name: &str, number: usize, options: &[&str]) {
        let (mut memory, mut slots, mut quick) = (1 << 30, 100, false);
        let (mut lacks, mut cpu, mut resources) = (None, None, BTreeMap::new());
        let mut labels: Vec<(&str, &str)> = Vec::new();
        for option in options {
            match option.split_once('=') {
                Some(("memory", size)) => memory = size.parse::<Size>().expect("a size").as_bytes(),
                Some(("cpu", amount)) => cpu = Some(millis(amount)),
                Some(("resource", counted)) => {
                    let (name, count) = counted.rsplit_once(':').expect("resource=name:count");
                    resources.insert(name.to_owned(), count.parse().expect("a count"));
                }
                Some(("lacks", feature)) => lacks = Some(Feature::custom(feature)),
                Some(("slots", n)) => slots = n.parse().expect("a number of slots"),
                Some((label, values)) => {
                    let values: Vec<&str> = values.split(',').collect();
                    labels.push((label, values[number % values.len()]));
                }
                None if *option == "quick" => quick = true,
                None => panic!("`{option}` is no option of a host"),
            }
        }
        self.fleet.add_host(name, &labels, memory, slots);
        self.fleet.host_mut(name).quick = quick;
        let hello = &mut self.fleet.host_mut(name).hello;
        if lacks.is_some() || cpu.is_some() || !resources.is_empty() {
            (hello.capacity.cpu_millis, hello.capacity.resources) = (cpu, resources);
            hello.features.retain(|feature| Some(feature) != lacks.as_ref());
            self.fleet.say_hello(name);
        }
    }

    fn set_hosts(&mut self, hosts: &[&str], admin: HostAdmin) -> Result<(), ApiError> {
        for name in hosts {
            let set = SetHost {
                host: host(name),
                admin,
            };
            let decision = decide_set_host(&self.fleet.world, &set, self.fleet.at())?;
            self.fleet.carry_out(decision);
        }
        Ok(())
    }

    fn taint(&mut self, name: &str, taint: &str, put: Option<Taint>) -> Result<String, ApiError> {
        let set = TaintHost {
            host: host(name),
            name: taint.to_owned(),
            taint: put,
        };
        let decision = decide_taint(&self.fleet.world, &set, self.fleet.at())?;
        Ok(applied(&self.fleet.carry_out(decision)))
    }

    fn show_hosts(&self) -> String {
        let verdicts = crate::liveness::judge(&self.fleet.world, self.fleet.now);
        lines(host_statuses(&self.fleet.world, self.fleet.now).iter().map(|h| {
            let cut_off = matches!(verdicts.of(&h.host), HostLiveness::Partitioned { .. });
            let state = if cut_off { "cut off" } else { h.state.as_str() };
            format!(
                "{} {state}, {} replicas, {} reserved",
                h.host,
                h.replicas,
                Bytes(h.reserved_bytes)
            )
        }))
    }

    fn show_status(&self, names: &[&str]) -> String {
        let world = &self.fleet.world;
        let ids: BTreeSet<WorkloadId> = match names {
            [] => world.workloads.keys().chain(world.places.keys()).cloned().collect(),
            names => names.iter().map(|name| id(name)).collect(),
        };
        lines(workload_statuses(world, &ids, self.fleet.now).iter().map(status))
    }

    fn show_explanation(&self, name: &str) -> String {
        let Some(e) = explain(&self.fleet.world, &id(name), self.fleet.now) else {
            return "there is none\n".into();
        };
        // A blank line ends an answer.
        let text = e.to_string().replace("\n\n", "\n");
        format!("{}\n{text}", status(&e.status))
    }

    fn show_spec(&self, name: &str) -> String {
        let specs = self.fleet.specs();
        let Some(spec) = specs.get(&host(name)) else {
            return "not known yet\n".into();
        };
        let units = spec.units.iter().map(|u| format!("unit {} ×{}", u.id(), u.count));
        let routes = spec.routes.iter().map(|r| {
            let targets: Vec<String> = r
                .targets
                .iter()
                .map(|t| format!("{}/{}", t.unit, t.component))
                .collect();
            format!("route {} {} → {}", r.capability, r.path, targets.join(", "))
        });
        let capabilities = spec.capabilities.keys().map(|name| format!("capability {name}"));
        let linked = spec.units.iter().flat_map(|unit| links(unit, spec));
        lines(units.chain(linked).chain(routes).chain(capabilities).chain(live(spec)))
    }
}

/// What a unit's components are composed of, bound to, and call; nothing for a component that is alone and calls nobody.
fn links(unit: &Unit, spec: &HostSpecBody) -> Vec<String> {
    let mut told = Vec::new();
    let of = |part: &Option<String>| part.as_ref().map(|p| format!(" of {p}")).unwrap_or_default();
    let template = &spec.templates[&unit.template];
    for component in &template.components {
        let name = format!("{}/{}", unit.id(), component.name);
        if !component.parts.is_empty() {
            let parts: Vec<&str> = component.parts.keys().map(String::as_str).collect();
            told.push(format!("{name} is composed with {}", parts.join(", ")));
            for (import, binding) in &component.bindings {
                told.push(format!(
                    "{name} import {import}{} → {}",
                    of(&binding.part),
                    binding.capability
                ));
            }
        }
        for (import, call) in &component.calls {
            let to = match &call.to {
                Callee::Workload(id) => format!("workload {id}"),
                Callee::Prefix(prefix) => format!("prefix {prefix}"),
            };
            told.push(format!(
                "{name} calls {import}{} → {to} as {} within {} ms",
                of(&call.part),
                call.instance,
                call.timeout_ms
            ));
        }
        let own = component.secrets.iter().map(|(key, secret)| (key.clone(), secret));
        let parts = component.parts.iter();
        let parts = parts.flat_map(|(part, p)| p.secrets.iter().map(move |(key, s)| (format!("{part} {key}"), s)));
        for (key, secret) in own.chain(parts) {
            let version = secret.version.as_deref().unwrap_or("live");
            told.push(format!(
                "{name} secret {key}: {} {} version {version}",
                secret.from, secret.path
            ));
        }
    }
    told.extend(template.run.as_ref().map(|run| format!("{} runs {run:?}", unit.id())));
    let consumes = template.consumes.iter();
    told.extend(consumes.map(|c| {
        format!(
            "{} takes {} of {} with {}",
            unit.id(),
            c.subject,
            c.capability,
            c.component
        )
    }));
    told
}

/// What of a spec changes without its units: who is called, what is served, which secrets are the newest.
fn live(spec: &HostSpecBody) -> Vec<String> {
    let serves = spec.serves.iter().map(|serve| {
        let prefix = serve.prefix.as_ref().map(|p| format!(" under {p}")).unwrap_or_default();
        format!("serves {} {} {}{prefix}", serve.unit, serve.component, serve.interface)
    });
    let callees = spec.callees.iter().map(|(id, generations)| {
        let generations: Vec<String> = generations.iter().map(ToString::to_string).collect();
        format!("callee {id}: generations {}", generations.join(", "))
    });
    let versions = spec
        .secret_versions
        .values()
        .map(|version| format!("live secret at version {version}"));
    let lent = spec.capability_secrets.iter().flat_map(|(name, secrets)| {
        secrets.iter().map(move |(key, secret)| {
            let version = secret.version.as_deref().unwrap_or("live");
            format!("capability {name} secret {key}: {} version {version}", secret.path)
        })
    });
    let compile = (spec.compile == Compile::Local).then(|| "compiles for itself".to_owned());
    serves
        .chain(callees)
        .chain(versions)
        .chain(lent)
        .chain(compile)
        .collect()
}

fn status(s: &WorkloadStatus) -> String {
    let old = if s.ready_old > 0 {
        format!(", {} old ready", s.ready_old)
    } else {
        String::new()
    };
    let mut text = format!(
        "{}@{} {}: {}/{} ready, {} placed{old}",
        s.workload,
        s.generation,
        s.state.as_str(),
        s.ready,
        s.desired,
        s.placed
    );
    for waiting in &s.waiting {
        write!(text, "; waits: {waiting}").unwrap();
    }
    let reasons = s.units.iter().filter_map(|u| Some((u, u.reason.as_deref()?)));
    for (unit, reason) in reasons {
        let phase = unit.phase.map_or("unknown", UnitPhase::as_str);
        write!(text, "; @{} {phase} on {}: {reason}", unit.generation, unit.host).unwrap();
    }
    text
}

fn applied(applied: &Applied) -> String {
    let objects = applied.objects.iter().map(|o| match o.generation {
        Generation(0) => format!("{} {} {}", o.kind, o.name, o.change.as_str()),
        generation => format!("{} {}@{generation} {}", o.kind, o.name, o.change.as_str()),
    });
    let changes = applied.changes.iter().map(ToString::to_string);
    let waiting = applied
        .waiting
        .iter()
        .map(|w| format!("waits: {}: {}", w.workload, w.on));
    lines(
        objects
            .chain(changes)
            .chain(waiting)
            .chain(applied.notes.iter().map(|note| format!("note: {note}"))),
    )
}

fn refusal(error: &ApiError) -> String {
    let head = format!("refused ({}): {}", error.code.as_str(), error.message);
    let problems = error.problems.iter().map(|p| {
        let meant = p
            .suggestion
            .as_ref()
            .map(|s| format!("; did you mean {s}?"))
            .unwrap_or_default();
        format!("  {} {}: {} ({}){meant}", p.object, p.path, p.message, p.rule)
    });
    lines(
        std::iter::once(head)
            .chain(problems)
            .chain([format!("next: {}", error.next)]),
    )
}

fn lines(all: impl IntoIterator<Item = String>) -> String {
    all.into_iter().map(|line| line + "\n").collect()
}

fn object(name: &str) -> ObjectRef {
    let (kind, name) = name.split_once(':').unwrap_or(("workload", name));
    let kind = match kind {
        "platform" => ObjectKind::Platform,
        "config" => ObjectKind::Config,
        "secretref" => ObjectKind::SecretRef,
        "policy" => ObjectKind::Policy,
        "quota" => ObjectKind::Quota,
        _ => ObjectKind::Workload,
    };
    ObjectRef {
        kind,
        name: name.to_owned(),
    }
}

fn millis(amount: &str) -> u32 {
    let amount: Cpu = amount.parse().expect("an amount of processor time");
    u32::try_from(amount.as_millicores()).expect("fewer cores")
}
