//! Names of WIT interfaces, and which of them every agent offers.

/// The packages of WASI that an agent always offers whole (D23). Grants (folders, addresses) are none by default.
const ALWAYS: &[&str] = &[
    "wasi:cli",
    "wasi:clocks",
    "wasi:filesystem",
    "wasi:http",
    "wasi:io",
    "wasi:random",
    "wasi:sockets",
];

/// An interface's name in parts: `wasi:keyvalue/store@0.2.0-draft`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface<'a> {
    /// `wasi:keyvalue`.
    pub package: &'a str,
    /// `store`.
    pub name: &'a str,
    /// `0.2.0-draft`, if there is one.
    pub version: Option<&'a str>,
}

/// Takes an interface's name apart; none if it has not the form `namespace:package/interface[@version]`.
pub fn parse(text: &str) -> Option<Interface<'_>> {
    let (path, version) = match text.split_once('@') {
        Some((path, version)) => (path, Some(version)),
        None => (text, None),
    };
    let (package, name) = path.split_once('/')?;
    let (namespace, rest) = package.split_once(':')?;
    let label = |s: &str| {
        !s.is_empty()
            && s.len() <= 128
            && s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let version_ok = version.is_none_or(|v| semver::Version::parse(v).is_ok());
    (label(namespace) && label(rest) && label(name) && version_ok).then_some(Interface { package, name, version })
}

/// Whether every agent meets this import by itself: an interface of WASI 0.2 or 0.3.
pub fn is_always_offered(interface: &str) -> bool {
    parse(interface).is_some_and(|i| {
        ALWAYS.contains(&i.package)
            && i.version
                .is_some_and(|v| v.starts_with("0.2.") || v.starts_with("0.3."))
    })
}

/// Whether a link that names `wanted` (with or without a version) speaks of the import `import`.
pub fn link_names(wanted: &str, import: &str) -> bool {
    match wanted.split_once('@') {
        Some(_) => wanted == import,
        None => import.split_once('@').map_or(import, |(path, _)| path) == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_taken_apart() {
        let i = parse("wasi:keyvalue/store@0.2.0-draft").unwrap();
        assert_eq!(
            (i.package, i.name, i.version),
            ("wasi:keyvalue", "store", Some("0.2.0-draft"))
        );
        for bad in ["store", "wasi:keyvalue", "wasi/store", ":a/b", "a:b/", "a:b/c@x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn wasi_is_offered_and_drafts_are_not() {
        assert!(is_always_offered("wasi:http/types@0.2.12"));
        assert!(is_always_offered("wasi:clocks/monotonic-clock@0.3.0"));
        assert!(!is_always_offered("wasi:keyvalue/store@0.2.0-draft"));
        assert!(!is_always_offered("acme:tax/rates@1.0.0"));
    }

    #[test]
    fn a_link_without_a_version_names_any_version() {
        assert!(link_names("wasi:keyvalue/store", "wasi:keyvalue/store@0.2.0-draft"));
        assert!(!link_names(
            "wasi:keyvalue/store@0.2.0",
            "wasi:keyvalue/store@0.2.0-draft"
        ));
        assert!(!link_names("wasi:keyvalue/sto", "wasi:keyvalue/store@0.2.0-draft"));
    }
}
