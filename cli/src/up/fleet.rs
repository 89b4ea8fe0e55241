//! The scheduler and the agents of a local fleet, and the workloads that it is shown with.

use super::child::{Family, Recipe};
use super::data::Data;
use super::nats::Nats;
use super::{UpArgs, check, port, start_failure};
use crate::command::apply;
use crate::context::Target;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::progress::Progress;
use crate::source::{Images, Loaded};
use crate::view;
use crate::wait;
use heddle_protocol::api::hosts::{ForgetHost, HostList, HostState, Hosts, MakeJoinToken};
use heddle_protocol::api::objects::{Get, ObjectKind};
use heddle_protocol::api::realm::Info;
use heddle_protocol::api::status::{Endpoint, Status, Statuses, WorkloadState};
use heddle_protocol::id::{HostId, Namespace, WorkloadId};
use heddle_protocol::manifest::Object;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often something that changes within milliseconds is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a join token is valid: the agents that it is for are started at once.
const TOKEN_VALID_MS: u64 = 600_000;
/// How long an agent goes on serving when the whole fleet stops: there is nobody to take over its work.
const LEAVING_DEADLINE: &str = "500ms";
/// The least memory that an agent is given, in bytes.
const MEMORY_MIN: u64 = 256 << 20;
/// The listener's name that agents get a free port for even if no platform names it yet.
const USUAL_LISTENER: &str = "web";

/// A local fleet that was started.
#[derive(Debug)]
pub struct Local {
    fleet: Fleet,
    nats: Nats,
    hosts: Vec<HostId>,
    operator_key: Option<PathBuf>,
    timeout: Duration,
}

/// What the examples came to.
#[derive(Debug)]
pub struct Serving {
    /// From sending them until every URL had answered.
    pub took: Duration,
    /// The URLs.
    pub urls: Vec<String>,
}

impl Local {
    /// Starts a scheduler and the agents.
    pub async fn start(
        args: &UpArgs,
        data: &Data,
        nats: Nats,
        examples: &[Loaded],
        family: &mut Family,
        progress: &mut Progress,
    ) -> Result<Self, Failure> {
        let hosts = (1..=args.hosts)
            .map(|n| HostId::parse(&format!("host-{n}")).map_err(|error| start_failure("hosts", error, "")))
            .collect::<Result<Vec<_>, _>>()?;
        let (realm_seed, realm_key) = data.key("realm")?;
        let (operator_seed, operator) = data.key("operator")?;
        let operator_key = (!args.dev).then_some(operator_seed);
        progress.update("starting the scheduler");
        family.add(scheduler(args, data, &nats, realm_seed, &operator.public())?)?;
        let target = Target {
            context: None,
            nats: nats.url.clone(),
            realm: args.realm.clone(),
            creds: None,
            key: operator_key.clone(),
            namespace: Namespace::fallback(),
            sources: BTreeMap::new(),
        };
        let asked = async {
            let fleet = Fleet::to(&target, args.timeout).await?;
            fleet.ask(&Info {}).await?;
            Ok(fleet)
        };
        let fleet = family.unharmed(asked).await?;
        let local = Self {
            fleet,
            nats,
            hosts,
            operator_key,
            timeout: args.timeout,
        };
        progress.update("starting the agents");
        local
            .start_agents(args, data, &realm_key.public(), examples, family)
            .await?;
        Ok(local)
    }

    async fn start_agents(
        &self,
        args: &UpArgs,
        data: &Data,
        realm_key: &str,
        examples: &[Loaded],
        family: &mut Family,
    ) -> Result<(), Failure> {
        let known = family.unharmed(self.fleet.hosts(Hosts::default())).await?;
        let known: BTreeSet<HostId> = known.hosts.into_iter().map(|host| host.host).collect();
        // Hosts of an earlier, larger fleet are not coming back.
        for host in known.iter().filter(|host| is_ours(host) && !self.hosts.contains(host)) {
            let forget = ForgetHost {
                host: host.clone(),
                force: true,
            };
            self.fleet.change(&self.fleet.namespace, &forget).await?;
        }
        let listeners = self.listeners(examples).await?;
        let memory = memory_per_agent(self.hosts.len() as u64);
        for host in &self.hosts {
            let token = match known.contains(host) {
                true => None,
                false => {
                    let make = MakeJoinToken {
                        valid_ms: TOKEN_VALID_MS,
                    };
                    Some(self.fleet.change(&self.fleet.namespace, &make).await?.token)
                }
            };
            let ports = port::free(listeners.len() + 1)?;
            let bind: Vec<(&String, SocketAddr)> = listeners.iter().zip(ports.iter().skip(1).copied()).collect();
            let mut command = Flags::new("agent");
            command
                .pair("--realm", args.realm.as_str())
                .pair("--nats", &self.nats.url)
                .pair("--id", host.as_str());
            command
                .pair("--data", data.host(host))
                .pair("--realm-public-key", realm_key);
            command
                .pair("--memory", memory.to_string())
                .pair("--leaving-deadline", LEAVING_DEADLINE);
            command.pair("--log", &args.log);
            if let Some(http) = ports.first() {
                command.pair("--http", http.to_string());
            }
            for (listener, address) in bind {
                command.pair("--bind", format!("{listener}={address}"));
            }
            let env = token
                .map(|token| ("HEDDLE_JOIN_TOKEN".to_owned(), token))
                .into_iter()
                .collect();
            family.add(command.recipe(host.as_str(), 2, env, data))?;
        }
        Ok(())
    }

