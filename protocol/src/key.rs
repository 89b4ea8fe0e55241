//! The only place where store keys are made and taken apart: one variant per family (D3).

use crate::digest::Digest;
use crate::id::{ConfigId, HostId, Namespace, ObjectId, ObjectName, PlatformName, WorkloadId};
use std::fmt;

/// A key of the state that the digest of `head` covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Intent: a workload.
    Workload(WorkloadId),
    /// Intent: a platform.
    Platform(PlatformName),
    /// Intent: a config.
    Config(ConfigId),
    /// Intent: a named reference to a secret.
    SecretRef(ObjectId),
    /// Intent: what a namespace asks of images.
    NamespacePolicy(ObjectId),
    /// Intent: how much a namespace may have.
    Quota(ObjectId),
    /// Decision: where a workload's replicas are.
    Place(WorkloadId),
    /// A template, by its digest.
    Template(Digest),
    /// A host that was admitted.
    Host(HostId),
    /// A policy, by name: a join token, say.
    Policy(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(id) => write!(f, "workload.{}.{}", id.namespace, id.name),
            Self::Platform(name) => write!(f, "platform.{name}"),
            Self::Config(id) => write!(f, "config.{}.{}", id.namespace, id.name),
            Self::SecretRef(id) => write!(f, "secret.{}.{}", id.namespace, id.name),
            Self::NamespacePolicy(id) => write!(f, "nspolicy.{}.{}", id.namespace, id.name),
            Self::Quota(id) => write!(f, "quota.{}.{}", id.namespace, id.name),
            Self::Place(id) => write!(f, "place.{}.{}", id.namespace, id.name),
            Self::Template(digest) => write!(f, "tmpl.{}", digest.hex()),
            Self::Host(id) => write!(f, "host.{id}"),
            Self::Policy(name) => write!(f, "policy.{name}"),
        }
    }
}

impl Key {
    /// Takes a key apart; none if it is of no family known here.
    pub fn parse(text: &str) -> Option<Self> {
        let (family, rest) = text.split_once('.')?;
        let object = || {
            let (namespace, name) = rest.split_once('.')?;
            Some(ObjectId::new(
                Namespace::parse(namespace).ok()?,
                ObjectName::parse(name).ok()?,
            ))
        };
        match family {
            "workload" => object().map(Self::Workload),
            "platform" => PlatformName::parse(rest).ok().map(Self::Platform),
            "config" => object().map(Self::Config),
            "secret" => object().map(Self::SecretRef),
            "nspolicy" => object().map(Self::NamespacePolicy),
            "quota" => object().map(Self::Quota),
            "place" => object().map(Self::Place),
            "tmpl" => Digest::from_hex(rest).ok().map(Self::Template),
            "host" => HostId::parse(rest).ok().map(Self::Host),
            "policy" if crate::id::is_name(rest) => Some(Self::Policy(rest.to_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_round_trips() {
        let id = ObjectId::parse("shop/cart").unwrap();
        for key in [
            Key::Workload(id.clone()),
            Key::Platform(PlatformName::parse("edge").unwrap()),
            Key::Config(id.clone()),
            Key::Place(id.clone()),
            Key::SecretRef(id.clone()),
            Key::NamespacePolicy(id.clone()),
            Key::Quota(id),
            Key::Template(Digest::of(b"x")),
            Key::Host(HostId::parse("h-1").unwrap()),
            Key::Policy("join-1".into()),
        ] {
            assert_eq!(Key::parse(&key.to_string()), Some(key));
        }
    }

    #[test]
    fn two_objects_never_share_a_key() {
        // wadm joined names with `-`, so that two pairs of names could meet in one key.
        let a = Key::Workload(ObjectId::parse("a-b/c").unwrap()).to_string();
        let b = Key::Workload(ObjectId::parse("a/b-c").unwrap()).to_string();
        assert_ne!(a, b);
    }

    #[test]
    fn unknown_keys_are_nobodys() {
        for text in [
            "",
            "workload",
            "workload.a",
            "workload.a.b.c",
            "head",
            "audit.3",
            "tmpl.12",
            "host.A",
        ] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
    }
}
