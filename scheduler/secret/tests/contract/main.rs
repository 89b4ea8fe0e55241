//! Backends of secrets against the real thing: OpenBao, a backend that speaks wasmCloud's protocol, and a nats-server that
//! enforces the credentials made for workloads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a broken expectation here is the message"
)]

mod bed;
mod credentials;
mod openbao;
mod wasmcloud;
