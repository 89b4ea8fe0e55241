//! The agent's shell: takes a spec, runs components with wasmtime, reports.
//!
//! In: [`AgentOptions`], and a source of specs (the scheduler over NATS, a file, the process around it). Out: routes
//! that answer, and reports. What to do is decided in `heddle-agent-core`; here it is done. Start at [`run`].

pub mod artifact;
mod cache;
mod compile;
pub mod engine;
mod files;
mod health;
pub mod http;
pub mod identity;
pub mod instance;
pub mod limits;
pub mod links;
pub mod logs;
mod options;
pub mod priority;
mod report;
mod run;
pub mod secrets;
mod source;

pub use options::{AgentOptions, SourceOptions};
pub use run::{Agent, AgentError, run};
pub use source::{ChunkError, CodeAnswer, InProcess, InProcessHandle, SourceEvent, Uplink};
