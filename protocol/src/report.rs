//! Refusals and waits, as data. Deciding code returns these; only `Display` here turns them into sentences.

use crate::id::{CapabilityName, HostId, WorkloadId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Why one host does not take one more replica of one workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", tag = "rule")]
pub enum Rejection {
    /// No sign of life for longer than a host may be silent.
    Lost,
    /// It has not said hello to this scheduler yet.
    NotSeen,
    /// It was told to take no new work.
    Cordoned,
    /// It is being emptied.
    Draining,
    /// Its agent was told to stop.
    Leaving,
    /// Two platforms give it the same capability or address (D19).
    PlatformConflict {
        /// The capability or address.
        what: String,
    },
    /// A required label is missing or has another value.
    Label {
        /// The label.
        label: String,
        /// What is required of it, in words.
        wanted: String,
        /// What the host has.
        found: Option<String>,
        /// The embedded workload that asks for it, if the workload itself does not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        embedded: Option<WorkloadId>,
    },
    /// No platform lends it a capability that the workload uses.
    CapabilityMissing {
        /// The capability.
        capability: CapabilityName,
        /// The embedded workload that uses it, if the workload itself does not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        embedded: Option<WorkloadId>,
    },
    /// Its agent lacks features.
    FeatureMissing {
        /// The features, by name.
        features: BTreeSet<String>,
    },
    /// Its instances cannot have as much memory as the workload's limit.
    InstanceMemory {
        /// The workload's limit, in bytes.
        wanted_bytes: u64,
        /// What an instance there can have at most, in bytes.
        max_bytes: u64,
    },
    /// Too little memory is free.
    Memory {
        /// What one replica takes, in bytes.
        needed_bytes: u64,
        /// What is free, in bytes.
        free_bytes: u64,
    },
    /// No replica slot is free.
    Slots {
        /// Slots in all.
        slots: u32,
    },
    /// A daemon runs once per host, and it is there already.
    AlreadyThere,
    /// It has a taint that the workload does not put up with.
    Taint {
        /// The taint, as `name` or `name=value`.
        taint: String,
    },
    /// Too little processor time is free.
    Cpu {
        /// What one replica takes, in thousandths of a core.
        needed_millis: u32,
        /// What is free, in thousandths of a core.
        free_millis: u32,
    },
    /// Too few of a countable thing are free.
    Resource {
        /// Its name.
        resource: String,
        /// What one replica takes.
        needed: u32,
        /// How many are free.
        free: u32,
    },
    /// As many replicas as may be on one host are there.
    PerHost {
        /// The most that may be there.
        most: u32,
    },
    /// Another workload that this one keeps away from is there, or this one is kept away from by it.
    Avoid {
        /// The other workload.
        workload: WorkloadId,
        /// The label that both share.
        by: String,
        /// Its value.
        value: String,
    },
    /// Another workload that this one stays near to is not there.
    Near {
        /// The other workload.
        workload: WorkloadId,
        /// The label that both should share.
        by: String,
        /// Its value on this host, if it has one.
        value: Option<String>,
    },
    /// One more replica there would break a bound on skew.
    Skew {
        /// The label.
        by: String,
        /// Its value.
        value: String,
        /// The bound.
        most: u32,
    },
}

impl Rejection {
    /// Whether it says how much is lacking, so that of two hosts that fail it one may be nearer than the other.
    pub fn has_numbers(&self) -> bool {
        matches!(
            self,
            Self::Memory { .. }
                | Self::InstanceMemory { .. }
                | Self::Slots { .. }
                | Self::Cpu { .. }
                | Self::Resource { .. }
        )
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("lost: no heartbeat for too long"),
            Self::NotSeen => f.write_str("not seen since the scheduler started"),
            Self::Cordoned => f.write_str("cordoned"),
            Self::Draining => f.write_str("draining"),
            Self::Leaving => f.write_str("leaving"),
            Self::PlatformConflict { what } => write!(f, "two platforms clash over {what}"),
            Self::Label {
                label,
                wanted,
                found,
                embedded,
            } => {
                let found = found.as_deref().unwrap_or("missing");
                write!(f, "label {label} is {found}, needs {wanted}{}", Because(embedded))
            }
            Self::CapabilityMissing { capability, embedded } => {
                write!(f, "no platform lends it capability {capability}{}", Because(embedded))
            }
            Self::FeatureMissing { features } => {
                let names: Vec<&str> = features.iter().map(String::as_str).collect();
                write!(f, "agent lacks {}", names.join(", "))
            }
            Self::InstanceMemory {
                wanted_bytes,
                max_bytes,
            } => {
                write!(
                    f,
                    "an instance has at most {} of memory, needs {}",
                    Bytes(*max_bytes),
                    Bytes(*wanted_bytes)
                )
            }
            Self::Memory {
                needed_bytes,
                free_bytes,
            } => {
                write!(
                    f,
                    "{} of memory free, a replica needs {}",
                    Bytes(*free_bytes),
                    Bytes(*needed_bytes)
                )
            }
            Self::Slots { slots: 1 } => f.write_str("its one replica slot is taken"),
            Self::Slots { slots } => write!(f, "all {slots} replica slots are taken"),
            Self::AlreadyThere => f.write_str("already runs it"),
            Self::Taint { taint } => write!(f, "tainted {taint}"),
            Self::Cpu {
                needed_millis,
                free_millis,
            } => write!(
                f,
                "{free_millis}m of processor time free, a replica needs {needed_millis}m"
            ),
            Self::Resource { resource, needed, free } => {
                write!(f, "{free} of {resource} free, a replica needs {needed}")
            }
            Self::PerHost { most } => write!(f, "has {most} already, the most on one host"),
            Self::Avoid { workload, by, value } => write!(f, "{by} {value} has {workload}, to be kept apart"),
            Self::Near { workload, by, value } => match value {
                Some(value) => write!(f, "{by} {value} has no {workload}, to be near to"),
                None => write!(f, "has no label {by}, by which to be near to {workload}"),
            },
            Self::Skew { by, value, most } => {
                write!(f, "{by} {value} has as many as a skew of {most} allows")
            }
        }
    }
}

