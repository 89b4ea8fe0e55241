//! Config values and references to secrets, wherever they are used.

use super::super::config::{Config, ConfigSource, SecretRef, SecretSource};
use super::super::problem::{FieldPath, quoted};
use super::super::rule;
use super::{Check, syntax};
use std::collections::BTreeMap;

/// The largest config value, in bytes: config travels inside a host's spec, which is pushed whole.
const VALUE_BYTES_MAX: usize = 64 << 10;

pub(super) fn check_config(check: &mut Check<'_>, config: &Config) {
    values(check, &FieldPath::spec(), &config.spec);
}

pub(super) fn check_secret_ref(check: &mut Check<'_>, secret: &SecretRef) {
    let at = FieldPath::spec();
    check.name(&at.key("from"), &secret.spec.from);
    secret_path(check, &at.key("path"), &secret.spec.path);
}

pub(super) fn sources(check: &mut Check<'_>, at: &FieldPath, sources: &[ConfigSource]) {
    for (index, source) in sources.iter().enumerate() {
        let at = at.index(index);
        check.exactly_one(
            &at,
            &[
                ("ref", source.config_ref.is_some()),
                ("values", source.values.is_some()),
            ],
        );
        if let Some(name) = &source.config_ref {
            check.name(&at.key("ref"), name);
        }
        if let Some(found) = &source.values {
            values(check, &at.key("values"), found);
        }
    }
}

fn values(check: &mut Check<'_>, at: &FieldPath, values: &BTreeMap<String, String>) {
    for (key, value) in values {
        let at = at.entry(key);
        check.syntax(&at, rule::BAD_CONFIG_KEY, syntax::config_key(key));
        if value.len() > VALUE_BYTES_MAX {
            let message = format!(
                "a value has at most {VALUE_BYTES_MAX} bytes and this one has {}",
                value.len()
            );
            check.report(&at, rule::WRONG_LENGTH, message);
        }
    }
}

/// Secrets of a component, or of a platform's capability (`named` is false: a platform has no namespace to look in).
pub(super) fn secrets(check: &mut Check<'_>, at: &FieldPath, secrets: &BTreeMap<String, SecretSource>, named: bool) {
    let mut variables: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, source) in secrets {
        let at = at.entry(key);
        check.syntax(&at, rule::BAD_CONFIG_KEY, syntax::config_key(key));
        check.exactly_one(
            &at,
            &[("ref", source.secret_ref.is_some()), ("from", source.from.is_some())],
        );
        if let Some(name) = &source.secret_ref {
            check.name(&at.key("ref"), name);
            if !named {
                let message = "a platform has no namespace to find a SecretRef in; write `from` and `path`";
                check.report(&at.key("ref"), rule::NOT_TOGETHER, message);
            }
            let given = [
                ("path", source.path.is_some()),
                ("version", source.version.is_some()),
                ("noCache", source.no_cache),
            ];
            for (field, _) in given.into_iter().filter(|(_, given)| *given) {
                let message = format!("`{field}` goes with `from`; a SecretRef says it by itself");
                check.report(&at.key(field), rule::NOT_TOGETHER, message);
            }
        }
        if let Some(variable) = &source.env {
            let at = at.key("env");
            check.syntax(&at, rule::BAD_VARIABLE, syntax::variable(variable));
            if !named {
                let message = "a capability has no environment; it gets its secrets by their names";
                check.report(&at, rule::NOT_TOGETHER, message);
            }
            if let Some(other) = variables.insert(variable, key) {
                let message = format!("secrets {} and {} would be in one variable", quoted(other), quoted(key));
                check.report(&at, rule::DUPLICATE_VALUE, message);
            }
        }
        if let Some(backend) = &source.from {
            check.name(&at.key("from"), backend);
            match &source.path {
                Some(path) => secret_path(check, &at.key("path"), path),
                None => check.report(
                    &at.key("path"),
                    rule::MISSING_FIELD,
                    "`path` is missing: the secret's path in the backend",
                ),
            }
        }
    }
}

fn secret_path(check: &mut Check<'_>, at: &FieldPath, path: &str) {
    if path.is_empty() || path.len() > 1_024 || path.chars().any(char::is_control) {
        let message = "a secret's path has 1 to 1,024 bytes and no control characters";
        check.report(at, rule::WRONG_LENGTH, message);
    }
}
