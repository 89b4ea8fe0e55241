//! Running other programs. In: a `Command`. Out: its success, its output, or an error that names the program and what
//! it said. Everything told to the person goes to stderr; stdout is left to data.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Tells the person what is happening, on stderr.
pub fn say(line: impl std::fmt::Display) {
    eprintln!("heddle: {line}");
}

/// Runs a command to its end; its stdout goes to our stderr, because our own stdout is data.
///
/// # Errors
/// When it cannot be started or does not exit with 0.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("failed to start `{shown}`: is it installed and on PATH?"))?;
    if !status.success() {
        bail!("failed to run `{shown}`: {status}");
    }
    Ok(())
}

/// Runs a command to its end and returns what it printed on stdout. Its stderr becomes part of the error.
///
/// # Errors
/// When it cannot be started, does not exit with 0, or prints something that is not UTF-8.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to start `{shown}`: is it installed and on PATH?"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("failed to run `{shown}`: {}\n{}", output.status, said.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("failed to read the output of `{shown}`: not UTF-8"))
}

/// Gives this process over to `command`, so that signals and the exit code are the command's own.
///
/// # Errors
/// Only when the command cannot be started: on success it does not return.
pub fn become_command(command: &mut Command) -> Result<std::convert::Infallible> {
    let shown = show(command);
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        Err(command.exec()).with_context(|| format!("failed to start `{shown}`"))
    }
    #[cfg(not(unix))]
    {
        let status = command.status().with_context(|| format!("failed to start `{shown}`"))?;
        std::process::exit(status.code().unwrap_or(1))
    }
}

/// The cargo that runs us, so that `cargo +toolchain xtask …` keeps its toolchain.
#[must_use]
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The first file called `name` in the folders of PATH.
#[must_use]
pub fn find_on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// Gives the file its executable bits; archives often lose them.
///
/// # Errors
/// When the file is missing or not ours.
pub fn make_executable(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("failed to make {} executable", path.display()))?;
    }
    Ok(())
}

fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo broken pipe dream >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("sh -c") && text.contains("broken pipe dream") && text.contains('3'),
            "{text}"
        );
    }

    #[test]
    fn a_missing_program_is_an_error_that_names_it() {
        let error = run(&mut Command::new("no-such-program-anywhere")).unwrap_err();
        assert!(format!("{error:#}").contains("no-such-program-anywhere"));
    }
}
