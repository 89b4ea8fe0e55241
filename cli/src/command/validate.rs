//! `heddle validate`: everything about manifests that can be known without a fleet.

use crate::failure::Failure;
use crate::output::Output;
use crate::source::SourceArgs;
use crate::view;
use serde::Serialize;

/// Flags of `validate`.
#[derive(Debug, clap::Args)]
pub struct ValidateArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was found good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Validated {
    ok: bool,
    objects: Vec<String>,
}

/// Checks manifests; images are not looked at.
pub fn run(args: &ValidateArgs, output: &Output) -> Result<(), Failure> {
    let loaded = super::apply::load(&args.source)?;
    let objects: Vec<String> = loaded.iter().map(|l| l.document.object.to_string()).collect();
    output.value(&Validated { ok: true, objects }, |validated, _| {
        let lines: String = validated.objects.iter().map(|object| format!("{object}\n")).collect();
        format!(
            "{lines}{} without a problem\n",
            view::count(validated.objects.len() as u64, "object")
        )
    })
}
