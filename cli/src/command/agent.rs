//! `heddle agent`: the role that runs components on a host. This file only maps flags to options.

use super::role::{LogArgs, StopSignals, shutdown, start_log};
use crate::context::process_env;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{duration, hostname};
use heddle_agent::engine::Allocator;
use heddle_agent::{Agent, AgentOptions, SourceOptions};
use heddle_protocol::defaults::HOST_REPLICA_SLOTS;
use heddle_protocol::id::{CapabilityName, HostId, Realm};
use heddle_protocol::manifest::{Cpu, Size, is_label_key};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Flags of `agent`.
#[derive(Debug, clap::Args)]
pub struct AgentArgs {
    /// The realm that it serves
    #[arg(long, value_name = "NAME", env = "HEDDLE_REALM", value_parser = Realm::parse)]
    realm: Realm,
    /// Its host's id; the machine's name when left out
    #[arg(long, value_name = "ID", value_parser = HostId::parse)]
    id: Option<HostId>,
    /// The URL of NATS [env: HEDDLE_NATS]
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// A NATS credentials file [env: HEDDLE_CREDS]
    #[arg(long, value_name = "FILE")]
    nats_creds: Option<PathBuf>,
    /// Run what this file (or the spec.json of this folder) says, without NATS and without a scheduler
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nats", "nats_creds", "join_token"])]
    spec: Option<PathBuf>,
    /// A folder for its key and its caches
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// A public key whose specs it runs; may be given several times
    #[arg(long = "realm-public-key", value_name = "KEY")]
    realm_public_keys: Vec<String>,
    /// A one-use token, needed the first time that this host joins: `heddle hosts token` makes one
    #[arg(long, value_name = "TOKEN", env = "HEDDLE_JOIN_TOKEN", hide_env_values = true)]
    join_token: Option<String>,
    /// A label of the host; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Another address for one of the platform's listeners; may be given several times
    #[arg(long, value_name = "NAME=ADDR", value_parser = bind)]
    bind: Vec<(CapabilityName, SocketAddr)>,
    /// Memory for instances, such as 2Gi; three quarters of the machine's when left out
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Replicas that the host takes
    #[arg(long, value_name = "N", default_value_t = HOST_REPLICA_SLOTS)]
    slots: u32,
    /// Processor time that replicas may reserve, such as 4 or 3500m; without it there is no bound
    #[arg(long, value_name = "CPU", env = "HEDDLE_CPU", value_parser = cpu)]
    cpu: Option<u32>,
    /// A countable thing that replicas may take, such as acme.dev/gpu=2; may be given several times
    #[arg(long = "resource", value_name = "NAME=COUNT", env = "HEDDLE_RESOURCES", value_delimiter = ',', value_parser = resource)]
    resources: Vec<(String, u32)>,
    /// How instances get their memory
    #[arg(long, value_enum, default_value_t)]
    allocator: AllocatorArg,
    /// A network that guests may reach although it is the host itself or its link, such as 127.0.0.0/8; may be given
    /// several times. The manifest must name the destination all the same
    #[arg(long, value_name = "NET")]
    egress_allow: Vec<ipnet::IpNet>,
    /// Where /healthz and /metrics are served
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// How often it says that it lives
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    heartbeat: Duration,
    /// How long it goes on serving after it was told to stop, if its work is not taken over earlier
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    leaving_deadline: Duration,
    #[command(flatten)]
    log: LogArgs,
}

/// How instances get their memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum AllocatorArg {
    /// From a pool reserved at start
    #[default]
    Pooling,
    /// From the system, for each instance
    OnDemand,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as zone=a".to_owned()),
    }
}

fn bind(text: &str) -> Result<(CapabilityName, SocketAddr), String> {
    let (name, address) = text
        .split_once('=')
        .ok_or("expected NAME=ADDR, such as web=127.0.0.1:8080")?;
    let name = CapabilityName::parse(name).map_err(|error| error.to_string())?;
    let address = address
        .parse()
        .map_err(|_| "expected an address such as 127.0.0.1:8080 after the `=`")?;
    Ok((name, address))
}

/// The most of one countable thing: as manifests have it.
const COUNT_MAX: u32 = 1_000_000;

