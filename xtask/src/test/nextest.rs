//! The tests through cargo-nextest. In: the choice. Out: the counts of each suite, read from the list that nextest makes
//! beforehand (what there is) and from its JUnit report (what happened).

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::libtest::doc_tests;
use super::{Choice, Environment, suite_of};
use crate::process::{cargo, output, run as run_to_end, say};
use crate::suites::Suite;
use crate::workspace::Workspace;

/// The profile of `.config/nextest.toml` that writes a report; other runs do not touch it.
const PROFILE: &str = "counted";

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct List {
    rust_suites: BTreeMap<String, ListedSuite>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ListedSuite {
    package_name: String,
    binary_name: String,
    kind: String,
    #[serde(default)]
    testcases: BTreeMap<String, serde::de::IgnoredAny>,
}

pub(super) fn run(workspace: &Workspace, choice: &Choice, environment: &Environment) -> Result<Vec<Suite>> {
    say("building the tests");
    let mut build = cargo();
    build
        .current_dir(&workspace.root)
        .args(["nextest", "run", "--no-run"])
        .args(choice.scope());
    run_to_end(environment.give_to(&mut build))?;
    let mut list = cargo();
    list.current_dir(&workspace.root)
        .args(["nextest", "list", "--message-format", "json"])
        .args(choice.scope());
    let list: List = serde_json::from_str(&output(environment.give_to(&mut list))?)
        .context("failed to read the list of tests that nextest prints")?;

    // nextest keeps its reports in the clone, wherever cargo's target folder is.
    let report = workspace
        .root
        .join("target")
        .join("nextest")
        .join(PROFILE)
        .join("junit.xml");
    // An old report must not be taken for this run's.
    let _ = fs::remove_file(&report);
    let mut tests = cargo();
    tests
        .current_dir(&workspace.root)
        .args([
            "nextest",
            "run",
            "--profile",
            PROFILE,
            "--no-fail-fast",
            "--no-tests",
            "pass",
        ])
        .args(choice.scope())
        .args(&choice.filter)
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    let status = environment
        .give_to(&mut tests)
        .status()
        .context("failed to start `cargo nextest run`")?;
    let ran = match fs::read_to_string(&report) {
        Ok(xml) => read_report(&xml),
        // Nothing matched, so there was nothing to report.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && status.success() => BTreeMap::new(),
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "failed to read {}: nextest ended with {status} before it wrote a report",
                    report.display()
                )
            });
        }
    };
    let mut suites = count(list, &ran);
    let counted_failures: usize = suites.iter().map(|suite| suite.failed).sum();
    anyhow::ensure!(
        status.success() || counted_failures > 0,
        "failed to run the tests: nextest ended with {status} although no test failed"
    );
    if choice.filter.is_none() {
        suites.extend(doc_tests(workspace, choice, environment)?);
    }
    Ok(suites)
}

/// Tests that ran, by suite: `(all, failed)`.
type Ran = BTreeMap<String, (usize, usize)>;

fn count(list: List, ran: &Ran) -> Vec<Suite> {
    list.rust_suites
        .into_iter()
        .map(|(id, listed)| {
            let found = listed.testcases.len();
            let (all, failed) = ran.get(&id).copied().unwrap_or((0, 0));
            Suite {
                name: id,
                found,
                passed: all - failed,
                failed,
                skipped: found.saturating_sub(all),
                ..suite_of(&listed.package_name, &listed.kind, &listed.binary_name)
            }
        })
        .collect()
}

/// Reads the `<testsuite …>` tags of a JUnit report; nextest writes one for each test binary.
fn read_report(xml: &str) -> Ran {
    xml.split("<testsuite ")
        .skip(1)
        .filter_map(|rest| {
            let tag = rest.split('>').next()?;
            let number = |name| {
                attribute(tag, name)
                    .and_then(|text| text.parse::<usize>().ok())
                    .unwrap_or(0)
            };
            let skipped = number("disabled") + number("skipped");
            let failed = number("failures") + number("errors");
            Some((
                attribute(tag, "name")?.to_owned(),
                (number("tests").saturating_sub(skipped).max(failed), failed),
            ))
        })
        .collect()
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    tag.split_once(&format!("{name}=\""))?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_junit_report_is_counted_by_suite() {
        let xml = r#"<?xml version="1.0"?><testsuites name="nextest-run" tests="4" failures="1" errors="1">
            <testsuite name="a::b" tests="3" disabled="0" errors="1" failures="1"><testcase name="x"/></testsuite>
            <testsuite name="c" tests="3" skipped="2" errors="0" failures="0"></testsuite></testsuites>"#;
        let ran = read_report(xml);
        assert_eq!(ran.get("a::b"), Some(&(3, 2)));
        assert_eq!(ran.get("c"), Some(&(1, 0)));
        assert_eq!(ran.len(), 2);
    }

    #[test]
    fn a_listed_suite_that_is_not_in_the_report_ran_nothing() {
        let list: List = serde_json::from_str(
            r#"{"rust-suites":{"a::b":{"package-name":"a","binary-name":"b","kind":"test","testcases":{"x":{},"y":{}}}}}"#,
        )
        .unwrap();
        let suites = count(list, &Ran::new());
        assert_eq!((suites[0].found, suites[0].passed, suites[0].skipped), (2, 0, 2));
        assert!(suites[0].is_test_file);
    }
}
