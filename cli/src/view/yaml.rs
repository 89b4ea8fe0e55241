//! A JSON value as YAML, for `get -o yaml`. The output is read again by `apply`: text that could be taken for anything
//! but text is put in quotes.

use serde_json::Value;

/// The value as one YAML document, with a line end.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(map, 0, &mut out),
        Value::Array(items) if !items.is_empty() => write_list(items, 0, &mut out),
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
    out
}

fn write_map(map: &serde_json::Map<String, Value>, depth: usize, out: &mut String) {
    for (at, (key, value)) in in_order(map).into_iter().enumerate() {
        // The first key of a list's item stands beside its dash.
        if at > 0 || !out.ends_with("- ") {
            out.push_str(&"  ".repeat(depth));
        }
        out.push_str(&text(key));
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                write_map(inner, depth + 1, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                write_list(items, depth + 1, out);
            }
            other => {
                out.push(' ');
                out.push_str(&scalar(other));
                out.push('\n');
            }
        }
    }
}

/// The order in which people write: what it is and what it is called first, then by name. The same value gives the same
/// text, whatever order its fields came in.
fn in_order(map: &serde_json::Map<String, Value>) -> Vec<(&String, &Value)> {
    const FIRST: [&str; 7] = ["apiVersion", "kind", "metadata", "name", "namespace", "image", "spec"];
    let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    let mut fields: Vec<_> = map.iter().collect();
    fields.sort_by(|(a, _), (b, _)| (rank(a), a).cmp(&(rank(b), b)));
    fields
}

fn write_list(items: &[Value], depth: usize, out: &mut String) {
    for item in items {
        out.push_str(&"  ".repeat(depth));
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => write_map(map, depth + 1, out),
            // A list in a list stays on its line: it is rare and short.
            other => {
                out.push_str(&scalar(other));
                out.push('\n');
            }
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(s) => text(s),
        // JSON is YAML.
        other => other.to_string(),
    }
}

/// Text plainly if nothing else can be read out of it, or else as a JSON string, which YAML reads as text.
fn text(s: &str) -> String {
    let first = s.chars().next();
    let word = s.to_ascii_lowercase();
    let taken_for_other = matches!(
        word.as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    let plain = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '/')
        && s.chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '@' | ':'))
        && !s.ends_with(':')
        && !taken_for_other;
    if plain {
        return s.to_owned();
    }
    // JSON leaves some control characters as they are; YAML wants them escaped.
    let json = Value::String(s.to_owned()).to_string();
    json.chars()
        .map(|c| {
            if c.is_control() {
                format!("\\u{:04x}", u32::from(c))
            } else {
                c.to_string()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_print_as_people_write_them() {
        let value = json!({
            "kind": "Workload", "apiVersion": "heddle.dev/v1",
            "metadata": {"name": "web"},
            "spec": {
                "components": [{"name": "api", "image": "sha256:ab", "config": [{"values": {"on": "yes", "n": "1"}}]}],
                "daemon": true, "weights": {}, "methods": ["GET", "POST"], "nested": [[1, 2]]
            }
        });
        let expected = "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata:\n  name: web\nspec:\n  components:\n    - name: api\n      image: sha256:ab\n      config:\n        - values:\n            \"n\": \"1\"\n            \"on\": \"yes\"\n  daemon: true\n  methods:\n    - GET\n    - POST\n  nested:\n    - [1,2]\n  weights: {}\n";
        assert_eq!(to_yaml(&value), expected);
    }
}
