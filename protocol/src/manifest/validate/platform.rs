//! Platforms: what hosts lend.

use super::super::platform::{Capability, Platform};
use super::super::problem::FieldPath;
use super::super::rule;
use super::{Check, config, placement, syntax};
use std::collections::BTreeMap;

pub(super) fn check(check: &mut Check<'_>, platform: &Platform) {
    let at = FieldPath::spec();
    if !platform.spec.hosts.is_empty() {
        placement::selector(check, &at.key("hosts"), &platform.spec.hosts);
    }
    let at = at.key("capabilities");
    let mut listeners: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, capability) in &platform.spec.capabilities {
        let at = at.entry(name);
        check.name(&at, name);
        check_capability(check, &at, capability);
        let Some(http) = &capability.http else { continue };
        // Port 0 is whichever is free, so it never clashes.
        if let Some(other) = listeners
            .insert(&http.listen, name)
            .filter(|_| !http.listen.ends_with(":0"))
        {
            let message = format!("`{name}` and `{other}` listen on the same address {}", http.listen);
            check.report(&at.key("http").key("listen"), rule::ADDRESS_CONFLICT, message);
        }
    }
}

fn check_capability(check: &mut Check<'_>, at: &FieldPath, capability: &Capability) {
    check.exactly_one(
        at,
        &[
            ("http", capability.http.is_some()),
            ("keyvalue", capability.keyvalue.is_some()),
            ("blobstore", capability.blobstore.is_some()),
            ("messaging", capability.messaging.is_some()),
            ("config", capability.config.is_some()),
            ("logging", capability.logging.is_some()),
        ],
    );
    config::secrets(check, &at.key("secrets"), &capability.secrets, false);
    if let Some(http) = &capability.http {
        check.syntax(
            &at.key("http").key("listen"),
            rule::BAD_ADDRESS,
            syntax::listen(&http.listen),
        );
    }
    if let Some(keyvalue) = &capability.keyvalue {
        let at = at.key("keyvalue");
        check.exactly_one(
            &at,
            &[("memory", keyvalue.memory.is_some()), ("nats", keyvalue.nats.is_some())],
        );
        if let Some(nats) = &keyvalue.nats {
            check.syntax(
                &at.key("nats").key("bucket"),
                rule::BAD_STORE_NAME,
                syntax::store_name(&nats.bucket),
            );
        }
    }
    if let Some(blobstore) = &capability.blobstore {
        let at = at.key("blobstore");
        check.exactly_one(&at, &[("filesystem", blobstore.filesystem.is_some())]);
        if let Some(filesystem) = &blobstore.filesystem {
            let at = at.key("filesystem");
            check.syntax(&at.key("path"), rule::BAD_PATH, syntax::folder(&filesystem.path));
            if filesystem.quota.is_some_and(|quota| quota.as_bytes() == 0) {
                check.report(
                    &at.key("quota"),
                    rule::OUT_OF_RANGE,
                    "a quota of nothing leaves no room; leave it out for none",
                );
            }
        }
    }
    if let Some(messaging) = &capability.messaging {
        let at = at.key("messaging");
        check.exactly_one(&at, &[("jetstream", messaging.jetstream.is_some())]);
        if let Some(jetstream) = &messaging.jetstream {
            let at = at.key("jetstream").key("stream");
            check.syntax(&at, rule::BAD_STORE_NAME, syntax::store_name(&jetstream.stream));
        }
    }
}
