//! Platforms: what hosts lend.

use super::super::platform::{BlobstoreCapability, Capability, KeyvalueCapability, MessagingCapability, Platform};
use super::super::problem::FieldPath;
use super::super::quantity::{Duration, Size};
use super::super::rule;
use super::{Check, config, placement, syntax};
use std::collections::BTreeMap;

/// The longest that a call to a server outside may take.
const TIMEOUT_MAX: Duration = Duration::from_ms(3_600_000);

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
            ("postgres", capability.postgres.is_some()),
            ("wrpc", capability.wrpc.is_some()),
            ("custom", capability.custom.is_some()),
            ("config", capability.config.is_some()),
            ("logging", capability.logging.is_some()),
        ],
    );
    config::secrets(check, &at.key("secrets"), &capability.secrets, false);
    if let Some(http) = &capability.http {
        let at = at.key("http").key("listen");
        check.syntax(&at, rule::BAD_ADDRESS, syntax::listen(&http.listen));
    }
    if let Some(keyvalue) = &capability.keyvalue {
        check_keyvalue(check, &at.key("keyvalue"), keyvalue);
    }
    if let Some(blobstore) = &capability.blobstore {
        check_blobstore(check, &at.key("blobstore"), blobstore);
    }
    if let Some(messaging) = &capability.messaging {
        check_messaging(check, &at.key("messaging"), messaging);
    }
    if let Some(postgres) = &capability.postgres {
        let found = syntax::url(&postgres.url, &["postgres", "postgresql"], "password", true, true);
        check.syntax(&at.key("postgres").key("url"), rule::BAD_URL, found);
    }
    if let Some(wrpc) = &capability.wrpc {
        let at = at.key("wrpc");
        check.syntax(&at.key("prefix"), rule::BAD_PREFIX, syntax::rpc_prefix(&wrpc.prefix));
        interfaces(check, &at.key("interfaces"), &wrpc.interfaces);
        if let Some(timeout) = wrpc.timeout.filter(|t| t.as_ms() == 0 || *t > TIMEOUT_MAX) {
            let message = format!("a timeout from 1ms to {TIMEOUT_MAX} was expected and {timeout} was found");
            check.report(&at.key("timeout"), rule::OUT_OF_RANGE, message);
        }
    }
    if let Some(custom) = &capability.custom {
        let at = at.key("custom");
        check.syntax(&at.key("feature"), rule::BAD_FEATURE, syntax::feature(&custom.feature));
        interfaces(check, &at.key("interfaces"), &custom.interfaces);
        for key in custom.settings.keys() {
            check.syntax(
                &at.key("settings").entry(key),
                rule::BAD_CONFIG_KEY,
                syntax::config_key(key),
            );
        }
    }
}

fn check_keyvalue(check: &mut Check<'_>, at: &FieldPath, keyvalue: &KeyvalueCapability) {
    check.exactly_one(
        at,
        &[
            ("memory", keyvalue.memory.is_some()),
            ("nats", keyvalue.nats.is_some()),
            ("redis", keyvalue.redis.is_some()),
        ],
    );
    if let Some(nats) = &keyvalue.nats {
        let at = at.key("nats");
        check.syntax(
            &at.key("bucket"),
            rule::BAD_STORE_NAME,
            syntax::store_name(&nats.bucket),
        );
        nats_url(check, &at, nats.url.as_deref());
    }
    if let Some(redis) = &keyvalue.redis {
        let at = at.key("redis");
        let found = syntax::url(&redis.url, &["redis", "rediss"], "password", false, true);
        check.syntax(&at.key("url"), rule::BAD_URL, found);
        if redis.prefix.len() > 256 || redis.prefix.chars().any(char::is_control) {
            let message = "a prefix has at most 256 bytes and no control characters";
            check.report(&at.key("prefix"), rule::WRONG_LENGTH, message);
        }
    }
}

fn check_blobstore(check: &mut Check<'_>, at: &FieldPath, blobstore: &BlobstoreCapability) {
    check.exactly_one(
        at,
        &[
            ("filesystem", blobstore.filesystem.is_some()),
            ("nats", blobstore.nats.is_some()),
        ],
    );
    if let Some(filesystem) = &blobstore.filesystem {
        let at = at.key("filesystem");
        check.syntax(&at.key("path"), rule::BAD_PATH, syntax::folder(&filesystem.path));
        quota(check, &at, filesystem.quota);
    }
    if let Some(nats) = &blobstore.nats {
        let at = at.key("nats");
        check.syntax(
            &at.key("bucket"),
            rule::BAD_STORE_NAME,
            syntax::store_name(&nats.bucket),
        );
        nats_url(check, &at, nats.url.as_deref());
        quota(check, &at, nats.quota);
    }
}

fn check_messaging(check: &mut Check<'_>, at: &FieldPath, messaging: &MessagingCapability) {
    check.exactly_one(
        at,
        &[
            ("nats", messaging.nats.is_some()),
            ("jetstream", messaging.jetstream.is_some()),
        ],
    );
    if let Some(nats) = &messaging.nats {
        let at = at.key("nats");
        nats_url(check, &at, nats.url.as_deref());
        subjects(check, &at.key("subjects"), &nats.subjects);
    }
    if let Some(jetstream) = &messaging.jetstream {
        let at = at.key("jetstream");
        let found = syntax::store_name(&jetstream.stream);
        check.syntax(&at.key("stream"), rule::BAD_STORE_NAME, found);
        nats_url(check, &at, jetstream.url.as_deref());
        subjects(check, &at.key("subjects"), &jetstream.lent_subjects());
        if let Some(subject) = &jetstream.dead_letters {
            let at = at.key("deadLetters");
            check.syntax(&at, rule::BAD_SUBJECT, syntax::lent_subject(subject));
            if subject.split('.').any(|token| token == "*" || token == ">") {
                let message = "dead letters go to one subject: it has no wildcards";
                check.report(&at, rule::BAD_SUBJECT, message);
            }
        }
    }
}

fn nats_url(check: &mut Check<'_>, at: &FieldPath, url: Option<&str>) {
    if let Some(url) = url {
        let found = syntax::url(url, &["nats", "tls"], "credentials", false, false);
        check.syntax(&at.key("url"), rule::BAD_URL, found);
    }
}

fn subjects(check: &mut Check<'_>, at: &FieldPath, subjects: &[String]) {
    for (index, subject) in subjects.iter().enumerate() {
        check.syntax(&at.index(index), rule::BAD_SUBJECT, syntax::lent_subject(subject));
    }
    check.unique(at, subjects.iter().map(String::as_str));
}

fn interfaces(check: &mut Check<'_>, at: &FieldPath, interfaces: &[String]) {
    for (index, interface) in interfaces.iter().enumerate() {
        check.syntax(&at.index(index), rule::BAD_INTERFACE, syntax::interface(interface));
    }
    check.unique(at, interfaces.iter().map(String::as_str));
}

fn quota(check: &mut Check<'_>, at: &FieldPath, quota: Option<Size>) {
    if quota.is_some_and(|quota| quota.as_bytes() == 0) {
        let message = "a quota of nothing leaves no room; leave it out for none";
        check.report(&at.key("quota"), rule::OUT_OF_RANGE, message);
    }
}
