//! Which stream the store needs, and whether the one that is there will do.
//!
//! In: [`StoreOptions`]. Out: an opened stream, or a refusal that lists each differing setting. Only settings on which a
//! promise of the store rests are compared: an operator may change the others (replicas, placement, size).

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, Republish, RetentionPolicy, StorageType, Stream,
};

use super::error::StoreError;

/// How to open a realm's store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The realm: lower-case letters, digits and `-`.
    pub realm: String,
    /// Copies of the stream, when it has to be created.
    pub replicas: usize,
    /// Size of the stream, when it has to be created. A full stream refuses commits; nothing is dropped.
    pub max_bytes: i64,
    /// Size of the artifacts' bucket, when it has to be created. A full bucket refuses artifacts; nothing is dropped.
    pub artifact_max_bytes: i64,
    /// How long audit records stay.
    pub audit_ttl: Duration,
    /// How long one question to the server may take.
    pub answer_within: Duration,
    /// How long a commit is tried before it is given up or called unknown.
    pub give_up_after: Duration,
}

impl StoreOptions {
    /// Ordinary settings for a realm.
    pub fn new(realm: impl Into<String>) -> Self {
        Self {
            realm: realm.into(),
            replicas: 1,
            // The server sets this space aside. 10,000 hosts with 10,000 workloads take about 25,000 keys, some 50 MiB;
            // the rest is for a week of audit records.
            max_bytes: 1 << 30,
            artifact_max_bytes: 4 << 30,
            // Bodies before and after a change are kept 7 days.
            audit_ttl: Duration::from_secs(7 * 24 * 3600),
            // An order of magnitude above the slowest batch measured.
            answer_within: Duration::from_secs(3),
            // Longer than a stream's election of a new leader (4 to 9 s).
            give_up_after: Duration::from_secs(15),
        }
    }
}

/// The key-value bucket of a realm, as `nats kv` shows it.
pub(crate) fn bucket(realm: &str) -> String {
    format!("heddle_{realm}")
}

/// What comes before a key in a stream subject.
pub(crate) fn subject_prefix(realm: &str) -> String {
    format!("$KV.{}.", bucket(realm))
}

/// What comes before a key in a feed subject.
pub(crate) fn feed_prefix(realm: &str) -> String {
    format!("heddle.feed.{realm}.")
}

/// Refuses a realm that would not fit into subjects and names.
pub(crate) fn check_realm(realm: &str) -> Result<(), StoreError> {
    let fits = (1..=63).contains(&realm.len())
        && realm
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    match fits {
        true => Ok(()),
        false => Err(StoreError::Invalid(format!(
            "realm {realm:?} must have 1 to 63 lower-case letters, digits and '-'"
        ))),
    }
}

/// The stream a realm needs.
pub(crate) fn wanted(options: &StoreOptions) -> Config {
    Config {
        name: format!("KV_{}", bucket(&options.realm)),
        description: Some("heddle: state of a realm; written only by its scheduler".into()),
        subjects: vec![format!("{}>", subject_prefix(&options.realm))],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: options.replicas,
        max_bytes: options.max_bytes,
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        allow_message_ttl: true,
        allow_atomic_publish: true,
        duplicate_window: Duration::from_secs(120),
        republish: Some(Republish {
            source: format!("{}>", subject_prefix(&options.realm)),
            destination: format!("{}>", feed_prefix(&options.realm)),
            headers_only: false,
        }),
        ..Default::default()
    }
}

/// Opens the stream, creating it only if there is none.
pub(crate) async fn ensure_stream(context: &Context, options: &StoreOptions) -> Result<Stream, StoreError> {
    check_realm(&options.realm)?;
    let config = wanted(options);
    let doing = format!("open stream {}", config.name);
    match context.get_stream(&config.name).await {
        Ok(stream) => return checked(stream, &config),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(inner) if inner.error_code().0 == 10059 => {}
            GetStreamErrorKind::JetStream(inner) => return Err(refused(doing, &inner)),
            _ => return Err(StoreError::unavailable(doing, error)),
        },
    }
    tracing::info!(stream = %config.name, replicas = config.num_replicas, "create the realm's stream");
    if let Err(error) = context.create_stream(config.clone()).await {
        use async_nats::jetstream::context::CreateStreamErrorKind as Kind;
        match error.kind() {
            // 10058: another scheduler was a moment faster with other settings; compare below.
            Kind::JetStream(inner) if inner.error_code().0 == 10058 => {}
            Kind::JetStream(inner) => return Err(refused(format!("create stream {}", config.name), &inner)),
            _ => return Err(StoreError::unavailable(format!("create stream {}", config.name), error)),
        }
    }
    match context.get_stream(&config.name).await {
        Ok(stream) => checked(stream, &config),
        Err(error) => Err(StoreError::unavailable(doing, error)),
    }
}

