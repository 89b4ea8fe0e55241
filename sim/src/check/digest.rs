//! The head's digest is that of what is committed, as counted by somebody else; and nothing is decided on a store that
//! lost something: whoever takes over must have read all of it.

use crate::truth::Truth;
use heddle_scheduler::store::SetDigest;

/// Looks at the newest head.
pub fn check(truth: &Truth, before: SetDigest, broken: &mut Vec<(&'static str, String)>) {
    let Some(head) = &truth.head else { return };
    if head.digest != truth.digest || head.count != truth.values.len() as u64 {
        let what = format!(
            "commit {} says {} values, and {} are committed, or their digest differs",
            head.n,
            head.count,
            truth.values.len()
        );
        broken.push(("head-digest", what));
    }
    if head.prev_digest != before {
        broken.push((
            "head-digest",
            format!("commit {} does not follow the digest before it", head.n),
        ));
    }
    let takes_over = truth.commits.get(&head.n).is_some_and(|commit| commit.audit.is_none());
    let first_of_epoch = truth
        .commits
        .get(&(head.n.saturating_sub(1)))
        .is_some_and(|last| last.version.epoch < head.epoch);
    // One that was reading already may have read what was lost after that. It need not live any more: where requests are late
    // or wait for the store, it may have been another process of the same name, and that one lived when it was sent.
    let now = truth.commits.get(&head.n).map_or(0, |commit| commit.at);
    let starts = truth.started.get(&head.leader_id).map_or(&[][..], Vec::as_slice);
    let sent = truth.sent_at_the_earliest(now);
    let lived = starts.iter().rev().find(|began| **began <= sent);
    let began = lived.or(starts.first()).copied().unwrap_or(0);
    let gone: Vec<&String> = truth
        .lost
        .iter()
        .filter(|(_, at)| **at < began)
        .map(|(key, _)| key)
        .collect();
    if takes_over && first_of_epoch && !gone.is_empty() {
        let what = format!("commit {} takes over a store that lost {gone:?}", head.n);
        broken.push(("loss-is-noticed", what));
    }
}
