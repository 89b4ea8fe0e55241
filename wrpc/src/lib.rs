//! wRPC over NATS that does not hang.
//!
//! In: a NATS client. Out: calls with a deadline, a cancel and a typed error, and functions that are served to callers
//! of any make. On the wire this is what `wrpc-transport-nats` speaks; two peers of ours add headers, with which a call
//! takes two messages, a caller that goes away stops its callee, and a failure says what happened.
//!
//! `Connection::call` and `Connection::serve` carry encoded values as bytes, which `codec` writes and reads.
//! `Connection::peer` gives the traits of `wrpc-transport` for calls with Rust types and streams.

mod accept;
pub mod codec;
mod connection;
mod error;
mod header;
mod mux;
mod peer;
mod peer_io;
mod serve;
mod slot;

pub use connection::{BYTES_MAX, Connection, Options, PROTOCOL, Target, subject};
pub use error::{CallError, ConnectError, Fault, ServeError, call_error};
pub use peer::{InvokeContext, Peer, ServeContext};
pub use peer_io::{Reader, Writer};
pub use serve::{Handler, Incoming, Limits, Service, Serving};
