//! The house's rules, for all of its Rust files: small files that say what they are for, nothing left undone, and tests
//! that wait for facts and not for time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::path::{Path, PathBuf};

/// Longer files have swallowed something that deserves a file of its own.
const LINES_MAX: usize = 700;

struct Source {
    /// Relative to the clone.
    path: String,
    text: String,
}

impl Source {
    /// Whether it only exists for tests.
    fn is_test(&self) -> bool {
        let folders = self.path.split('/').any(|part| part == "tests" || part == "testing");
        folders || self.path.ends_with("/tests.rs") || self.path.ends_with("/testing.rs")
    }

    /// Its lines without those of its module of tests at the end, numbered from 1.
    fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().take_while(|line| *line != "#[cfg(test)]");
        lines.enumerate().map(|(at, line)| (at + 1, line))
    }
}

fn sources() -> Vec<Source> {
    let clone = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut folders = vec![clone.to_owned()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(clone).unwrap().to_string_lossy().into_owned();
                sources.push(Source { path, text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 100, "only {} files were found", sources.len());
    sources
}

/// Fails with all the places at once.
fn none(broken: Vec<String>, rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let silent = sources().into_iter().filter(|source| !source.text.starts_with("//! "));
    none(
        silent.map(|source| source.path).collect(),
        "these files do not open with `//!`",
    );
}

#[test]
fn no_file_has_swallowed_the_others() {
    let long = sources().into_iter().filter(|source| !source.is_test());
    let long = long
        .map(|source| (source.text.lines().count(), source.path))
        .filter(|(lines, _)| *lines > LINES_MAX);
    none(
        long.map(|(lines, path)| format!("{path}: {lines} lines")).collect(),
        "these files are too long",
    );
}

#[test]
fn nothing_is_left_undone() {
    // In two parts, so that this file does not name what it forbids.
    let undone = [
        ["todo", "!("],
        ["unimplemented", "!("],
        ["dbg", "!("],
        ["FIX", "ME"],
        ["XX", "X "],
    ]
    .map(|p| p.concat());
    let mut found = Vec::new();
    for source in sources() {
        for (at, line) in source.text.lines().enumerate() {
            if undone.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", source.path, at + 1, line.trim()));
            }
        }
    }
    none(found, "this is left undone");
}

#[test]
fn tests_of_fleets_look_for_facts_and_never_sleep_for_an_outcome() {
    let mut found = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.path.starts_with("tests/tests/"))
    {
        for (at, line) in source.text.lines().enumerate() {
            if line.contains(&["sleep", "("].concat()) {
                found.push(format!("{}:{}: {}", source.path, at + 1, line.trim()));
            }
        }
    }
    none(found, "use `eventually` or `throughout` instead");
}

#[test]
fn the_cores_ask_no_clock_and_roll_no_dice() {
    let everywhere = [
        "SystemTime",
        "Instant::now",
        "rand::",
        "Uuid::now",
        "Uuid::new_v4",
        "std::fs",
        "TcpStream",
        "UdpSocket",
    ];
    // Whose order differs from run to run, unless their hasher has no seed; reading a manifest only looks things up in them.
    let in_decisions = ["HashMap", "HashSet"];
    let pure = ["scheduler/core/src/", "agent/core/src/", "protocol/src/"];
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let Some(folder) = pure.iter().find(|folder| source.path.starts_with(**folder)) else {
            continue;
        };
        let decides = *folder != "protocol/src/";
        for (at, line) in source
            .product_lines()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            let forbidden = everywhere.iter().chain(in_decisions.iter().filter(|_| decides));
            let seedless = |word: &str| in_decisions.contains(&word) && line.contains("BuildHasherDefault<");
            if forbidden.into_iter().any(|word| line.contains(word) && !seedless(word)) {
                found.push(format!("{}:{at}: {}", source.path, line.trim()));
            }
        }
    }
    none(found, "a pure crate does this");
}
