//! Reads `bad.txt`, the corpus of manifests that must be refused.
//!
//! In: the file's text. Out: its cases. Other tests include this file to send the same cases through the CLI and the API.

/// One manifest that must be refused.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is wrong with it, in a few words.
    pub name: String,
    /// Every problem that must be reported, in order: `rule | path | line | suggestion`.
    pub problems: Vec<String>,
    /// The manifest.
    pub text: String,
}

/// The cases of a corpus: `=== name`, one `!!! rule | path | line | suggestion` for each problem, then the manifest.
pub fn read(corpus: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in corpus.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix("=== ") {
            cases.push(Case {
                name: name.trim().to_owned(),
                problems: Vec::new(),
                text: String::new(),
            });
        } else if let Some(case) = cases.last_mut() {
            match line.strip_prefix("!!! ") {
                Some(problem) => case.problems.push(problem.trim_end().to_owned()),
                None => case.text.push_str(line),
            }
        }
    }
    cases
}
