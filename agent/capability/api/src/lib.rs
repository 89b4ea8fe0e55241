//! What stands behind every capability of an agent, and what an instance's store holds.
//!
//! In: what a platform lends ([`CapabilityOffer`](heddle_protocol::host_spec::CapabilityOffer)) and which import of
//! which component it meets. Out: functions in a linker. A capability is a crate that implements [`Capability`]; an
//! agent is built with the set of those that it should have ([`CapabilitySet::builder`]).

#![forbid(unsafe_code)]

mod capability;
mod ctx;
mod egress;
mod log;
mod memory;
mod set;
mod slots;
mod stdio;

pub use capability::{Capability, CapabilityError, Import, Lent};
pub use ctx::{Ctx, TimeLimitReached, base_linker};
pub use log::{Level, Log, LogLines, NoLogs};
pub use memory::{MemoryBudget, MemoryMeter};
pub use set::{CapabilitySet, CapabilitySetBuilder};
pub use slots::Slots;
