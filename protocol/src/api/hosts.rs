//! `hosts`: the fleet's hosts, and what an operator says of them.

use super::Verb;
use super::apply::Applied;
use crate::digest::Digest;
use crate::host_report::{Accepted, Capacity, Engine};
use crate::host_spec::Feature;
use crate::id::{BootId, CapabilityName, HostId};
use crate::record::{HostAdmin, Taint};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Lists the hosts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    /// Only this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// Only those after this one: where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<HostId>,
}

/// A page of hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostList {
    /// The commit that they are of.
    pub commit: u64,
    /// The hosts, ordered by id.
    pub hosts: Vec<HostStatus>,
    /// Whether more follow.
    pub more: bool,
}

/// How one host fares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostStatus {
    /// The host.
    pub host: HostId,
    /// In one word.
    pub state: HostState,
    /// Milliseconds since its last heartbeat; none if this scheduler has heard none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_age_ms: Option<u64>,
    /// This start of its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<BootId>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What keeps replicas away that do not put up with it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taints: BTreeMap<String, Taint>,
    /// What it has to give.
    pub capacity: Capacity,
    /// Replicas placed on it.
    pub replicas: u32,
    /// Memory that those take, in bytes.
    pub reserved_bytes: u64,
    /// What its agent can do.
    pub features: BTreeSet<Feature>,
    /// What compiles and runs its components.
    pub engine: Engine,
    /// The addresses of its listeners.
    pub bound: BTreeMap<CapabilityName, String>,
    /// Capabilities that it was lent and could not set up, with the reason.
    pub capability_errors: BTreeMap<CapabilityName, String>,
    /// The spec that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
    /// The digest of the spec that it should hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_digest: Option<Digest>,
    /// Its agent's version.
    pub version: String,
}

/// How a host fares, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostState {
    /// It lives and takes work.
    Ready,
    /// It lives and takes no new work.
    Cordoned,
    /// It lives and is being emptied.
    Draining,
    /// Its agent was told to stop and waits for its work to be taken over.
    Leaving,
    /// Two platforms clash on it; it takes no new work.
    Conflict,
    /// It has been silent for too long.
    Lost,
    /// It was admitted, and this scheduler has not heard from it yet.
    NotSeen,
}

impl HostState {
    /// The state in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
            Self::Conflict => "conflict",
            Self::Lost => "lost",
            Self::NotSeen => "not-seen",
        }
    }
}

/// Says whether a host takes work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetHost {
    /// The host.
    pub host: HostId,
    /// Whether it takes work.
    pub admin: HostAdmin,
}

/// Puts a taint on a host, or takes it off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaintHost {
    /// The host.
    pub host: HostId,
    /// The taint's name: one of a name is on a host.
    pub name: String,
    /// The taint; none takes it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taint: Option<Taint>,
}

/// Forgets a host: it must join again, and its replicas are placed elsewhere at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetHost {
    /// The host.
    pub host: HostId,
    /// Also when it lives.
    #[serde(default)]
    pub force: bool,
}

/// Makes a one-use token with which one host can join.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeJoinToken {
    /// How long it is valid, in milliseconds.
    pub valid_ms: u64,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JoinToken {
    /// The token; shown once, kept nowhere.
    pub token: String,
    /// The public keys whose specs the host's agent is to trust.
    pub realm_keys: Vec<String>,
}

impl Verb for Hosts {
    const NAME: &'static str = "hosts";
    const WRITES: bool = false;
    type Answer = HostList;
}

impl Verb for SetHost {
    const NAME: &'static str = "host-set";
    const WRITES: bool = true;
    type Answer = Applied;
}

impl Verb for TaintHost {
    const NAME: &'static str = "host-taint";
    const WRITES: bool = true;
    type Answer = Applied;
}

impl Verb for ForgetHost {
    const NAME: &'static str = "host-forget";
    const WRITES: bool = true;
    type Answer = Applied;
}

impl Verb for MakeJoinToken {
    const NAME: &'static str = "join-token";
    const WRITES: bool = true;
    type Answer = JoinToken;
}