fn refused(doing: String, error: &async_nats::jetstream::Error) -> StoreError {
    StoreError::Refused {
        doing,
        code: error.error_code().0,
        description: error.to_string(),
        hint: match error.error_code().0 {
            10076 | 10039 => "enable JetStream on the server and in the account",
            10047 | 10028 | 10023 | 10002 => {
                "free disk space on the server, or create the store with a smaller max_bytes"
            }
            10005 | 10074 => "the cluster has too few servers for that many replicas",
            _ => "look the code up in the documentation of nats-server",
        },
    }
}

fn checked(stream: Stream, wanted: &Config) -> Result<Stream, StoreError> {
    let differences = differences(&stream.cached_info().config, wanted);
    match differences.is_empty() {
        true => Ok(stream),
        false => Err(StoreError::Settings {
            stream: wanted.name.clone(),
            differences,
        }),
    }
}

/// Each essential setting that is not as needed.
fn differences(found: &Config, wanted: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let mut compare = |name: &str, found: String, needed: String| {
        if found != needed {
            lines.push(format!("{name} is {found}, needed is {needed}"));
        }
    };
    let republish = |config: &Config| match &config.republish {
        None => "none".to_owned(),
        Some(r) => format!(
            "{} → {}{}",
            r.source,
            r.destination,
            if r.headers_only { " (headers only)" } else { "" }
        ),
    };
    compare("subjects", found.subjects.join(","), wanted.subjects.join(","));
    compare(
        "max_msgs_per_subject",
        found.max_messages_per_subject.to_string(),
        "1".into(),
    );
    compare(
        "discard",
        format!("{:?}", found.discard),
        format!("{:?}", wanted.discard),
    );
    compare(
        "retention",
        format!("{:?}", found.retention),
        format!("{:?}", wanted.retention),
    );
    compare(
        "storage",
        format!("{:?}", found.storage),
        format!("{:?}", wanted.storage),
    );
    compare("allow_atomic", found.allow_atomic_publish.to_string(), "true".into());
    compare("allow_msg_ttl", found.allow_message_ttl.to_string(), "true".into());
    compare("deny_delete", found.deny_delete.to_string(), "true".into());
    compare(
        "max_age",
        format!("{:?}", found.max_age),
        format!("{:?}", Duration::ZERO),
    );
    compare("max_msgs", found.max_messages.max(0).to_string(), "0".into());
    compare("no_ack", found.no_ack.to_string(), "false".into());
    compare("sealed", found.sealed.to_string(), "false".into());
    compare(
        "mirror or sources",
        (found.mirror.is_some() || found.sources.is_some()).to_string(),
        "false".into(),
    );
    compare(
        "persist_mode async",
        (found.persist_mode == Some(PersistenceMode::Async)).to_string(),
        "false".into(),
    );
    compare("republish", republish(found), republish(wanted));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_wanted_has_no_difference_from_itself_and_others_are_named() {
        let wanted = wanted(&StoreOptions::new("eu"));
        assert_eq!(differences(&wanted, &wanted), Vec::<String>::new());
        let found = Config {
            allow_atomic_publish: false,
            max_messages_per_subject: 5,
            ..wanted.clone()
        };
        let lines = differences(&found, &wanted);
        assert_eq!(
            lines,
            [
                "max_msgs_per_subject is 5, needed is 1",
                "allow_atomic is false, needed is true"
            ]
        );
    }

    #[test]
    fn a_realm_that_would_change_a_subject_is_refused() {
        for realm in ["", "a.b", "a>", "*", "A", "a b", "a_b"] {
            assert!(check_realm(realm).is_err(), "{realm:?} was taken");
        }
        assert!(check_realm("eu-west-1").is_ok());
    }
}
