//! The phases of one run of a unit, as one table.
//!
//! In: a phase and a fact. Out: the next phase, with the reason. [`table`] prints it into
//! `docs/reference/replica-phases.md`, and a test keeps that page current.

use heddle_protocol::host_report::UnitPhase;
use std::fmt::Write as _;

/// What may happen to one run of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnitFact {
    /// This agent cannot run it: a feature is missing, or its component cannot be compiled or linked.
    FoundUnfit,
    /// All its artifacts are on this host.
    ArtifactsFetched,
    /// An artifact that was there cannot be used: its file is gone or damaged.
    ArtifactLost,
    /// All its components are compiled.
    ComponentsCompiled,
    /// It is linked, and a first instance was made.
    Prepared,
    /// Fetching, compiling or preparing it failed.
    AttemptFailed,
    /// The pause after a failed attempt is over.
    PauseEnded,
    /// The spec does not want it any more.
    Unwanted,
    /// Its last call in flight has ended.
    Drained,
    /// It had as much time to drain as it gets.
    DrainTimeEnded,
    /// All its runs have ended, well or badly: it was a job.
    RunsEnded,
}

/// What becomes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It goes to this phase.
    To(UnitPhase),
    /// It is over: everything it held is let go.
    Gone,
    /// Nothing changes.
    Stays,
}

const PHASES: [UnitPhase; 8] = [
    UnitPhase::Fetching,
    UnitPhase::Compiling,
    UnitPhase::Starting,
    UnitPhase::Ready,
    UnitPhase::Draining,
    UnitPhase::Failed,
    UnitPhase::Refused,
    UnitPhase::Ended,
];

const FACTS: [UnitFact; 11] = [
    UnitFact::FoundUnfit,
    UnitFact::ArtifactsFetched,
    UnitFact::ArtifactLost,
    UnitFact::ComponentsCompiled,
    UnitFact::Prepared,
    UnitFact::AttemptFailed,
    UnitFact::PauseEnded,
    UnitFact::Unwanted,
    UnitFact::Drained,
    UnitFact::DrainTimeEnded,
    UnitFact::RunsEnded,
];

/// The table: what a fact makes of a phase, and why. A new run begins in `fetching`.
pub fn next(phase: UnitPhase, fact: UnitFact) -> (Next, &'static str) {
    use UnitFact as F;
    use UnitPhase as P;
    match (phase, fact) {
        (P::Fetching | P::Compiling | P::Starting, F::FoundUnfit) => (
            Next::To(P::Refused),
            "trying again would end the same way, so the reason is reported and others go on",
        ),
        (P::Fetching, F::ArtifactsFetched) => (Next::To(P::Compiling), "the bytes are here and have their digests"),
        (P::Compiling, F::ArtifactLost) => (
            Next::To(P::Fetching),
            "the cache may be deleted at any time; what it lost is fetched again",
        ),
        (P::Compiling, F::ComponentsCompiled) => {
            (Next::To(P::Starting), "the code is here; it can be linked and tried")
        }
        (P::Starting, F::Prepared) => (
            Next::To(P::Ready),
            "its first instance came up; its routes are switched to it",
        ),
        (P::Fetching | P::Compiling | P::Starting, F::AttemptFailed) => (
            Next::To(P::Failed),
            "the cause may pass, so it is tried again after a pause of its own",
        ),
        (P::Failed, F::PauseEnded) => (
            Next::To(P::Fetching),
            "each attempt begins anew; what is still here is found at once",
        ),
        (P::Ready, F::RunsEnded) => (
            Next::To(P::Ended),
            "a job is over when its runs are; what came of it is told until the spec wants it no more",
        ),
        (P::Ended, F::Unwanted) => (Next::To(P::Draining), "its result was taken; what it holds is let go"),
        (P::Ended, _) => (Next::Stays, "it is over, and never begins again by itself"),
        (P::Fetching | P::Compiling | P::Starting, F::RunsEnded) => (Next::Stays, "it has not begun to run"),
        (P::Fetching | P::Compiling | P::Starting | P::Failed | P::Refused, F::Unwanted) => {
            (Next::Gone, "it never served, so nobody waits for it")
        }
        (P::Ready, F::Unwanted) => (
            Next::To(P::Draining),
            "its routes are gone already; its calls in flight finish",
        ),
        (P::Draining, F::Drained) => (Next::Gone, "its last call has ended"),
        (P::Draining, F::DrainTimeEnded) => (Next::Gone, "a call that does not end cannot hold a host for ever"),
        (P::Fetching | P::Compiling, F::ArtifactsFetched | F::ComponentsCompiled | F::ArtifactLost) => {
            (Next::Stays, "each step waits for all its components")
        }
        (P::Starting | P::Ready, F::ArtifactsFetched | F::ComponentsCompiled | F::ArtifactLost) => {
            (Next::Stays, "its code is in memory already and needs no file")
        }
        (P::Ready, F::FoundUnfit | F::AttemptFailed | F::Prepared | F::PauseEnded | F::Drained | F::DrainTimeEnded) => {
            (Next::Stays, "it serves; word of an earlier attempt changes nothing")
        }
        (P::Draining, _) => (
            Next::Stays,
            "a run that drains is never revived: if it is wanted again, a new run begins",
        ),
        (P::Failed | P::Refused, _) => (Next::Stays, "word of the attempt that has ended changes nothing"),
        (P::Fetching | P::Compiling | P::Starting, F::Prepared | F::PauseEnded | F::Drained | F::DrainTimeEnded) => {
            (Next::Stays, "it has not come so far")
        }
    }
}

