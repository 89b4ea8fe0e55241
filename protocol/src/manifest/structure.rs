//! Whether a tree has the shape that the JSON Schema describes.
//!
//! In: one document's tree and the schema of its kind. Out: every place where they differ. The schema is ours, so only
//! what our types generate is understood: references, objects, lists, enumerations, bounds, and our formats for amounts.

use super::document::Origin;
use super::object::{ApiVersion, Kind};
use super::problem::{FieldPath, Problem, nearest, quoted};
use super::quantity::{Cpu, Duration, Size};
use super::tree::{Entry, Node, Value};
use super::{rule, schema};
use serde_json::Value as Json;

/// The kind of a document, if its `apiVersion` and `kind` are known; problems otherwise.
pub(super) fn check_head(tree: &Node, origin: &Origin<'_>, problems: &mut Vec<Problem>) -> Option<Kind> {
    let root = FieldPath::root();
    if !matches!(tree.value, Value::Map(_)) {
        let message = format!("an object was expected and {} was found", tree.describe());
        problems.push(origin.problem(&root, rule::WRONG_TYPE, message));
        return None;
    }
    let version = tree.get("apiVersion");
    let known_version = serde_json::to_value(ApiVersion::V1).unwrap_or_default();
    let known_version = known_version.as_str().unwrap_or_default();
    match version {
        None => {
            let message = format!("`apiVersion` is missing; write `apiVersion: {known_version}`");
            problems.push(origin.problem(&root.key("apiVersion"), rule::MISSING_FIELD, message));
        }
        Some(version) if version.text() != Some(known_version) => {
            let message = format!("`apiVersion` is {known_version} and {} was found", version.describe());
            let problem = origin.problem(&root.key("apiVersion"), rule::UNKNOWN_API_VERSION, message);
            problems.push(problem.suggest(known_version));
        }
        Some(_) => {}
    }
    let Some(found) = tree.get("kind") else {
        let message = "`kind` is missing; write Platform, Config, SecretRef, Policy, Quota or Workload".to_owned();
        problems.push(origin.problem(&root.key("kind"), rule::MISSING_FIELD, message));
        return None;
    };
    let kind = Kind::ALL.into_iter().find(|kind| found.text() == Some(kind.as_str()));
    if kind.is_none() {
        let message = format!(
            "`kind` is Platform, Config, SecretRef, Policy, Quota or Workload and {} was found",
            found.describe()
        );
        let problem = origin.problem(&root.key("kind"), rule::UNKNOWN_KIND, message);
        let known = Kind::ALL.map(Kind::as_str);
        problems.push(match found.text().and_then(|found| nearest(found, known)) {
            Some(meant) => problem.suggest(meant),
            None => problem,
        });
    }
    // A wrong version has one problem, not one for each field that another version may well have.
    let version_known = version.is_none_or(|version| version.text() == Some(known_version));
    kind.filter(|_| version_known)
}

/// Checks a document whose kind is known.
pub(super) fn check(tree: &Node, kind: Kind, origin: &Origin<'_>, problems: &mut Vec<Problem>) {
    let mut walk = Walk { origin, problems };
    walk.node(tree, schema::of_kind(kind), &FieldPath::root());
}

struct Walk<'a> {
    origin: &'a Origin<'a>,
    problems: &'a mut Vec<Problem>,
}

