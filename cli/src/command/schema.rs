//! `heddle schema`: the JSON Schema of manifests, for editors.

use crate::failure::Failure;
use crate::output::Output;
use heddle_protocol::manifest;

/// Flags of `schema`: none.
#[derive(Debug, clap::Args)]
pub struct SchemaArgs {}

/// Prints the schema.
pub fn run(_args: &SchemaArgs, output: &Output) -> Result<(), Failure> {
    output.text(&(serde_json::to_string_pretty(manifest::schema())? + "\n"))
}
