//! Which subjects a capability lends. In: the offer's patterns, and what a guest or a manifest names. Out: whether it may
//! be used, decided before anything is sent.

/// The longest subject, in bytes.
const SUBJECT_BYTES_MAX: usize = 1_024;
/// What the first token must not be or begin with: the fleet's own traffic, NATS's own, and everybody's inboxes.
const RESERVED: [&str; 3] = ["heddle", "$", "_INBOX"];

/// The patterns of one offer.
#[derive(Debug)]
pub(crate) struct Subjects(Vec<String>);

impl Subjects {
    pub(crate) fn new(patterns: &[String]) -> Result<Self, String> {
        if patterns.is_empty() {
            return Err("it names no subjects, so nobody could use it; list them under `subjects`".to_owned());
        }
        for pattern in patterns {
            check_pattern(pattern)?;
        }
        Ok(Self(patterns.to_vec()))
    }

    pub(crate) fn patterns(&self) -> &[String] {
        &self.0
    }

    /// Whether a guest may send to it.
    pub(crate) fn check_sent(&self, subject: &str) -> Result<(), String> {
        check_pattern(subject)?;
        if has_wildcard(subject) {
            return Err(format!("{subject:?} has wildcards, and a message goes to one subject"));
        }
        self.check(subject)
    }

    /// Whether messages may be taken from it.
    pub(crate) fn check_consumed(&self, pattern: &str) -> Result<(), String> {
        check_pattern(pattern)?;
        if first(pattern) == "*" || first(pattern) == ">" {
            return Err(format!(
                "{pattern:?} begins with a wildcard, which would take what the fleet itself says; write the first token out"
            ));
        }
        self.check(pattern)
    }

    fn check(&self, subject: &str) -> Result<(), String> {
        if is_reserved(subject) {
            return Err(format!("{subject:?} is reserved, whatever the capability lends"));
        }
        match self.0.iter().any(|pattern| covers(pattern, subject)) {
            true => Ok(()),
            false => Err(format!(
                "{subject:?} is outside of what the capability lends: {}",
                self.0.join(", ")
            )),
        }
    }
}

/// Whether a subject is one that no guest may name.
pub(crate) fn is_reserved(subject: &str) -> bool {
    let first = first(subject);
    RESERVED
        .iter()
        .any(|reserved| first == *reserved || (*reserved != "heddle" && first.starts_with(reserved)))
}

/// Whether it is one subject, well formed, and no pattern.
pub(crate) fn is_literal(subject: &str) -> bool {
    check_pattern(subject).is_ok() && !has_wildcard(subject)
}

/// Whether every subject that `narrow` stands for is one that `wide` stands for.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wide, mut narrow) = (wide.split('.'), narrow.split('.'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some(">"), Some(_)) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Whether some subject is one that both stand for.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

fn first(subject: &str) -> &str {
    subject.split('.').next().unwrap_or_default()
}

fn has_wildcard(subject: &str) -> bool {
    subject.split('.').any(|token| token == "*" || token == ">")
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    if pattern.len() > SUBJECT_BYTES_MAX {
        return Err(format!(
            "a subject has at most {SUBJECT_BYTES_MAX} bytes, and this one {}",
            pattern.len()
        ));
    }
    let tokens: Vec<&str> = pattern.split('.').collect();
    let well_formed = |(place, token): (usize, &&str)| {
        let plain = !token.is_empty() && token.chars().all(|c| !c.is_whitespace() && !c.is_control());
        // A wildcard is a whole token, and `>` the last one.
        plain && (*token != ">" || place + 1 == tokens.len()) && (token.len() == 1 || !token.contains(['*', '>']))
    };
    match tokens.iter().enumerate().all(well_formed) {
        true => Ok(()),
        false => Err(format!(
            "{pattern:?} is no subject: tokens with dots between them, none empty and none with blanks"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent(patterns: &[&str]) -> Subjects {
        Subjects::new(&patterns.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_guest_sends_only_to_what_is_lent() {
        let subjects = lent(&["orders.*", "audit.>"]);
        for allowed in ["orders.new", "audit.a", "audit.a.b.c"] {
            assert_eq!(subjects.check_sent(allowed), Ok(()), "{allowed}");
        }
        for refused in [
            "orders",
            "orders.new.x",
            "audit",
            "other.new",
            "orders.*",
            "audit.>",
            "",
            "orders.",
            "orders.a b",
        ] {
            assert!(subjects.check_sent(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn reserved_subjects_are_refused_whatever_is_lent() {
        let subjects = lent(&[">"]);
        let reserved = [
            "heddle.v1.eu.hb.h-1",
            "heddle",
            "$JS.API.INFO",
            "$SYS.x",
            "_INBOX.x",
            "_INBOX_h-1.x",
        ];
        for subject in reserved {
            assert!(
                subjects.check_sent(subject).unwrap_err().contains("reserved"),
                "{subject}"
            );
            assert!(subjects.check_consumed(subject).is_err(), "{subject}");
        }
        assert_eq!(subjects.check_sent("heddles.new"), Ok(()));
        assert!(subjects.check_consumed(">").is_err() && subjects.check_consumed("*.hb").is_err());
        assert_eq!(subjects.check_consumed("orders.>"), Ok(()));
    }

    #[test]
    fn a_wide_pattern_takes_no_more_than_what_is_lent() {
        let subjects = lent(&["orders.*.new"]);
        assert_eq!(subjects.check_consumed("orders.eu.new"), Ok(()));
        assert_eq!(subjects.check_consumed("orders.*.new"), Ok(()));
        for wider in ["orders.>", "orders.*.*", "orders.*.>", "orders.eu.>"] {
            assert!(subjects.check_consumed(wider).is_err(), "{wider}");
        }
    }

    #[test]
    fn patterns_overlap_where_one_subject_fits_both() {
        assert!(overlap("dead.>", "dead.orders"));
        assert!(overlap("dead.>", ">"));
        assert!(overlap("*.new", "dead.>"));
        assert!(!overlap("dead.>", "orders.>"));
        assert!(!overlap("a.b", "a.b.c"));
    }
}
