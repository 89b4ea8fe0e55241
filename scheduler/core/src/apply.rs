//! What a manifest changes: every document checked against the fleet and turned into records, or all problems at once.
//!
//! In: the world, documents whose shape and meaning were checked, and what their images are. Out: the writes of one
//! commit, whole, and what to tell the client; nothing is placed here, the plan follows the commit. Documents of one
//! change may refer to each other: platforms are taken first, then configs and references to secrets, then workloads.

mod bind;
mod changes;
mod compose;
mod cron_form;
mod embed;
mod entry;
mod garbage;
mod group;
mod host;
mod interface;
mod known;
mod miss;
mod nearest;
mod objects;
mod offer;
mod order;
mod placement;
mod platform;
mod quota;
mod renew;
mod route;
mod rules;
mod secret;
mod signature;
mod workload;

pub use garbage::collect_garbage;
pub use host::{Joining, decide_forget, decide_join, decide_set_host, decide_taint, decide_token};
pub use known::*;
pub use objects::{decide_delete, decide_undo};
pub use placement::{rules_of, spread_of};
pub use quota::quota_use;
pub use renew::{renew_secrets, secrets_followed};
pub use rules::*;
pub(crate) use secret::uses as secret_uses;

use crate::plan::{Plan, plan_only};
use crate::steps::steps;
use crate::world::{Dirty, World};
use changes::Changes;
use heddle_protocol::api::apply::{Applied, Waiting};
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::key::Key;
use heddle_protocol::manifest::{Document, Object};
use heddle_protocol::time::{Mono, UnixMs};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A document whose images are known.
#[derive(Debug, Clone)]
pub struct ResolvedDocument {
    /// The document, checked by `manifest::load` and free of what is not supported yet.
    pub document: Document,
    /// What its images are, by the text that stands in the manifest. May hold those of other documents too.
    pub artifacts: Arc<BTreeMap<String, ArtifactInfo>>,
}

/// One record to write, or to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The record's key.
    pub key: Key,
    /// Its JSON; none deletes it.
    pub value: Option<Vec<u8>>,
}

/// What to commit, and what to answer once it is committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The records, ordered by key; none if nothing changes.
    pub writes: Vec<Write>,
    /// The answer, but for the commit's number and what the plan that follows changes.
    pub applied: Applied,
}

impl Decision {
    /// The answer and the plan if this were committed now, at this commit number.
    pub fn preview(&self, world: &World, commit: u64, now: Mono) -> (Applied, Plan) {
        let mut next = world.clone();
        let mut dirty = Dirty::none();
        for write in &self.writes {
            // What was just written can be read; if not, the plan only knows less.
            dirty.join(
                next.apply_record(&write.key, write.value.as_deref())
                    .unwrap_or_default(),
            );
        }
        let (plan, report) = plan_only(&next, now, &dirty);
        let mut applied = self.applied.clone();
        applied.commit = commit;
        applied.changes = report.changes();
        applied.steps = steps(world, &applied.changes);
        // Units that start are no hindrance; what has no place is.
        let hinders =
            |on: &heddle_protocol::report::WaitingOn| !matches!(on, heddle_protocol::report::WaitingOn::Units { .. });
        let waiting = report.waiting().into_iter().filter(|(_, on)| hinders(on));
        applied.waiting = waiting.map(|(workload, on)| Waiting { workload, on }).collect();
        (applied, plan)
    }
}

/// Decides what a manifest changes: all of it, or nothing.
///
/// # Errors
/// Every problem that the fleet has with the documents: imports that nothing meets, names that do not exist, routes that
/// another workload owns, platforms that clash.
///
/// What is not known yet of artifacts and secrets is asked for, all at once, unless there are problems without it.
pub fn decide_apply(
    world: &World,
    documents: &[ResolvedDocument],
    known: &Known,
    at: UnixMs,
) -> Result<Decision, Undecided> {
    let mut changes = Changes::new(world, known, at);
    for (index, resolved) in documents.iter().enumerate() {
        if let Object::Platform(platform) = &resolved.document.object {
            platform::take(&mut changes, index, &resolved.document, platform)?;
        }
    }
    for (index, resolved) in documents.iter().enumerate() {
        if let Object::Config(config) = &resolved.document.object {
            changes.take_config(index, &resolved.document, config)?;
        }
    }
    for (index, resolved) in documents.iter().enumerate() {
        if let Object::SecretRef(secret) = &resolved.document.object {
            changes.take_secret_ref(index, &resolved.document, secret)?;
        }
    }
    for (index, resolved) in documents.iter().enumerate() {
        if let Object::Policy(policy) = &resolved.document.object {
            signature::take(&mut changes, index, &resolved.document, policy)?;
        }
    }
    for (index, resolved) in documents.iter().enumerate() {
        if let Object::Quota(quota) = &resolved.document.object {
            quota::take(&mut changes, index, &resolved.document, quota)?;
        }
    }
    workload::take_all(&mut changes, documents)?;
    workload::renew_users(&mut changes, documents.len())?;
    route::check_owners(&mut changes, documents);
    quota::check(&mut changes, world, documents);
    changes.finish()
}