/// The table as a page.
pub fn table() -> String {
    let mut page = String::from(
        "# Phases of a unit on a host\n\n\
         Generated from `agent/core/src/phase.rs`; `HEDDLE_BLESS=1` with that crate's tests writes it again.\n\n\
         A unit is one generation of one workload on one host. A run is one attempt to have it there, and begins in\n\
         `fetching`. What is not in the first table changes nothing.\n\n\
         | phase | fact | becomes | because |\n|---|---|---|---|\n",
    );
    let mut rest = String::from("\n## What changes nothing\n\n| phase | fact | because |\n|---|---|---|\n");
    for (phase, fact) in PHASES.into_iter().flat_map(|p| FACTS.into_iter().map(move |f| (p, f))) {
        let (becomes, why) = next(phase, fact);
        let phase = phase.as_str();
        // Writing to a String cannot fail.
        let _ = match becomes {
            Next::To(to) => writeln!(page, "| {phase} | {} | {} | {why} |", fact.in_words(), to.as_str()),
            Next::Gone => writeln!(page, "| {phase} | {} | (gone) | {why} |", fact.in_words()),
            Next::Stays => writeln!(rest, "| {phase} | {} | {why} |", fact.in_words()),
        };
    }
    page + &rest
}

impl UnitFact {
    fn in_words(self) -> &'static str {
        match self {
            Self::FoundUnfit => "found unfit",
            Self::ArtifactsFetched => "artifacts fetched",
            Self::ArtifactLost => "artifact lost",
            Self::ComponentsCompiled => "components compiled",
            Self::Prepared => "prepared",
            Self::AttemptFailed => "attempt failed",
            Self::PauseEnded => "pause ended",
            Self::Unwanted => "unwanted",
            Self::Drained => "drained",
            Self::DrainTimeEnded => "drain time ended",
            Self::RunsEnded => "runs ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_phases_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/replica-phases.md");
        if std::env::var_os("HEDDLE_BLESS").is_some() {
            std::fs::write(path, table()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == table(),
            "the page is out of date: run the tests once with HEDDLE_BLESS=1"
        );
    }

    #[test]
    fn every_phase_ends_when_it_is_unwanted_and_drained() {
        for phase in PHASES {
            let mut phase = phase;
            let gone =
                [UnitFact::Unwanted, UnitFact::DrainTimeEnded]
                    .into_iter()
                    .any(|fact| match next(phase, fact).0 {
                        Next::Gone => true,
                        Next::To(to) => {
                            phase = to;
                            false
                        }
                        Next::Stays => false,
                    });
            assert!(gone, "{}", phase.as_str());
        }
    }

    #[test]
    fn only_prepared_leads_to_ready() {
        for (phase, fact) in PHASES.into_iter().flat_map(|p| FACTS.into_iter().map(move |f| (p, f))) {
            if next(phase, fact).0 == Next::To(UnitPhase::Ready) {
                assert_eq!((phase, fact), (UnitPhase::Starting, UnitFact::Prepared));
            }
        }
    }
}
