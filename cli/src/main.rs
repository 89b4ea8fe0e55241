//! The one binary people install: all roles and all verbs. Everything is in the library, so that tests can call it.

use std::process::ExitCode;

fn main() -> ExitCode {
    heddle::main()
}
