//! What stands behind every capability of an agent, and what an instance's store holds.
//!
//! In: what a platform lends ([`CapabilityOffer`](heddle_protocol::host_spec::CapabilityOffer)) and which import of
//! which component it meets. Out: functions in a linker. A capability is a crate that implements [`Capability`]; an
//! agent is built with the set of those that it should have ([`CapabilitySet::builder`]).

#![forbid(unsafe_code)]

mod callable;
mod capability;
mod cpu;
mod ctx;
mod egress;
mod grants;
mod log;
mod memory;
mod secret;
mod set;
mod slots;
mod stdio;

pub use callable::{CallFailure, Callable, Work};
pub use capability::{Capability, CapabilityError, Guard, Import, Lending, Lent};
pub use cpu::{CpuBudget, Interrupts, TICK, computed, in_turn};
pub use ctx::{Ctx, TimeLimitReached, base_linker};
pub use egress::{AddressPolicy, Egress, EgressRule, EgressRuleError};
pub use grants::Grants;
pub use log::{Level, Log, LogLines, NoLogs};
pub use memory::{MemoryBudget, MemoryMeter};
pub use secret::{SecretHandle, SecretValue};
pub use set::{CapabilitySet, CapabilitySetBuilder};
pub use slots::Slots;
