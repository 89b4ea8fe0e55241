//! The HTTP capability: one listener per platform port, shared by all workloads on the host.
//!
//! In: a platform's offer (an address) and the routes of the spec. Out: requests, each handed to the [`Endpoint`] that
//! its route names, or answered here if there is none. Knows nothing of WebAssembly.

#![forbid(unsafe_code)]

mod connection;
mod listener;
mod reply;
mod route;
mod stall;

pub use listener::{ListenerError, Listeners};
pub use reply::{ERROR_HEADER, Endpoint, Refusal, Reply};
pub use route::{Match, RouteTable};
