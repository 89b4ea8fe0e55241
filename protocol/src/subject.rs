//! The only place where NATS subjects are made and taken apart.

use crate::id::{HostId, Namespace, Realm, UnitId, WorkloadId};
use std::fmt;

/// Subject of the first token of everything that is ours.
const ROOT: &str = "heddle.v1";

/// A subject with a meaning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// An agent introduces itself (request; the scheduler answers).
    Hello(Realm, HostId),
    /// An agent lives.
    Heartbeat(Realm, HostId),
    /// An agent's work changed.
    Status(Realm, HostId),
    /// An agent asks for bytes of an artifact (request).
    Artifact(Realm, HostId),
    /// The scheduler tells or asks a host something (request).
    Host(Realm, HostId, HostVerb),
    /// A client asks the scheduler something (request).
    Api(Realm, Namespace, String),
    /// The scheduler lives: which one leads.
    Leader(Realm),
}

/// What the scheduler tells or asks a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostVerb {
    /// Here is the whole spec.
    Spec,
    /// Introduce yourself.
    Hello,
    /// Say all that you run.
    Report,
    /// Give log lines.
    Logs,
    /// Run something now.
    Fire,
}

impl HostVerb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Hello => "hello",
            Self::Report => "report",
            Self::Logs => "logs",
            Self::Fire => "fire",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Spec, Self::Hello, Self::Report, Self::Logs, Self::Fire]
            .into_iter()
            .find(|v| v.as_str() == text)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello(realm, host) => write!(f, "{ROOT}.{realm}.hello.{host}"),
            Self::Heartbeat(realm, host) => write!(f, "{ROOT}.{realm}.hb.{host}"),
            Self::Status(realm, host) => write!(f, "{ROOT}.{realm}.st.{host}"),
            Self::Artifact(realm, host) => write!(f, "{ROOT}.{realm}.art.{host}"),
            Self::Host(realm, host, verb) => write!(f, "{ROOT}.{realm}.h.{host}.{}", verb.as_str()),
            Self::Api(realm, namespace, verb) => write!(f, "{ROOT}.{realm}.api.{namespace}.{verb}"),
            Self::Leader(realm) => write!(f, "{ROOT}.{realm}.leader"),
        }
    }
}

impl Subject {
    /// Takes a subject apart; none if it is not one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let mut tokens = text.strip_prefix(ROOT)?.strip_prefix('.')?.split('.');
        let realm = Realm::parse(tokens.next()?).ok()?;
        let kind = tokens.next()?;
        let mut host = || HostId::parse(tokens.next()?).ok();
        let subject = match kind {
            "hello" => Self::Hello(realm, host()?),
            "hb" => Self::Heartbeat(realm, host()?),
            "st" => Self::Status(realm, host()?),
            "art" => Self::Artifact(realm, host()?),
            "h" => Self::Host(realm, host()?, HostVerb::parse(tokens.next()?)?),
            "api" => {
                let namespace = Namespace::parse(tokens.next()?).ok()?;
                Self::Api(realm, namespace, tokens.next().filter(|v| !v.is_empty())?.to_owned())
            }
            "leader" => Self::Leader(realm),
            _ => return None,
        };
        tokens.next().is_none().then_some(subject)
    }
}

/// Every agent's hellos.
pub fn all_hellos(realm: &Realm) -> String {
    format!("{ROOT}.{realm}.hello.*")
}

/// Every agent's heartbeats.
pub fn all_heartbeats(realm: &Realm) -> String {
    format!("{ROOT}.{realm}.hb.*")
}

/// Every agent's status changes.
pub fn all_statuses(realm: &Realm) -> String {
    format!("{ROOT}.{realm}.st.*")
}

/// Every agent's requests for artifacts.
pub fn all_artifact_requests(realm: &Realm) -> String {
    format!("{ROOT}.{realm}.art.*")
}

/// Every client's requests.
pub fn all_api_requests(realm: &Realm) -> String {
    format!("{ROOT}.{realm}.api.*.*")
}

/// Everything that the scheduler tells one host.
pub fn all_of_host(realm: &Realm, host: &HostId) -> String {
    format!("{ROOT}.{realm}.h.{host}.*")
}

/// What every subject begins with on which one generation of a workload is called over wRPC; `.wrpc.0.0.1.` with the
/// instance and the function follows. Replicas of the generation share it as a queue group.
pub fn rpc_prefix(realm: &Realm, unit: &UnitId) -> String {
    let WorkloadId { namespace, name } = &unit.workload;
    format!("{ROOT}.{realm}.rpc.{namespace}.{name}.{}", unit.generation)
}

/// Every subject on which any generation of a workload is called: what credentials of its callers allow.
pub fn rpc_all(realm: &Realm, workload: &WorkloadId) -> String {
    format!("{ROOT}.{realm}.rpc.{}.{}.>", workload.namespace, workload.name)
}

/// What the inboxes of a workload's own connections begin with, which its credentials name.
pub fn workload_inbox_prefix(workload: &WorkloadId) -> String {
    format!("_INBOX_w_{}_{}", workload.namespace, workload.name)
}

/// Where nobody listens: a request there is answered by the server alone.
pub fn ready_probe(realm: &Realm) -> String {
    format!("{ROOT}.{realm}.probe")
}

/// The prefix of a host's own inboxes, which its NATS permissions name (D14).
pub fn inbox_prefix(host: &HostId) -> String {
    format!("_INBOX_{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_round_trip() {
        let (realm, host) = (Realm::parse("eu").unwrap(), HostId::parse("h-1").unwrap());
        let mut subjects = vec![
            Subject::Hello(realm.clone(), host.clone()),
            Subject::Heartbeat(realm.clone(), host.clone()),
            Subject::Status(realm.clone(), host.clone()),
            Subject::Artifact(realm.clone(), host.clone()),
            Subject::Api(realm.clone(), Namespace::fallback(), "apply".into()),
            Subject::Leader(realm.clone()),
        ];
        for verb in [
            HostVerb::Spec,
            HostVerb::Hello,
            HostVerb::Report,
            HostVerb::Logs,
            HostVerb::Fire,
        ] {
            subjects.push(Subject::Host(realm.clone(), host.clone(), verb));
        }
        for subject in subjects {
            assert_eq!(Subject::parse(&subject.to_string()), Some(subject));
        }
    }

    #[test]
    fn foreign_subjects_are_not_ours() {
        for text in [
            "",
            "heddle",
            "heddle.v1",
            "heddle.v1.eu.hb",
            "heddle.v1.eu.hb.h.x",
            "heddle.v2.eu.hb.h",
            "heddle.v1.eu.h.x.nope",
        ] {
            assert_eq!(Subject::parse(text), None, "{text}");
        }
    }
}