impl Walk<'_> {
    fn node(&mut self, node: &Node, schema: &'static Json, path: &FieldPath) {
        let schema = schema::resolve(schema);
        let choices = choices(schema);
        if !choices.is_empty() {
            return self.choice(node, &choices, path);
        }
        if !self.has_type(node, schema, path) {
            return;
        }
        match &node.value {
            Value::Map(entries) => self.map(node, entries, schema, path),
            Value::List(items) => self.list(items, schema, path),
            Value::Int(number) => {
                self.bounds(*number, schema, path);
                self.format(&number.to_string(), schema, path);
            }
            Value::Text(text) => self.format(text, schema, path),
            Value::Null | Value::Bool(_) | Value::Float(_) => {}
        }
    }

    fn report(&mut self, path: &FieldPath, rule: &'static str, message: String, suggestion: Option<String>) {
        let problem = self.origin.problem(path, rule, message);
        self.problems.push(match suggestion {
            Some(suggestion) => problem.suggest(suggestion),
            None => problem,
        });
    }

    fn choice(&mut self, node: &Node, choices: &[&'static str], path: &FieldPath) {
        // `kind` and `apiVersion` have been checked with words of their own, and reach this only when they are known.
        if node.text().is_some_and(|text| choices.contains(&text)) {
            return;
        }
        if path.steps().len() == 1 && *path == FieldPath::root().key("apiVersion") {
            return;
        }
        let message = format!("{} was expected and {} was found", or_list(choices), node.describe());
        let meant = node.text().and_then(|text| nearest(text, choices.iter().copied()));
        self.report(path, rule::UNKNOWN_VALUE, message, meant.map(str::to_owned));
    }

    fn has_type(&mut self, node: &Node, schema: &'static Json, path: &FieldPath) -> bool {
        let wanted = types(schema);
        let found = match &node.value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Int(_) => "integer",
            Value::Float(_) => "number",
            Value::Text(_) => "string",
            Value::List(_) => "array",
            Value::Map(_) => "object",
        };
        if wanted.is_empty() || wanted.contains(&found) {
            return true;
        }
        let expected = schema["format"].as_str().and_then(amount).unwrap_or(match wanted[0] {
            "boolean" => "true or false",
            "integer" => "a whole number",
            "string" => "text",
            "array" => "a list",
            "object" => "a mapping",
            other => other,
        });
        let (message, suggestion) = match (&node.value, wanted[0]) {
            (Value::Null, _) => (
                format!("{expected} was expected and nothing was found; write a value or leave the field out"),
                None,
            ),
            (Value::Int(number), _) if schema["format"] == "duration" => (
                format!("{expected} was expected and {} was found", node.describe()),
                Some(format!("{number}s")),
            ),
            (Value::Int(number), "string") if schema["format"].is_null() => {
                let found = format!("text was expected and the number {number} was found; write it in quotes");
                (found, Some(format!("\"{number}\"")))
            }
            (Value::Float(_) | Value::Bool(_), "string") if schema["format"].is_null() => (
                format!(
                    "text was expected and {} was found; write it in quotes",
                    node.describe()
                ),
                None,
            ),
            (Value::Text(text), "integer") if text.parse::<i64>().is_ok() => (
                format!(
                    "{expected} was expected and {} was found; leave the quotes out",
                    node.describe()
                ),
                Some(text.clone()),
            ),
            (Value::Text(text), "boolean") => {
                let meant = match text.as_str() {
                    "yes" | "on" | "True" | "true" | "y" => Some("true".to_owned()),
                    "no" | "off" | "False" | "false" | "n" => Some("false".to_owned()),
                    _ => None,
                };
                (
                    format!("{expected} was expected and {} was found", node.describe()),
                    meant,
                )
            }
            _ => (
                format!("{expected} was expected and {} was found", node.describe()),
                None,
            ),
        };
        self.report(path, rule::WRONG_TYPE, message, suggestion);
        false
    }

    fn map(&mut self, node: &Node, entries: &[Entry], schema: &'static Json, path: &FieldPath) {
        let properties = schema["properties"].as_object();
        for entry in entries {
            match (
                properties.and_then(|known| known.get(&entry.key)),
                &schema["additionalProperties"],
            ) {
                (Some(property), _) => self.node(&entry.value, property, &path.entry(&entry.key)),
                (None, Json::Bool(false)) => self.unknown_field(entry, schema, path),
                (None, others @ Json::Object(_)) => self.node(&entry.value, others, &path.entry(&entry.key)),
                (None, _) => {}
            }
        }
        let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
        // `kind` and `apiVersion` have been asked for before.
        let head = ["kind", "apiVersion"];
        let required = required.iter().filter_map(Json::as_str);
        for name in
            required.filter(|name| node.get(name).is_none() && !(path.steps().is_empty() && head.contains(name)))
        {
            let description = properties
                .and_then(|known| known.get(name))
                .and_then(|known| known["description"].as_str());
            let message = match description {
                Some(description) => format!("`{name}` is missing: {}", lower_first(first_sentence(description))),
                None => format!("`{name}` is missing"),
            };
            self.report(&path.entry(name), rule::MISSING_FIELD, message, None);
        }
    }

    fn unknown_field(&mut self, entry: &Entry, schema: &'static Json, path: &FieldPath) {
        let known: Vec<&str> = schema["properties"]
            .as_object()
            .map(|known| known.keys().map(String::as_str).collect())
            .unwrap_or_default();
        let meant = match nearest(&entry.key, known.iter().copied()) {
            Some(near) => Some(near.to_owned()),
            None => one_below(&entry.key, schema),
        };
        let message = match known.is_empty() {
            true => format!(
                "there is no field {} here; nothing can be configured",
                quoted(&entry.key)
            ),
            false => format!(
                "there is no field {} here; known are {}",
                quoted(&entry.key),
                and_list(&known)
            ),
        };
        let mut problem = self
            .origin
            .problem(&path.entry(&entry.key), rule::UNKNOWN_FIELD, message);
        // The field's name is wrong, so its name is shown rather than its value.
        (problem.line, problem.column) = (entry.key_at.line, entry.key_at.column);
        self.problems.push(match meant {
            Some(meant) => problem.suggest(meant),
            None => problem,
        });
    }

    fn list(&mut self, items: &[Node], schema: &'static Json, path: &FieldPath) {
        let bound = |name: &str| schema[name].as_u64().and_then(|bound| usize::try_from(bound).ok());
        if let Some(least) = bound("minItems").filter(|least| items.len() < *least) {
            let message = format!("at least {least} must be listed and there are {}", items.len());
            self.report(path, rule::WRONG_LENGTH, message, None);
        }
        if let Some(most) = bound("maxItems").filter(|most| items.len() > *most) {
            let message = format!("at most {most} may be listed and there are {}", items.len());
            self.report(path, rule::WRONG_LENGTH, message, None);
        }
        for (index, item) in items.iter().enumerate() {
            self.node(item, &schema["items"], &path.index(index));
        }
    }

    fn bounds(&mut self, number: i64, schema: &'static Json, path: &FieldPath) {
        let (least, most) = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
        if least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most) {
            return;
        }
        let bounds = match (least, most) {
            (Some(least), Some(most)) => format!("from {least} to {most}"),
            (Some(least), None) => format!("of at least {least}"),
            (None, Some(most)) => format!("of at most {most}"),
            (None, None) => return,
        };
        self.report(
            path,
            rule::OUT_OF_RANGE,
            format!("a number {bounds} was expected and {number} was found"),
            None,
        );
    }

    fn format(&mut self, text: &str, schema: &'static Json, path: &FieldPath) {
        let (rule, fits) = match schema["format"].as_str() {
            Some("duration") => (rule::BAD_DURATION, text.parse::<Duration>().is_ok()),
            Some("size") => (rule::BAD_SIZE, text.parse::<Size>().is_ok()),
            Some("cpu") => (rule::BAD_CPU, text.parse::<Cpu>().is_ok()),
            _ => return,
        };
        if let (false, Some(expected)) = (fits, schema["format"].as_str().and_then(amount)) {
            let message = format!("{expected} was expected and {} was found", quoted(text));
            self.report(path, rule, message, meant_amount(text, rule));
        }
    }
}

