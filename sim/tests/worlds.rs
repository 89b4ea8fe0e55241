//! A few hundred worlds, as part of every run of the tests; the long runs are `cargo xtask sim`.

#![allow(clippy::unwrap_used, reason = "in a test a broken expectation is the message")]

use heddle_sim::run::Stock;
use heddle_sim::scenario::Scenario;

/// Seeds that the tests run, from the first.
const SEEDS: u64 = 250;
/// Seeds in which something was broken once.
const ONCE_BROKEN: &str = include_str!("../seeds.txt");

#[test]
fn no_rule_is_broken_in_some_hundred_worlds() {
    let stock = Stock::new().unwrap();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut ran, mut broken) = (0, Vec::new());
    stock.run_all(0..SEEDS, threads, &|| {}, |outcome| {
        ran += 1;
        broken.extend(outcome.broken.iter().map(|why| format!("seed {}: {why}", outcome.seed)));
        true
    });
    assert_eq!(ran, SEEDS);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_rule_is_broken_any_more_where_one_was_once() {
    let stock = Stock::new().unwrap();
    let lines = ONCE_BROKEN
        .lines()
        .map(|line| line.split('#').next().unwrap_or("").trim());
    let seeds: Vec<u64> = lines
        .filter(|line| !line.is_empty())
        .map(|line| line.parse().unwrap())
        .collect();
    assert!(!seeds.is_empty());
    for seed in seeds {
        let outcome = stock.run(Scenario::of(seed), false);
        assert!(outcome.broken.is_empty(), "seed {seed}: {:?}", outcome.broken);
    }
}

#[test]
fn the_same_seed_twice_is_the_same_world() {
    let stock = Stock::new().unwrap();
    for seed in 0..20 {
        let [one, two] = [(); 2].map(|()| stock.run(Scenario::of(seed), false));
        assert_eq!(
            (one.hash, one.events, one.virtual_ms),
            (two.hash, two.events, two.virtual_ms),
            "seed {seed}"
        );
        assert_eq!(one.commits, two.commits, "seed {seed}");
    }
}

#[test]
fn a_world_without_a_link_to_its_store_never_comes_to_rest() {
    // The checks can fail: a store that loses every answer allows nothing to be decided.
    let stock = Stock::new().unwrap();
    let mut scenario = Scenario::of(3);
    scenario.hosts = 2;
    scenario.faults.clear();
    scenario.store.delay_ms = 60_000;
    let outcome = stock.run(scenario, false);
    assert!(
        outcome.broken.iter().any(|why| why.starts_with("converges")),
        "{:?}",
        outcome.broken
    );
}
