//! Which export meets an import: the same interface, in a version that is compatible by the rules of semantic versions.

use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::wit;
use std::collections::BTreeSet;

/// Whether an export meets an import. From 1.0.0 on a later minor version does, before that a later patch; a version
/// that is a draft is met only by itself.
pub(super) fn fits(import: &str, export: &str) -> bool {
    if import == export {
        return true;
    }
    let (Some(wanted), Some(given)) = (wit::parse(import), wit::parse(export)) else {
        return false;
    };
    if (wanted.package, wanted.name) != (given.package, given.name) {
        return false;
    }
    let version = |text: Option<&str>| semver::Version::parse(text?).ok();
    let (Some(wanted), Some(given)) = (version(wanted.version), version(given.version)) else {
        return false;
    };
    let draft = !wanted.pre.is_empty() || !given.pre.is_empty();
    let line = |v: &semver::Version| match (v.major, v.minor) {
        (0, 0) => (0, 0, v.patch),
        (0, minor) => (0, minor, 0),
        (major, _) => (major, 0, 0),
    };
    let order = |v: &semver::Version| (v.major, v.minor, v.patch);
    !draft && line(&wanted) == line(&given) && order(&given) >= order(&wanted)
}

/// The export of a component that meets an import: the same version if it has it, or else the newest that fits.
pub(super) fn export_for<'a>(artifact: &'a ArtifactInfo, import: &str) -> Option<&'a str> {
    export_among(&artifact.exports, import)
}

fn export_among<'a>(exports: &'a BTreeSet<String>, import: &str) -> Option<&'a str> {
    if let Some(same) = exports.get(import) {
        return Some(same);
    }
    let version = |text: &str| wit::parse(text).and_then(|i| semver::Version::parse(i.version?).ok());
    let fitting = exports.iter().filter(|export| fits(import, export));
    fitting.max_by_key(|export| version(export)).map(String::as_str)
}

/// `acme:tax/rates` of `acme:tax/rates@1.0.0`.
pub(super) fn without_version(interface: &str) -> &str {
    interface.split('@').next().unwrap_or_default()
}

/// `acme:tax` of `acme:tax/rates@1.0.0`.
pub(super) fn package(interface: &str) -> &str {
    without_version(interface).split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_compatible_version_meets_an_import_and_an_earlier_or_another_does_not() {
        for (import, export, meets) in [
            ("a:b/c@1.0.0", "a:b/c@1.0.0", true),
            ("a:b/c@1.0.0", "a:b/c@1.4.2", true),
            ("a:b/c@1.4.0", "a:b/c@1.3.9", false),
            ("a:b/c@1.0.0", "a:b/c@2.0.0", false),
            ("a:b/c@0.2.1", "a:b/c@0.2.3", true),
            ("a:b/c@0.2.1", "a:b/c@0.3.0", false),
            ("a:b/c@0.0.1", "a:b/c@0.0.2", false),
            ("a:b/c@1.0.0-draft", "a:b/c@1.0.0", false),
            ("a:b/c@1.0.0-draft", "a:b/c@1.0.0-draft", true),
            ("a:b/c", "a:b/c", true),
            ("a:b/c", "a:b/c@1.0.0", false),
            ("a:b/c@1.0.0", "a:b/d@1.0.0", false),
        ] {
            assert_eq!(fits(import, export), meets, "{import} met by {export}");
        }
    }

    #[test]
    fn of_several_exports_the_newest_that_fits_is_taken() {
        let exports = ["a:b/c@1.0.0", "a:b/c@1.10.0", "a:b/c@1.9.0", "a:b/c@2.0.0"];
        let exports: BTreeSet<String> = exports.iter().map(ToString::to_string).collect();
        assert_eq!(export_among(&exports, "a:b/c@1.0.0"), Some("a:b/c@1.0.0"));
        assert_eq!(export_among(&exports, "a:b/c@1.2.0"), Some("a:b/c@1.10.0"));
        assert_eq!(export_among(&exports, "a:b/c@3.0.0"), None);
    }
}
