//! Conditions on one label of a host, as planners ask them: thousands of times, so a version is taken apart once.
//!
//! In: what a manifest says of a label, checked. Out: whether a host's value keeps it, and the rule in words.

use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// The label that every agent adds: the host's own name.
pub const HOST_NAME_LABEL: &str = "heddle.dev/host";

/// A rule for one label of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// The label.
    pub label: String,
    /// What its value must be.
    pub rule: LabelRule,
}

/// What a label's value must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LabelRule {
    /// One of these.
    In(BTreeSet<String>),
    /// None of these; a missing label is none of them.
    NotIn(BTreeSet<String>),
    /// There, or not there.
    Exists(bool),
    /// A whole number above this.
    Gt(i64),
    /// A whole number below this.
    Lt(i64),
    /// A version that fits.
    Version(VersionRule),
}

impl LabelRule {
    /// Whether a host whose label has this value keeps the rule.
    pub fn allows(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match (self, value) {
            (Self::In(set), Some(value)) => set.contains(value),
            (Self::In(_), None) => false,
            (Self::NotIn(set), Some(value)) => !set.contains(value),
            (Self::NotIn(_), None) => true,
            (Self::Exists(wanted), value) => value.is_some() == *wanted,
            (Self::Gt(bound), _) => number().is_some_and(|number| number > *bound),
            (Self::Lt(bound), _) => number().is_some_and(|number| number < *bound),
            (Self::Version(rule), value) => value.is_some_and(|value| rule.allows(value)),
        }
    }

    /// The rule in words, for refusals: `one of eu, us`.
    pub fn in_words(&self) -> String {
        let list = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match self {
            Self::In(set) if set.len() == 1 => list(set),
            Self::In(set) => format!("one of {}", list(set)),
            Self::NotIn(set) => format!("none of {}", list(set)),
            Self::Exists(true) => "any value".to_owned(),
            Self::Exists(false) => "to be absent".to_owned(),
            Self::Gt(bound) => format!("a number above {bound}"),
            Self::Lt(bound) => format!("a number below {bound}"),
            Self::Version(rule) => format!("a version that fits {}", rule.text()),
        }
    }
}

/// A requirement on versions, such as `>=1.2, <2`: the comparisons are Semantic Versioning's, and all must hold. A bare
/// `1.2` means what Cargo takes it for: 1.2 or later, and below 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionRule {
    text: String,
    rule: VersionReq,
}

/// A text that is no requirement on versions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read {text:?} as a requirement on versions, such as \">=1.2, <2\": {why}")]
pub struct VersionRuleError {
    /// The text, cut to 80 characters.
    pub text: String,
    /// What is wrong.
    pub why: String,
}

/// The longest requirement on versions, in bytes: some comparisons, and no book.
const VERSION_RULE_BYTES_MAX: usize = 200;

impl VersionRule {
    /// Reads a requirement.
    ///
    /// # Errors
    /// If it is none, or longer than anybody writes one.
    pub fn parse(text: &str) -> Result<Self, VersionRuleError> {
        let error = |why: String| VersionRuleError {
            text: text.chars().take(80).collect(),
            why,
        };
        if text.len() > VERSION_RULE_BYTES_MAX {
            return Err(error(format!("it is longer than {VERSION_RULE_BYTES_MAX} bytes")));
        }
        let rule = VersionReq::parse(text).map_err(|e| error(e.to_string()))?;
        Ok(Self {
            text: text.to_owned(),
            rule,
        })
    }

    /// The requirement as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a label's value is a version that fits. Labels say `v1.2`, `1.2` and `1.2.0` for the same.
    pub fn allows(&self, value: &str) -> bool {
        version_of(value).is_some_and(|version| self.rule.matches(&version))
    }
}

/// A label's value as a version: a leading `v` and missing numbers at the end are put up with.
fn version_of(value: &str) -> Option<Version> {
    let value = value.strip_prefix('v').unwrap_or(value);
    let end = value.find('-').unwrap_or(value.len());
    let (numbers, rest) = value.split_at(end);
    let missing = 2usize.checked_sub(numbers.matches('.').count())?;
    Version::parse(&format!("{numbers}{}{rest}", ".0".repeat(missing))).ok()
}

impl TryFrom<String> for VersionRule {
    type Error = VersionRuleError;
    fn try_from(text: String) -> Result<Self, VersionRuleError> {
        Self::parse(&text)
    }
}

impl From<VersionRule> for String {
    fn from(rule: VersionRule) -> Self {
        rule.text
    }
}

// By its text, which says all of it.
impl PartialOrd for VersionRule {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VersionRule {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_fits_however_a_label_writes_it() {
        let rule = VersionRule::parse(">=1.2, <2").unwrap();
        for (value, fits) in [
            ("1.2", true),
            ("v1.2.0", true),
            ("1.10.3", true),
            ("1", false),
            ("2.0.0", false),
            ("v2", false),
            ("1.3.0-rc.1", false),
            ("1.2.3.4", false),
            ("one", false),
            ("", false),
        ] {
            assert_eq!(rule.allows(value), fits, "{value}");
        }
        assert!(VersionRule::parse("1.2").unwrap().allows("1.9"));
        assert!(VersionRule::parse(">=6.1.0-0").unwrap().allows("6.1.0-13-amd64"));
    }

    #[test]
    fn what_is_no_requirement_on_versions_is_refused() {
        for text in ["newest", ">=", "1.2 || 2", "01", &"1, ".repeat(500)] {
            assert!(VersionRule::parse(text).is_err(), "{text}");
        }
        let read: Result<VersionRule, _> = serde_json::from_str("\">=\"");
        assert!(read.is_err());
    }

    #[test]
    fn comparisons_take_whole_numbers_only() {
        for (rule, value, fits) in [
            (LabelRule::Gt(4), Some("5"), true),
            (LabelRule::Gt(4), Some("4"), false),
            (LabelRule::Gt(4), Some("4.5"), false),
            (LabelRule::Gt(-1), None, false),
            (LabelRule::Lt(4), Some("-7"), true),
            (LabelRule::Lt(4), Some("few"), false),
        ] {
            assert_eq!(rule.allows(value), fits, "{rule:?} for {value:?}");
        }
    }

    #[test]
    fn rules_are_stored_and_read_again() {
        let version = VersionRule::parse(">=1.2, <2").unwrap();
        for (rule, text) in [
            (LabelRule::Gt(4), r#"{"gt":4}"#),
            (LabelRule::Version(version), r#"{"version":">=1.2, <2"}"#),
        ] {
            assert_eq!(serde_json::to_string(&rule).unwrap(), text);
            assert_eq!(serde_json::from_str::<LabelRule>(text).unwrap(), rule);
        }
    }
}
