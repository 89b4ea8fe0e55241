//! The scheduler's shell: the store, the one loop, the artifact pool.
//!
//! [`run`] connects, loads the state, takes over and serves until it is told to stop. It waits for a fact, takes it
//! in, asks `heddle_scheduler_core` for a decision and carries it out.

pub mod artifact;
mod change;
pub mod compile;
mod events;
mod find_out;
pub mod health;
mod lead;
pub mod options;
mod outbox;
pub mod outside;
pub mod past;
mod planned;
mod push;
mod requests;
mod run;
pub mod secret;
mod serve;
mod signature;
pub mod store;

pub use lead::Ground;
pub use options::SchedulerOptions;
pub use run::{run, run_on};
