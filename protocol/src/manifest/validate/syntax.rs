//! The forms of names, labels, hosts, paths and the like; images and schedules have files of their own.
//!
//! In: one text. Out: nothing if it has the form, or what is wrong with it and what was probably meant.

use super::super::problem::quoted;
use crate::id::is_name;
use std::net::{Ipv6Addr, SocketAddr};

/// Why a text does not have the form that its field asks for.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) meant: Option<String>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            meant: None,
        }
    }

    pub(super) fn meant(mut self, meant: Option<String>) -> Self {
        self.meant = meant;
        self
    }
}

pub(super) fn name(text: &str) -> Result<(), Fault> {
    if is_name(text) {
        return Ok(());
    }
    let message = format!(
        "{} is no name: 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends",
        quoted(text)
    );
    let folded: String = text
        .chars()
        .take(80)
        .map(|c| {
            if c == '_' || c == '.' || c == ' ' {
                '-'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect();
    let folded = folded.trim_matches('-').to_owned();
    Err(Fault::new(message).meant(Some(folded).filter(|folded| is_name(folded))))
}

/// A label's key: `name` or `prefix/name`, as Kubernetes has them, so that its nodes' labels can be used as they are.
pub(super) fn label_key(text: &str) -> Result<(), Fault> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if prefix.is_none_or(|prefix| host(prefix).is_ok()) && !name.is_empty() && is_label_text(name) {
        return Ok(());
    }
    Err(Fault::new(format!(
        "{} is no label key: 1 to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends, after an \
         optional `domain/`",
        quoted(text)
    )))
}

pub(super) fn label_value(text: &str) -> Result<(), Fault> {
    if is_label_text(text) {
        return Ok(());
    }
    Err(Fault::new(format!(
        "{} is no label value: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends",
        quoted(text)
    )))
}

fn is_label_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    bytes.len() <= 63
        && ends.into_iter().flatten().all(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// A key of config or of a secret.
pub(super) fn config_key(text: &str) -> Result<(), Fault> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
    if (1..=253).contains(&text.len()) && text.as_bytes().iter().all(plain) {
        return Ok(());
    }
    Err(Fault::new(format!(
        "{} is no key: 1 to 253 of letters, digits, '.', '_' and '-'",
        quoted(text)
    )))
}

/// A DNS name in lower case, or an IPv4 address, without a port.
pub(super) fn host(text: &str) -> Result<(), Fault> {
    let label = |label: &str| label.len() <= 63 && is_name(label);
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(());
    }
    let fault = Fault::new(format!(
        "{} is no host: a DNS name in lower case, without scheme or port",
        quoted(text)
    ));
    if text == "*" {
        return Err(Fault::new(
            "`*` is no host; leave `host` out to take requests for any host",
        ));
    }
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split(['/', ':']).next().unwrap_or_default().to_ascii_lowercase();
    let near = bare != text && bare.len() <= 253 && bare.split('.').all(label);
    Err(fault.meant(near.then_some(bare)))
}

/// A path that requests may ask for: absolute, without query, fragment, empty or dot segments.
pub(super) fn path(text: &str) -> Result<(), Fault> {
    let fault = |why: &str| Fault::new(format!("{} is no path: {why}", quoted(text)));
    if text.len() > 1_024 {
        return Err(Fault::new(format!(
            "a path has at most 1,024 bytes and this one has {}",
            text.len()
        )));
    }
    let Some(rest) = text.strip_prefix('/') else {
        return Err(fault("it starts with '/'").meant(is_path_text(text).then(|| format!("/{text}"))));
    };
    if rest.is_empty() {
        return Ok(());
    }
    if let Some(stem) = text
        .strip_suffix("/*")
        .or_else(|| text.strip_suffix('*'))
        .or_else(|| text.strip_suffix('/'))
    {
        let meant = if stem.is_empty() {
            "/".to_owned()
        } else {
            stem.to_owned()
        };
        let meant = Some(meant).filter(|meant| meant == "/" || path(meant).is_ok());
        return Err(fault("it stands for everything below it without a '/' or '*' at its end").meant(meant));
    }
    if rest
        .split('/')
        .any(|segment| segment.is_empty() || segment == "." || segment == "..")
    {
        return Err(fault("its segments are neither empty nor dots"));
    }
    if !is_path_text(rest) {
        return Err(fault("it is made of letters, digits, -._~!$&'()+,;=:@ and %-escapes"));
    }
    Ok(())
}

fn is_path_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => bytes
            .get(at + 1..at + 3)
            .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
        b'/' => true,
        byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@".contains(byte),
    })
}