fn cpu(text: &str) -> Result<u32, String> {
    let amount: Cpu = text.parse().map_err(|_| format!("expected {}", Cpu::EXPECTED))?;
    match u32::try_from(amount.as_millicores()) {
        Ok(0) | Err(_) => Err("expected at least 1m, and fewer cores than machines have".to_owned()),
        Ok(millis) => Ok(millis),
    }
}

fn resource(text: &str) -> Result<(String, u32), String> {
    let expected = || "expected NAME=COUNT, such as acme.dev/gpu=2".to_owned();
    let (name, count) = text.split_once('=').ok_or_else(expected)?;
    let count = count.parse().ok().filter(|count| (1..=COUNT_MAX).contains(count));
    if !is_label_key(name) {
        return Err("expected a name of the form of a label's key before the `=`, such as acme.dev/gpu".to_owned());
    }
    Ok((name.to_owned(), count.ok_or_else(expected)?))
}

impl AgentArgs {
    fn options(self) -> Result<AgentOptions, Failure> {
        // The variables are read here and not by clap: they are meant for NATS, and a spec from a file has no use for it.
        let source = match self.spec {
            Some(file) => SourceOptions::File(file),
            None => SourceOptions::Nats {
                url: self.nats.or_else(|| process_env("HEDDLE_NATS")).ok_or_else(|| {
                    let next = "name NATS with --nats URL or HEDDLE_NATS, or a file with --spec FILE";
                    Failure::new(Exit::Usage, "failed to find a source of specs: none was named", next)
                })?,
                credentials: self
                    .nats_creds
                    .or_else(|| process_env("HEDDLE_CREDS").map(PathBuf::from)),
            },
        };
        let host = match self.id {
            Some(id) => id,
            None => HostId::from_hostname(&hostname().unwrap_or_default())
                .map_err(|error| Failure::new(Exit::Usage, error.to_string(), "name the host with --id"))?,
        };
        let mut options = AgentOptions::new(self.realm, host, self.data, source);
        options.realm_keys = self.realm_public_keys;
        options.join_token = self.join_token;
        options.labels = self.labels.into_iter().collect();
        options.bind = self.bind.into_iter().collect();
        options.memory_bytes = self.memory.map(Size::as_bytes);
        options.replica_slots = self.slots;
        options.cpu_millis = self.cpu;
        options.resources = self.resources.into_iter().collect();
        options.allocator = match self.allocator {
            AllocatorArg::Pooling => Allocator::Pooling,
            AllocatorArg::OnDemand => Allocator::OnDemand,
        };
        options.egress_allow = self.egress_allow;
        options.http = self.http;
        options.heartbeat = self.heartbeat;
        options.leaving_deadline = self.leaving_deadline;
        Ok(options)
    }
}

/// Runs components until it is told to stop.
pub async fn run(args: AgentArgs) -> Result<(), Failure> {
    run_with(args, |agent| agent).await
}

/// The same for a program with capabilities of its own: `build` adds them to what every agent has.
pub async fn run_with(args: AgentArgs, build: impl FnOnce(Agent) -> Agent) -> Result<(), Failure> {
    start_log(&args.log)?;
    let signals = StopSignals::new()?;
    build(Agent::builder(args.options()?))
        .run(shutdown(signals))
        .await
        .map_err(|error| Failure::new(Exit::Failed, format!("{error:#}"), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_addresses_are_pairs() {
        assert_eq!(label("zone=a=b"), Ok(("zone".into(), "a=b".into())));
        assert!(label("zone").is_err() && label("=a").is_err());
        assert_eq!(resource("acme.dev/gpu=2"), Ok(("acme.dev/gpu".into(), 2)));
        for wrong in ["gpu", "gpu=0", "gpu=two", "=2", "g!pu=1", "gpu=9999999"] {
            assert!(resource(wrong).is_err(), "{wrong}");
        }
        assert_eq!((cpu("4"), cpu("3500m")), (Ok(4_000), Ok(3_500)));
        assert!(cpu("0").is_err() && cpu("0.5").is_err() && cpu("99999999").is_err());
        let (name, address) = bind("web=127.0.0.1:18081").unwrap();
        assert_eq!((name.as_str(), address.port()), ("web", 18_081));
        assert!(bind("web").is_err() && bind("Web=127.0.0.1:1").is_err() && bind("web=nowhere").is_err());
    }
}
