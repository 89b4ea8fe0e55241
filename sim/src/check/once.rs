//! ONE-EFFECT: a request id is in one commit at most, and never in one after that in which it was found to be done.

use crate::truth::{CommitSeen, Truth};
use std::collections::BTreeSet;

/// Looks at a commit.
pub fn check(truth: &Truth, commit: &CommitSeen, broken: &mut Vec<(&'static str, String)>) {
    let mut here = BTreeSet::new();
    for request in commit.audit.iter().flat_map(|audit| &audit.requests) {
        let n = commit.version.n;
        let first = truth.requests.get(&request.request_id).copied();
        if first != Some(n) || !here.insert(&request.request_id) {
            let what = format!(
                "{} has an effect in commit {first:?} and in {n}",
                request.request_id.as_str()
            );
            broken.push(("one-effect", what));
        }
    }
}
