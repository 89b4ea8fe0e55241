//! The hidden verb behind which a scheduler compiles: one component from standard input, its native code to standard
//! output. What it is given and gives is described in `heddle_protocol::compile`.

use crate::exit::Exit;
use crate::failure::Failure;
use heddle_engine::worker;

/// Compiles one component and ends.
pub fn run() -> Result<(), Failure> {
    worker::work(&mut std::io::stdin().lock(), &mut std::io::stdout().lock())
        .map_err(|error| Failure::new(Exit::Failed, format!("failed to do a compile job: {error}"), ""))
}
