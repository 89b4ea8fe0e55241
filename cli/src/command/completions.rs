//! `heddle completions`: a script that completes verbs and flags in a shell.

use crate::args::Cli;
use crate::failure::Failure;
use crate::output::Output;
use clap::CommandFactory;
use clap_complete::Shell;

/// A shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ShellArg {
    /// bash: source <(heddle completions bash)
    Bash,
    /// zsh: heddle completions zsh > ~/.zfunc/_heddle
    Zsh,
    /// fish: heddle completions fish | source
    Fish,
}

/// Flags of `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: ShellArg,
}

/// Prints the script.
pub fn run(args: &CompletionsArgs, output: &Output) -> Result<(), Failure> {
    let shell = match args.shell {
        ShellArg::Bash => Shell::Bash,
        ShellArg::Zsh => Shell::Zsh,
        ShellArg::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "heddle", &mut script);
    output.text(&String::from_utf8_lossy(&script))
}
