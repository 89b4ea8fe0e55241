//! What the documents say of the command line is so: the tour's commands exist, and every error code has its page.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod tour_page;

use clap::{CommandFactory, Parser};
use heddle::args::Cli;
use heddle_protocol::api::ErrorCode;
use std::collections::BTreeSet;
use tour_page::{SECRETS, SERVERS, TOUR, read, root};

/// The names of all example manifests.
fn manifests() -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join("examples/manifests")).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The manifests that the tour applies or looks at.
fn of_the_tour() -> BTreeSet<String> {
    let commands = [TOUR, SERVERS, SECRETS].map(tour_page::commands).concat();
    commands
        .iter()
        .flat_map(|command| tour_page::manifests(command))
        .collect()
}

#[test]
fn the_grammar_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_of_the_tour_exists() {
    for marker in [TOUR, SERVERS, SECRETS] {
        let commands = tour_page::commands(marker);
        assert!(!commands.is_empty(), "{marker} has no command");
        for command in commands {
            let line = std::iter::once("heddle").chain(command.iter().map(String::as_str));
            if let Err(error) = Cli::try_parse_from(line) {
                panic!("heddle {}: {error}", command.join(" "));
            }
        }
    }
}

#[test]
fn every_example_manifest_is_in_the_tour_and_the_table_says_what_it_answers() {
    let all = manifests();
    assert_eq!(of_the_tour(), all, "the README's tour and examples/manifests differ");
    let told: BTreeSet<String> = tour_page::rows().into_iter().flat_map(|row| row.manifests).collect();
    let silent = ["all.yaml", "platform.yaml"].map(str::to_owned).into_iter().collect();
    let wanted: BTreeSet<String> = all.difference(&silent).cloned().collect();
    assert_eq!(told, wanted, "the README's table and examples/manifests differ");
}

#[test]
fn every_component_of_the_examples_is_deployed_by_one_of_their_manifests() {
    let catalogue = read("examples/tool/src/catalogue.rs");
    let groups = catalogue.split("const GROUPS").nth(1).unwrap();
    let groups = groups.split("#[cfg(test)]").next().unwrap();
    let mut components = BTreeSet::new();
    for group in groups.split("Group {").skip(1) {
        if group.contains("folder: \"examples/") {
            let list = group.split("components: &[").nth(1).unwrap();
            let list = list.split(']').next().unwrap();
            components.extend(list.split('"').skip(1).step_by(2));
        }
    }
    assert!(
        components.len() >= 16,
        "the catalogue was not understood: {components:?}"
    );
    let all: String = manifests()
        .iter()
        .map(|name| read(&format!("examples/manifests/{name}")))
        .collect();
    components.retain(|name| !all.contains(&format!("/{name}.wasm\"")));
    assert!(components.is_empty(), "no manifest deploys {components:?}");
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
