//! What passes between a scheduler and the worker process that compiles for it.
//!
//! Each message is one line of JSON and then raw bytes: the component on the worker's standard input, the native code on
//! its standard output. Both sides are the same release, for the scheduler starts its own program.

use crate::host_spec::Wasi;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest line of either message, in bytes.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// What a worker is to do. The component's bytes follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompileJob {
    /// The engine's settings, as a hello gave them.
    pub profile: BTreeMap<String, String>,
    /// Which of its two engines.
    pub wasi: Wasi,
    /// The engine's fingerprint, as the same hello gave it.
    pub fingerprint: String,
    /// The size of the component, in bytes.
    pub bytes: u64,
    /// Processor time that the worker gives itself, in seconds.
    pub cpu_seconds: u64,
    /// Memory that it gives itself, in bytes.
    pub memory_bytes: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum CompileAnswer {
    /// The code follows.
    Compiled {
        /// Its size, in bytes.
        bytes: u64,
    },
    /// This release cannot compile for the engine.
    Unsupported {
        /// Why.
        reason: String,
    },
    /// The component cannot be compiled.
    Refused {
        /// Why.
        reason: String,
    },
    /// The worker itself failed; trying again may help.
    Failed {
        /// Why.
        reason: String,
    },
}