    /// The listeners that any platform names, now or with the examples: all agents share this machine's ports, so each
    /// gets addresses of its own.
    async fn listeners(&self, examples: &[Loaded]) -> Result<BTreeSet<String>, Failure> {
        let get = Get {
            kind: ObjectKind::Platform,
            name: None,
            in_namespace: false,
            after: None,
        };
        let stored = self
            .fleet
            .objects(get)
            .await?
            .objects
            .into_iter()
            .map(|object| object.manifest);
        let stored = stored.filter_map(|manifest| serde_json::from_value::<Object>(manifest).ok());
        let named = examples
            .iter()
            .map(|loaded| loaded.document.object.clone())
            .chain(stored);
        let mut listeners = BTreeSet::from([USUAL_LISTENER.to_owned()]);
        for object in named {
            if let Object::Platform(platform) = object {
                let http = platform
                    .spec
                    .capabilities
                    .into_iter()
                    .filter(|(_, lent)| lent.http.is_some());
                listeners.extend(http.map(|(name, _)| name));
            }
        }
        Ok(listeners)
    }

    /// Waits until every host is ready.
    pub async fn hosts_ready(&mut self, family: &mut Family, progress: &mut Progress) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let list = family.unharmed(self.fleet.hosts(Hosts::default())).await?;
            let state = |host: &HostId| {
                list.hosts
                    .iter()
                    .find(|status| status.host == *host)
                    .map(|status| status.state)
            };
            let missing: Vec<String> = self
                .hosts
                .iter()
                .filter(|host| state(host) != Some(HostState::Ready))
                .map(|host| format!("{host} ({})", state(host).map_or("not joined", HostState::as_str)))
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            progress.update(&format!(
                "{} of {} hosts ready",
                self.hosts.len() - missing.len(),
                self.hosts.len()
            ));
            if started.elapsed() >= self.timeout {
                let after = view::age(super::ms(self.timeout));
                let message = format!("failed to see all hosts ready within {after}: {}", missing.join(", "));
                return Err(Failure::new(Exit::TimedOut, message, "see the logs in the data folder"));
            }
            family.unharmed(pause()).await?;
        }
    }

    /// Applies the examples, and waits until each of their URLs has answered.
    pub async fn serve(
        &self,
        examples: &[Loaded],
        images: &Images,
        family: &mut Family,
        progress: &mut Progress,
    ) -> Result<Serving, Failure> {
        progress.update("applying the examples");
        let called: BTreeSet<WorkloadId> = examples.iter().filter_map(http_workload).collect();
        let started = Instant::now();
        let applied = family
            .unharmed(apply::submit(&self.fleet, examples, images, None))
            .await?;
        family
            .unharmed(wait::reach(&self.fleet, wait::targets(&applied), self.timeout))
            .await?;
        let urls = family.unharmed(self.answered(&called, progress)).await?;
        Ok(Serving {
            took: started.elapsed(),
            urls,
        })
    }

    async fn answered(&self, called: &BTreeSet<WorkloadId>, progress: &mut Progress) -> Result<Vec<String>, Failure> {
        let started = Instant::now();
        let mut done = BTreeSet::new();
        loop {
            let question = Status {
                workloads: called.iter().cloned().collect(),
                ..Status::default()
            };
            let statuses = if called.is_empty() {
                Vec::new()
            } else {
                self.fleet.statuses(question).await?.workloads
            };
            let all_known = called.iter().all(|id| {
                statuses.iter().any(|s| {
                    let served: BTreeSet<&HostId> = s.units.iter().map(|unit| &unit.host).collect();
                    let reached: BTreeSet<&HostId> = s.endpoints.iter().map(|endpoint| &endpoint.host).collect();
                    s.workload == *id && s.state == WorkloadState::Ready && served == reached
                })
            });
            let endpoints: BTreeSet<Endpoint> = statuses.into_iter().flat_map(|status| status.endpoints).collect();
            let mut silent = None;
            for endpoint in &endpoints {
                if done.contains(endpoint) {
                    continue;
                }
                match check::answers(&endpoint.url, endpoint.host_header.as_deref()).await {
                    Ok(()) => drop(done.insert(endpoint.clone())),
                    Err(why) => silent = Some(why),
                }
            }
            if all_known && silent.is_none() {
                return Ok(endpoints.iter().map(view::status::url).collect());
            }
            let why = silent.unwrap_or_else(|| "not every host has told its addresses yet".to_owned());
            progress.update(&why);
            if started.elapsed() >= self.timeout {
                let after = view::age(super::ms(self.timeout));
                let message = format!("failed to see every URL answer within {after}: {why}");
                return Err(Failure::new(Exit::TimedOut, message, "see the logs in the data folder"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The hosts and workloads as they are.
    pub async fn look(&self) -> Result<(HostList, Statuses), Failure> {
        Ok((
            self.fleet.hosts(Hosts::default()).await?,
            self.fleet.statuses(Status::default()).await?,
        ))
    }

    /// Where its NATS is.
    pub fn nats_url(&self) -> &str {
        &self.nats.url
    }

    /// The key that signs an operator's requests; none where nobody asks for it.
    pub fn operator_key(&self) -> Option<PathBuf> {
        self.operator_key.clone()
    }
}

async fn pause() -> Result<(), Failure> {
    tokio::time::sleep(LOOK_EVERY).await;
    Ok(())
}

/// The workload of a document, if HTTP calls it.
fn http_workload(loaded: &Loaded) -> Option<WorkloadId> {
    let Object::Workload(workload) = &loaded.document.object else {
        return None;
    };
    let called = workload.spec.triggers.iter().any(|trigger| trigger.http.is_some());
    let runs = workload.spec.replicas != Some(0);
    let name = format!("{}/{}", workload.metadata.namespace, workload.metadata.name);
    (called && runs).then(|| WorkloadId::parse(&name).ok()).flatten()
}

/// Whether a host has one of the ids that this command gives.
fn is_ours(host: &HostId) -> bool {
    host.as_str()
        .strip_prefix("host-")
        .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

fn scheduler(args: &UpArgs, data: &Data, nats: &Nats, realm_seed: PathBuf, operator: &str) -> Result<Recipe, Failure> {
    let mut command = Flags::new("scheduler");
    command
        .pair("--realm", args.realm.as_str())
        .pair("--nats", &nats.url)
        .pair("--realm-key", realm_seed);
    command.pair("--data", data.scheduler()).pair("--log", &args.log);
    command.pair("--secrets-config", data.backends()?);
    if let Some(monitor) = &nats.monitor {
        command.pair("--nats-monitor", monitor);
    }
    if let Some(http) = port::free(1)?.first() {
        command.pair("--http", http.to_string());
    }
    if args.assume_durable {
        command.one("--assume-durable");
    }
    match args.dev {
        true => command.one("--dev"),
        false => command.one("--require-signed").pair("--trusted-key", operator),
    };
    Ok(command.recipe("scheduler", 1, Vec::new(), data))
}

/// Three quarters of the machine's memory, shared by all agents.
fn memory_per_agent(agents: u64) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    });
    total.map_or(MEMORY_MIN, |kib| (kib * 1_024 / 4 * 3 / agents.max(1)).max(MEMORY_MIN))
}

/// The arguments of a role.
#[derive(Debug)]
struct Flags(Vec<OsString>);

impl Flags {
    fn new(role: &str) -> Self {
        Self(vec![role.into()])
    }

    fn one(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn pair(&mut self, flag: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.extend([flag.into(), value.into()]);
        self
    }

    fn recipe(self, name: &str, rank: u8, env: Vec<(String, String)>, data: &Data) -> Recipe {
        Recipe {
            name: name.to_owned(),
            rank,
            program: None,
            args: self.0,
            env,
            log: data.log(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_that_this_command_named_are_forgotten() {
        let host = |id: &str| HostId::parse(id).unwrap();
        assert!(is_ours(&host("host-12")));
        assert!(!is_ours(&host("host-a")) && !is_ours(&host("edge-1")));
    }

    #[test]
    fn every_agent_gets_some_memory() {
        assert!(memory_per_agent(1_000_000) == MEMORY_MIN);
        assert!(memory_per_agent(1) >= MEMORY_MIN);
    }
}
