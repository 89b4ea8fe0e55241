//! What the agent says of itself: hellos and heartbeats. What it says of its units is decided in the core.
//!
//! In: the agent's options, what its engines are, what it holds. Out: messages.

use crate::identity;
use crate::options::AgentOptions;
use heddle_agent_core::{Identity, Reporter};
use heddle_protocol::host_report::{Accepted, Capacity, Engine, Heartbeat, Hello};
use heddle_protocol::host_spec::Feature;
use std::collections::{BTreeMap, BTreeSet};

/// Everything in a hello that does not change while the agent runs.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    me: Identity,
    join_token: Option<String>,
    labels: BTreeMap<String, String>,
    capacity: Capacity,
    features: BTreeSet<Feature>,
    engine: Engine,
    seal_key: String,
}

impl Introduction {
    pub(crate) fn new(
        me: Identity,
        options: &AgentOptions,
        capacity: Capacity,
        features: BTreeSet<Feature>,
        engine: Engine,
        seal_key: &str,
    ) -> Self {
        let labels = identity::labels(&me.host, &options.labels);
        Self {
            me,
            join_token: options.join_token.clone(),
            labels,
            capacity,
            features,
            engine,
            seal_key: seal_key.to_owned(),
        }
    }

    pub(crate) fn hello(&self, reporter: &Reporter, accepted: Option<Accepted>) -> Hello {
        Hello {
            realm: self.me.realm.clone(),
            host: self.me.host.clone(),
            boot_id: self.me.boot_id.clone(),
            join_token: self.join_token.clone(),
            labels: self.labels.clone(),
            capacity: self.capacity.clone(),
            features: self.features.clone(),
            engine: self.engine.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bound: reporter.bound().clone(),
            accepted,
            seal_key: self.seal_key.clone(),
        }
    }

    pub(crate) fn heartbeat(
        &self,
        seq: u64,
        reporter: &Reporter,
        accepted: Option<Accepted>,
        leaving: bool,
        in_flight: u32,
    ) -> Heartbeat {
        Heartbeat {
            boot_id: self.me.boot_id.clone(),
            seq,
            accepted,
            running_digest: reporter.running_digest(),
            status_seq: reporter.status_seq(),
            leaving,
            rss_bytes: identity::rss_bytes(),
            in_flight,
        }
    }
}
