//! Whether objects of the right shape also make sense.
//!
//! In: the documents of one change. Out: all problems that can be known without the fleet. Each file below checks one
//! part; what concerns several objects at once is `across`.

mod across;
mod config;
mod cycle;
mod image;
mod link;
mod placement;
mod platform;
mod policy;
mod quota;
mod schedule;
mod syntax;
mod trigger;
mod trust;
mod workload;

use super::document::Document;
use super::object::Object;
use super::problem::{FieldPath, Problem, in_order, quoted};
use super::rule;
use std::collections::BTreeMap;

/// Checks the meaning of the objects of one change, each for itself and all together.
pub fn validate(documents: &[Document]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for document in documents {
        let mut check = Check {
            document,
            problems: &mut problems,
        };
        check.metadata();
        match &document.object {
            Object::Platform(platform) => platform::check(&mut check, platform),
            Object::Config(object) => config::check_config(&mut check, object),
            Object::SecretRef(object) => config::check_secret_ref(&mut check, object),
            Object::Policy(object) => trust::check_policy(&mut check, object),
            Object::Quota(object) => quota::check(&mut check, object),
            Object::Workload(object) => workload::check(&mut check, object),
        }
    }
    across::check(documents, &mut problems);
    in_order(problems)
}

/// Whether a text has the form of a label's key, which names of taints and resources have too.
pub fn is_label_key(text: &str) -> bool {
    syntax::label_key(text).is_ok()
}

/// Whether a text has the form of a label's value.
pub fn is_label_value(text: &str) -> bool {
    syntax::label_value(text).is_ok()
}

/// One document under examination.
struct Check<'a> {
    document: &'a Document,
    problems: &'a mut Vec<Problem>,
}

impl Check<'_> {
    fn report(&mut self, path: &FieldPath, rule: &'static str, message: impl Into<String>) {
        self.problems.push(self.document.problem(path, rule, message));
    }

    fn report_meant(
        &mut self,
        path: &FieldPath,
        rule: &'static str,
        message: impl Into<String>,
        meant: Option<String>,
    ) {
        let problem = self.document.problem(path, rule, message);
        self.problems.push(match meant {
            Some(meant) => problem.suggest(meant),
            None => problem,
        });
    }

    /// Reports what a syntax check found, if it found something.
    fn syntax(&mut self, path: &FieldPath, rule: &'static str, found: Result<(), syntax::Fault>) {
        if let Err(fault) = found {
            self.report_meant(path, rule, fault.message, fault.meant);
        }
    }

    fn name(&mut self, path: &FieldPath, name: &str) {
        self.syntax(path, rule::BAD_NAME, syntax::name(name));
    }

    fn label_key(&mut self, path: &FieldPath, key: &str) {
        self.syntax(path, rule::BAD_LABEL, syntax::label_key(key));
    }

    fn label_value(&mut self, path: &FieldPath, value: &str) {
        self.syntax(path, rule::BAD_LABEL, syntax::label_value(value));
    }

    fn labels(&mut self, path: &FieldPath, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            let at = path.entry(key);
            self.label_key(&at, key);
            self.label_value(&at, value);
        }
    }

    fn metadata(&mut self) {
        let (document, at) = (self.document, FieldPath::root().key("metadata"));
        self.name(&at.key("name"), document.object.name());
        if let Some(namespace) = document.object.namespace() {
            self.name(&at.key("namespace"), namespace);
        }
        self.labels(&at.key("labels"), document.object.labels());
    }

    /// Reports the second of two equal values in a list.
    fn unique<'v>(&mut self, path: &FieldPath, values: impl Iterator<Item = &'v str>) {
        let mut seen = BTreeMap::new();
        for (index, value) in values.enumerate() {
            if let Some(first) = seen.insert(value, index) {
                let message = format!("{} is listed twice; the first is item {first}", quoted(value));
                self.report(&path.index(index), rule::DUPLICATE_VALUE, message);
            }
        }
    }

    /// Reports it unless exactly one of the fields is written.
    fn exactly_one(&mut self, path: &FieldPath, fields: &[(&str, bool)]) {
        let names: Vec<String> = fields.iter().map(|(name, _)| format!("`{name}`")).collect();
        let given: Vec<String> = fields
            .iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let message = match given.len() {
            1 => return,
            0 => format!("exactly one of {} is needed and none is written", names.join(", ")),
            _ => format!(
                "exactly one of {} may be written and there are {}",
                names.join(", "),
                given.join(", ")
            ),
        };
        self.report(path, rule::EXACTLY_ONE, message);
    }
}
