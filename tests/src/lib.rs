//! The cluster in a box: real processes of NATS, scheduler and agents, a typed client, load, and ways to wait for facts.
//!
//! In: the programs that `cargo xtask test` built and fetched. Out: fleets for tests, benchmarks and chaos runs. Nothing
//! here panics: a test returns what went wrong, with the ends of all logs.

pub mod bao;
pub mod binary;
pub mod cluster;
pub mod docker_registry;
pub mod fleet;
pub mod http;
pub mod load;
pub mod manifest;
pub mod nats;
pub mod port;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod registry;
pub mod tap;
pub mod until;
