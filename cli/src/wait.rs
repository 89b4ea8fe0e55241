//! Waiting until workloads run at the generation that was applied, or are gone (D15).
//!
//! One question at a time, each answered as soon as all is done or after a second, so that progress can be told.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, duration};
use crate::progress::Progress;
use crate::view::{self, status};
use heddle_protocol::api::apply::{Applied, Change};
use heddle_protocol::api::status::{Wait, Waited};
use heddle_protocol::id::{Namespace, WorkloadId};
use heddle_protocol::record::WaitTarget;
use heddle_wire::client::ClientError;
use std::time::{Duration, Instant};

/// How long one question may wait at the scheduler: how often progress is told.
const POLL_MS: u64 = 1_000;
/// Pause before asking again when nobody answered.
const PAUSE: Duration = Duration::from_millis(200);

/// The flags of commands that wait.
#[derive(Debug, Clone, clap::Args)]
pub struct WaitArgs {
    /// Whether to wait until it is done
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true",
        require_equals = true, action = clap::ArgAction::Set)]
    pub wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
}

/// What must be reached after an apply or undo: every workload at its generation; after a delete, nothing left.
pub fn targets(applied: &Applied) -> Vec<WaitTarget> {
    let workloads = applied.objects.iter().filter(|object| object.kind == "Workload");
    workloads
        .filter_map(|object| {
            let workload = WorkloadId::parse(&object.name).ok()?;
            let generation = (object.change != Change::Deleted).then_some(object.generation);
            Some(WaitTarget { workload, generation })
        })
        .collect()
}

/// Waits, if the flags want it, until what was applied is reached.
pub async fn applied(fleet: &Fleet, args: &WaitArgs, applied: &Applied) -> Result<(), Failure> {
    let targets = targets(applied);
    if !args.wait || targets.is_empty() {
        return Ok(());
    }
    reach(fleet, targets, args.timeout)
        .await
        .map_err(|failure| failure.with_known(applied))
}

/// Waits until all targets are reached. A scheduler that goes away meanwhile is waited for.
pub async fn reach(fleet: &Fleet, targets: Vec<WaitTarget>, timeout: Duration) -> Result<(), Failure> {
    let all = targets.len();
    let started = Instant::now();
    let namespace = targets
        .first()
        .map_or_else(Namespace::fallback, |target| target.workload.namespace.clone());
    let mut progress = Progress::start();
    let mut last = None;
    loop {
        let left = timeout.saturating_sub(started.elapsed());
        let timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).min(POLL_MS);
        let silence = match fleet
            .ask_quietly(
                &namespace,
                &Wait {
                    targets: targets.clone(),
                    timeout_ms,
                },
            )
            .await
        {
            Ok(waited) if waited.done => {
                progress.clear();
                for workload in &waited.superseded {
                    crate::output::say(&format!(
                        "note: {workload} was replaced by a newer generation, which runs"
                    ));
                }
                return Ok(());
            }
            Ok(waited) => {
                progress.update(&how_far(&waited, all));
                last = Some(waited);
                None
            }
            Err(error @ (ClientError::Unreachable { .. } | ClientError::Unknown { .. })) => {
                progress.update("waiting for a scheduler to answer");
                tokio::time::sleep(PAUSE).await;
                Some(error.to_string())
            }
            Err(error) => return Err(error.into()),
        };
        if started.elapsed() >= timeout {
            progress.clear();
            return Err(timed_out(last.as_ref(), silence, all, timeout));
        }
    }
}

/// One line: of one workload in full, of many the first that is not there.
fn how_far(waited: &Waited, all: usize) -> String {
    let first = waited.missing.first().map(status::progress).unwrap_or_default();
    if all == 1 {
        first
    } else {
        format!("{} of {all} done; {first}", waited.reached)
    }
}

fn timed_out(last: Option<&Waited>, silence: Option<String>, all: usize, timeout: Duration) -> Failure {
    let after = view::age(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let Some(waited) = last.filter(|_| silence.is_none()) else {
        let why = silence.unwrap_or_else(|| "nothing was heard".to_owned());
        let message = format!("failed to see the change carried out within {after}: {why}");
        return Failure::new(
            Exit::TimedOut,
            message,
            "the change is committed; look again with `heddle status`",
        );
    };
    let first = waited.missing.first().map(|status| {
        let why = status::why(status);
        if why.is_empty() {
            status::progress(status)
        } else {
            format!("{}: {why}", status::ready(status))
        }
    });
    let reasons = view::printable(&first.unwrap_or_else(|| "the scheduler does not say why".to_owned()));
    let missing = all - (waited.reached as usize).min(all);
    let message = format!(
        "failed to see {} done within {after}: {reasons}",
        if all == 1 {
            "it".to_owned()
        } else {
            format!("{missing} of {}", view::count(all as u64, "workload"))
        }
    );
    let next = match waited.missing.first() {
        Some(status) => format!(
            "the change is committed and goes on; `heddle explain {}` tells more",
            status.workload
        ),
        None => "the change is committed and goes on; look again with `heddle status`".to_owned(),
    };
    Failure::new(Exit::TimedOut, message, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn waited() -> Waited {
        serde_json::from_value(json!({
            "done": false, "reached": 1,
            "missing": [{
                "workload": "default/web", "generation": 2, "state": "waiting",
                "desired": 2, "placed": 1, "ready": 1, "ready_old": 0, "units": [],
                "waiting": [{"on": "hosts", "missing": 1, "rejections": []}],
            }],
        }))
        .unwrap()
    }

    #[test]
    fn a_timeout_says_why_and_what_to_try() {
        let failure = timed_out(Some(&waited()), None, 2, Duration::from_secs(60));
        assert_eq!(failure.exit, Exit::TimedOut);
        assert_eq!(
            failure.message,
            "failed to see 1 of 2 workloads done within 1m: default/web 1/2 ready: 1 not placed: the fleet has no host"
        );
        assert!(failure.next.contains("heddle explain default/web"));
    }

    #[test]
    fn a_silent_scheduler_is_the_reason_when_it_is_silent() {
        let failure = timed_out(Some(&waited()), Some("no reply".into()), 1, Duration::from_secs(1));
        assert_eq!(
            failure.message,
            "failed to see the change carried out within 1s: no reply"
        );
    }

    #[test]
    fn workloads_that_changed_are_waited_for_and_deleted_ones_until_they_are_gone() {
        let applied: Applied = serde_json::from_value(json!({
            "commit": 1, "changes": [], "objects": [
                {"kind": "Config", "name": "default/c", "generation": 2, "change": "updated"},
                {"kind": "Workload", "name": "default/web", "generation": 2, "change": "updated"},
                {"kind": "Workload", "name": "default/old", "generation": 5, "change": "deleted"},
            ],
        }))
        .unwrap();
        let targets: Vec<(String, Option<u64>)> = targets(&applied)
            .into_iter()
            .map(|t| (t.workload.to_string(), t.generation.map(|g| g.0)))
            .collect();
        assert_eq!(
            targets,
            [("default/web".to_owned(), Some(2)), ("default/old".to_owned(), None)]
        );
    }
}
