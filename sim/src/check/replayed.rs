//! REPLAY: every decision that is kept comes out the same when it is made again from what was kept with it.

use heddle_scheduler::past::{LivenessOptions, find, replay};
use heddle_scheduler::store::PastStore;

/// Makes all decisions of a world again, once it has come to its end. Says how many there were.
pub async fn check(past: &PastStore, broken: &mut Vec<(&'static str, String)>) -> usize {
    let runs = match find::runs(past).await {
        Ok(runs) => runs,
        Err(error) => {
            broken.push(("replayed", format!("what was kept cannot be read: {error}")));
            return 0;
        }
    };
    for run in &runs {
        match replay::replay_all(run, LivenessOptions::default()) {
            Ok(wrong) => broken.extend(wrong.into_iter().map(|(n, why)| {
                (
                    "replayed",
                    format!("commit {n} is decided otherwise when made again: {why}"),
                )
            })),
            Err(error) => broken.push(("replayed", format!("a decision cannot be made again: {error}"))),
        }
    }
    runs.iter().map(Vec::len).sum()
}
