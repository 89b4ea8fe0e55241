//! What a namespace asks of images.

use super::super::problem::FieldPath;
use super::super::rule;
use super::super::trust::Policy;
use super::Check;
use std::collections::BTreeSet;

pub(super) fn check_policy(check: &mut Check<'_>, policy: &Policy) {
    let at = FieldPath::spec().key("signatures").key("cosign");
    let mut seen = BTreeSet::new();
    for (index, key) in policy.spec.signatures.cosign.iter().enumerate() {
        let at = at.index(index).key("publicKey");
        match key.fingerprint() {
            None => {
                let message =
                    "this is no public key; write the whole text of `cosign.pub`, its first and last line too";
                check.report(&at, rule::BAD_PUBLIC_KEY, message);
            }
            Some(fingerprint) if !seen.insert(fingerprint) => {
                check.report(&at, rule::DUPLICATE_VALUE, "this key stands in the list already");
            }
            Some(_) => {}
        }
    }
}