/// An address to listen on: an IP address and a port.
pub(super) fn listen(text: &str) -> Result<(), Fault> {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    let fault = Fault::new(format!(
        "{} is no address to listen on: an IP address and a port, such as 127.0.0.1:8080 or [::]:8080",
        quoted(text)
    ));
    let port = text.rsplit_once(':').map_or(text, |(_, port)| port);
    let address = match text.rsplit_once(':') {
        Some(("localhost", _)) => "127.0.0.1",
        Some(("" | "*", _)) | None => "0.0.0.0",
        Some(_) => return Err(fault),
    };
    Err(fault.meant(port.parse::<u16>().ok().map(|port| format!("{address}:{port}"))))
}

/// An address to call: `host:port`, where the host may be `*.domain`, an IPv4 address or `[IPv6]`.
pub(super) fn egress(text: &str) -> Result<(), Fault> {
    let fault = || {
        Fault::new(format!(
            "{} is no address: `host:port`, such as api.example.com:443",
            quoted(text)
        ))
    };
    let bare = text
        .split_once("://")
        .map(|(scheme, rest)| (scheme, rest.trim_end_matches('/')));
    if let Some((scheme, rest)) = bare {
        let meant = match scheme {
            "https" if host(rest).is_ok() => Some(format!("{rest}:443")),
            "http" if host(rest).is_ok() => Some(format!("{rest}:80")),
            _ => Some(rest.to_owned()).filter(|rest| egress(rest).is_ok()),
        };
        return Err(fault().meant(meant));
    }
    let Some((name, port)) = text.rsplit_once(':') else {
        return Err(fault().meant(host(text).is_ok().then(|| format!("{text}:443"))));
    };
    let v6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let host_fits = match v6 {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        // All hosts below a domain have a name; of addresses there is nothing below.
        None => match name.strip_prefix("*.") {
            Some(domain) => host(domain).is_ok() && !domain.ends_with(|c: char| c.is_ascii_digit()),
            None => host(name).is_ok(),
        },
    };
    let port_fits = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if host_fits && port_fits { Ok(()) } else { Err(fault()) }
}

/// An interface: `namespace:package/interface`, with or without `@version`.
pub(super) fn interface(text: &str) -> Result<(), Fault> {
    let fault = |why: &str| {
        Fault::new(format!(
            "{} is no interface: {why}, such as wasi:keyvalue/store or acme:tax/rates@1.0.0",
            quoted(text)
        ))
    };
    let (path, version) = match text.split_once('@') {
        Some((path, version)) => (path, Some(version)),
        None => (text, None),
    };
    if version.is_some_and(|version| semver::Version::parse(version).is_err()) {
        return Err(fault("its version has three numbers"));
    }
    let Some((package, interface)) = path.split_once('/') else {
        return Err(fault("it is `namespace:package/interface`"));
    };
    let Some((namespace, package)) = package.split_once(':') else {
        return Err(fault("its package has a namespace"));
    };
    if text.len() <= 256 && [namespace, package, interface].into_iter().all(is_wit_name) {
        return Ok(());
    }
    Err(fault("its parts are words of letters and digits joined by '-'"))
}

/// A name as WIT has it: words joined by `-`, each all lower or all upper case; the first begins with a letter.
fn is_wit_name(text: &str) -> bool {
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let upper = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    let word = |word: &str| !word.is_empty() && (word.bytes().all(lower) || word.bytes().all(upper));
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.split('-').all(word)
}

/// A NATS subject, with wildcards.
pub(super) fn subject(text: &str) -> Result<(), Fault> {
    let tokens: Vec<&str> = text.split('.').collect();
    let last = tokens.len() - 1;
    let token_fits = |(at, token): (usize, &&str)| match *token {
        "" => false,
        ">" => at == last,
        "*" => true,
        token => token.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>'),
    };
    if text.len() <= 255 && !text.starts_with('$') && tokens.iter().enumerate().all(token_fits) {
        return Ok(());
    }
    Err(Fault::new(format!(
        "{} is no subject: tokens between dots, `*` for one token, `>` for all that follow",
        quoted(text)
    )))
}

/// A subject that a platform gives to workloads: none of the fleet's own, and none of the server's.
pub(super) fn lent_subject(text: &str) -> Result<(), Fault> {
    subject(text)?;
    let first = text.split('.').next().unwrap_or_default();
    let reserved = first == "heddle" || first == "*" || first == ">" || first.starts_with("_INBOX");
    if reserved {
        return Err(Fault::new(format!(
            "{} would give workloads the fleet's own subjects (heddle, _INBOX); begin with a word of your own",
            quoted(text)
        )));
    }
    Ok(())
}

