//! The agent's shell: takes a spec, runs components with wasmtime, reports.
