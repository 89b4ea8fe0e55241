//! Stories about a fleet: each file of `scripts/` is run and compared with what it says. `HEDDLE_BLESS=1` writes what is
//! answered now into the files, to be looked at as a difference.
//!
//! The language is described in `heddle_scheduler_core::testing::story`.

// In a test a broken expectation is its own message.
#![allow(clippy::unwrap_used)]

use heddle_scheduler_core::testing::story;
use std::path::{Path, PathBuf};

/// Stories that there must be at least: a folder that was not found must not pass for all stories being kept.
const STORIES_MIN: usize = 15;

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
}

fn check(path: &Path, bless: bool) -> Result<(), String> {
    let script = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let told =
        std::panic::catch_unwind(|| story::run(&script)).map_err(|_| "stopped in the middle; see above".to_owned())?;
    if told == script {
        return Ok(());
    }
    if bless {
        return std::fs::write(path, told).map_err(|e| e.to_string());
    }
    let first = script
        .lines()
        .zip(told.lines())
        .enumerate()
        .find(|(_, (expected, got))| expected != got);
    Err(match first {
        Some((index, (expected, got))) => format!("line {}:\n  expected: {expected}\n  got:      {got}", index + 1),
        None => "one of the two goes on where the other ends".to_owned(),
    })
}

#[test]
fn every_story_ends_as_it_is_told() {
    let bless = std::env::var_os("HEDDLE_BLESS").is_some();
    let scripts = scripts();
    let failed: Vec<String> = scripts
        .iter()
        .filter_map(|path| {
            Some(format!(
                "{}: {}",
                path.file_name()?.to_string_lossy(),
                check(path, bless).err()?
            ))
        })
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} stories differ:\n{}",
        failed.len(),
        scripts.len(),
        failed.join("\n")
    );
    assert!(
        scripts.len() >= STORIES_MIN,
        "only {} stories were found",
        scripts.len()
    );
}

#[test]
fn the_same_story_is_told_the_same_way_twice() {
    for path in scripts() {
        let script = std::fs::read_to_string(&path).unwrap();
        assert_eq!(story::run(&script), story::run(&script), "{}", path.display());
    }
}
