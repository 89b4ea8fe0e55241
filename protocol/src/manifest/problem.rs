//! What is wrong with a manifest, and where.
//!
//! A `Problem` is data: the CLI prints it, the scheduler sends it, a test compares it. All text that comes from the
//! manifest is cut and escaped here, so that a hostile file cannot write to a terminal through its own refusal.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// A place in the text: both count from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// One step from a value to a value inside it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The value of a key.
    Key(Cow<'static, str>),
    /// An item of a list.
    Index(usize),
}

/// The way from an object to one of its values: `spec.links[2].to.component`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<Step>);

impl FieldPath {
    /// The object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path to the field `spec`, where most paths begin.
    pub fn spec() -> Self {
        Self::root().key("spec")
    }

    /// The path to a key's value, from here.
    pub fn key(&self, key: &'static str) -> Self {
        self.then(Step::Key(Cow::Borrowed(key)))
    }

    /// The path to the value of a key that a person chose, from here.
    pub fn entry(&self, key: &str) -> Self {
        self.then(Step::Key(Cow::Owned(key.to_owned())))
    }

    /// The path to an item, from here.
    pub fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if is_plain(key) && at == 0 => f.write_str(key)?,
                Step::Key(key) if is_plain(key) => write!(f, ".{key}")?,
                Step::Key(key) => write!(f, "[{}]", quoted(key))?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    (1..=TEXT_CHARS_MAX).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The longest piece of a manifest that a message repeats, in characters: enough to recognise it.
const TEXT_CHARS_MAX: usize = 80;

/// Text from a manifest as a message may show it: in quotes, escaped, cut.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file, or whatever else the text came from.
    pub source: String,
    /// The line, from 1; 0 if the object did not come from text.
    pub line: u32,
    /// The column, from 1; 0 if the object did not come from text.
    pub column: u32,
    /// The way from the object to the value, such as `spec.links[2].to.component`; empty for the object itself.
    pub path: String,
    /// The object, such as `Workload shop/cart`; empty if the text is wrong before there is an object.
    pub object: String,
    /// The broken rule's stable name, such as `unknown-field`.
    pub rule: Cow<'static, str>,
    /// What is wrong, and what would be right.
    pub message: String,
    /// What was probably meant, to be written in its place.
    pub suggestion: Option<String>,
}

impl Problem {
    /// A problem with the text at a place, before there is an object.
    pub(super) fn of_text(source: &str, at: Position, rule: &'static str, message: String) -> Self {
        Self {
            source: source.to_owned(),
            line: at.line,
            column: at.column,
            path: String::new(),
            object: String::new(),
            rule: Cow::Borrowed(rule),
            message,
            suggestion: None,
        }
    }

    /// The same problem with what was probably meant.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// Whether it is about a field that a later release runs.
    pub fn is_not_yet_supported(&self) -> bool {
        self.rule == super::rule::NOT_YET_SUPPORTED
    }
}

impl fmt::Display for Problem {
    /// One line: `shop.yaml:12:7: Workload shop/cart: spec.links[1].to: … (rule: exactly-one); did you mean `…`?`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        for part in [&self.object, &self.path] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        write!(f, ": {} (rule: {})", self.message, self.rule)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// The most problems that one answer lists. More help nobody, and a hostile file could make one for each of its bytes.
pub const PROBLEMS_MAX: usize = 500;

/// Puts problems in the order of the text and cuts the list, saying so.
pub(super) fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| (&a.source, a.line, a.column, &a.path).cmp(&(&b.source, b.line, b.column, &b.path)));
    let all = problems.len();
    if all > PROBLEMS_MAX {
        problems.truncate(PROBLEMS_MAX);
        if let Some(last) = problems.last() {
            let at = Position {
                line: last.line,
                column: last.column,
            };
            let message = format!("{} more problems are not listed; mend these first", all - PROBLEMS_MAX);
            let note = Problem::of_text(&last.source, at, super::rule::TOO_MANY_PROBLEMS, message);
            problems.push(note);
        }
    }
    problems
}

/// What was probably meant by a word: the nearest of the known ones, if it is near enough to be a slip.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > TEXT_CHARS_MAX {
        return None;
    }
    let folded = |text: &str| {
        text.chars()
            .filter(|c| *c != '_' && *c != '-')
            .collect::<String>()
            .to_lowercase()
    };
    let meant = folded(word);
    // A third of the letters may be wrong, and one in any case: `replica` and `repicas`, but not `name` for `path`.
    let distance_max = (meant.chars().count() / 3).max(1);
    let distance = |known: &str| strsim::damerau_levenshtein(&meant, &folded(known));
    known
        .into_iter()
        .filter(|known| !known.is_empty())
        .map(|known| (distance(known), known))
        .filter(|(distance, known)| *distance <= distance_max && *distance < known.chars().count())
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_people_write_them() {
        let path = FieldPath::spec().key("links").index(2).key("to").key("component");
        assert_eq!(path.to_string(), "spec.links[2].to.component");
        let path = FieldPath::spec().key("hosts").entry("heddle.dev/arch").key("in");
        assert_eq!(path.to_string(), "spec.hosts[\"heddle.dev/arch\"].in");
    }

    #[test]
    fn text_from_a_manifest_cannot_reach_the_terminal_unescaped() {
        assert_eq!(quoted("a\u{1b}[31mb\u{202e}"), "\"a\\u{1b}[31mb\\u{202e}\"");
        assert_eq!(quoted(&"x".repeat(1_000)).chars().count(), TEXT_CHARS_MAX + 3);
        let path = FieldPath::root().entry("a\nb");
        assert_eq!(path.to_string(), "[\"a\\nb\"]");
    }

    #[test]
    fn a_slip_has_a_suggestion_and_another_word_has_none() {
        let known = ["replicas", "components", "links", "limits"];
        for (word, meant) in [
            ("replica", Some("replicas")),
            ("repilcas", Some("replicas")),
            ("Components", Some("components")),
            ("link", Some("links")),
            ("scale", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
        assert_eq!(nearest("max_surge", ["maxSurge"]), Some("maxSurge"));
    }
}
