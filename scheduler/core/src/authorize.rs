//! Who may ask what. One pure function, asked for every request before anything else is done with it (D15).

use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::id::Namespace;
use std::collections::BTreeSet;

/// The rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Anybody who reaches NATS may ask anything: for development, and where NATS permissions decide.
    Open,
    /// Only requests signed by one of these public keys are taken.
    Signed(BTreeSet<String>),
}

/// What is asked, by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Who asks, as they say.
    pub actor: &'a str,
    /// The key that signed the request, once its signature was verified; none if it is not signed.
    pub key: Option<&'a str>,
    /// The verb.
    pub verb: &'a str,
    /// The namespace of the subject.
    pub namespace: &'a Namespace,
}

/// Whether a request may be carried out.
///
/// # Errors
/// `forbidden`, with what is lacking.
pub fn authorize(access: &Access, asked: &Asked<'_>) -> Result<(), ApiError> {
    let Access::Signed(trusted) = access else { return Ok(()) };
    let what = format!(
        "failed to carry out `{}` in namespace {} for {}",
        asked.verb,
        asked.namespace,
        cut(asked.actor)
    );
    let refuse = |why: &str, next: &str| Err(ApiError::new(ErrorCode::Forbidden, format!("{what}: {why}"), next));
    match asked.key {
        None => refuse("the request is not signed", "sign requests with `--key FILE`"),
        Some(key) if !trusted.contains(key) => refuse(
            &format!("key {} is not trusted", cut(key)),
            "have the scheduler started with `--trusted-key` for it, or sign with another key",
        ),
        Some(_) => Ok(()),
    }
}

/// Text from outside, short and without control characters.
fn cut(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_that_wants_signatures_takes_trusted_keys_only() {
        let namespace = Namespace::fallback();
        let asked = |key| Asked {
            actor: "ann",
            key,
            verb: "apply",
            namespace: &namespace,
        };
        let signed = Access::Signed(BTreeSet::from(["UKEY".to_owned()]));
        assert!(authorize(&Access::Open, &asked(None)).is_ok());
        assert!(authorize(&signed, &asked(Some("UKEY"))).is_ok());
        for key in [None, Some("UOTHER")] {
            let error = authorize(&signed, &asked(key)).unwrap_err();
            assert_eq!(error.code, ErrorCode::Forbidden);
            assert!(!error.next.is_empty());
        }
    }
}
