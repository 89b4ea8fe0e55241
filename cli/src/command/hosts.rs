//! `heddle hosts`: the fleet's hosts, and what an operator says of them.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs, duration};
use crate::output::Output;
use crate::progress::Progress;
use crate::view;
use crate::wait::WaitArgs;
use heddle_protocol::api::hosts::{ForgetHost, Hosts, JoinToken, MakeJoinToken, SetHost, TaintHost};
use heddle_protocol::id::HostId;
use heddle_protocol::manifest::{is_label_key, is_label_value};
use heddle_protocol::record::{HostAdmin, Taint, TaintEffect};
use std::time::{Duration, Instant};

/// How often `drain` looks whether the host is empty.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Flags of `hosts`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = false, subcommand_negates_reqs = true)]
pub struct HostsArgs {
    #[command(subcommand)]
    verb: Option<HostsVerb>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// What to do with a host.
#[derive(Debug, clap::Subcommand)]
pub enum HostsVerb {
    /// List the hosts
    List,
    /// Let a host keep what it has and take nothing new
    Cordon(HostArg),
    /// Let a host take work again
    Uncordon(HostArg),
    /// Move everything off a host, each replica once its replacement is ready
    Drain(DrainArgs),
    /// Keep workloads off a host that do not tolerate a taint
    Taint(TaintArgs),
    /// Take a taint off a host
    Untaint {
        /// The host
        #[arg(value_name = "HOST")]
        host: HostId,
        /// The taint's name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Forget a host that is gone for good: it must join again, and its replicas are placed elsewhere at once
    Forget {
        /// The host
        #[arg(value_name = "HOST")]
        host: HostId,
        /// Also when it lives
        #[arg(long)]
        force: bool,
    },
    /// Make a one-use token with which one host can join
    Token {
        /// How long it is valid
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
        valid: Duration,
    },
}

/// One host.
#[derive(Debug, clap::Args)]
pub struct HostArg {
    /// The host
    #[arg(value_name = "HOST")]
    host: HostId,
}

/// A taint and its host.
#[derive(Debug, clap::Args)]
pub struct TaintArgs {
    /// The host
    #[arg(value_name = "HOST")]
    host: HostId,
    /// The taint and what it does to workloads that do not tolerate it: `no-new` keeps new replicas away, `evict` also
    /// moves those away that are there
    #[arg(value_name = "NAME[=VALUE]:no-new|evict", value_parser = taint)]
    taint: (String, Taint),
}

fn taint(text: &str) -> Result<(String, Taint), String> {
    let expected = "expected NAME[=VALUE]:no-new or NAME[=VALUE]:evict, such as acme.dev/gpu:no-new";
    let (named, effect) = text.rsplit_once(':').ok_or(expected)?;
    let effects = [TaintEffect::NoNew, TaintEffect::Evict];
    let effect = effects
        .into_iter()
        .find(|known| known.as_str() == effect)
        .ok_or(expected)?;
    let (name, value) = named.split_once('=').unwrap_or((named, ""));
    if !is_label_key(name) || !is_label_value(value) {
        return Err("the taint's name and value must have the form of a label's".to_owned());
    }
    let value = value.to_owned();
    Ok((name.to_owned(), Taint { value, effect }))
}

/// A host to empty.
#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    /// The host
    #[arg(value_name = "HOST")]
    host: HostId,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Lists hosts, or says something of one.
pub async fn run(args: HostsArgs, output: &Output) -> Result<(), Failure> {
    let fleet = Fleet::connect(&args.fleet, &NamespaceArgs::default()).await?;
    match args.verb.unwrap_or(HostsVerb::List) {
        HostsVerb::List => output.value(&fleet.hosts(Hosts::default()).await?, view::hosts::table),
        HostsVerb::Cordon(arg) => set(&fleet, arg.host, HostAdmin::Cordoned, output).await,
        HostsVerb::Uncordon(arg) => set(&fleet, arg.host, HostAdmin::Open, output).await,
        HostsVerb::Drain(drained) => drain(&fleet, drained.host, &drained.wait, output).await,
        HostsVerb::Taint(TaintArgs { host, taint }) => {
            let (name, taint) = (taint.0, Some(taint.1));
            let applied = fleet.change(&fleet.namespace, &TaintHost { host, name, taint }).await?;
            output.value(&applied, view::applied::done)
        }
        HostsVerb::Untaint { host, name } => {
            let taint = None;
            let applied = fleet.change(&fleet.namespace, &TaintHost { host, name, taint }).await?;
            output.value(&applied, view::applied::done)
        }
        HostsVerb::Forget { host, force } => {
            let applied = fleet.change(&fleet.namespace, &ForgetHost { host, force }).await?;
            output.value(&applied, view::applied::done)
        }
        HostsVerb::Token { valid } => {
            let valid_ms = u64::try_from(valid.as_millis()).unwrap_or(u64::MAX);
            let token = fleet.change(&fleet.namespace, &MakeJoinToken { valid_ms }).await?;
            output.value(&token, |token, _| draw_token(token))
        }
    }
}

async fn set(fleet: &Fleet, host: HostId, admin: HostAdmin, output: &Output) -> Result<(), Failure> {
    let applied = fleet.change(&fleet.namespace, &SetHost { host, admin }).await?;
    output.value(&applied, view::applied::done)
}

async fn drain(fleet: &Fleet, host: HostId, wait: &WaitArgs, output: &Output) -> Result<(), Failure> {
    let drain = SetHost {
        host: host.clone(),
        admin: HostAdmin::Draining,
    };
    let applied = fleet.change(&fleet.namespace, &drain).await?;
    if !output.json {
        output.value(&applied, view::applied::done)?;
    }
    if wait.wait {
        until_empty(fleet, &host, wait.timeout)
            .await
            .map_err(|failure| failure.with_known(&applied))?;
    }
    if output.json {
        output.value(&applied, view::applied::done)
    } else {
        Ok(())
    }
}

async fn until_empty(fleet: &Fleet, host: &HostId, timeout: Duration) -> Result<(), Failure> {
    let started = Instant::now();
    let mut progress = Progress::start();
    loop {
        let status = super::describe::host(fleet, host.as_str()).await?;
        if status.replicas == 0 {
            return Ok(());
        }
        let left = view::count(u64::from(status.replicas), "replica");
        if started.elapsed() >= timeout {
            let after = view::age(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
            let message = format!("failed to see host {host} empty within {after}: {left} still there");
            let next = "the drain goes on; `heddle status -A` shows what hinders it";
            return Err(Failure::new(Exit::TimedOut, message, next));
        }
        progress.update(&format!("draining {host}: {left} left"));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The token, and how a host joins with it.
fn draw_token(token: &JoinToken) -> String {
    let keys: Vec<String> = token
        .realm_keys
        .iter()
        .map(|key| format!(" --realm-public-key {key}"))
        .collect();
    format!(
        "{}\nnext: heddle agent --join-token {}{}\n",
        token.token,
        token.token,
        keys.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taint_has_a_name_a_value_or_none_and_an_effect() {
        let (name, put) = taint("acme.dev/gpu=a100:no-new").unwrap();
        assert_eq!((name.as_str(), put.value.as_str()), ("acme.dev/gpu", "a100"));
        assert_eq!(put.effect, TaintEffect::NoNew);
        let (name, put) = taint("spot:evict").unwrap();
        assert_eq!(
            (name.as_str(), put.value.as_str(), put.effect),
            ("spot", "", TaintEffect::Evict)
        );
        for wrong in ["spot", "spot:stop", ":evict", "s!:evict", "spot=a b:evict", ""] {
            assert!(taint(wrong).is_err(), "{wrong}");
        }
    }
}
