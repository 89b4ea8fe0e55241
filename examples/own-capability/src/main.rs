//! An agent with a capability of one's own: `acme-agent agent …` takes what `heddle agent …` takes, and lends ledgers too.
//! In: flags. Out: a host that lists the feature `acme-ledger@1.0.0`, so that platforms can lend it there.

#![forbid(unsafe_code)]

mod ledger;

use clap::Parser;
use heddle::command::agent::{AgentArgs, run_with};
use heddle::exit::Exit;
use heddle::failure::Failure;
use heddle::output::Output;
use ledger::Ledger;
use std::process::ExitCode;

/// An agent that lends ledgers
#[derive(Debug, Parser)]
#[command(version)]
enum Acme {
    /// Run components, as `heddle agent` does
    Agent(Box<AgentArgs>),
}

fn main() -> ExitCode {
    let Acme::Agent(args) = Acme::parse();
    let exit = match run(*args) {
        Ok(()) => Exit::Ok,
        Err(failure) => Output::new(false).failure(&failure),
    };
    ExitCode::from(exit as u8)
}

fn run(args: AgentArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::new(Exit::Failed, format!("failed to start the runtime: {error}"), ""))?;
    runtime.block_on(run_with(args, |agent| agent.capability(Ledger::default())))
}
