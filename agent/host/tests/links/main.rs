//! Links that cross hosts, over a real nats-server: components call components, strangers call them, and they call
//! strangers.
//!
//! The components are written by hand: one forwards each call to its import, one answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the message"
)]

mod agent;
mod calls;
mod connections;
mod failures;
mod guests;
mod nats;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
