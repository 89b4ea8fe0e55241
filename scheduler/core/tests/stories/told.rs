//! Runs the stories of a folder and compares them with what they say.

use heddle_scheduler_core::testing::story;
use std::path::Path;

/// Checks every story of a folder beside the tests. There must be some: a folder that was not found must not pass for
/// all stories being kept.
pub fn check_folder(folder: &str, least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= least, "only {} stories were found", files.len());
    let failed: Vec<String> = files.iter().filter_map(|path| differs(path)).collect();
    assert!(
        failed.is_empty(),
        "{} of {} stories differ; HEDDLE_BLESS=1 writes them anew:\n{}",
        failed.len(),
        files.len(),
        failed.join("\n")
    );
}

/// Where a story ends otherwise than it is told; none if it does not, or was written anew.
fn differs(path: &Path) -> Option<String> {
    let script = std::fs::read_to_string(path).unwrap();
    let told = story::run(&script);
    if told == script {
        return None;
    }
    if std::env::var_os("HEDDLE_BLESS").is_some() {
        std::fs::write(path, told).unwrap();
        return None;
    }
    let lines = script.lines().zip(told.lines()).enumerate();
    let first = lines.into_iter().find(|(_, (expected, got))| expected != got);
    Some(match first {
        Some((index, (expected, got))) => format!(
            "{}:{}:\n  expected: {expected}\n  got:      {got}",
            path.display(),
            index + 1
        ),
        None => format!("{}: one of the two goes on where the other ends", path.display()),
    })
}
