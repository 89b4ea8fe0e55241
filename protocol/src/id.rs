//! One type for each kind of name, so that a host's id cannot stand where a workload's name belongs.
//!
//! In: text from a manifest, a flag, a subject or a record. Out: a checked, cheaply cloned name, or the rule it broke.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name, in bytes: the length of a DNS label, so that any name can be one.
pub const NAME_BYTES_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to read {what} {text:?}: a name is 1 to 63 of a-z, 0-9 and '-', and starts and ends with a letter or digit"
)]
pub struct NameError {
    /// What the text was meant to name.
    pub what: &'static str,
    /// The text, cut to 80 characters.
    pub text: String,
}

/// Whether a text keeps the rule for names: 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends.
pub fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            bytes.len() <= NAME_BYTES_MAX
                && plain(*first)
                && plain(*last)
                && bytes.iter().all(|b| plain(*b) || *b == b'-')
        }
        _ => false,
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $type(SmolStr);

        impl $type {
            /// Checks a text against the rule for names.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                if is_name(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(NameError { what: $what, text: text.chars().take(80).collect() })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.to_string()
            }
        }
    };
}

name!(
    /// A realm: one region's store and schedulers.
    Realm,
    "realm"
);
name!(
    /// A host that an agent runs on.
    HostId,
    "host id"
);
name!(
    /// A namespace: one team's separate world of workloads and configs.
    Namespace,
    "namespace"
);
name!(
    /// The name of a workload or a config within its namespace.
    ObjectName,
    "name"
);
name!(
    /// The name of a component within its workload.
    ComponentName,
    "component name"
);
name!(
    /// The name under which a platform lends a capability.
    CapabilityName,
    "capability name"
);
name!(
    /// The name of a platform.
    PlatformName,
    "platform name"
);

impl HostId {
    /// Makes a host id of a machine's hostname: lower case, with everything that a name may not hold turned into `-`.
    pub fn from_hostname(hostname: &str) -> Result<Self, NameError> {
        let mapped: String = hostname
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| {
                if c.is_ascii_lowercase() || c.is_ascii_digit() {
                    c
                } else {
                    '-'
                }
            })
            .take(NAME_BYTES_MAX)
            .collect();
        Self::parse(mapped.trim_matches('-'))
    }
}

impl Namespace {
    /// The namespace of objects that name none: `default`.
    pub fn fallback() -> Self {
        Self("default".into())
    }
}

/// A workload or config, by namespace and name; written `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ObjectId {
    /// The namespace.
    pub namespace: Namespace,
    /// The name within it.
    pub name: ObjectName,
}

/// A workload, by namespace and name.
pub type WorkloadId = ObjectId;
/// A config, by namespace and name.
pub type ConfigId = ObjectId;

impl ObjectId {
    /// Joins a namespace and a name.
    pub fn new(namespace: Namespace, name: ObjectName) -> Self {
        Self { namespace, name }
    }

    /// Reads `namespace/name`, or a bare `name` of the default namespace.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            Some((namespace, name)) => Ok(Self {
                namespace: Namespace::parse(namespace)?,
                name: ObjectName::parse(name)?,
            }),
            None => Ok(Self {
                namespace: Namespace::fallback(),
                name: ObjectName::parse(text)?,
            }),
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.namespace, self.name))
    }
}

impl FromStr for ObjectId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ObjectId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> String {
        format!("{}/{}", id.namespace, id.name)
    }
}

/// The number of a workload's revision: 1 for the first, one more for each change that alters it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One generation of one workload, as a host holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct UnitId {
    /// The workload.
    pub workload: WorkloadId,
    /// Its generation.
    pub generation: Generation,
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.workload, self.generation))
    }
}

/// A place in the order of commits: the epoch of the scheduler that committed, then the commit's number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// Raised by one each time a scheduler takes over.
    pub epoch: u64,
    /// The commit's number, without gaps.
    pub n: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.epoch, self.n))
    }
}

macro_rules! token {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        #[schemars(with = "String")]
        pub struct $type(pub Arc<str>);

        impl $type {
            /// Wraps a text made elsewhere (a UUID, say).
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(text.as_ref().into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

token!(
    /// One start of one agent. A spec from the network names it, so that a wiped agent cannot be fed an old spec.
    BootId
);
token!(
    /// A client's name for one request. Asking again with it has one effect.
    RequestId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_one_rule() {
        for good in ["a", "a-b", "0", "web-1", &"x".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-", "a-", "-a", "A", "a_b", "a.b", "a b", "ä", &"x".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn hostnames_become_host_ids() {
        assert_eq!(
            HostId::from_hostname("Edge_01.example.COM").unwrap().as_str(),
            "edge-01-example-com"
        );
        assert!(HostId::from_hostname("...").is_err());
    }

    #[test]
    fn object_ids_round_trip() {
        let id = ObjectId::parse("shop/cart").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), r#""shop/cart""#);
        assert_eq!(ObjectId::parse("cart").unwrap().to_string(), "default/cart");
        assert!(ObjectId::parse("a/b/c").is_err());
    }
}