/// What the subjects of a wRPC server begin with.
pub(super) fn rpc_prefix(text: &str) -> Result<(), Fault> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let tokens: Vec<&str> = text.split('.').collect();
    let fits = |token: &&str| (1..=64).contains(&token.len()) && token.bytes().all(plain);
    let reserved = tokens
        .first()
        .is_some_and(|first| *first == "heddle" || first.starts_with("_INBOX"));
    if tokens.len() <= 10 && tokens.iter().all(fits) && !reserved {
        return Ok(());
    }
    Err(Fault::new(format!(
        "{} is no prefix: 1 to 10 tokens of letters, digits, '_' and '-' between dots, not beginning with heddle or _INBOX",
        quoted(text)
    )))
}

/// The URL of a server: one of some schemes, a host, perhaps a port, a user and a path; never a password.
pub(super) fn url(text: &str, schemes: &[&str], secret: &str, user: bool, path: bool) -> Result<(), Fault> {
    let form = || {
        Fault::new(format!(
            "{} is no URL of such a server: {}://host:port",
            hidden(text),
            schemes.join(":// or ")
        ))
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(form());
    };
    let (authority, below) = match rest.split_once('/') {
        Some((authority, below)) => (authority, Some(below)),
        None => (rest, None),
    };
    let (who, address) = match authority.rsplit_once('@') {
        Some((who, address)) => (Some(who), address),
        None => (None, authority),
    };
    if who.is_some_and(|who| !user || who.contains(':')) || text.contains("password=") {
        return Err(Fault::new(format!(
            "{} holds credentials; a manifest never does: use `secrets.{secret}`",
            hidden(text)
        )));
    }
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"'\\<>`{}|^".contains(&b);
    let below_fits = below.is_none_or(|below| path || below.is_empty());
    let user_fits = who.is_none_or(|who| !who.is_empty());
    let whole = schemes.contains(&scheme) && text.len() <= 1_024 && text.bytes().all(plain);
    if whole && below_fits && user_fits && server(address) {
        return Ok(());
    }
    Err(form())
}

/// A text that may hold a password, as messages may show it.
fn hidden(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            quoted(&format!("{scheme}://…@{}", after.split('?').next().unwrap_or_default()))
        }
        None => quoted(text.split('?').next().unwrap_or_default()),
    }
}

/// A host with or without a port.
fn server(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, rest)) => {
            if v6.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            (None, rest.strip_prefix(':').or((!rest.is_empty()).then_some("")))
        }
        None => match text.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(text), None),
        },
    };
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0);
    name.is_none_or(|name| host(name).is_ok()) && port.is_none_or(digits)
}

/// What an agent lists that is built with a crate of somebody's own.
pub(super) fn feature(text: &str) -> Result<(), Fault> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.@".contains(&b);
    if (1..=128).contains(&text.len()) && text.bytes().all(plain) && text.starts_with(|c: char| c.is_ascii_lowercase())
    {
        return Ok(());
    }
    Err(Fault::new(format!(
        "{} is no feature: 1 to 128 of a-z, 0-9, '-', '.' and '@', such as acme-ledger@1.2.0",
        quoted(text)
    )))
}

/// The name of an environment variable.
pub(super) fn variable(text: &str) -> Result<(), Fault> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if (1..=128).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(());
    }
    Err(Fault::new(format!(
        "{} is no environment variable: 1 to 128 of letters, digits and '_', the first no digit",
        quoted(text)
    )))
}

/// The name of a bucket or a stream.
pub(super) fn store_name(text: &str) -> Result<(), Fault> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if (1..=255).contains(&text.len()) && text.bytes().all(plain) {
        return Ok(());
    }
    Err(Fault::new(format!(
        "{} is no bucket or stream: 1 to 255 of letters, digits, '_' and '-'",
        quoted(text)
    )))
}

