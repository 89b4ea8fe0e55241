//! `cargo xtask test`: fetches and builds what the tests need, runs all of them, and says what really ran.
//! In: `--filter NAME`, `--package NAME`; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` for other and more random cases. Out: a
//! table on stdout, and an error when anything failed or a suite ran nothing. With nextest each test is a process of its own
//! with a time limit; without it, cargo's own runner does.

use std::io::Write;
use std::process::Command;

use anyhow::{Context, Result, bail};

mod libtest;
mod nextest;

use crate::process::{cargo, output, say};
use crate::suites::{CRATES_WITH_TESTS, Suite, problems, table};
use crate::workspace::{Profile, Workspace};
use crate::{bao, guests, nats, postgres, redis, registry};

/// Packages whose tests start the program `heddle` as a process: a fleet's, or a server's that must end with its test.
const STARTS_HEDDLE: &[&str] = &[
    "heddle",
    "heddle-tests",
    "heddle-bench",
    "heddle-chaos",
    "heddle-capability-blobstore",
    "heddle-capability-keyvalue-nats",
    "heddle-capability-keyvalue-redis",
];

/// What random cases are drawn from, unless whoever runs the tests says otherwise.
const CASES_SEED: (&str, &str) = ("PROPTEST_RNG_SEED", "1");

/// Which tests to run; empty means all.
#[derive(Debug, Default, PartialEq, Eq)]
struct Choice {
    filter: Option<String>,
    packages: Vec<String>,
}

/// Runs the tests.
///
/// # Errors
/// When something cannot be fetched or built, a test fails, or a suite that should have run did not.
pub fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    let choice = parse(args)?;
    let environment = prepare(workspace, &choice)?;
    let suites = if output(cargo().args(["nextest", "--version"])).is_ok() {
        nextest::run(workspace, &choice, &environment)?
    } else {
        say("cargo-nextest is not installed: tests run without time limits");
        libtest::run(workspace, &choice, &environment)?
    };
    std::io::stdout()
        .lock()
        .write_all(table(&suites).as_bytes())
        .context("failed to print the table of suites")?;
    let problems = problems(&suites, CRATES_WITH_TESTS, choice != Choice::default());
    if !problems.is_empty() {
        bail!("the tests did not pass:\n  {}", problems.join("\n  "));
    }
    Ok(())
}

fn parse(args: &[String]) -> Result<Choice> {
    let mut choice = Choice::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .cloned()
                .with_context(|| format!("failed to read `{arg}`: a name must follow"))
        };
        match arg.as_str() {
            "--filter" => choice.filter = Some(value()?),
            "--package" | "-p" => choice.packages.push(value()?),
            other => bail!("failed to read `{other}`: `cargo xtask test` takes --filter NAME and --package NAME"),
        }
    }
    Ok(choice)
}

/// What tests of the whole line lean on, told to them by environment variables.
struct Environment(Vec<(&'static str, std::path::PathBuf)>);

impl Environment {
    fn give_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.0.iter().map(|(name, value)| (name, value)))
    }
}

fn prepare(workspace: &Workspace, choice: &Choice) -> Result<Environment> {
    let mut environment = vec![
        ("HEDDLE_NATS_SERVER", nats::ensure()?),
        ("HEDDLE_BAO", bao::ensure()?),
        ("HEDDLE_REDIS_SERVER", redis::ensure()?),
        ("HEDDLE_POSTGRES_BIN", postgres::ensure()?),
        ("HEDDLE_DOCKER_REGISTRY", registry::ensure()?),
        ("HEDDLE_GUESTS", guests::ensure(workspace)?),
    ];
    // The same cases for everyone, so that a change is to blame for what it breaks, and not chance.
    if std::env::var_os(CASES_SEED.0).is_none() {
        environment.push((CASES_SEED.0, CASES_SEED.1.into()));
    }
    if choice.packages.is_empty() {
        workspace.build_all()?;
        environment.push(("HEDDLE_BIN", workspace.binary(Profile::Dev, "heddle")));
    } else if choice.needs_heddle() {
        environment.push((
            "HEDDLE_BIN",
            workspace
                .build(Profile::Dev, &["heddle", "acme-agent", "wrpc-greeter"])?
                .remove(0),
        ));
    }
    Ok(Environment(environment))
}

impl Choice {
    /// Whether the tests start `heddle` itself. Those of a single other crate need not wait until all of it compiles.
    fn needs_heddle(&self) -> bool {
        self.packages.is_empty()
            || self
                .packages
                .iter()
                .any(|package| STARTS_HEDDLE.contains(&package.as_str()))
    }

    /// The packages as cargo and nextest want them.
    fn scope(&self) -> Vec<String> {
        if self.packages.is_empty() {
            return vec!["--workspace".to_owned()];
        }
        self.packages
            .iter()
            .flat_map(|package| ["--package".to_owned(), package.clone()])
            .collect()
    }
}

/// The name that nextest gives a test binary; used for both runners so that the tables are alike.
fn suite_of(package: &str, kind: &str, target: &str) -> Suite {
    let name = match kind {
        "test" => format!("{package}::{target}"),
        "bin" | "example" | "bench" => format!("{package}::{kind}/{target}"),
        _ => package.to_owned(),
    };
    Suite {
        name,
        package: package.to_owned(),
        is_test_file: kind == "test",
        ..Suite::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_command_line_takes_a_filter_and_packages_and_nothing_else() {
        let choice = parse(&words("--filter spread -p a --package b")).unwrap();
        assert_eq!(
            choice,
            Choice {
                filter: Some("spread".into()),
                packages: vec!["a".into(), "b".into()]
            }
        );
        assert_eq!(choice.scope(), words("--package a --package b"));
        assert!(!choice.needs_heddle());
        assert!(Choice::default().needs_heddle());
        assert!(parse(&words("--fitler x")).is_err());
        assert!(parse(&words("--filter")).is_err());
    }
}
