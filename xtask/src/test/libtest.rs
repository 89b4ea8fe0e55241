//! The tests through cargo's own runner, for machines without nextest, and the documentation tests, which nextest does
//! not run. In: the choice. Out: the counts of each suite, read from the runner's closing lines.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Choice, Environment, suite_of};
use crate::process::{cargo, output, say};
use crate::suites::Suite;
use crate::workspace::Workspace;

pub(super) fn run(workspace: &Workspace, choice: &Choice, environment: &Environment) -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for binary in build(workspace, choice)? {
        suites.push(run_binary(&binary, choice, environment)?);
    }
    if choice.filter.is_none() {
        suites.extend(doc_tests(workspace, choice, environment)?);
    }
    Ok(suites)
}

/// A compiled test binary and where cargo would run it.
struct TestBinary {
    suite: Suite,
    executable: PathBuf,
    folder: PathBuf,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    manifest_path: PathBuf,
    target: Option<Target>,
    profile: Option<MessageProfile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct MessageProfile {
    test: bool,
}

fn build(workspace: &Workspace, choice: &Choice) -> Result<Vec<TestBinary>> {
    say("building the tests");
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["test", "--no-run", "--message-format", "json-render-diagnostics"])
        .args(choice.scope());
    let messages = output(&mut command)?;
    messages
        .lines()
        .filter_map(|line| test_binary(line).transpose())
        .collect()
}

/// Reads one line of cargo's messages; most are about other things than test binaries.
fn test_binary(line: &str) -> Result<Option<TestBinary>> {
    let message: Message = serde_json::from_str(line).context("failed to read a message of `cargo test --no-run`")?;
    let (Some(target), Some(profile), Some(executable)) = (message.target, message.profile, message.executable) else {
        return Ok(None);
    };
    let Some(folder) = message
        .manifest_path
        .parent()
        .filter(|_| profile.test)
        .map(Path::to_path_buf)
    else {
        return Ok(None);
    };
    let package = package_name(&message.manifest_path)?;
    let kind = target.kind.first().map_or("lib", String::as_str);
    Ok(Some(TestBinary {
        suite: suite_of(&package, kind, &target.name),
        executable,
        folder,
    }))
}

/// The `name = "…"` of a manifest; every manifest here has it as the first key of that name.
fn package_name(manifest: &Path) -> Result<String> {
    let text = std::fs::read_to_string(manifest).with_context(|| format!("failed to read {}", manifest.display()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"').map(str::to_owned))
        .with_context(|| format!("failed to find the package's name in {}", manifest.display()))
}

fn run_binary(binary: &TestBinary, choice: &Choice, environment: &Environment) -> Result<Suite> {
    say(format_args!("running {}", binary.suite.name));
    let mut command = Command::new(&binary.executable);
    command.current_dir(&binary.folder).args(&choice.filter);
    if binary.suite.is_test_file && binary.suite.package == "heddle-tests" {
        // Many of these start real processes; nextest's configuration runs them one at a time too.
        command.arg("--test-threads=1");
    }
    let counts = run_counted(environment.give_to(&mut command))?;
    Ok(counts.into_suite(binary.suite.clone()))
}

/// The documentation tests of all libraries, as one suite; none when there are none.
pub(super) fn doc_tests(workspace: &Workspace, choice: &Choice, environment: &Environment) -> Result<Option<Suite>> {
    if !choice.packages.is_empty() {
        // Cargo refuses `--doc` for packages without a library, and which those are is not worth asking here.
        return Ok(None);
    }
    say("running the documentation tests");
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["test", "--quiet", "--doc", "--workspace", "--no-fail-fast"]);
    let counts = run_counted(environment.give_to(&mut command))?;
    let name = Suite {
        name: "documentation".to_owned(),
        ..Suite::default()
    };
    Ok(Some(counts.into_suite(name)).filter(|suite| suite.found > 0))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Counts {
    fn into_suite(self, suite: Suite) -> Suite {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        Suite {
            found: passed + failed + skipped,
            passed,
            failed,
            skipped,
            ..suite
        }
    }

    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Runs to the end, repeating everything on stderr and adding up the closing lines.
fn run_counted(command: &mut Command) -> Result<Counts> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {}", command.get_program().to_string_lossy()))?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("failed to read what the tests print")?;
            eprintln!("{line}");
            if let Some(closing) = closing_line(&line) {
                counts.add(&closing);
            }
        }
    }
    let status = child.wait().context("failed to wait for the tests")?;
    if !status.success() && counts.failed == 0 {
        // It died without a closing line (a crash, a signal, a build error): that counts as one failure.
        eprintln!("the test binary ended with {status}");
        counts.failed = 1;
    }
    Ok(counts)
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s`.
fn closing_line(line: &str) -> Option<Counts> {
    let rest = line.trim().strip_prefix("test result:")?;
    let number = |word: &str| {
        let part = rest.split(['.', ';']).find(|part| part.trim_end().ends_with(word))?;
        part.split_whitespace().next()?.parse::<usize>().ok()
    };
    Some(Counts {
        passed: number(" passed")?,
        failed: number(" failed")?,
        skipped: number(" ignored")? + number(" filtered out").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_is_counted() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.01s";
        assert_eq!(
            closing_line(line),
            Some(Counts {
                passed: 3,
                failed: 2,
                skipped: 5
            })
        );
        assert_eq!(closing_line("test a ... ok"), None);
    }

    #[test]
    fn messages_about_other_things_than_test_binaries_are_passed_over() {
        assert!(
            test_binary(r#"{"reason":"build-finished","success":true}"#)
                .unwrap()
                .is_none()
        );
        let lib = r#"{"reason":"compiler-artifact","manifest_path":"/x/Cargo.toml","executable":null,
            "target":{"name":"x","kind":["lib"]},"profile":{"test":false}}"#;
        assert!(test_binary(lib).unwrap().is_none());
    }
}
