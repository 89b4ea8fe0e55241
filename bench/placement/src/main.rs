//! `heddle-bench-placement [--quick]`: the placement benchmark by itself, its parameters and metrics as one JSON object.

use anyhow::Result;
use std::io::Write as _;

fn main() -> Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let found = heddle_bench_placement::run(quick)?;
    writeln!(std::io::stdout().lock(), "{found}")?;
    Ok(())
}
