//! What every role does with NATS: connect, send and take large messages in chunks, ask the scheduler.
//!
//! In: addresses and messages. Out: replies and facts about the link. Nothing is decided here.

pub mod chunk;
pub mod client;
pub mod connect;
pub mod lazy;
