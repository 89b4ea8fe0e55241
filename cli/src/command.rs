//! The verbs: one file each, with its flags and what it does.

pub mod agent;
pub mod apply;
pub mod audit;
pub mod backup;
pub mod compile_worker;
pub mod completions;
pub mod contexts;
pub mod delete;
pub mod describe;
pub mod events;
pub mod explain;
pub mod get;
pub mod hosts;
pub mod key;
pub mod logs;
pub mod plan;
pub mod rebalance;
pub mod replay;
pub mod restore;
pub mod role;
pub mod scheduler;
pub mod schema;
pub mod status;
pub mod undo;
pub mod validate;
pub mod version;

use crate::args::Command;
use crate::failure::Failure;
use crate::output::Output;
use crate::{exit, up};

/// Carries out a verb.
pub async fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Up(args) => up::run(args, output).await,
        Command::Apply(args) => apply::run(args, output).await,
        Command::Plan(args) => plan::run(args, output).await,
        Command::Status(args) => status::run(args, output).await,
        Command::Explain(args) => explain::run(args, output).await,
        Command::Get(args) => get::run(args, output).await,
        Command::Describe(args) => describe::run(args, output).await,
        Command::Delete(args) => delete::run(args, output).await,
        Command::Undo(args) => undo::run(args, output).await,
        Command::Events(args) => events::run(args, output).await,
        Command::Audit(args) => audit::run(args, output).await,
        Command::Rebalance(args) => rebalance::run(args, output).await,
        Command::Replay(args) => replay::run(args, output).await,
        Command::Logs(args) => logs::run(args, output).await,
        Command::Hosts(args) => hosts::run(args, output).await,
        Command::Validate(args) => validate::run(&args, output),
        Command::Schema(args) => schema::run(&args, output),
        Command::Backup(args) => backup::run(args, output).await,
        Command::Restore(args) => restore::run(args, output).await,
        Command::Context(args) => contexts::run(args, output),
        Command::Key(args) => key::run(&args, output),
        Command::Scheduler(args) => scheduler::run(args).await,
        Command::Agent(args) => agent::run(args).await,
        Command::Completions(args) => completions::run(&args, output),
        Command::Version(args) => version::run(args, output).await,
        Command::CompileWorker => compile_worker::run(),
        Command::BecomeChild(args) => Err(up::become_child(&args.words)),
        Command::ExitCodes => output.text(&exit::table()),
    }
}
