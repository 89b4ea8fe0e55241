//! Hosts joining, being cordoned or drained, and being forgotten.

use super::Decision;
use super::changes::Changes;
use super::nearest::{list, nearest};
use crate::liveness::is_heard;
use crate::world::World;
use heddle_protocol::api::apply::Change;
use heddle_protocol::api::hosts::{ForgetHost, SetHost, TaintHost};
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::host_report::Hello;
use heddle_protocol::id::{Generation, HostId};
use heddle_protocol::key::Key;
use heddle_protocol::manifest;
use heddle_protocol::mutant::mutant;
use heddle_protocol::record::{HostAdmin, HostRecord, JoinTokenRecord, join_token_policy};
use heddle_protocol::time::{Mono, UnixMs};

/// The longest that a join token may be valid, in milliseconds: a week. A forgotten one must not lie about for ever.
const TOKEN_VALID_MS_MAX: u64 = 7 * 86_400_000;

/// Taints of one host. Each workload's tolerations are compared with all of them.
const TAINTS_MAX: usize = 32;

/// What is known of a host that says hello.
#[derive(Debug, Clone, Copy)]
pub struct Joining<'a> {
    /// Its hello.
    pub hello: &'a Hello,
    /// The public key that signed it; the shell has verified the signature.
    pub public_key: &'a str,
    /// Whether a host that is not known may join without a token: in development only.
    pub trust_on_first_use: bool,
}

/// Decides whether a host that says hello is admitted. A known host changes nothing; a new one gets its record, and its
/// token is spent in the same commit.
///
/// # Errors
/// `forbidden`: another key than the host's, or no valid token.
pub fn decide_join(world: &World, joining: &Joining<'_>, at: UnixMs) -> Result<Decision, ApiError> {
    let host = &joining.hello.host;
    let mut changes = Changes::plain(world, at);
    if let Some(record) = world.hosts.get(host) {
        if record.public_key != joining.public_key {
            let next = "use the key that the host joined with, or `heddle hosts forget` it and let it join again";
            return Err(refused(
                host,
                "its hello is signed by another key than it joined with",
                next,
            ));
        }
        changes.tell(0, "Host", host, Generation(0), Change::Unchanged);
        return changes.finish_plain();
    }
    let token = joining.hello.join_token.as_deref().map(join_token_policy);
    let valid = token
        .as_ref()
        .and_then(|name| world.policies.get(name))
        .and_then(|value| {
            let record: JoinTokenRecord = serde_json::from_value(value.as_ref().clone()).ok()?;
            (at < record.valid_until).then_some(())
        });
    let next = "make a token with `heddle hosts token` and start the agent with `--join-token`";
    match (valid, &token) {
        (Some(()), Some(name)) => changes.delete(Key::Policy(name.clone()))?,
        _ if joining.trust_on_first_use => {}
        (None, Some(_)) => {
            return Err(refused(
                host,
                "its join token was used already, or is not valid any more",
                next,
            ));
        }
        _ => return Err(refused(host, "it is not known and has no join token", next)),
    }
    let record = HostRecord {
        taints: std::collections::BTreeMap::new(),
        public_key: joining.public_key.to_owned(),
        admin: HostAdmin::Open,
        joined_at: at,
    };
    changes.write(Key::Host(host.clone()), &record)?;
    changes.tell(0, "Host", host, Generation(0), Change::Created);
    changes.finish_plain()
}

fn refused(host: &HostId, why: &str, next: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Forbidden,
        format!("failed to admit host {host}: {why}"),
        next,
    )
}

/// Decides what cordoning, draining or opening a host changes.
///
/// # Errors
/// If there is no such host.
pub fn decide_set_host(world: &World, set: &SetHost, at: UnixMs) -> Result<Decision, ApiError> {
    let record = world.hosts.get(&set.host).ok_or_else(|| not_found(world, &set.host))?;
    let mut changes = Changes::plain(world, at);
    let change = if record.admin == set.admin {
        Change::Unchanged
    } else {
        Change::Updated
    };
    if change == Change::Updated {
        let record = HostRecord {
            admin: if mutant("cordon-is-lost") {
                record.admin
            } else {
                set.admin
            },
            ..record.as_ref().clone()
        };
        changes.write(Key::Host(set.host.clone()), &record)?;
    }
    changes.tell(0, "Host", &set.host, Generation(0), change);
    changes.finish_plain()
}

