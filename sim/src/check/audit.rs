//! WHOLE-CHANGE: every commit has an audit record in the same batch, which names every record that it changes.

use crate::truth::CommitSeen;
use heddle_protocol::key::Key;
use std::collections::BTreeSet;

/// Looks at a commit.
pub fn check(commit: &CommitSeen, broken: &mut Vec<(&'static str, String)>) {
    let n = commit.version.n;
    if !commit.audited {
        broken.push(("audited", format!("commit {n} has no audit record")));
    }
    let Some(audit) = &commit.audit else {
        if !commit.changes.is_empty() {
            broken.push((
                "audited",
                format!("commit {n} changes records and its audit record says nothing"),
            ));
        }
        return;
    };
    if (audit.n, audit.epoch) != (n, commit.version.epoch) {
        let what = format!(
            "the audit record of commit {} says {}.{}",
            commit.version, audit.epoch, audit.n
        );
        broken.push(("audited", what));
    }
    let named: BTreeSet<Key> = audit
        .changes
        .iter()
        .filter_map(|change| Key::parse(&change.key))
        .collect();
    for change in commit.changes.iter().filter(|change| !named.contains(&change.key)) {
        broken.push((
            "audited",
            format!("commit {n} changes {} without saying so", change.key),
        ));
    }
}
