//! `heddle-sim`: runs seeds, repeats one with its trace, and tries the deliberate bugs.
//!
//! Stdout holds one JSON object with `--json`, or sentences; exit code 1 says that a rule was broken, or that a bug was not
//! noticed.

use clap::Parser;
use heddle_sim::command::{Asked, QUICK_SEEDS, run};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "heddle-sim", about = "Production code in simulated worlds")]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs one seed, and tells what happens in it.
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: makes its world as small as it can and still break the same rule.
    #[arg(long)]
    shrink: bool,
    /// Tries every deliberate bug.
    #[arg(long)]
    mutants: bool,
    /// Tries one deliberate bug, or runs a seed with it.
    #[arg(long)]
    mutant: Option<String>,
    /// A few hundred seeds.
    #[arg(long)]
    quick: bool,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Goes on after a broken rule.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let level = tracing_subscriber::EnvFilter::try_from_env("HEDDLE_LOG").unwrap_or_else(|_| "heddle_sim=error".into());
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(std::io::stderr)
        .init();
    // A panic in a world is told as a broken rule.
    std::panic::set_hook(Box::new(|_| {}));
    let args = Args::parse();
    let asked = Asked {
        seeds: if args.quick { QUICK_SEEDS } else { args.seeds },
        from: args.from,
        seed: args.seed,
        shrink: args.shrink,
        mutants: args.mutants,
        mutant: args.mutant,
        json: args.json,
        keep_going: args.keep_going,
    };
    match run(&asked, &mut std::io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            tracing::error!("{e:#}");
            ExitCode::FAILURE
        }
    }
}
