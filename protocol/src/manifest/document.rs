//! One object of a manifest together with where it was written, and the ways to get there from text.

use super::object::{Kind, Object};
use super::problem::{FieldPath, Position, Problem, in_order, quoted};
use super::tree::{self, Node};
use super::{rule, structure, validate};
use std::borrow::Cow;
use std::sync::Arc;

/// One object and where it was written.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file, or whatever else the object came from.
    pub source: Arc<str>,
    /// The object.
    pub object: Object,
    /// The object's values with their places; none if it did not come from text.
    tree: Option<Arc<Node>>,
}

impl Document {
    /// A document around an object that did not come from text; its problems have no line.
    pub fn new(source: impl Into<Arc<str>>, object: Object) -> Self {
        Self {
            source: source.into(),
            object,
            tree: None,
        }
    }

    /// Where the value at the end of a path was written, or the innermost value on the way to it that was.
    pub fn position(&self, path: &FieldPath) -> Option<Position> {
        self.tree.as_ref().map(|tree| tree.position(path))
    }

    /// The object as messages name it, such as `Workload shop/cart`; names that are none are escaped.
    pub fn label(&self) -> String {
        let shown = |text: &str| {
            if crate::id::is_name(text) {
                text.to_owned()
            } else {
                quoted(text)
            }
        };
        let (kind, name) = (self.object.kind(), shown(self.object.name()));
        match self.object.namespace() {
            Some(namespace) => format!("{kind} {}/{name}", shown(namespace)),
            None => format!("{kind} {name}"),
        }
    }

    /// A problem with a value of this object.
    pub fn problem(&self, path: &FieldPath, rule: &'static str, message: impl Into<String>) -> Problem {
        let label = self.label();
        let origin = Origin {
            source: &self.source,
            object: &label,
            tree: self.tree.as_deref(),
        };
        origin.problem(path, rule, message.into())
    }
}

/// What a problem says of where it is.
pub(super) struct Origin<'a> {
    pub(super) source: &'a str,
    pub(super) object: &'a str,
    pub(super) tree: Option<&'a Node>,
}

impl Origin<'_> {
    pub(super) fn problem(&self, path: &FieldPath, rule: &'static str, message: String) -> Problem {
        let at = self.tree.map(|tree| tree.position(path));
        Problem {
            source: self.source.to_owned(),
            line: at.map_or(0, |at| at.line),
            column: at.map_or(0, |at| at.column),
            path: path.to_string(),
            object: self.object.to_owned(),
            rule: Cow::Borrowed(rule),
            message,
            suggestion: None,
        }
    }
}

/// Reads a manifest's objects and checks their shape. `source` names the text in problems, such as its file name.
///
/// # Errors
/// All problems with the text and with the shape of its objects, in the order of the text.
pub fn parse(text: &str, source: &str) -> Result<Vec<Document>, Vec<Problem>> {
    let (documents, problems) = read(text, source);
    if problems.is_empty() {
        Ok(documents)
    } else {
        Err(in_order(problems))
    }
}

/// Like [`parse`], for bytes that may not even be text.
///
/// # Errors
/// As [`parse`], and where the bytes stop being UTF-8.
pub fn parse_bytes(bytes: &[u8], source: &str) -> Result<Vec<Document>, Vec<Problem>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text, source),
        Err(error) => Err(vec![not_utf8(bytes, error.valid_up_to(), source)]),
    }
}

/// Reads a manifest and checks everything that can be known without the fleet: shape and meaning. Objects that can be
/// read are checked even if others cannot, so that one look shows all problems.
///
/// # Errors
/// All problems, in the order of the text.
pub fn load(bytes: &[u8], source: &str) -> Result<Vec<Document>, Vec<Problem>> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Err(vec![not_utf8(bytes, error.valid_up_to(), source)]),
    };
    let (documents, mut problems) = read(text, source);
    problems.extend(validate::validate(&documents));
    if problems.is_empty() {
        Ok(documents)
    } else {
        Err(in_order(problems))
    }
}

/// Reads a manifest's documents as plain values, one each: well-formed text, whatever its meaning.
///
/// # Errors
/// All problems with the text itself.
pub fn values(bytes: &[u8], source: &str) -> Result<Vec<serde_json::Value>, Vec<Problem>> {
    let text = std::str::from_utf8(bytes).map_err(|error| vec![not_utf8(bytes, error.valid_up_to(), source)])?;
    let (trees, problems) = tree::read(text, source);
    if problems.is_empty() {
        Ok(trees.iter().map(Node::to_json).collect())
    } else {
        Err(in_order(problems))
    }
}

fn not_utf8(bytes: &[u8], valid: usize, source: &str) -> Problem {
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let at = Position {
        line: number(before.matches('\n').count() + 1),
        column: number(before[line_start..].chars().count() + 1),
    };
    let message = format!(
        "the byte 0x{:02x} is no UTF-8; save the file as UTF-8",
        bytes.get(valid).copied().unwrap_or(0)
    );
    Problem::of_text(source, at, rule::NOT_UTF8, message)
}

fn read(text: &str, source: &str) -> (Vec<Document>, Vec<Problem>) {
    let (trees, mut problems) = tree::read(text, source);
    let source: Arc<str> = source.into();
    let documents = trees
        .into_iter()
        .filter_map(|tree| read_document(tree, &source, &mut problems))
        .collect();
    (documents, problems)
}

fn read_document(tree: Node, source: &Arc<str>, problems: &mut Vec<Problem>) -> Option<Document> {
    let before = problems.len();
    let label = label(&tree);
    let origin = Origin {
        source,
        object: &label,
        tree: Some(&tree),
    };
    let kind = structure::check_head(&tree, &origin, problems)?;
    structure::check(&tree, kind, &origin, problems);
    if problems.len() > before {
        return None;
    }
    match serde_json::from_value::<Object>(tree.to_json()) {
        Ok(object) => Some(Document {
            source: source.clone(),
            object,
            tree: Some(Arc::new(tree)),
        }),
        Err(error) => {
            // The schema comes from the types, so this is a slip of ours; it is still the reader's to know.
            let message = format!("the object cannot be read: {error}");
            problems.push(origin.problem(&FieldPath::root(), rule::WRONG_TYPE, message));
            None
        }
    }
}

/// How messages name an object that has not been read yet, from whatever of its name is there.
fn label(tree: &Node) -> String {
    let metadata = tree.get("metadata");
    let field = |name: &str| metadata.and_then(|metadata| metadata.get(name)).and_then(Node::text);
    let shown = |text: &str| {
        if crate::id::is_name(text) {
            text.to_owned()
        } else {
            quoted(text)
        }
    };
    let kind = tree.get("kind").and_then(Node::text);
    let known = kind.and_then(|kind| Kind::ALL.into_iter().find(|known| known.as_str() == kind));
    match (known, field("name")) {
        (Some(Kind::Platform), Some(name)) => format!("Platform {}", shown(name)),
        (Some(kind), Some(name)) => {
            let namespace = field("namespace").unwrap_or(super::DEFAULT_NAMESPACE);
            format!("{kind} {}/{}", shown(namespace), shown(name))
        }
        (Some(kind), None) => kind.to_string(),
        (None, Some(name)) => format!("object {}", shown(name)),
        (None, None) => String::new(),
    }
}
