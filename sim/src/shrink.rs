//! Makes a failing world smaller: leaves out faults, requests and hosts for as long as the same rule is still broken.

use crate::run::Stock;
use crate::scenario::{Messages, Scenario, StoreFaults};
use crate::world::Outcome;

/// Worlds that are tried at most.
const TRIES_MAX: u32 = 400;

/// The smallest world found that breaks the same rule, and what happens in it.
pub fn shrink(stock: &Stock, scenario: Scenario, rule: &str) -> (Scenario, Outcome) {
    let mut best = scenario;
    let mut outcome = stock.run(best.clone(), false);
    let mut tries = 0;
    loop {
        let mut smaller = false;
        for candidate in candidates(&best) {
            tries += 1;
            if tries > TRIES_MAX {
                break;
            }
            let tried = stock.run(candidate.clone(), false);
            if tried.broken.iter().any(|broken| rule_of(broken) == rule) {
                (best, outcome, smaller) = (candidate, tried, true);
                break;
            }
        }
        if !smaller {
            return (best, outcome);
        }
    }
}

/// The rule's name in a sentence about a broken one.
pub fn rule_of(broken: &str) -> &str {
    broken.split(':').next().unwrap_or(broken)
}

fn candidates(of: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Scenario)| {
        let mut scenario = of.clone();
        change(&mut scenario);
        all.push(scenario);
    };
    if of.messages.lost + of.messages.twice + of.messages.late > 0.0 {
        with(&|s| {
            s.messages = Messages {
                delay_ms: s.messages.delay_ms,
                ..Messages::default()
            };
        });
        with(&|s| s.messages.lost = 0.0);
        with(&|s| s.messages.twice = 0.0);
        with(&|s| s.messages.late = 0.0);
    }
    if of.store.request_lost + of.store.answer_lost + of.store.very_late > 0.0 {
        with(&|s| {
            s.store = StoreFaults {
                delay_ms: s.store.delay_ms,
                ..StoreFaults::default()
            };
        });
    }
    if of.pace.fails > 0.0 {
        with(&|s| s.pace.fails = 0.0);
    }
    if of.hosts > 1 {
        with(&|s| s.hosts = (s.hosts / 2).max(1));
        with(&|s| s.hosts -= 1);
    }
    for size in [8usize, 4, 2, 1] {
        for start in (0..of.faults.len()).step_by(size) {
            if size <= of.faults.len() {
                with(&|s| drop(s.faults.drain(start..(start + size).min(s.faults.len()))));
            }
        }
        for start in (0..of.asks.len()).step_by(size) {
            if size <= of.asks.len() {
                with(&|s| drop(s.asks.drain(start..(start + size).min(s.asks.len()))));
            }
        }
    }
    all.retain(|scenario| scenario.faults.len() + scenario.asks.len() <= of.faults.len() + of.asks.len());
    all
}
