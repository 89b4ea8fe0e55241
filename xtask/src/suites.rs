//! What a run of the tests did, suite by suite. In: counts of each test binary. Out: a table, and a verdict that does
//! not let a suite vanish: one that should have tests and ran none is a failure, not a success.

use std::fmt::Write;

/// Crates that promise tests. One that lost all of them would otherwise go unnoticed, because nothing fails.
pub const CRATES_WITH_TESTS: &[&str] = &[
    "heddle",
    "heddle-agent",
    "heddle-agent-core",
    "heddle-bench",
    "heddle-capability-blobstore",
    "heddle-capability-keyvalue",
    "heddle-capability-keyvalue-nats",
    "heddle-capability-keyvalue-redis",
    "heddle-capability-postgres",
    "heddle-chaos",
    "heddle-fleet-sim",
    "heddle-protocol",
    "heddle-scheduler",
    "heddle-scheduler-core",
    "heddle-secret",
    "heddle-sim",
    "heddle-tests",
    "xtask",
];

/// The counts of one test binary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suite {
    /// `package` for its unit tests, `package::name` for a file of `tests/`, `package::bin/name` for a program's.
    pub name: String,
    /// The package that the binary belongs to.
    pub package: String,
    /// Whether it is a file of `tests/`, which has no reason to exist without a test that runs.
    pub is_test_file: bool,
    /// Tests found in it, ignored ones included.
    pub found: usize,
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed or ran out of time.
    pub failed: usize,
    /// Tests that were ignored or filtered out.
    pub skipped: usize,
}

impl Suite {
    fn ran(&self) -> usize {
        self.passed + self.failed
    }
}

/// Everything that speaks against the run, one sentence each; empty when all is well. With `filtered` a suite may run
/// nothing, but not all suites together.
#[must_use]
pub fn problems(suites: &[Suite], expected_crates: &[&str], filtered: bool) -> Vec<String> {
    let mut problems: Vec<String> = suites
        .iter()
        .filter(|suite| suite.failed > 0)
        .map(|suite| format!("{}: {} failed", suite.name, suite.failed))
        .collect();
    if filtered {
        if suites.iter().all(|suite| suite.ran() == 0) {
            problems.push("no test matches the filter".to_owned());
        }
        return problems;
    }
    for suite in suites {
        if suite.ran() == 0 && (suite.is_test_file || suite.found > 0) {
            problems.push(format!("{}: ran no test of {} found", suite.name, suite.found));
        }
    }
    for package in expected_crates {
        if !suites.iter().any(|suite| suite.package == *package && suite.ran() > 0) {
            problems.push(format!("{package}: expected tests of this crate, none ran"));
        }
    }
    problems
}

/// The table: suites with tests in order of their names, then the totals.
#[must_use]
pub fn table(suites: &[Suite]) -> String {
    let mut rows: Vec<&Suite> = suites
        .iter()
        .filter(|suite| suite.found > 0 || suite.is_test_file)
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let total = rows.iter().fold(
        Suite {
            name: "total".to_owned(),
            ..Suite::default()
        },
        |sum, suite| Suite {
            passed: sum.passed + suite.passed,
            failed: sum.failed + suite.failed,
            skipped: sum.skipped + suite.skipped,
            ..sum
        },
    );
    let width = rows.iter().map(|suite| suite.name.len()).max().unwrap_or(0).max(5);
    let mut text = format!(
        "{:width$}  {:>5} {:>6} {:>6} {:>7}\n",
        "SUITE", "RUN", "PASSED", "FAILED", "SKIPPED"
    );
    for suite in rows.into_iter().chain([&total]) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:width$}  {:>5} {:>6} {:>6} {:>7}",
            suite.name,
            suite.ran(),
            suite.passed,
            suite.failed,
            suite.skipped
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(name: &str, found: usize, passed: usize, failed: usize) -> Suite {
        Suite {
            name: name.to_owned(),
            package: name.split("::").next().unwrap().to_owned(),
            is_test_file: name.contains("::"),
            found,
            passed,
            failed,
            skipped: found - passed - failed,
        }
    }

    #[test]
    fn a_suite_whose_tests_are_all_ignored_fails_the_run() {
        assert_eq!(
            problems(&[suite("a", 2, 0, 0)], &[], false),
            ["a: ran no test of 2 found"]
        );
    }

    #[test]
    fn a_test_file_without_tests_fails_the_run_and_a_crate_without_unit_tests_does_not() {
        assert_eq!(
            problems(&[suite("a::b", 0, 0, 0)], &[], false),
            ["a::b: ran no test of 0 found"]
        );
        assert_eq!(problems(&[suite("a", 0, 0, 0)], &[], false), Vec::<String>::new());
    }

    #[test]
    fn a_crate_that_promised_tests_and_lost_its_suite_fails_the_run() {
        let problems = problems(&[suite("a", 1, 1, 0)], &["a", "b"], false);
        assert_eq!(problems, ["b: expected tests of this crate, none ran"]);
    }

    #[test]
    fn a_filter_may_empty_suites_but_not_all_of_them() {
        assert_eq!(
            problems(&[suite("a", 1, 0, 0), suite("b", 1, 1, 0)], &["a"], true),
            Vec::<String>::new()
        );
        assert_eq!(
            problems(&[suite("a", 1, 0, 0)], &[], true),
            ["no test matches the filter"]
        );
    }

    #[test]
    fn a_failed_test_is_named_by_its_suite_and_the_table_adds_up() {
        let suites = [suite("b::x", 3, 1, 1), suite("a", 2, 2, 0), suite("c", 0, 0, 0)];
        assert_eq!(problems(&suites, &[], false), ["b::x: 1 failed"]);
        let expected = "\
SUITE    RUN PASSED FAILED SKIPPED
a          2      2      0       0
b::x       2      1      1       1
total      4      3      1       1
";
        assert_eq!(table(&suites), expected);
    }
}
