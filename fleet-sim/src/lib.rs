//! Thousands of agents in one process: what a scheduler and a NATS server meet in a large fleet, without the machines.
//!
//! In: the address of a NATS server, a realm, how many hosts and how they behave ([`FleetOptions`]). Out: hosts that join
//! with a key of their own, say that they live, take specs and say how their units fare, exactly as
//! `heddle-agent` does on the wire; and counters of what came ([`Counters`]) and of every start ([`Ledger`]).
//!
//! What is real: the messages, their signatures and chunks, the rules by which a spec is taken (`heddle_agent_core`'s
//! `read_spec` and `accept`), status numbers without gaps, full reports on request, hellos that are said again until they
//! are answered. What is pretended: fetching, compiling and preparing are a pause ([`delay`]), nothing runs, nothing is
//! kept for a restart unless a restart says so. The agent's state machine of runs (`heddle_agent_core::Running`) is left
//! out on purpose: ten thousand hosts with a hundred units each would cost more than the scheduler that they are to load.
//!
//! There is no task per host. One task receives for all hosts by one wildcard subscription and hands messages to a few
//! *shards*; a shard is one task with its hosts, one heap of what is due, and a NATS connection to send on. So a NATS
//! server sees few connections and one subscription, where a real fleet has one of each per host; a host that died
//! silently looks like one whose network is gone, never like one whose connection was closed.
//!
//! [`bench`] measures a scheduler process against such a fleet.

#![forbid(unsafe_code)]

pub mod bench;
pub mod child;
mod counters;
pub mod delay;
mod fleet;
mod host;
mod ledger;
mod options;
pub mod schedule;
mod shard;
mod timer;

pub use counters::{Counted, Counters};
pub use fleet::Fleet;
pub use ledger::{Ledger, UnitCounts};
pub use options::FleetOptions;
