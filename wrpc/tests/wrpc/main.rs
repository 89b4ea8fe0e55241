//! Calls over a real NATS: what two peers of ours promise each other, and that peers of another make are served too.
//!
//! In: a nats-server that each test starts for itself. Out: one sentence per test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken expectation of a test is its message"
)]

mod calls;
mod hostile;
mod interop;
#[path = "../../examples/soak/run.rs"]
mod run;
mod soak;
mod streams;
mod support;
