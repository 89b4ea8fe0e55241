//! Where a component may come from: a registry, a file, or the artifacts that the fleet already has.
//!
//! In: one text. Out: nothing if it has the form, or what is wrong with it and what was probably meant.

use super::super::problem::quoted;
use super::syntax::{Fault, host};

/// Where a component comes from.
pub(super) fn image(text: &str) -> Result<(), Fault> {
    let fault = |why: &str| Fault::new(format!("{} is no image: {why}", quoted(text)));
    if text.len() > 4_096 || text.chars().any(char::is_control) {
        return Err(fault("it has at most 4,096 bytes and no control characters"));
    }
    if let Some(path) = text.strip_prefix("file:") {
        return match path.strip_prefix("//") {
            Some(rest) => Err(fault("a file is `file:` and its path").meant(Some(format!("file:{rest}")))),
            None if path.is_empty() => Err(fault("a file has a path")),
            None => Ok(()),
        };
    }
    if text.starts_with("sha256:") {
        return if is_digest(text) {
            Ok(())
        } else {
            Err(fault("a digest is `sha256:` and 64 lower-case hex digits"))
        };
    }
    if let Some(reference) = text.strip_prefix("oci://") {
        return oci_reference(reference).map_err(fault);
    }
    let meant = if text.ends_with(".wasm") && !text.contains("://") {
        Some(format!("file:{text}"))
    } else {
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        oci_reference(rest).is_ok().then(|| format!("oci://{rest}"))
    };
    Err(fault("it is `oci://registry/path:tag`, `file:path` or `sha256:<hex>`").meant(meant))
}

fn is_digest(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:")
        .is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex))
}

/// `registry[:port]/path[:tag][@digest]`, with a tag or a digest: without either, `latest` would be meant by silence.
fn oci_reference(text: &str) -> Result<(), &'static str> {
    let (text, digest) = match text.split_once('@') {
        Some((text, digest)) => (text, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err("its digest is `sha256:` and 64 lower-case hex digits");
    }
    let (registry, rest) = text.split_once('/').ok_or("it names a registry and a path")?;
    let (registry_host, port) = match registry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    if host(registry_host).is_err() || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("its registry is a host, with or without a port");
    }
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |part: &str| {
        let ends = [part.bytes().next(), part.bytes().last()];
        !part.is_empty()
            && ends.into_iter().flatten().all(plain)
            && part.bytes().all(|b| plain(b) || b"._-".contains(&b))
    };
    if !path.split('/').all(part) {
        return Err("its path is lower-case words joined by '/', '.', '_' and '-'");
    }
    let tag_fits = |tag: &str| {
        (1..=128).contains(&tag.len())
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    match (tag, digest) {
        (None, None) => Err("it names a tag or a digest"),
        (Some(tag), _) if !tag_fits(tag) => Err("its tag is 1 to 128 of letters, digits, '.', '_' and '-'"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::syntax::tests::check;
    use super::*;

    #[test]
    fn an_image_is_a_registry_path_a_file_or_a_digest() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let pinned = format!("oci://r.example:5000/a/b@{digest}");
        check(
            image,
            &[
                "oci://registry.example/shop/cart-api:1.4.2",
                "file:./a b.wasm",
                "file:/a.wasm",
                &digest,
                &pinned,
            ],
            &[
                ("target/a.wasm", Some("file:target/a.wasm")),
                ("file:///a.wasm", Some("file:/a.wasm")),
                ("ghcr.io/a/b:1", Some("oci://ghcr.io/a/b:1")),
                ("https://ghcr.io/a/b:1", Some("oci://ghcr.io/a/b:1")),
                ("oci://ghcr.io/a/b", None),
                ("oci://ghcr.io/A/b:1", None),
                ("oci://ghcr.io", None),
                ("sha256:12", None),
                ("file:", None),
                ("", None),
            ],
        );
    }
}
