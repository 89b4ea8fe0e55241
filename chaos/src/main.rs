//! `heddle-chaos`: hurts a fleet of real processes, checks it, and prints the verdict.
//!
//! Exits with 0 when nothing broke, 1 when something did or the run could not be made, 2 when the command line is wrong.

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum as _};
use heddle_chaos::fault::Kind;
use heddle_chaos::{Options, Verdict};
use std::io::Write as _;
use std::process::ExitCode;

/// Hurts a fleet and checks what came of it.
#[derive(Debug, Parser)]
#[command(name = "heddle-chaos")]
struct Args {
    /// Decides the faults; chosen by chance when left out, and always printed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many faults
    #[arg(long, value_name = "N", default_value_t = 20)]
    faults: usize,
    /// The kinds of faults to draw from, separated by commas; all when left out
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let kinds = match args.kinds.is_empty() {
        true => Kind::value_variants().to_vec(),
        false => args.kinds.clone(),
    };
    let options = Options {
        seed: args.seed.unwrap_or_else(rand::random),
        faults: args.faults,
        kinds,
    };
    let again = again(&options, &args.kinds);
    eprintln!("chaos: {again}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let verdict = runtime
        .block_on(heddle_chaos::run(&options))
        .with_context(|| format!("repeat with {again}"))?;
    let text = if args.json {
        format!("{}\n", serde_json::to_string(&verdict)?)
    } else {
        table(&verdict)
    };
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("failed to print the verdict")?;
    if verdict.is_good() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("chaos: something broke; repeat with {again}");
    Ok(ExitCode::FAILURE)
}

/// The command that does the same again.
fn again(options: &Options, kinds: &[Kind]) -> String {
    let kinds: Vec<String> = kinds.iter().map(Kind::to_string).collect();
    let kinds = if kinds.is_empty() {
        String::new()
    } else {
        format!(" --kinds {}", kinds.join(","))
    };
    format!(
        "cargo xtask chaos --seed {} --faults {}{kinds}",
        options.seed, options.faults
    )
}

fn table(verdict: &Verdict) -> String {
    let kinds: Vec<String> = verdict.kinds.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    format!(
        "faults                     {} ({})\nacknowledged changes       {}, lost {}\norphans                    {}\n\
         duplicate singletons       {}\nrequests elsewhere         {}, failed {}\nseed                       {}\n",
        verdict.faults,
        kinds.join(", "),
        verdict.acknowledged,
        verdict.lost_acked,
        verdict.orphans,
        verdict.duplicate_singletons,
        verdict.requests_elsewhere,
        verdict.failed_requests_elsewhere,
        verdict.seed
    )
}
