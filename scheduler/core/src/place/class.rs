//! Classes of hosts: all that decides whether a host fits and how well, but for what is free there.
//!
//! In: a host's record, its introduction, and whether it lives. Out: the key of its class. Whatever is worked out for a
//! class (the offers, whether a workload fits, why not) is worked out once for all of its hosts.

use super::asked::Asked;
use super::ladder::{Ladder, Rung};
use crate::desired::{HostOffers, Labels};
use crate::liveness::HostLiveness;
use heddle_protocol::host_report::Hello;
use heddle_protocol::host_spec::Feature;
use heddle_protocol::record::{HostAdmin, HostRecord, Taint, TaintEffect};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whether the hosts of a class live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mood {
    /// Heard lately, and introduced.
    #[default]
    Alive,
    /// Not heard yet, or not introduced.
    NotSeen,
    /// Silent for too long.
    Lost,
    /// Silent with much of its zone.
    CutOff,
}

impl From<&HostLiveness> for Mood {
    fn from(liveness: &HostLiveness) -> Self {
        match liveness {
            HostLiveness::Alive => Self::Alive,
            HostLiveness::NotSeen => Self::NotSeen,
            HostLiveness::Lost { .. } => Self::Lost,
            HostLiveness::Partitioned { .. } => Self::CutOff,
        }
    }
}

/// What all hosts of a class share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClassKey {
    /// What of the labels rules ask about; none if the host did not say hello.
    pub(crate) labels: Option<Labels>,
    /// What the agents can do; none like the labels.
    pub(crate) features: Option<BTreeSet<Feature>>,
    /// The most memory that one instance may have.
    pub(crate) instance_memory_bytes_max: Option<u64>,
    /// What keeps replicas away.
    pub(crate) taints: BTreeMap<String, Taint>,
    /// Whether an operator let them be: 0 open, 1 cordoned, 2 draining.
    admin: u8,
    /// Whether the agents were told to stop.
    pub(crate) leaving: bool,
    /// Whether they live.
    pub(crate) mood: Mood,
}

impl ClassKey {
    /// The class of a host.
    pub(crate) fn of(record: &HostRecord, hello: Option<&Hello>, leaving: bool, mood: Mood, asked: &Asked) -> Self {
        Self {
            labels: hello.map(|hello| asked.of(&hello.labels)),
            features: hello.map(|hello| hello.features.clone()),
            instance_memory_bytes_max: hello.and_then(|hello| hello.capacity.instance_memory_bytes_max),
            taints: record.taints.clone(),
            admin: match record.admin {
                HostAdmin::Open => 0,
                HostAdmin::Cordoned => 1,
                HostAdmin::Draining => 2,
            },
            leaving,
            mood,
        }
    }

    /// What an operator said.
    pub(crate) fn admin(&self) -> HostAdmin {
        match self.admin {
            0 => HostAdmin::Open,
            1 => HostAdmin::Cordoned,
            _ => HostAdmin::Draining,
        }
    }

    /// Whether replicas should move away although they may still serve.
    pub(crate) fn is_emptied(&self) -> bool {
        self.admin() == HostAdmin::Draining || self.leaving
    }

    /// Whether some replicas there may have to go, so that every plan looks at them until they are gone.
    pub(crate) fn is_left(&self) -> bool {
        let evicts = |taint: &Taint| taint.effect == TaintEffect::Evict;
        self.is_emptied() || self.mood == Mood::Lost || self.taints.values().any(evicts)
    }

    /// The value of a label that rules ask about.
    pub(crate) fn label(&self, label: &str) -> Option<&str> {
        self.labels.as_ref()?.get(label).map(String::as_str)
    }
}

/// One class.
#[derive(Debug, Clone)]
pub(crate) struct Class {
    /// What its hosts share.
    pub(crate) key: Arc<ClassKey>,
    /// What platforms lend them.
    pub(crate) offers: Arc<HostOffers>,
    /// Its hosts.
    pub(crate) ladder: Ladder,
    /// The emptiest of them, which most looks at the class are about.
    pub(crate) first: Option<Rung>,
    /// How many they are.
    pub(crate) members: u32,
    /// The most that any of its hosts ever had: memory, slots, processor time (none without bound).
    pub(crate) most: (u64, u32, Option<u32>),
}

impl Class {
    /// Puts a host on the ladder.
    pub(crate) fn insert(&mut self, rung: Rung) {
        self.ladder.insert(rung);
        self.first = self.ladder.at(self.ladder.bottom());
    }

    /// Moves hosts on the ladder, given in the order in which they were there.
    pub(crate) fn shift(&mut self, moves: impl Iterator<Item = (Rung, Rung)>) {
        self.ladder.shift(moves);
        self.first = self.ladder.at(self.ladder.bottom());
    }

    /// Takes a host off the ladder.
    pub(crate) fn remove(&mut self, rung: Rung) {
        self.ladder.remove(rung);
        self.first = self.ladder.at(self.ladder.bottom());
    }
}
