//! The command line's grammar: every verb, in the order in which a newcomer meets them.

use crate::command::{
    agent, apply, audit, backup, completions, contexts, delete, describe, events, explain, get, hosts, key, logs, plan,
    rebalance, replay, restore, scheduler, schema, status, undo, validate, version,
};
use crate::{exit, up};
use clap::{Parser, Subcommand};
use std::ffi::OsString;

/// Heddle schedules WebAssembly components over a fleet of hosts.
#[derive(Debug, Parser)]
#[command(
    name = "heddle",
    version,
    propagate_version = false,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit codes are documented in `heddle help exit-codes`.",
    max_term_width = 100
)]
pub struct Cli {
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// A verb.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a fleet on this machine: NATS, a scheduler and some agents
    Up(up::UpArgs),
    /// Make what manifests say the fleet's intent, and wait until it runs
    Apply(apply::ApplyArgs),
    /// Show what an apply would do, and do nothing
    Plan(plan::PlanArgs),
    /// Show how workloads fare
    Status(status::StatusArgs),
    /// Show why a workload is where it is, or why it is not
    Explain(explain::ExplainArgs),
    /// List objects, or print them as manifests
    Get(get::GetArgs),
    /// Show everything about one workload or host
    Describe(describe::DescribeArgs),
    /// Delete objects, and wait until nothing of them runs
    Delete(delete::DeleteArgs),
    /// Take a workload back to an earlier generation
    Undo(undo::UndoArgs),
    /// Show what happened
    Events(events::EventsArgs),
    /// Show how past commits came to be
    Audit(audit::AuditArgs),
    /// Move replicas that are better elsewhere by now, so many and no more
    Rebalance(rebalance::RebalanceArgs),
    /// Make a past decision again, and show what was decided
    Replay(replay::ReplayArgs),
    /// Show what a workload's components wrote
    Logs(logs::LogsArgs),
    /// List hosts, cordon, drain, taint or forget them, or let a new one join
    Hosts(hosts::HostsArgs),
    /// Check manifests without a fleet
    Validate(validate::ValidateArgs),
    /// Print the JSON Schema of manifests
    Schema(schema::SchemaArgs),
    /// Save a verified image of the realm's state
    Backup(backup::BackupArgs),
    /// Make the realm's state what a backup says
    Restore(restore::RestoreArgs),
    /// Show and choose the fleets that commands speak to
    Context(contexts::ContextArgs),
    /// Make a key pair
    Key(key::KeyArgs),
    /// Run a scheduler
    Scheduler(scheduler::SchedulerArgs),
    /// Run an agent
    Agent(agent::AgentArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Show the versions of this program and of the fleet
    Version(version::VersionArgs),
    /// List the exit codes
    #[command(name = "exit-codes", long_about = exit::table())]
    ExitCodes,
    /// What a scheduler starts to compile one component
    #[command(hide = true)]
    CompileWorker,
    /// What `up` starts its children through
    #[command(name = up::CHILD_VERB, hide = true)]
    BecomeChild(BecomeChildArgs),
}

/// Arguments of the hidden verb: the parent, the program, its arguments.
#[derive(Debug, clap::Args)]
pub struct BecomeChildArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<OsString>,
}

impl Command {
    /// Whether programs read the answer.
    pub fn json(&self) -> bool {
        match self {
            Command::Up(args) => args.json,
            Command::Apply(args) => args.json,
            Command::Plan(args) => args.json,
            Command::Status(args) => args.json,
            Command::Explain(args) => args.json,
            Command::Get(args) => args.json(),
            Command::Describe(args) => args.json,
            Command::Delete(args) => args.json,
            Command::Undo(args) => args.json,
            Command::Events(args) => args.json,
            Command::Audit(args) => args.json,
            Command::Rebalance(args) => args.json,
            Command::Replay(args) => args.json,
            Command::Logs(args) => args.json,
            Command::Hosts(args) => args.json,
            Command::Validate(args) => args.json,
            Command::Backup(args) => args.json,
            Command::Restore(args) => args.json,
            Command::Context(args) => args.json,
            Command::Key(args) => args.json,
            Command::Version(args) => args.json,
            Command::Schema(_)
            | Command::Scheduler(_)
            | Command::Agent(_)
            | Command::Completions(_)
            | Command::ExitCodes
            | Command::CompileWorker
            | Command::BecomeChild(_) => false,
        }
    }

    /// Whether it is a role that runs until it is told to stop.
    pub fn is_role(&self) -> bool {
        matches!(self, Command::Scheduler(_) | Command::Agent(_))
    }
}
