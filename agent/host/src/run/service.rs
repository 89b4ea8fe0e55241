//! What the replicas of a unit run by themselves: services, begun again whenever they end, and jobs, run to their end.
//!
//! In: a unit that is live. Out: calls of `wasi:cli/run`, and word of how they fare as facts. Everything ends with the
//! guard: what runs then is stopped where it is.

use crate::instance::PreparedUnit;
use crate::run::command::{Command, Ran, never};
use heddle_agent_core::{Fact, RunId};
use heddle_capability::{CallFailure, Guard};
use heddle_protocol::host_spec::Run;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The pause before a run begins again, first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// A service that ran for so long began well, whatever ended it.
const LONG: Duration = Duration::from_secs(60);
/// How often it is looked how many replicas there are, and told how they fare.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The pause before a run that found no room tries again.
const ROOM_PAUSE: Duration = Duration::from_millis(500);

/// Begins what a unit runs by itself, if anything.
pub(crate) fn begin(id: RunId, unit: &Arc<PreparedUnit>, facts: Option<&mpsc::Sender<Fact>>) -> Option<Guard> {
    let run = unit.template().run.clone()?;
    let (Run::Service { component } | Run::Job { component, .. }) = &run;
    let progress = Progress::new(id, facts.cloned());
    let command = unit.callable(component).and_then(Command::find).map(Arc::new);
    let component = component.clone();
    let task = tokio::spawn(async move {
        match (command, run) {
            (Some(command), Run::Service { .. }) => serve(command, progress).await,
            (
                Some(command),
                Run::Job {
                    attempts, deadline_ms, ..
                },
            ) => {
                finish(
                    command,
                    attempts.max(1),
                    deadline_ms.map(Duration::from_millis),
                    progress,
                )
                .await
            }
            (None, run) => {
                progress.failed(Some(format!("component {component} exports no wasi:cli/run")));
                progress.tell(matches!(run, Run::Job { .. })).await;
            }
        }
    });
    Some(Guard::new(move || task.abort()))
}

/// How the runs of one unit fare.
#[derive(Clone)]
struct Progress {
    run: RunId,
    facts: Option<mpsc::Sender<Fact>>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    completed: u32,
    failed: u32,
    reason: Option<String>,
    changed: bool,
}

impl Progress {
    fn new(run: RunId, facts: Option<mpsc::Sender<Fact>>) -> Self {
        Self {
            run,
            facts,
            counts: Arc::default(),
        }
    }

    fn note(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counts);
        counts.changed = true;
    }

    fn completed(&self) {
        self.note(|counts| counts.completed += 1);
    }

    fn failed(&self, reason: Option<String>) {
        self.note(|counts| {
            counts.failed = counts.failed.saturating_add(1);
            counts.reason = reason.or(counts.reason.take());
        });
    }

    /// Tells what changed since the last time; several changes are one fact.
    async fn tell(&self, ended: bool) {
        let fact = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::take(&mut counts.changed) && !ended {
                return;
            }
            Fact::UnitProgressed {
                run: self.run,
                completed: counts.completed,
                failed: counts.failed,
                reason: counts.reason.clone(),
                ended,
            }
        };
        if let Some(facts) = &self.facts {
            // The control loop is gone only when the agent ends.
            let _ = facts.send(fact).await;
        }
    }
}

fn pause(failures: u32) -> Duration {
    let doubled = PAUSES
        .0
        .saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(20)));
    doubled.min(PAUSES.1).mul_f64(rand::random_range(0.5..1.0))
}

/// Keeps one run going per replica.
async fn serve(command: Arc<Command>, progress: Progress) {
    let mut replicas = Vec::new();
    loop {
        let wanted = command.component.replicas() as usize;
        // One that is let go stops where it is.
        replicas.truncate(wanted);
        while replicas.len() < wanted {
            replicas.push(StopOnDrop(tokio::spawn(keep_running(
                Arc::clone(&command),
                progress.clone(),
            ))));
        }
        // A replica ends by itself only where the agent's own code failed, and is begun again like any other.
        replicas.retain(|replica: &StopOnDrop| !replica.0.is_finished());
        progress.tell(false).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

struct StopOnDrop(tokio::task::JoinHandle<()>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep_running(command: Arc<Command>, progress: Progress) {
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let ran = command.run(never()).await;
        if let Ran::Failed(CallFailure::Overloaded | CallFailure::HostFull | CallFailure::Draining) = ran {
            // It did not begin: nothing is wrong with it.
            tokio::time::sleep(ROOM_PAUSE).await;
            continue;
        }
        failures = if began.elapsed() >= LONG { 1 } else { failures + 1 };
        progress.failed(ran.reason());
        tokio::time::sleep(pause(failures)).await;
    }
}

/// Runs a job once per replica.
async fn finish(command: Arc<Command>, attempts: u32, deadline: Option<Duration>, progress: Progress) {
    let mut runs = JoinSet::new();
    let mut begun = 0;
    loop {
        while begun < command.component.replicas() {
            begun += 1;
            runs.spawn(attempt(Arc::clone(&command), attempts, deadline));
        }
        tokio::select! {
            ended = runs.join_next(), if !runs.is_empty() => match ended {
                Some(Ok(Ok(()))) => progress.completed(),
                Some(Ok(Err(reason))) => progress.failed(Some(reason)),
                Some(Err(e)) => progress.failed(Some(format!("the agent's own work failed: {e}"))),
                None => {}
            },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let all = begun > 0 && runs.is_empty() && begun >= command.component.replicas();
        progress.tell(all).await;
        if all {
            return;
        }
    }
}

/// Runs until it ends well, as often as it may and for as long as it may.
async fn attempt(command: Arc<Command>, attempts: u32, within: Option<Duration>) -> Result<(), String> {
    let deadline = within.map_or_else(never, |within| Instant::now() + within);
    let mut failures = 0;
    loop {
        let ran = command.run(deadline).await;
        let over = within.filter(|_| Instant::now() >= deadline);
        let reason = match ran {
            Ran::Well => return Ok(()),
            Ran::Failed(CallFailure::Overloaded | CallFailure::HostFull | CallFailure::Draining) => {
                if let Some(within) = over {
                    return Err(format!("it did not begin within {within:?}"));
                }
                tokio::time::sleep(ROOM_PAUSE).await;
                continue;
            }
            ran => ran.reason().unwrap_or_default(),
        };
        failures += 1;
        if let Some(within) = over {
            return Err(format!("it did not end well within {within:?}, its deadline: {reason}"));
        }
        if failures >= attempts {
            return Err(format!("it failed {failures} times, the last time: {reason}"));
        }
        let wait = pause(failures).min(deadline.saturating_duration_since(Instant::now()));
        tokio::time::sleep(wait).await;
    }
}
