//! What people meant changes only because people asked: a workload, a platform or what is said of a host is never written
//! or removed by a commit that answers no request for it.

use crate::truth::CommitSeen;
use heddle_protocol::key::Key;
use heddle_protocol::record::HostRecord;

/// Looks at a commit.
pub fn check(commit: &CommitSeen, broken: &mut Vec<(&'static str, String)>) {
    let asked = |verbs: &[&str]| {
        let requests = commit.audit.iter().flat_map(|audit| &audit.requests);
        requests
            .into_iter()
            .any(|request| verbs.contains(&request.verb.as_str()))
    };
    for change in &commit.changes {
        let fine = match &change.key {
            Key::Workload(_) | Key::Platform(_) | Key::Quota(_) => asked(&["apply", "delete", "undo"]),
            Key::Host(_) => match (change.was::<HostRecord>(), change.is::<HostRecord>()) {
                // A host that joins asks by saying hello.
                (None, Some(_)) => true,
                // One that was forgotten may join again in the same commit, and is as new then.
                (Some(was), Some(is)) => was == is || asked(&["host-set", "host-forget"]) || was.admin == is.admin,
                (Some(_), None) => asked(&["host-forget"]),
                (None, None) => true,
            },
            Key::Place(_) | Key::Template(_) => true,
            Key::Config(_) | Key::SecretRef(_) | Key::NamespacePolicy(_) | Key::Policy(_) => true,
        };
        if !fine {
            let what = format!(
                "commit {} changes {} and nobody asked for it",
                commit.version, change.key
            );
            broken.push(("only-on-request", what));
        }
    }
}
