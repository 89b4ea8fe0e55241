//! Health, rollout and disconnect policies, and jobs.

use super::super::policy::{Disconnect, Health, Job, Rollout, RolloutStrategy};
use super::super::problem::FieldPath;
use super::super::workload::WorkloadSpec;
use super::super::{Duration, rule};
use super::{Check, syntax};

/// The longest time that a policy may name: a week.
const POLICY_TIME_MAX: Duration = Duration::from_ms(7 * 24 * 3_600_000);

pub(super) fn check(check: &mut Check<'_>, spec: &WorkloadSpec) {
    health(check, &spec.health);
    rollout(check, &spec.rollout);
    disconnect(check, &spec.disconnect, spec);
    if let Some(job) = &spec.job {
        check_job(check, job);
    }
}

fn positive(check: &mut Check<'_>, at: &FieldPath, time: Option<Duration>) {
    if let Some(time) = time.filter(|time| time.as_ms() == 0 || *time > POLICY_TIME_MAX) {
        let message = format!("a time from 1ms to {POLICY_TIME_MAX} was expected and {time} was found");
        check.report(at, rule::OUT_OF_RANGE, message);
    }
}

fn check_job(check: &mut Check<'_>, job: &Job) {
    positive(check, &FieldPath::spec().key("job").key("deadline"), job.deadline);
}

fn health(check: &mut Check<'_>, health: &Health) {
    let at = FieldPath::spec().key("health");
    for (field, probe) in [("ready", &health.ready), ("live", &health.live)] {
        let Some(probe) = probe else { continue };
        let at = at.key(field);
        positive(check, &at.key("interval"), probe.interval);
        match &probe.http {
            Some(http) => check.syntax(&at.key("http").key("path"), rule::BAD_PATH, syntax::path(&http.path)),
            None if field == "ready" => check.report(&at, rule::EMPTY_RULE, "say what is asked, with `http`"),
            None => {}
        }
    }
}

fn rollout(check: &mut Check<'_>, rollout: &Rollout) {
    let at = FieldPath::spec().key("rollout");
    positive(check, &at.key("progressDeadline"), rollout.progress_deadline);
    if rollout.max_surge == Some(0) && rollout.max_unavailable == Some(0) {
        let message = "with `maxSurge: 0` and `maxUnavailable: 0` no replica could ever be replaced";
        check.report(&at.key("maxUnavailable"), rule::NOT_TOGETHER, message);
    }
    if let (Some(ready), Some(deadline)) = (rollout.min_ready, rollout.progress_deadline)
        && ready >= deadline
    {
        let message = format!("`progressDeadline` must be longer than `minReady` ({ready}) and is {deadline}");
        check.report(&at.key("progressDeadline"), rule::OUT_OF_RANGE, message);
    }
    let Some(canary) = &rollout.canary else { return };
    let at = at.key("canary");
    if rollout.strategy != RolloutStrategy::Rolling {
        check.report(
            &at,
            rule::NOT_TOGETHER,
            "`canary` takes the place of `strategy`; write one of them",
        );
    }
    positive(check, &at.key("pause"), Some(canary.pause));
    let at = at.key("steps");
    for (index, pair) in canary.steps.windows(2).enumerate() {
        if pair[0] >= pair[1] {
            let message = format!("steps rise, and {} comes after {}", pair[1], pair[0]);
            check.report(&at.index(index + 1), rule::OUT_OF_RANGE, message);
        }
    }
    if canary.steps.last().is_some_and(|last| *last != 100) {
        check.report(&at, rule::OUT_OF_RANGE, "the last step is 100");
    }
}

fn disconnect(check: &mut Check<'_>, disconnect: &Disconnect, spec: &WorkloadSpec) {
    let at = FieldPath::spec().key("disconnect");
    positive(check, &at.key("lostAfter"), disconnect.lost_after);
    positive(check, &at.key("stopAfter"), disconnect.stop_after);
    let Some(stop) = disconnect.stop_after else { return };
    if let Some(lost) = disconnect.lost_after.filter(|lost| *lost <= stop) {
        let message = format!(
            "`lostAfter` must be longer than `stopAfter` ({stop}), or a replacement could start before the lost replica has \
             stopped; it is {lost}"
        );
        check.report(&at.key("lostAfter"), rule::OUT_OF_RANGE, message);
    }
    let singleton = [
        ("replicas", spec.replicas.is_some_and(|replicas| replicas > 1)),
        ("daemon", spec.daemon),
        ("job", spec.job.is_some()),
    ];
    for (field, _) in singleton.into_iter().filter(|(_, broken)| *broken) {
        let message = "`disconnect.stopAfter` makes the workload a singleton: one replica, never two";
        check.report(&FieldPath::spec().key(field), rule::SINGLETON, message);
    }
    if spec.rollout.max_surge.is_some_and(|surge| surge > 0) {
        let message = "`disconnect.stopAfter` makes the workload a singleton, which a surge would double";
        check.report(
            &FieldPath::spec().key("rollout").key("maxSurge"),
            rule::SINGLETON,
            message,
        );
    }
}
