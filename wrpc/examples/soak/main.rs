//! `cargo run --release -p heddle-wrpc --example soak -- --calls 1000000 --json`
//!
//! In: a NATS server (`--nats`), how many calls. Out: one JSON object, or a few lines; the exit code says whether a call
//! hung or got wrong results.

mod run;

use anyhow::Result;
use clap::Parser;
use heddle_wrpc::{Connection, Options};
use std::process::ExitCode;

/// Makes many calls of all sizes at once, cancels some, and counts those that hang.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many calls.
    #[arg(long, default_value_t = 20_000)]
    calls: u64,
    /// Where NATS is.
    #[arg(long, default_value = "nats://127.0.0.1:4222")]
    nats: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let caller = Connection::new(async_nats::connect(&arguments.nats).await?, Options::default()).await?;
    let callee = Connection::new(async_nats::connect(&arguments.nats).await?, Options::default()).await?;
    let counts = run::soak(&caller, &callee, arguments.calls).await?;
    print(&counts, arguments.json);
    let is_sound = counts.hangs == 0 && counts.wrong == 0;
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[allow(clippy::print_stdout, reason = "stdout is this program's result")]
fn print(counts: &run::Counts, json: bool) {
    let value = counts.json();
    if json {
        println!("{value}");
    } else {
        for (name, value) in value.as_object().into_iter().flatten() {
            println!("{name}: {value}");
        }
    }
}
