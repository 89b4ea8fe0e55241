//! The manifest's promises: what is good is read, what is bad is refused with its place and its rule, and what this
//! release does not run is named. `HEDDLE_BLESS=1` writes the expected files anew.

#![allow(clippy::unwrap_used, clippy::panic)] // A broken expectation is the message of a test.

use heddle_protocol::manifest::{
    DEPTH_MAX, DOCUMENTS_MAX, NODES_MAX, Problem, TEXT_BYTES_MAX, load, parse, rule, schema, unsupported,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[path = "manifests/corpus.rs"]
mod corpus;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests")
}

fn bless() -> bool {
    std::env::var_os("HEDDLE_BLESS").is_some()
}

/// Compares text with a file, or writes the file when blessing.
fn expect_file(path: &Path, found: &str) {
    if bless() {
        std::fs::write(path, found).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == found,
        "{} is not current; run this test with HEDDLE_BLESS=1 and read the difference",
        path.display()
    );
}

fn good() -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder().join("good"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml" || extension == "json")
    });
    files.sort();
    let read = |path: &PathBuf| {
        (
            path.file_name().unwrap().to_string_lossy().into_owned(),
            std::fs::read_to_string(path).unwrap(),
        )
    };
    files.iter().map(read).collect()
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn good_manifests_are_read_and_their_canonical_form_means_the_same() {
    let good = good();
    assert!(good.len() >= 4);
    for (name, text) in good {
        let documents = load(text.as_bytes(), &name).unwrap_or_else(|problems| panic!("{}", lines(&problems)));
        for document in documents {
            let canonical = document.canonical();
            let again = parse(&canonical, "canonical").unwrap_or_else(|problems| panic!("{}", lines(&problems)));
            assert_eq!(again.len(), 1, "{name}");
            assert_eq!(again[0].object, document.object, "{name}: {canonical}");
            assert_eq!(again[0].canonical(), canonical, "{name}");
        }
    }
}

#[test]
fn the_full_example_names_what_this_release_does_not_run() {
    let text = std::fs::read_to_string(folder().join("good/full.yaml")).unwrap();
    let documents = load(text.as_bytes(), "full.yaml").unwrap();
    let found: Vec<Problem> = documents.iter().flat_map(unsupported).collect();
    assert!(found.iter().all(Problem::is_not_yet_supported));
    expect_file(&folder().join("good/full.unsupported.txt"), &lines(&found));
}

#[test]
fn what_runs_in_this_release_is_not_called_unsupported() {
    for name in ["smallest.yaml", "two-on-one-listener.yaml", "hello.json"] {
        let text = std::fs::read(folder().join("good").join(name)).unwrap();
        let found: Vec<Problem> = load(&text, name).unwrap().iter().flat_map(unsupported).collect();
        assert_eq!(lines(&found), "", "{name}");
    }
}