/// A folder below the agent's data folder.
pub(super) fn folder(text: &str) -> Result<(), Fault> {
    let segment = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if text.len() <= 255 && text.split('/').all(segment) {
        return Ok(());
    }
    Err(Fault::new(format!(
        "{} is no folder below the agent's data folder: relative, without `..`",
        quoted(text)
    )))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn check(form: fn(&str) -> Result<(), Fault>, good: &[&str], bad: &[(&str, Option<&str>)]) {
        for text in good {
            assert!(form(text).is_ok(), "{text:?} was refused: {:?}", form(text));
        }
        for (text, meant) in bad {
            let Err(fault) = form(text) else {
                panic!("{text:?} was accepted")
            };
            assert_eq!(fault.meant.as_deref(), *meant, "{text:?}");
        }
    }

    #[test]
    fn a_name_is_a_dns_label_and_a_slip_has_a_suggestion() {
        check(
            name,
            &["a", "a1", "x-y"],
            &[
                ("Cart_API", Some("cart-api")),
                ("-a", Some("a")),
                ("ä", None),
                ("", None),
            ],
        );
    }

    #[test]
    fn labels_have_the_form_of_kubernetes_labels() {
        check(
            label_key,
            &["zone", "heddle.dev/arch", "a_b.c"],
            &[("/a", None), ("a/", None), ("a b", None), ("", None)],
        );
        check(
            label_value,
            &["", "eu-1", "x86_64"],
            &[("-a", None), ("a b", None), (&"x".repeat(64), None)],
        );
    }

    #[test]
    fn a_path_is_absolute_and_plain() {
        check(
            path,
            &["/", "/cart", "/a/b", "/a%20b", "/~x"],
            &[
                ("cart", Some("/cart")),
                ("/cart/", Some("/cart")),
                ("/cart/*", Some("/cart")),
                ("/*", Some("/")),
                ("//", Some("/")),
                ("/a//b", None),
                ("/a/../b", None),
                ("/a?b=c", None),
                ("/a b", None),
                ("/a%2", None),
                ("", Some("/")),
            ],
        );
    }

    #[test]
    fn addresses_name_a_host_and_a_port() {
        check(
            listen,
            &["127.0.0.1:8080", "[::]:80", "0.0.0.0:0"],
            &[
                ("localhost:8080", Some("127.0.0.1:8080")),
                (":80", Some("0.0.0.0:80")),
                ("8080", Some("0.0.0.0:8080")),
            ],
        );
        check(
            egress,
            &["api.example.com:443", "*.example.com:443", "10.0.0.1:80", "[::1]:80"],
            &[
                ("api.example.com", Some("api.example.com:443")),
                ("https://api.example.com/", Some("api.example.com:443")),
                ("a:0", None),
                ("a:70000", None),
                ("a:+80", None),
                ("*:443", None),
                ("*.0.0.1:443", None),
            ],
        );
        check(
            host,
            &["localhost", "cart.example.com", "10.0.0.1"],
            &[
                ("Cart.Example.com", Some("cart.example.com")),
                ("https://a.b/c", Some("a.b")),
                ("a:80", Some("a")),
                ("*", None),
            ],
        );
    }

    #[test]
    fn an_interface_has_a_namespace_a_package_and_a_name() {
        check(
            interface,
            &[
                "wasi:keyvalue/store",
                "acme:tax/rates@1.0.0",
                "wasi:http/handler@0.3.0-rc-2025-09-16",
                "a:b/HTTP-x",
            ],
            &[
                ("wasi:keyvalue", None),
                ("keyvalue/store", None),
                ("a:b/c@1", None),
                ("a:b/C-d-", None),
                ("a:b/c/d", None),
            ],
        );
    }

    #[test]
    fn a_subject_has_tokens_and_wildcards_in_their_places() {
        check(
            subject,
            &["orders.cart.>", "a.*.b", "a"],
            &[("a..b", None), ("a.>.b", None), ("a b", None), ("$JS.x", None)],
        );
        check(folder, &["media", "a/b"], &[("/a", None), ("a/../b", None), ("", None)]);
        check(store_name, &["ORDERS", "a_b-1"], &[("a.b", None), ("", None)]);
    }

    #[test]
    fn a_prefix_and_a_lent_subject_are_never_the_fleets_own() {
        check(
            rpc_prefix,
            &["acme", "acme.fraud-1.v_2"],
            &[
                ("heddle.v1", None),
                ("_INBOX_x", None),
                ("$SYS", None),
                ("a.*", None),
                ("a..b", None),
                ("", None),
                ("a.b.c.d.e.f.g.h.i.j.k", None),
            ],
        );
        check(
            lent_subject,
            &["orders.>", "a.*"],
            &[
                (">", None),
                ("heddle.v1.>", None),
                ("*.x", None),
                ("_INBOX.>", None),
                ("$JS.>", None),
            ],
        );
    }

    #[test]
    fn a_url_names_a_server_and_never_a_password() {
        fn redis(text: &str) -> Result<(), Fault> {
            url(text, &["redis", "rediss"], "password", false, true)
        }
        fn postgres(text: &str) -> Result<(), Fault> {
            url(text, &["postgres"], "password", true, true)
        }
        check(
            redis,
            &["redis://localhost:6379", "rediss://a.b/2", "redis://[::1]:6379/0"],
            &[
                ("redis://:hunter2@a.b", None),
                ("redis://me@a.b", None),
                ("http://a.b", None),
                ("redis://a b", None),
                ("redis://a.b:0", None),
                ("a.b:6379", None),
            ],
        );
        check(
            postgres,
            &["postgres://me@db:5432/shop"],
            &[
                ("postgres://me:hunter2@db/shop", None),
                ("postgres://db/shop?password=hunter2", None),
            ],
        );
        for text in ["postgres://me:hunter2@db/shop", "postgres://db/shop?password=hunter2"] {
            assert!(!postgres(text).unwrap_err().message.contains("hunter2"), "{text}");
        }
    }
}