/// What an amount of a format looks like.
fn amount(format: &str) -> Option<&'static str> {
    match format {
        "duration" => Some(Duration::EXPECTED),
        "size" => Some(Size::EXPECTED),
        "cpu" => Some(Cpu::EXPECTED),
        _ => None,
    }
}

/// What was probably meant by an amount with a unit that other tools know: `64MB`, `30sec`, `1 h`.
fn meant_amount(text: &str, rule: &str) -> Option<String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_lowercase();
    let meant = match (rule, unit.as_str()) {
        (rule::BAD_SIZE, "k" | "kb" | "kib" | "ki") => "Ki",
        (rule::BAD_SIZE, "m" | "mb" | "mib" | "mi") => "Mi",
        (rule::BAD_SIZE, "g" | "gb" | "gib" | "gi") => "Gi",
        (rule::BAD_SIZE, "t" | "tb" | "tib" | "ti") => "Ti",
        (rule::BAD_DURATION, "" | "sec" | "secs" | "second" | "seconds" | "s") => "s",
        (rule::BAD_DURATION, "min" | "mins" | "minute" | "minutes" | "m") => "m",
        (rule::BAD_DURATION, "hour" | "hours" | "h" | "hr") => "h",
        (rule::BAD_DURATION, "msec" | "millis" | "ms") => "ms",
        (rule::BAD_CPU, "m" | "mcpu" | "millicores") => "m",
        _ => return None,
    };
    // An amount that was only too large is not meant again.
    let meant = format!("{number}{meant}");
    (!number.is_empty() && number.len() <= 15 && meant != text).then_some(meant)
}

/// The texts that an enumeration allows. An enumeration with described values is a choice of constants.
fn choices(schema: &'static Json) -> Vec<&'static str> {
    let texts = |values: &'static Json, field: Option<&str>| {
        let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
        values
            .iter()
            .filter_map(|value| field.map_or(value, |field| &value[field]).as_str())
            .collect::<Vec<_>>()
    };
    let mut found = texts(&schema["enum"], None);
    found.extend(schema["const"].as_str());
    found.extend(texts(&schema["oneOf"], Some("const")));
    if let Some(groups) = schema["oneOf"].as_array() {
        found.extend(groups.iter().flat_map(|group| texts(&group["enum"], None)));
    }
    found
}

fn types(schema: &'static Json) -> Vec<&'static str> {
    match &schema["type"] {
        Json::String(one) => vec![one.as_str()],
        Json::Array(several) => several.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Where a field belongs that was written one level too high: `replicas` beside `spec`.
fn one_below(field: &str, schema: &'static Json) -> Option<String> {
    let properties = schema["properties"].as_object()?;
    let (parent, _) = properties
        .iter()
        .find(|(_, property)| !schema::resolve(property)["properties"][field].is_null())?;
    Some(format!("{parent}.{field}"))
}

fn or_list(words: &[&str]) -> String {
    listed(words, "or")
}

fn and_list(words: &[&str]) -> String {
    listed(words, "and")
}

fn listed(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

fn first_sentence(text: &str) -> &str {
    text.split(['.', ';', ':']).next().unwrap_or(text)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
