//! Heddle's command line: every role and every verb in one binary.
//!
//! In: arguments, the environment, files. Out: data on stdout, talk on stderr, a documented exit code. What a verb does
//! is in `command/`, what people see of it in `view/`; the rest are the few things that verbs share.

pub mod args;
pub mod command;
pub mod context;
pub mod exit;
pub mod failure;
pub mod fleet;
pub mod output;
pub mod progress;
pub mod source;
pub mod up;
pub mod view;
pub mod wait;

use args::Cli;
use clap::Parser;
use exit::Exit;
use failure::Failure;
use output::Output;
use std::process::ExitCode;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    // Clap itself answers --help, --version and wrong usage (with exit code 2).
    let cli = Cli::parse();
    let output = Output::new(cli.command.json());
    let done = runtime(&cli).and_then(|runtime| runtime.block_on(command::run(cli.command, &output)));
    let exit = match done {
        Ok(()) => Exit::Ok,
        Err(failure) => output.failure(&failure),
    };
    ExitCode::from(exit as u8)
}

/// Tasks that a thread runs before it looks for what came in. A guest's turn may last a tick, and requests wait meanwhile.
const TURNS_BETWEEN_LOOKS: u32 = 8;

/// Roles serve many at once; verbs ask one question after the other. One thread also keeps `up` the parent of all that
/// it starts: Linux ends a child with the thread that started it.
fn runtime(cli: &Cli) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = match cli.command.is_role() {
        true => tokio::runtime::Builder::new_multi_thread(),
        false => tokio::runtime::Builder::new_current_thread(),
    };
    builder
        .enable_all()
        .event_interval(TURNS_BETWEEN_LOOKS)
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("failed to start the runtime: {error}"), ""))
}
