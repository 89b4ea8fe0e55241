//! `events`: what happened, as the leading scheduler remembers it.

use super::Verb;
use crate::time::UnixMs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Only those after this number.
    #[serde(default)]
    pub after: u64,
    /// At most so many, the newest; 0 means a page.
    #[serde(default)]
    pub last: u32,
    /// Only those about this object or host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// Some events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventList {
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// The number to ask after next.
    pub next: u64,
    /// Whether some are missing because they are no longer kept.
    pub lost: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Its number, counted since the scheduler started.
    pub seq: u64,
    /// When.
    pub at: UnixMs,
    /// The newest commit then.
    pub commit: u64,
    /// What kind, in kebab-case: `host-lost`, `unit-ready`.
    pub kind: String,
    /// The object or host that it is about.
    pub about: String,
    /// What happened, in words.
    pub message: String,
}

impl Verb for Events {
    const NAME: &'static str = "events";
    const WRITES: bool = false;
    type Answer = EventList;
}
