//! `heddle-bench NAME`: one benchmark, its figures on stdout, its progress on stderr.
//!
//! Exits with 0 when it measured, 1 when it could not, 2 when the command line is wrong.

use anyhow::{Context as _, Result};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, ValueEnum};
use heddle_bench::{Bench, Output};
use serde_json::Value;
use std::io::Write as _;

/// Measures Heddle.
#[derive(Debug, Parser)]
#[command(name = "heddle-bench", arg_required_else_help = true)]
struct Args {
    /// Which benchmark
    #[arg(required_unless_present = "list")]
    name: Option<Bench>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// A shortened form: it shows that the benchmark works, and its figures mean little
    #[arg(long)]
    quick: bool,
    /// Only these attacks, of `hostile`
    #[arg(long, value_name = "ATTACK,…", value_delimiter = ',', requires = "name")]
    only: Vec<String>,
    /// Name all benchmarks
    #[arg(long, conflicts_with_all = ["name", "quick", "only"])]
    list: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let text = match args.name {
        None => list(args.json),
        Some(bench) => {
            if let Err(error) = bench.has_parts(&args.only) {
                Args::command().error(ErrorKind::ValueValidation, error).exit();
            }
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let output = runtime.block_on(bench.run(args.quick, &args.only))?;
            if args.json {
                format!("{}\n", serde_json::to_string(&output)?)
            } else {
                table(&output)?
            }
        }
    };
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("failed to print the figures")
}

fn list(json: bool) -> String {
    let benches = Bench::value_variants();
    if json {
        return format!(
            "{}\n",
            Value::from(benches.iter().map(|bench| bench.name()).collect::<Vec<_>>())
        );
    }
    let line = |bench: &Bench| {
        let help = bench
            .to_possible_value()
            .and_then(|value| value.get_help().map(ToString::to_string));
        format!("{:<10} {}\n", bench.name(), help.unwrap_or_default())
    };
    benches.iter().map(line).collect()
}

/// One metric a line, for people.
fn table(output: &Output) -> Result<String> {
    let machine = &output.machine;
    let mut text = format!(
        "{} at {} on {} × {} (load {}, sync {} ms)\n",
        output.bench, output.commit, machine.cores, machine.cpu, machine.load1, machine.fsync_ms
    );
    let metrics = output
        .figures
        .metrics
        .as_object()
        .context("the benchmark has no metrics")?;
    let width = metrics.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in metrics {
        let shown = match value {
            Value::Object(parts) => parts
                .iter()
                .map(|(name, value)| format!("{name} {value}"))
                .collect::<Vec<_>>()
                .join("  "),
            other => other.to_string(),
        };
        text.push_str(&format!("{name:width$}  {shown}\n"));
    }
    Ok(text)
}
