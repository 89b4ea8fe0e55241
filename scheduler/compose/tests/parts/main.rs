//! Parts that become one, and calls that may go over the network.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod call;
mod guests;
mod support;
mod whole;