/// Who asks for something, if it is a workload that is embedded.
struct Because<'a>(&'a Option<WorkloadId>);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(workload) => write!(f, " because {workload} is embedded"),
            None => Ok(()),
        }
    }
}

/// What a workload waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", tag = "on")]
pub enum WaitingOn {
    /// No host takes the missing replicas.
    Hosts {
        /// Replicas that have no place.
        missing: u32,
        /// How many hosts refuse, by reason, the commonest first.
        rejections: Vec<RejectionCount>,
    },
    /// Placed units that are not ready yet.
    Units {
        /// Replicas that are placed and not ready.
        starting: u32,
    },
    /// A zone lost so many hosts at once that it counts as cut off; its replicas are not replaced.
    Partition {
        /// The zone.
        zone: String,
        /// The hosts that fell silent.
        hosts: BTreeSet<HostId>,
    },
}

/// A reason for refusal and the hosts that share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RejectionCount {
    /// The reason.
    pub rejection: Rejection,
    /// How many hosts give it.
    pub hosts: u32,
    /// One of them, for looking closer.
    pub example: HostId,
}

impl fmt::Display for WaitingOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosts { missing, rejections } if rejections.is_empty() => {
                write!(f, "{missing} not placed: the fleet has no host")
            }
            Self::Hosts { missing, rejections } => {
                write!(f, "{missing} not placed: ")?;
                for (i, r) in rejections.iter().enumerate() {
                    let (sep, s) = (if i == 0 { "" } else { "; " }, if r.hosts == 1 { "" } else { "s" });
                    write!(f, "{sep}{} host{s}: {}", r.hosts, r.rejection)?;
                }
                Ok(())
            }
            Self::Units { starting } => write!(f, "{starting} placed and not ready yet"),
            Self::Partition { zone, hosts } => {
                let s = if hosts.len() == 1 { "" } else { "s" };
                match zone.as_str() {
                    "" => write!(f, "{} host{s} fell silent together and count as cut off", hosts.len()),
                    zone => write!(
                        f,
                        "{} host{s} of zone {zone} fell silent together and count as cut off",
                        hosts.len()
                    ),
                }
            }
        }
    }
}

/// One replica or group of replicas that a plan adds, keeps or drops, for people and for golden files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlacementChange {
    /// The workload.
    pub workload: WorkloadId,
    /// The generation.
    pub generation: crate::id::Generation,
    /// The host.
    pub host: HostId,
    /// Replicas there before.
    pub before: u32,
    /// Replicas there after.
    pub after: u32,
    /// The workload of higher priority that took their place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preempted_by: Option<WorkloadId>,
}

impl fmt::Display for PlacementChange {
    /// `+ shop/cart@2 ×3 on host-b`, `- batch@1 ×1 on host-b, preempted by shop/cart`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, by) = if self.after >= self.before {
            ('+', self.after - self.before)
        } else {
            ('-', self.before - self.after)
        };
        write!(f, "{sign} {}@{} ×{by} on {}", self.workload, self.generation, self.host)?;
        match &self.preempted_by {
            Some(other) => write!(f, ", preempted by {other}"),
            None => Ok(()),
        }
    }
}

/// A number of bytes, printed with the largest binary unit that divides it, or with one digit after the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("Gi", 1u64 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
        match units.iter().find(|(_, size)| self.0 >= *size) {
            Some((unit, size)) if self.0.is_multiple_of(*size) => f.pad(&format!("{}{unit}", self.0 / size)),
            Some((unit, size)) => f.pad(&format!("{:.1}{unit}", self.0 as f64 / *size as f64)),
            None => f.pad(&format!("{}B", self.0)),
        }
    }
}
