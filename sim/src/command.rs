//! What the command does: many seeds, one seed with its trace, or the deliberate bugs.
//!
//! In: what was asked for. Out: lines or one JSON object on the given output, and whether all is well.

use crate::mutants::{self, MUTANTS};
use crate::run::Stock;
use crate::scenario::Scenario;
use crate::shrink::{rule_of, shrink};
use crate::world::Outcome;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Instant;

/// Every so-many-th seed is run twice, and both must come to the same number.
const TWICE_EVERY: u64 = 50;
/// Seeds in the short form.
pub const QUICK_SEEDS: u64 = 300;
/// Seeds that a deliberate bug may take until it is noticed.
const MUTANT_SEEDS: u64 = 4_000;

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// How many seeds.
    pub seeds: u64,
    /// The first one.
    pub from: u64,
    /// One seed, with its trace.
    pub seed: Option<u64>,
    /// Whether that one's world is to be made smaller.
    pub shrink: bool,
    /// Whether to try all deliberate bugs.
    pub mutants: bool,
    /// One deliberate bug.
    pub mutant: Option<String>,
    /// Whether to print one JSON object.
    pub json: bool,
    /// Whether to go on after a broken rule.
    pub keep_going: bool,
}

/// Does it. Says whether all is well.
///
/// # Errors
/// If nothing can be run or written.
pub fn run(asked: &Asked, out: &mut dyn Write) -> Result<bool> {
    if (asked.mutants || asked.mutant.is_some()) && !mutants::are_built_in() {
        bail!("this build has no deliberate bugs; build it with `--features mutants`");
    }
    let stock = Stock::new()?;
    match asked.seed {
        Some(seed) => one(&stock, asked, seed, out),
        None if asked.mutants || asked.mutant.is_some() => all_mutants(&stock, asked, out),
        None => many(&stock, asked, out),
    }
}

/// Runs one seed and tells what happens in it.
fn one(stock: &Stock, asked: &Asked, seed: u64, out: &mut dyn Write) -> Result<bool> {
    mutants::choose(asked.mutant.as_deref());
    let mut scenario = Scenario::of(seed);
    if asked.shrink {
        let first = stock.run(scenario.clone(), false);
        if let Some(broken) = first.broken.first() {
            scenario = shrink(stock, scenario, rule_of(broken)).0;
        }
    }
    let outcome = stock.run(scenario.clone(), true);
    writeln!(out, "{scenario:#?}")?;
    for line in &outcome.trace {
        writeln!(out, "{line}")?;
    }
    for broken in &outcome.broken {
        writeln!(out, "BROKEN {broken}")?;
    }
    let Outcome {
        faults,
        commits,
        events,
        virtual_ms,
        hash,
        ..
    } = outcome;
    writeln!(
        out,
        "seed {seed}: {faults} faults, {commits} commits, {events} events, {virtual_ms} ms, hash {hash:016x}"
    )?;
    Ok(outcome.broken.is_empty())
}

/// Runs many seeds.
fn many(stock: &Stock, asked: &Asked, out: &mut dyn Write) -> Result<bool> {
    let began = Instant::now();
    let mut sums = Outcome::default();
    let (mut ran, mut failed, mut twice) = (0u64, Vec::new(), Vec::new());
    stock.run_all(asked.from..asked.from + asked.seeds, threads(), &|| {}, |outcome| {
        ran += 1;
        sums.faults += outcome.faults;
        sums.commits += outcome.commits;
        sums.replayed += outcome.replayed;
        sums.events += outcome.events;
        sums.virtual_ms += outcome.virtual_ms;
        if outcome.seed % TWICE_EVERY == 0 {
            twice.push((outcome.seed, outcome.hash));
        }
        if let Some(broken) = outcome.broken.first() {
            tracing::error!(seed = outcome.seed, broken, "a rule is broken");
            failed.push((outcome.seed, broken.clone()));
        }
        failed.is_empty() || asked.keep_going
    });
    let seconds = began.elapsed().as_secs_f64();
    for (seed, hash) in &twice {
        let again = stock.run(Scenario::of(*seed), false);
        if again.hash != *hash {
            failed.push((*seed, "determinism: run again, it came to another end".to_owned()));
        }
    }
    failed.sort();
    let years = sums.virtual_ms as f64 / (365.25 * 86_400_000.0);
    if asked.json {
        let repeat = failed
            .first()
            .map(|(seed, broken)| json!({ "broken": broken, "repeat": repeat(*seed) }));
        let value = json!({
            "seeds": ran, "faults": sums.faults, "commits": sums.commits, "replayed": sums.replayed,
            "events": sums.events,
            "virtual_years": years, "violations": failed.len(), "first": repeat,
            "determinism_checked": twice.len(), "seeds_per_second": ran as f64 / seconds,
        });
        writeln!(out, "{value}")?;
    } else {
        writeln!(
            out,
            "{ran} seeds: {} faults, {} commits ({} decided again), {years:.4} virtual years, {:.1} seeds/s, {} run twice, \
             {} violations",
            sums.faults,
            sums.commits,
            sums.replayed,
            ran as f64 / seconds,
            twice.len(),
            failed.len()
        )?;
    }
    if let (Some((seed, broken)), false) = (failed.first(), asked.json) {
        let rule = rule_of(broken);
        let (smallest, outcome) = shrink(stock, Scenario::of(*seed), rule);
        writeln!(out, "seed {seed}: {broken}\nits smallest world:\n{smallest:#?}")?;
        outcome
            .broken
            .iter()
            .try_for_each(|broken| writeln!(out, "BROKEN {broken}"))?;
        writeln!(out, "repeat it: {}", repeat(*seed))?;
    }
    Ok(failed.is_empty())
}

fn repeat(seed: u64) -> String {
    format!("cargo xtask sim --seed {seed} --shrink")
}

/// Tries deliberate bugs.
fn all_mutants(stock: &Stock, asked: &Asked, out: &mut dyn Write) -> Result<bool> {
    let names: Vec<&str> = match &asked.mutant {
        Some(name) => vec![name.as_str()],
        None => MUTANTS.to_vec(),
    };
    let (mut caught, mut list) = (0, Vec::new());
    for name in &names {
        let tried = mutants::try_one(stock, name, asked.from..asked.from + MUTANT_SEEDS, threads());
        caught += usize::from(tried.caught.is_some());
        let (seed, how) = tried.caught.clone().unzip();
        if !asked.json {
            let short: String = how.as_deref().unwrap_or("NOT NOTICED").chars().take(140).collect();
            writeln!(out, "{name:34} {:>5} worlds, seed {seed:?}: {short}", tried.worlds)?;
            out.flush()?;
        }
        list.push(json!({ "name": name, "seed": seed, "rule": how.as_deref().map(rule_of), "worlds": tried.worlds }));
    }
    let value: Value = json!({ "mutants": { "total": names.len(), "caught": caught, "list": list } });
    match asked.json {
        true => writeln!(out, "{value}")?,
        false => writeln!(out, "{caught} of {} deliberate bugs are noticed", names.len())?,
    }
    Ok(caught == names.len())
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
