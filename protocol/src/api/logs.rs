//! `logs`: what a workload's components wrote. The lines stay with the agents until somebody asks.

use super::Verb;
use crate::id::{ComponentName, Generation, HostId, WorkloadId};
use crate::time::UnixMs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Asks for lines, of the scheduler or (on a host's own subject) of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logs {
    /// The workload.
    pub workload: WorkloadId,
    /// The newest so many lines of each host.
    pub tail: u32,
    /// Only lines after these numbers, by host: how `--follow` goes on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub after: BTreeMap<HostId, u64>,
}

/// Some lines.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLines {
    /// Ordered by time, then host, then number.
    pub lines: Vec<LogLine>,
    /// Hosts that run the workload and did not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<HostId>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// The host.
    pub host: HostId,
    /// Its number on that host.
    pub seq: u64,
    /// When it was written, by the host's clock.
    pub at: UnixMs,
    /// The generation that wrote it.
    pub generation: Generation,
    /// The component that wrote it.
    pub component: ComponentName,
    /// `stdout`, `stderr`, or a level of `wasi:logging`.
    pub level: String,
    /// The text, without its line end.
    pub text: String,
}

impl Verb for Logs {
    const NAME: &'static str = "logs";
    const WRITES: bool = false;
    type Answer = LogLines;
}