#[test]
fn every_bad_manifest_is_refused_with_its_place_and_rule() {
    let path = folder().join("bad.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    let opening = text.split("=== ").next().unwrap().to_owned();
    let mut cases = corpus::read(&text);
    assert!(cases.len() >= 200, "{}", cases.len());
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    let texts: BTreeSet<&str> = cases.iter().map(|case| case.text.as_str()).collect();
    assert_eq!(texts.len(), cases.len(), "two cases have one text");
    for case in &mut cases {
        let problems = match load(case.text.as_bytes(), "bad.yaml") {
            Ok(_) => panic!("{:?} was accepted", case.name),
            Err(problems) => problems,
        };
        for problem in &problems {
            assert!(
                problem.line > 0 && problem.column > 0,
                "{}: {problem} has no place",
                case.name
            );
            let line = problem.to_string();
            assert!(
                !line.chars().any(char::is_control),
                "{}: {line:?} could write to a terminal",
                case.name
            );
            assert!(line.len() < 1_200, "{}: {line}", case.name);
        }
        case.problems = problems.iter().map(summary).collect();
    }
    expect_file(&path, &written(&opening, &cases));
}

/// The corpus as text, from its opening remarks and its cases.
fn written(opening: &str, cases: &[corpus::Case]) -> String {
    let mut text = opening.to_owned();
    for case in cases {
        text.push_str(&format!("=== {}\n", case.name));
        for problem in &case.problems {
            text.push_str(&format!("!!! {problem}\n"));
        }
        text.push_str(&case.text);
    }
    text
}

/// A problem as the corpus has it.
fn summary(problem: &Problem) -> String {
    let path = if problem.path.is_empty() { "-" } else { &problem.path };
    let summary = format!("{} | {path} | {}", problem.rule, problem.line);
    match &problem.suggestion {
        Some(suggestion) => format!("{summary} | {suggestion}"),
        None => summary,
    }
}

/// Manifests too large, or too broken, for a text file of cases.
fn made() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let workload = |name: &str| {
        format!(
            "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: {name} }}\nspec: {{ components: [{{ name: a, \
             image: \"file:a\" }}] }}\n---\n"
        )
    };
    vec![
        (
            "a text of more than 1 MiB",
            rule::TEXT_TOO_LARGE,
            vec![b'#'; TEXT_BYTES_MAX + 1],
        ),
        (
            "a list of too many values",
            rule::TOO_MANY_NODES,
            format!("[{}]", "0,".repeat(NODES_MAX)).into_bytes(),
        ),
        ("a mapping of too many keys", rule::TOO_MANY_NODES, {
            (0..NODES_MAX)
                .map(|n| format!("k{n}: 1\n"))
                .collect::<String>()
                .into_bytes()
        }),
        (
            "too many documents",
            rule::TOO_MANY_DOCUMENTS,
            "a\n---\n".repeat(DOCUMENTS_MAX + 1).into_bytes(),
        ),
        ("lists nested without end", rule::TOO_DEEP, vec![b'['; 200_000]),
        (
            "mappings nested without end",
            rule::TOO_DEEP,
            "{a: ".repeat(100_000).into_bytes(),
        ),
        (
            "block lists nested without end",
            rule::TOO_DEEP,
            "- ".repeat(100_000).into_bytes(),
        ),
        (
            "keys nested without end",
            rule::TOO_DEEP,
            "? ".repeat(100_000).into_bytes(),
        ),
        ("nesting by one too deep", rule::TOO_DEEP, {
            let depth = DEPTH_MAX + 1;
            format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into_bytes()
        }),
        ("bytes that are no text", rule::NOT_UTF8, b"kind: \xff\xfe\n".to_vec()),
        (
            "text cut within a character",
            rule::NOT_UTF8,
            "kind: ä".as_bytes()[..7].to_vec(),
        ),
        (
            "UTF-16",
            rule::NOT_UTF8,
            "kind: Workload"
                .encode_utf16()
                .flat_map(u16::to_be_bytes)
                .chain([0xff])
                .collect(),
        ),
        ("NUL bytes", rule::CONTROL_CHARACTER, b"kind: \0\n".to_vec()),
        (
            "a million spaces and nothing else",
            rule::EMPTY_MANIFEST,
            vec![b' '; 1_000_000],
        ),
        (
            "a name of a megabyte",
            rule::BAD_NAME,
            workload(&"a".repeat(900_000)).into_bytes(),
        ),
        ("more problems than anybody reads", rule::TOO_MANY_PROBLEMS, {
            let fields: String = (0..10_000).map(|n| format!("f{n}: 1\n")).collect();
            format!("apiVersion: heddle.dev/v1\nkind: Config\nmetadata: {{ name: a }}\n{fields}").into_bytes()
        }),
        ("two thousand components in a circle", rule::LINK_CYCLE, {
            let one = |n: usize| {
                format!(
                    "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: w{n} }}\nspec: {{ components: [{{ name: a, \
                     image: \"file:a\" }}], links: [{{ from: a, import: \"a:b/c\", to: {{ workload: w{} }} }}] }}\n---\n",
                    (n + 1) % 1_600
                )
            };
            (0..1_600).map(one).collect::<String>().into_bytes()
        }),
    ]
}

#[test]
fn manifests_made_to_exhaust_a_reader_are_refused_quickly() {
    for (name, rule, bytes) in made() {
        let started = std::time::Instant::now();
        let problems = load(&bytes, "made.yaml")
            .err()
            .unwrap_or_else(|| panic!("{name} was accepted"));
        let took = started.elapsed();
        assert!(
            problems.iter().any(|problem| problem.rule == rule),
            "{name}: {}",
            lines(&problems[..problems.len().min(5)])
        );
        assert!(
            problems.iter().all(|problem| problem.to_string().len() < 1_200),
            "{name}"
        );
        // Ten times what an unoptimised build takes on a slow machine; a quadratic reader would take minutes.
        assert!(took.as_secs() < 20, "{name} took {took:?}");
    }
}

#[test]
fn every_rule_is_broken_by_some_bad_manifest() {
    let corpus = std::fs::read_to_string(folder().join("bad.txt")).unwrap();
    let written: BTreeSet<String> = corpus::read(&corpus)
        .iter()
        .flat_map(|case| {
            case.problems
                .iter()
                .filter_map(|problem| problem.split(" | ").next().map(str::to_owned))
        })
        .collect();
    let made: BTreeSet<String> = made().iter().map(|(_, rule, _)| (*rule).to_owned()).collect();
    let missing: Vec<&str> = rule::ALL
        .iter()
        .map(|(rule, _)| *rule)
        .filter(|rule| !written.contains(*rule) && !made.contains(*rule) && *rule != rule::NOT_YET_SUPPORTED)
        .collect();
    assert!(missing.is_empty(), "no bad manifest breaks {missing:?}");
}

#[test]
fn a_problem_prints_as_one_line_with_place_rule_and_suggestion() {
    let text = "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: { name: cart, namespace: shop }\nspec:\n  components:\n    \
                - { name: api, image: \"file:a.wasm\" }\n  replcas: 3\n";
    let problems = parse(text, "shop.yaml").err().unwrap();
    let line = problems[0].to_string();
    assert!(
        line.starts_with("shop.yaml:7:3: Workload shop/cart: spec.replcas: there is no field \"replcas\" here; "),
        "{line}"
    );
    assert!(
        line.ends_with("(rule: unknown-field); did you mean `replicas`?"),
        "{line}"
    );
}

#[test]
fn the_published_schema_is_the_one_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/manifest.schema.json");
    expect_file(&path, &format!("{:#}\n", schema()));
}
