//! The one binary people install: all roles and all verbs. Everything is in the library, so that tests can call it.

use std::process::ExitCode;

/// Guests that compute run on threads of the lowest priority. With the system's allocator such a thread may hold the lock of
/// an arena when it loses its processor, and whoever answers requests waits for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    heddle::main()
}
