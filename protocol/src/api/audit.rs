//! `audit`: how past commits came to be, as far as their audit records are kept (a week).

use super::Verb;
use crate::record::AuditRecord;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for audit records: of one commit, or of the newest ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Only this commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<u64>,
    /// So many of the newest commits; 20 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
}

/// Audit records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditList {
    /// The newest commit.
    pub commit: u64,
    /// The records, the newest first. Commits whose record is not kept any more are left out.
    pub records: Vec<AuditRecord>,
    /// Whether older ones that were asked for did not fit into one message.
    pub more: bool,
}

impl Verb for Audit {
    const NAME: &'static str = "audit";
    const WRITES: bool = false;
    type Answer = AuditList;
}
