//! The agent's decisions: pure, synchronous functions over plain values.
//!
//! In: a spec ([`accept`]), facts about what the shell did ([`Fact`]), the time, and chance as a number. Out: what to do
//! next ([`reconcile`]) and what to say ([`Reporter`]). Nothing in here waits, reads a clock, opens a file or knows
//! wasmtime.

#![forbid(unsafe_code)]

mod accept;
mod action;
mod backoff;
mod capability;
#[cfg(test)]
mod converge;
mod fact;
mod phase;
mod reconcile;
mod report;
mod running;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod testing;

pub use accept::{Identity, ReadSpec, Sender, accept, read_spec};
pub use action::Action;
pub use backoff::{Jitter, PAUSE_MS_MAX, pause_ms};
pub use capability::CapabilityPhase;
pub use fact::Fact;
pub use phase::{Next, UnitFact, next, table};
pub use reconcile::reconcile;
pub use report::{REPORT_BYTES_MAX, Reporter};
pub use running::{Machine, Run, RunId, Running};
