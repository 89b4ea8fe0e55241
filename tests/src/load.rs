//! Load that never pauses: it asks for a set of paths, round and round, and remembers every request that failed.
//!
//! In: paths and the addresses of the hosts that are supposed to serve them; the addresses can change while it runs.
//! Out: a [`Report`] with each failure and when it happened, and with the answers of each host in order, changes only.

use crate::http;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Failures that are kept; more tell nothing new.
const FAILURES_KEPT: usize = 50;

/// How to ask.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The paths.
    pub paths: Vec<String>,
    /// Whether a request that one host does not answer with 200 goes to the others, as a proxy does it. Then it only
    /// fails when no host answers it: the first ones are asked twice, because work may move to them meanwhile.
    pub fail_over: bool,
    /// Requests at the same time.
    pub workers: usize,
    /// The pause of a worker between two requests.
    pub pause: Duration,
}

impl LoadOptions {
    /// Two workers that take each answer as final.
    pub fn strict(paths: &[&str]) -> Self {
        Self {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            fail_over: false,
            workers: 2,
            pause: Duration::from_millis(5),
        }
    }

    /// The same, as through a proxy that tries the next host.
    pub fn proxied(paths: &[&str]) -> Self {
        Self {
            fail_over: true,
            ..Self::strict(paths)
        }
    }
}

/// The hosts that are supposed to serve, changeable while the load runs.
#[derive(Debug, Clone, Default)]
pub struct Targets(Arc<Mutex<Vec<SocketAddr>>>);

impl Targets {
    /// Changes them. A request that is on its way goes on.
    pub fn set(&self, addresses: Vec<SocketAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    fn get(&self) -> Vec<SocketAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What became of the requests.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Requests in all.
    pub requests: u64,
    /// Requests that failed.
    pub failed: u64,
    /// The first of those: when, and why.
    pub failures: Vec<(Duration, String)>,
    /// What each host answered on each path, changes only.
    pub answers: BTreeMap<(SocketAddr, String), Vec<String>>,
}

impl Report {
    /// Fails if any request failed, or if there were too few to mean anything.
    pub fn flawless(&self, requests_min: u64) -> Result<()> {
        let failures: Vec<String> = self
            .failures
            .iter()
            .map(|(at, why)| format!("  after {at:?}: {why}"))
            .collect();
        ensure!(
            self.failed == 0,
            "{} of {} requests failed:\n{}",
            self.failed,
            self.requests,
            failures.join("\n")
        );
        ensure!(
            self.requests >= requests_min,
            "only {} requests were made, not {requests_min}",
            self.requests
        );
        Ok(())
    }
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    /// Who is asked.
    pub targets: Targets,
    report: Arc<Mutex<Report>>,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins to ask.
    pub fn start(options: &LoadOptions, addresses: Vec<SocketAddr>) -> Self {
        let targets = Targets::default();
        targets.set(addresses);
        let report = Arc::default();
        let started = Instant::now();
        let workers = (0..options.workers)
            .map(|worker| {
                tokio::spawn(ask_on(
                    options.clone(),
                    worker,
                    targets.clone(),
                    Arc::clone(&report),
                    started,
                ))
            })
            .collect();
        Self {
            targets,
            report,
            workers,
        }
    }

    /// What became of the requests so far.
    pub fn so_far(&self) -> Report {
        lock(&self.report).clone()
    }

    /// Waits until so many more requests were made: everything that was true before has then been asked about.
    pub async fn after_more(&self, requests: u64) -> Result<()> {
        let goal = self.so_far().requests + requests;
        let bound = Duration::from_secs(30);
        crate::until::eventually(bound, "the load gets on", async || {
            let made = lock(&self.report).requests;
            ensure!(made >= goal, "{made} of {goal} requests");
            Ok(())
        })
        .await
    }

    /// Stops. Requests that are on their way are not counted.
    pub fn stop(self) -> Report {
        self.so_far()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.abort();
        }
    }
}

fn lock(report: &Mutex<Report>) -> std::sync::MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ask_on(options: LoadOptions, worker: usize, targets: Targets, report: Arc<Mutex<Report>>, started: Instant) {
    // Workers begin at different places, so that they do not walk in step.
    for turn in worker.. {
        let Some(path) = options.paths.get(turn % options.paths.len().max(1)) else {
            return;
        };
        let addresses = targets.get();
        if !addresses.is_empty() {
            // One host after the other for each path in turn.
            let first = turn / options.paths.len();
            let answered = ask(&addresses, first, path, options.fail_over).await;
            note(&mut lock(&report), path, answered, started.elapsed());
        }
        tokio::time::sleep(options.pause).await;
    }
}

type Answered = std::result::Result<(SocketAddr, String), String>;

async fn ask(addresses: &[SocketAddr], first: usize, path: &str, fail_over: bool) -> Answered {
    let tries = if fail_over { addresses.len() * 2 } else { 1 };
    let mut why = Vec::new();
    for i in 0..tries {
        let address = addresses[(first + i) % addresses.len()];
        let answer = http::get(address, path, None).await.and_then(|answer| answer.ok());
        match answer {
            Ok(text) => return Ok((address, text)),
            Err(error) => why.push(format!("{address}{path}: {error:#}")),
        }
    }
    Err(why.join("; "))
}

fn note(report: &mut Report, path: &str, answered: Answered, at: Duration) {
    report.requests += 1;
    match answered {
        Ok((address, text)) => {
            let texts = report.answers.entry((address, path.to_owned())).or_default();
            if texts.last() != Some(&text) {
                texts.push(text);
            }
        }
        Err(why) => {
            report.failed += 1;
            if report.failures.len() < FAILURES_KEPT {
                report.failures.push((at, why));
            }
        }
    }
}