/// Decides what putting a taint on a host, or taking it off, changes.
///
/// # Errors
/// If there is no such host, if the taint is not there to be taken off, or if its name or value has the wrong form.
pub fn decide_taint(world: &World, taint: &TaintHost, at: UnixMs) -> Result<Decision, ApiError> {
    let host = &taint.host;
    let record = world.hosts.get(host).ok_or_else(|| not_found(world, host))?;
    let mut next = record.as_ref().clone();
    match &taint.taint {
        Some(put) => {
            check_taint(&taint.name, &put.value)?;
            if next.taints.len() >= TAINTS_MAX && !next.taints.contains_key(&taint.name) {
                let message = format!("failed to taint host {host}: it has {TAINTS_MAX} taints already");
                return Err(ApiError::new(
                    ErrorCode::TooLarge,
                    message,
                    "take another one off first",
                ));
            }
            next.taints.insert(taint.name.clone(), put.clone());
        }
        None if next.taints.remove(&taint.name).is_none() => {
            let message = format!("failed to take taint {} off host {host}: it is not there", taint.name);
            let meant = nearest(&taint.name, next.taints.keys().map(String::as_str));
            let next = match meant {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("there are: {}", list(next.taints.keys())),
            };
            return Err(ApiError::new(ErrorCode::NotFound, message, next));
        }
        None => {}
    }
    let mut changes = Changes::plain(world, at);
    let change = match next == *record.as_ref() {
        true => Change::Unchanged,
        false => Change::Updated,
    };
    if change == Change::Updated {
        changes.write(Key::Host(host.clone()), &next)?;
    }
    changes.tell(0, "Host", host, Generation(0), change);
    changes.finish_plain()
}

/// Names and values have the form of labels', so that manifests can tolerate them.
fn check_taint(name: &str, value: &str) -> Result<(), ApiError> {
    let wrong = |what: &str, text: &str, expected: &str| {
        let message = format!("failed to take {text:?} as a taint's {what}: it has not the form of {expected}");
        Err(ApiError::new(
            ErrorCode::BadRequest,
            message,
            "use letters, digits, '-', '_' and '.', at most 63, with a letter or digit at both ends",
        ))
    };
    if !manifest::is_label_key(name) {
        return wrong("name", name, "a label's key");
    }
    if !manifest::is_label_value(value) {
        return wrong("value", value, "a label's value");
    }
    Ok(())
}

/// Decides what forgetting a host changes.
///
/// # Errors
/// If there is no such host, or if it lives and `force` is not set.
pub fn decide_forget(world: &World, forget: &ForgetHost, now: Mono, at: UnixMs) -> Result<Decision, ApiError> {
    let host = &forget.host;
    if !world.hosts.contains_key(host) {
        return Err(not_found(world, host));
    }
    if !forget.force && is_heard(world, host, now) {
        let message =
            format!("failed to forget host {host}: it lives, and its replicas would stop before others start");
        let next = format!("`heddle hosts drain {host}` and stop its agent first, or add `--force`");
        return Err(ApiError::new(ErrorCode::Conflict, message, next));
    }
    let mut changes = Changes::plain(world, at);
    changes.delete(Key::Host(host.clone()))?;
    changes.tell(0, "Host", host, Generation(0), Change::Deleted);
    changes.finish_plain()
}

/// Decides what a new join token changes. The token's text is chance, and so comes in; only its digest is kept.
///
/// # Errors
/// If it is to be valid for too long, or not at all.
pub fn decide_token(world: &World, token: &str, valid_ms: u64, at: UnixMs) -> Result<Decision, ApiError> {
    if valid_ms == 0 || valid_ms > TOKEN_VALID_MS_MAX {
        let message = format!("failed to make a join token valid for {valid_ms} ms: it is 1 ms to 7 days");
        return Err(ApiError::new(
            ErrorCode::BadRequest,
            message,
            "make it valid for a shorter time",
        ));
    }
    let mut changes = Changes::plain(world, at);
    let record = JoinTokenRecord {
        made_at: at,
        valid_until: UnixMs(at.0.saturating_add(valid_ms)),
    };
    changes.write(Key::Policy(join_token_policy(token)), &record)?;
    changes.finish_plain()
}

fn not_found(world: &World, host: &HostId) -> ApiError {
    let next = match nearest(host.as_str(), world.hosts.keys().map(HostId::as_str)) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "`heddle hosts` lists what there is".to_owned(),
    };
    ApiError::new(ErrorCode::NotFound, format!("failed to find host {host}"), next)
}
