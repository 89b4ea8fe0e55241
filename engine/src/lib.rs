//! How components become native code: what an engine is set to, and what makes code for it exchangeable.
//!
//! In: a profile, and the bytes of a component. Out: wasmtime's configuration, a fingerprint, native code. Agents and the
//! worker that compiles for them build their engines here, so code of the one fits the other exactly when the
//! fingerprints are equal.

#[cfg(feature = "compiler")]
mod compile;
mod cpu;
mod profile;
#[cfg(feature = "compiler")]
pub mod worker;

#[cfg(feature = "compiler")]
pub use compile::compile;
pub use cpu::CpuLevel;
pub use profile::{EngineProfile, ProfileError, WASMTIME};

/// Whether this build can compile.
pub const COMPILES: bool = cfg!(feature = "compiler");

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// No such engine can be made here.
    #[error("failed to set up the compiler")]
    Engine(#[source] wasmtime::Error),
    /// The component is too large.
    #[error("failed to compile: the component has {bytes} bytes, more than {max}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The most that is taken.
        max: u64,
    },
    /// The bytes are no component that this engine can run.
    #[error("failed to compile the component")]
    Component(#[source] wasmtime::Error),
}
