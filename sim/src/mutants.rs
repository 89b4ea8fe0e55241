//! The deliberate bugs, by the names under which the code asks for them, and a run that tries each of them.
//!
//! In: seeds. Out: for each bug the first seed in which a rule was broken, or that none was.

use crate::run::Stock;
use std::ops::Range;

/// All of them.
pub const MUTANTS: &[&str] = &[
    "a-delta-that-does-not-fit-is-repeated",
    "a-lost-link-stops-everything",
    "accepts-for-another-start",
    "accepts-older",
    "ack-before-commit",
    "audit-leaves-changes-out",
    "audit-leaves-requests-out",
    "changes-are-not-reported",
    "cordon-is-lost",
    "digest-unchecked",
    "doubt-is-never-settled",
    "drain-is-never-begun",
    "failed-commit-is-not-planned-again",
    "failed-push-is-not-repeated",
    "failed-units-are-not-tried-again",
    "landed-hosts-forgotten",
    "idle-leader-never-looks",
    "lost-fence-is-success",
    "news-do-not-replan",
    "news-of-hosts-are-not-kept",
    "no-fence",
    "odd-units-are-not-kept",
    "outgoing-goes-before-ready",
    "pushes-overtake-each-other",
    "refused-clients-hear-nothing",
    "reports-are-never-asked-for",
    "reports-are-not-numbered",
    "request-ids-are-forgotten",
    "request-ids-are-lost-on-restart",
    "resize-is-forgotten",
    "reused-id-is-not-noticed",
    "routes-before-ready",
    "spec-keeps-its-old-version",
    "spec-lacks-a-unit",
    "strangers-are-left-alone",
    "surplus-is-not-dropped",
    "take-over-in-the-same-epoch",
    "unknown-is-failure",
    "unknown-is-success",
    "unwanted-units-stay",
    "unwritten-requests-are-forgotten",
    "what-moves-goes-at-once",
];

/// What came of a deliberate bug.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Its name.
    pub name: String,
    /// The seed in which it was noticed, and how.
    pub caught: Option<(u64, String)>,
    /// Worlds that it took.
    pub worlds: u64,
}

/// Runs seeds with a bug until a rule is broken.
pub fn try_one(stock: &Stock, name: &str, seeds: Range<u64>, threads: usize) -> Tried {
    let mut tried = Tried {
        name: name.to_owned(),
        caught: None,
        worlds: 0,
    };
    stock.run_all(seeds, threads, &|| choose(Some(name)), |outcome| {
        tried.worlds += 1;
        if let Some(broken) = outcome.broken.first()
            && tried.caught.as_ref().is_none_or(|(seed, _)| *seed > outcome.seed)
        {
            tried.caught = Some((outcome.seed, broken.clone()));
        }
        tried.caught.is_none()
    });
    tried
}

/// Has this thread's code contain a bug.
#[cfg(feature = "mutants")]
pub fn choose(name: Option<&str>) {
    heddle_protocol::mutant::choose(name);
}

/// Has this thread's code contain a bug: not in this build.
#[cfg(not(feature = "mutants"))]
pub fn choose(_name: Option<&str>) {}

/// Whether this build can contain them.
pub const fn are_built_in() -> bool {
    cfg!(feature = "mutants")
}
