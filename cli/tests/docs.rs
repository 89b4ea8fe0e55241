//! What the documents say of the command line is so: the tour's commands exist, and every error code has its page.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clap::{CommandFactory, Parser};
use heddle::args::Cli;
use heddle_protocol::api::ErrorCode;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn the_grammar_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_of_the_tour_exists() {
    let readme = read("README.md");
    let tour = readme.split("<!-- tour -->").nth(1).expect("the README has a tour");
    let block = tour.split("```").nth(1).expect("the tour is a fenced block");
    let lines: Vec<&str> = block
        .lines()
        .skip(1)
        .map(str::trim)
        .filter(|l| l.starts_with("heddle "))
        .collect();
    assert!(lines.len() >= 5, "the tour has {} commands", lines.len());
    for line in lines {
        let command = line.split(" #").next().unwrap_or(line);
        if let Err(error) = Cli::try_parse_from(command.split_whitespace()) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn every_example_manifest_is_in_the_readme_or_in_the_readme_of_the_examples() {
    let text = read("README.md") + &read("examples/README.md");
    for entry in std::fs::read_dir(root().join("examples/manifests")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            text.contains(&format!("{name}`")) || text.contains(&format!("{name} ")),
            "no word of {name}"
        );
    }
}

#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let codes = [
        ErrorCode::BadRequest,
        ErrorCode::InvalidManifest,
        ErrorCode::NotFound,
        ErrorCode::Conflict,
        ErrorCode::Forbidden,
        ErrorCode::RequestIdReused,
        ErrorCode::Artifact,
        ErrorCode::TooLarge,
        ErrorCode::Unavailable,
        ErrorCode::Unknown,
        ErrorCode::Internal,
    ];
    for code in codes {
        let page = read(&format!("docs/errors/{}.md", code.as_str()));
        assert!(
            page.starts_with(&format!("# {}\n", code.as_str())),
            "{} has another title",
            code.as_str()
        );
        let exit = heddle::exit::Exit::from(code) as u8;
        assert!(
            page.contains(&format!("Exit code {exit}")),
            "{} has another exit code",
            code.as_str()
        );
    }
    let pages = std::fs::read_dir(root().join("docs/errors")).unwrap().count();
    assert_eq!(
        pages,
        codes.len(),
        "a page without a code, or a code that this list lacks"
    );
}

#[test]
fn the_guide_lists_every_exit_code() {
    let guide = read("docs/guides/command-line.md");
    for exit in heddle::exit::Exit::ALL {
        let row = format!("| {} | {} |", exit as u8, exit.meaning());
        assert!(guide.contains(&row), "the guide lacks {row:?}");
    }
}

#[test]
fn every_verb_is_in_the_guide() {
    let guide = read("docs/guides/command-line.md");
    for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        assert!(
            guide.contains(&format!("`heddle {}", verb.get_name())),
            "the guide lacks {}",
            verb.get_name()
        );
    }
}
