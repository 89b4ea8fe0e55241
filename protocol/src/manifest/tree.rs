//! A manifest as plain values, each with its place.
//!
//! In: text of unknown origin. Out: one bounded tree per document, or what is wrong with the text. YAML's ways to make a
//! small file large (aliases), to smuggle in types (tags) or to say something twice (duplicate keys) are refused. JSON
//! is read as the YAML that it is.

use super::json::join_surrogates;
use super::problem::{FieldPath, Position, Problem, Step, quoted};
use super::rule;
use super::scalar::resolve;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};
use std::collections::HashMap;

/// The largest manifest, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// The most documents in one manifest.
pub const DOCUMENTS_MAX: usize = 2_000;
/// The most values and keys in one manifest.
pub const NODES_MAX: usize = 50_000;
/// The deepest nesting of values: several times what the manifest's shape needs, and far from any stack's end.
pub const DEPTH_MAX: usize = 64;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

/// A value as YAML 1.2's core schema reads it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a mapping, where it stands, and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Position,
    pub(super) value: Node,
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The text, if this is text.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where the value at the end of a path is, or the innermost value on the way to it that exists.
    pub(super) fn position(&self, path: &FieldPath) -> Position {
        let mut node = self;
        for step in path.steps() {
            let next = match (step, &node.value) {
                (Step::Key(key), _) => node.get(key),
                (Step::Index(index), Value::List(items)) => items.get(*index),
                (Step::Index(_), _) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.at
    }

    /// The same value without places.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Int(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => {
                let map = entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json()));
                serde_json::Value::Object(map.collect())
            }
        }
    }

    /// What the value is, as a message names it.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(flag) => format!("the boolean {flag}"),
            Value::Int(number) => format!("the number {number}"),
            Value::Float(number) => format!("the number {number}"),
            Value::Text(text) => format!("the text {}", quoted(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Reads every document of a text. A document with a problem is left out of the trees.
pub(super) fn read(text: &str, source: &str) -> (Vec<Node>, Vec<Problem>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(problem) = check_text(text, source) {
        return (Vec::new(), vec![problem]);
    }
    let text = join_surrogates(text);
    let mut builder = Builder::new(source);
    for event in Parser::new_from_str(&text) {
        let carry_on = match event {
            Ok((event, span)) => {
                let within_bounds = builder.take(event, span);
                if !within_bounds {
                    // Whoever sends so much is told that, and not also what is wrong with the first half of it.
                    builder.done.clear();
                }
                within_bounds
            }
            Err(error) => {
                builder.refuse_syntax(&error);
                false
            }
        };
        if !carry_on {
            break;
        }
    }
    builder.finish()
}

/// What can be wrong with a text before its structure is looked at.
fn check_text(text: &str, source: &str) -> Option<Problem> {
    let start = Position { line: 1, column: 1 };
    if text.len() > TEXT_BYTES_MAX {
        let message = format!(
            "the manifest has {} bytes and may have {TEXT_BYTES_MAX}; put its objects into several files",
            text.len()
        );
        return Some(Problem::of_text(source, start, rule::TEXT_TOO_LARGE, message));
    }
    let mut at = start;
    for c in text.chars() {
        if is_hidden(c) {
            let message = format!(
                "the invisible character U+{:04X} stands in the text; remove it, or write it as an escape in double quotes",
                u32::from(c)
            );
            return Some(Problem::of_text(source, at, rule::CONTROL_CHARACTER, message));
        }
        at = if c == '\n' {
            Position {
                line: at.line.saturating_add(1),
                column: 1,
            }
        } else {
            Position {
                column: at.column.saturating_add(1),
                ..at
            }
        };
    }
    None
}

/// Characters that a reader does not see, or that reorder what he sees: control characters, a second byte order mark,
/// and the overrides of writing direction with which a file can show another text than it holds.
fn is_hidden(c: char) -> bool {
    let wanted = matches!(c, '\n' | '\r' | '\t' | '\u{85}');
    (c.is_control() && !wanted)
        || matches!(c, '\u{feff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
}

fn position(marker: &Marker) -> Position {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position {
        line: number(marker.line()).max(1),
        column: number(marker.col()).saturating_add(1),
    }
}

/// A list or mapping whose end has not been read.
enum Open {
    List(Position, Vec<Node>),
    Map {
        at: Position,
        entries: Vec<Entry>,
        seen: HashMap<String, Position>,
        key: Option<(String, Position)>,
    },
}

/// Puts the parser's events together to trees.
struct Builder<'a> {
    source: &'a str,
    open: Vec<Open>,
    nodes: usize,
    documents: usize,
    /// Whether the document that is being read has a problem.
    broken: bool,
    done: Vec<Node>,
    problems: Vec<Problem>,
}

impl<'a> Builder<'a> {
    fn new(source: &'a str) -> Self {
        let (open, done, problems) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            source,
            open,
            nodes: 0,
            documents: 0,
            broken: false,
            done,
            problems,
        }
    }

    fn report(&mut self, at: Position, rule: &'static str, message: String) {
        self.broken = true;
        let path = self.path().to_string();
        self.problems.push(Problem {
            path,
            ..Problem::of_text(self.source, at, rule, message)
        });
    }

    /// The way to the value that is being read.
    fn path(&self) -> FieldPath {
        let mut path = FieldPath::root();
        for open in &self.open {
            path = match open {
                Open::List(_, items) => path.index(items.len()),
                Open::Map {
                    key: Some((key, _)), ..
                } => path.entry(key),
                Open::Map { key: None, .. } => path,
            };
        }
        path
    }

    /// Takes in one event. False when the manifest is beyond its bounds.
    fn take(&mut self, event: Event<'_>, span: Span) -> bool {
        let at = position(&span.start);
        match event {
            Event::DocumentStart(_) => return self.start_document(at),
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                if !self.count(at) {
                    return false;
                }
                self.scalar(&text, style, at);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                return self.count(at) && self.push(at, Open::List(at, Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                let map = Open::Map {
                    at,
                    entries: Vec::new(),
                    seen: HashMap::new(),
                    key: None,
                };
                return self.count(at) && self.push(at, map);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(_) => {
                self.report(
                    at,
                    rule::YAML_ANCHOR,
                    "an alias is used; write the value itself".to_owned(),
                );
                if !self.count(at) {
                    return false;
                }
                self.complete(Node { at, value: Value::Null });
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        true
    }

    fn start_document(&mut self, at: Position) -> bool {
        self.documents += 1;
        self.broken = false;
        self.open.clear();
        if self.documents > DOCUMENTS_MAX {
            let message = format!("there are more than {DOCUMENTS_MAX} documents; put them into several files");
            self.report(at, rule::TOO_MANY_DOCUMENTS, message);
            return false;
        }
        true
    }

    fn refuse_syntax(&mut self, error: &ScanError) {
        let at = position(error.marker());
        // The scanner reads a flow collection ahead, so it can meet its own bound before our count meets ours.
        if error.info() == "recursion limit exceeded" {
            self.done.clear();
            return self.report(
                at,
                rule::TOO_DEEP,
                format!("values are nested more than {DEPTH_MAX} deep"),
            );
        }
        let message = format!("the text is neither YAML nor JSON: {}", error.info());
        self.report(at, rule::YAML_SYNTAX, message);
    }

    fn refuse_extras(&mut self, at: Position, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.report(
                at,
                rule::YAML_ANCHOR,
                "an anchor is set; write the value wherever it is needed".to_owned(),
            );
        }
        if tagged {
            self.report(at, rule::YAML_TAG, "a tag is set; leave it out".to_owned());
        }
    }

    fn count(&mut self, at: Position) -> bool {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let message = format!("there are more than {NODES_MAX} values; put the objects into several files");
            self.report(at, rule::TOO_MANY_NODES, message);
        }
        self.nodes <= NODES_MAX
    }

    fn push(&mut self, at: Position, open: Open) -> bool {
        if self.open.len() >= DEPTH_MAX {
            let message = format!("values are nested more than {DEPTH_MAX} deep");
            self.report(at, rule::TOO_DEEP, message);
            return false;
        }
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            self.report(
                at,
                rule::KEY_NOT_TEXT,
                "a list or mapping stands where a key belongs".to_owned(),
            );
        }
        self.open.push(open);
        true
    }

    fn close(&mut self) {
        let node = match self.open.pop() {
            Some(Open::List(at, items)) => Node {
                at,
                value: Value::List(items),
            },
            Some(Open::Map { at, entries, .. }) => Node {
                at,
                value: Value::Map(entries),
            },
            None => return,
        };
        if let Some(Open::Map { key: key @ None, .. }) = self.open.last_mut() {
            // A list or mapping as a key, which `push` has reported: any text keeps keys and values in step.
            *key = Some((String::new(), node.at));
        } else {
            self.complete(node);
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, at: Position) {
        let value = match style {
            ScalarStyle::Plain => match resolve(text) {
                Some(value) => value,
                None => {
                    let message = format!("the number {} does not fit in 64 bits", quoted(text));
                    self.report(at, rule::NUMBER_OUT_OF_RANGE, message);
                    Value::Null
                }
            },
            _ => Value::Text(text.to_owned()),
        };
        if matches!(self.open.last(), Some(Open::Map { key: None, .. })) {
            self.key(text, &value, at);
        } else {
            self.complete(Node { at, value });
        }
    }

    fn key(&mut self, text: &str, value: &Value, at: Position) {
        if !matches!(value, Value::Text(_)) {
            let message = format!("the key {} is not text; write it in quotes", quoted(text));
            self.report(at, rule::KEY_NOT_TEXT, message);
        }
        let mut twice = None;
        if let Some(Open::Map { seen, key, .. }) = self.open.last_mut() {
            twice = seen.insert(text.to_owned(), at);
            *key = Some((text.to_owned(), at));
        }
        if let Some(first) = twice {
            let message = format!("the key {} is written twice; the first is at {first}", quoted(text));
            self.report(at, rule::DUPLICATE_KEY, message);
        }
    }

    /// Puts a finished value where it belongs.
    fn complete(&mut self, node: Node) {
        match self.open.last_mut() {
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map { entries, key, .. }) => {
                if let Some((key, key_at)) = key.take() {
                    entries.push(Entry {
                        key,
                        key_at,
                        value: node,
                    });
                }
            }
            // An empty document (`---` twice, or only comments) says nothing and is passed over.
            None if node.value == Value::Null => {}
            None if self.broken => {}
            None => self.done.push(node),
        }
    }

    fn finish(mut self) -> (Vec<Node>, Vec<Problem>) {
        if self.done.is_empty() && self.problems.is_empty() {
            let at = Position { line: 1, column: 1 };
            let message = "the manifest holds no object; write at least one".to_owned();
            self.report(at, rule::EMPTY_MANIFEST, message);
        }
        (self.done, self.problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_place() {
        let (trees, problems) = read("a: 1\nb:\n  - x\n  - { c: y }\n", "m.yaml");
        assert_eq!(problems, []);
        let place = |path: FieldPath| {
            let at = trees[0].position(&path);
            (at.line, at.column)
        };
        assert_eq!(place(FieldPath::root().key("a")), (1, 4));
        assert_eq!(place(FieldPath::root().key("b").index(1).key("c")), (4, 10));
        assert_eq!(place(FieldPath::root().key("b").index(1).key("missing")), (4, 5));
    }

    #[test]
    fn json_is_read_as_it_is() {
        let text = "{\n\t\"a\": [1, true, null, \"x\\ny\\u00e9\\/\"],\n\t\"b\": {}\n}\n";
        let (trees, problems) = read(text, "m.json");
        assert_eq!(problems, []);
        assert_eq!(
            trees[0].to_json(),
            serde_json::from_str::<serde_json::Value>(text).unwrap()
        );
    }
}
