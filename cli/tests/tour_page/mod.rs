//! The README's tour as values. In: README.md. Out: the commands of its blocks, and what its table says that the example
//! manifests answer. Shared by the tests that run the tour and those that check that nothing is missing from it.

// Helpers of tests may panic as tests may; each test uses some of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use std::path::{Path, PathBuf};

/// The block that needs nothing but the fleet.
pub const TOUR: &str = "<!-- tour -->";
/// The block that needs servers.
pub const SERVERS: &str = "<!-- servers -->";
/// The block that needs a scheduler with a backend of secrets.
pub const SECRETS: &str = "<!-- secrets -->";
/// The table of what the manifests answer.
const ANSWERS: &str = "<!-- answers -->";

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    /// The manifests that it is about; the first one answers.
    pub manifests: Vec<String>,
    pub ask: Ask,
    /// 200, unless the row says another one.
    pub status: u16,
    /// What the answer has in it.
    pub answer: String,
}

/// How to ask.
#[derive(Debug)]
pub enum Ask {
    /// Over HTTP, on any host.
    Http { method: String, path: String },
    /// With a command.
    Command(Vec<String>),
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The lines of the block behind a marker.
pub fn block(marker: &str) -> Vec<String> {
    let readme = read("README.md");
    let behind = readme
        .split(marker)
        .nth(1)
        .unwrap_or_else(|| panic!("the README has no {marker}"));
    let block = behind.split("```").nth(1).expect("a fenced block follows");
    block.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

/// The words of each command of `heddle` in a block, without `heddle`.
pub fn commands(marker: &str) -> Vec<Vec<String>> {
    let lines = block(marker);
    let of_heddle = lines.iter().filter_map(|line| line.strip_prefix("heddle "));
    of_heddle
        .map(|line| words(line.split(" #").next().unwrap_or(line)))
        .collect()
}

/// The manifests that a command names.
pub fn manifests(command: &[String]) -> Vec<String> {
    let names = command
        .iter()
        .filter_map(|word| word.strip_prefix("examples/manifests/"));
    names.map(str::to_owned).collect()
}

/// What the manifests answer.
pub fn rows() -> Vec<Row> {
    let readme = read("README.md");
    let behind = readme
        .split(ANSWERS)
        .nth(1)
        .expect("the README says what manifests answer");
    let table = behind.lines().skip(1).take_while(|line| line.starts_with('|'));
    table.skip(2).map(row).collect()
}

fn row(line: &str) -> Row {
    let line = line.replace("\\|", "¦");
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [names, ask, answer] = cells[..] else {
        panic!("{line:?} has not three cells")
    };
    let ask = quoted(ask).remove(0);
    let ask = match (ask.strip_prefix("heddle "), ask.split_once(' ')) {
        (Some(command), _) => Ask::Command(words(command)),
        (None, Some((method, path))) => Ask::Http {
            method: method.to_owned(),
            path: path.to_owned(),
        },
        (None, None) => Ask::Http {
            method: "GET".to_owned(),
            path: ask,
        },
    };
    let said = answer.split(' ').next().and_then(|word| word.parse().ok());
    Row {
        manifests: quoted(names),
        ask,
        status: said.unwrap_or(200),
        answer: quoted(answer).remove(0),
    }
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
