//! `explain`: why a workload is where it is, or why it is not.

use super::Verb;
use super::status::WorkloadStatus;
use crate::id::{HostId, WorkloadId};
use crate::report::Rejection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Asks why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// The workload.
    pub workload: WorkloadId,
}

/// What the planner knew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The commit that it is of.
    pub commit: u64,
    /// How the workload fares.
    pub status: WorkloadStatus,
    /// The wishes that decide among hosts that fit, the most important first, in words.
    pub wishes: String,
    /// Why each host with replicas has them. Of thousands, as many as one message holds.
    pub chosen: Vec<Chosen>,
    /// Hosts that would take one more now.
    pub open: u32,
    /// The hosts that would not, those that share every failing check together; the nearest to taking one first.
    pub refusing: Vec<HostKind>,
    /// Refusing hosts by themselves, with all numbers: the nearest ones, at most 100.
    pub nearest: Vec<HostVerdict>,
    /// The smallest changes that would let a missing replica be placed, in words.
    pub would_help: Vec<String>,
}

/// Why a host has replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chosen {
    /// The host.
    pub host: HostId,
    /// Replicas there, of the newest generation.
    pub count: u32,
    /// Why there, in words.
    pub why: String,
    /// The best of the other hosts that would take one of its replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<Second>,
}

/// The host that came second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Second {
    /// The host.
    pub host: HostId,
    /// The wish by which it is worse, or why it is not chosen although it is better now, in words.
    pub why: String,
}

/// Hosts that share every failing check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostKind {
    /// How many.
    pub hosts: u32,
    /// The one that is nearest to taking a replica.
    pub nearest: HostId,
    /// Every failing check, the first that fails first; the numbers are those of the nearest.
    pub rejections: Vec<Rejection>,
}

/// One host and why it refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostVerdict {
    /// The host.
    pub host: HostId,
    /// Every failing check, the first that fails first.
    pub rejections: Vec<Rejection>,
}

/// Kinds of hosts that are printed; the others are counted.
const KINDS_SHOWN: usize = 12;
/// Chosen hosts that are printed; the others are counted.
const CHOSEN_SHOWN: usize = 20;

impl fmt::Display for Explanation {
    /// For people, but for the status, which has a form of its own everywhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "wishes: {}", self.wishes)?;
        if !self.chosen.is_empty() {
            writeln!(f, "\nwhy it is where it is")?;
        }
        for chosen in self.chosen.iter().take(CHOSEN_SHOWN) {
            writeln!(f, "  {} ×{}: {}", chosen.host, chosen.count, chosen.why)?;
            if let Some(second) = &chosen.second {
                writeln!(f, "    rather than {}: {}", second.host, second.why)?;
            }
        }
        if self.chosen.len() > CHOSEN_SHOWN {
            writeln!(f, "  and {} more hosts", self.chosen.len() - CHOSEN_SHOWN)?;
        }
        match (self.open, self.refusing.is_empty()) {
            (0, true) => {}
            (0, false) => writeln!(f, "\nwhy no host takes one more")?,
            (open, true) => writeln!(f, "\nevery host ({open}) would take one more")?,
            (1, false) => writeln!(f, "\n1 host would take one more; why the others would not")?,
            (open, false) => writeln!(f, "\n{open} hosts would take one more; why the others would not")?,
        }
        for kind in self.refusing.iter().take(KINDS_SHOWN) {
            writeln!(f, "  {kind}")?;
        }
        if self.refusing.len() > KINDS_SHOWN {
            let hosts: u32 = self.refusing.iter().skip(KINDS_SHOWN).map(|kind| kind.hosts).sum();
            let s = if hosts == 1 { "" } else { "s" };
            writeln!(f, "  and {hosts} host{s} for other reasons")?;
        }
        if !self.would_help.is_empty() {
            writeln!(f, "\nwhat would help")?;
        }
        for help in &self.would_help {
            writeln!(f, "  {help}")?;
        }
        Ok(())
    }
}

impl fmt::Display for HostKind {
    /// `812 hosts: label region is us, needs eu; cordoned (host-17 is nearest)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hosts {
            1 => write!(f, "{}: ", self.nearest)?,
            hosts => write!(f, "{hosts} hosts: ")?,
        }
        for (index, rejection) in self.rejections.iter().enumerate() {
            let sep = if index == 0 { "" } else { "; " };
            write!(f, "{sep}{rejection}")?;
        }
        match self.hosts {
            1 => Ok(()),
            _ if self.rejections.iter().any(Rejection::has_numbers) => write!(f, " ({} is nearest)", self.nearest),
            _ => write!(f, " (such as {})", self.nearest),
        }
    }
}

impl Verb for Explain {
    const NAME: &'static str = "explain";
    const WRITES: bool = false;
    type Answer = Explanation;
}
