//! Secrets that name no version: which are followed, and what a newer version changes.
//!
//! In: the world, and the newest versions as backends named them. Out: new generations of the workloads that want one,
//! newer versions for those that take them live, and platforms whose capabilities get them.

use super::changes::Changes;
use super::secret::{unversioned, uses};
use super::{Decision, Known, SecretAnswer, Undecided, platform, workload};
use crate::world::World;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::SecretUse;
use heddle_protocol::id::PlatformName;
use heddle_protocol::time::UnixMs;
use std::collections::BTreeMap;

/// The secrets that name no version, as backends are to be asked for them: each once.
pub fn secrets_followed(world: &World) -> Vec<SecretUse> {
    let mut followed: BTreeMap<Digest, SecretUse> = BTreeMap::new();
    for record in world
        .workloads
        .values()
        .filter(|record| !record.secret_versions.is_empty())
    {
        let template = world.templates.get(&record.template);
        for secret in template.iter().flat_map(|template| uses(template)).map(unversioned) {
            let id = secret.id();
            if record.secret_versions.contains_key(&id) {
                followed.insert(id, secret);
            }
        }
    }
    for secret in world.platforms.values().flat_map(|record| platform::followed(record)) {
        followed.insert(secret.id(), secret);
    }
    followed.into_values().collect()
}

/// Decides what newer versions of secrets change. `newest` holds the version of each, by [`SecretUse::id`] of the use
/// as [`secrets_followed`] gives it; those that did not change do no harm.
///
/// # Errors
/// If a workload that gets a new generation can no longer be resolved, or something must be found out for it first.
pub fn renew_secrets(
    world: &World,
    newest: &BTreeMap<Digest, String>,
    known: &Known,
    at: UnixMs,
) -> Result<Decision, Undecided> {
    let mut known = known.clone();
    let answers = newest
        .iter()
        .map(|(id, version)| (*id, SecretAnswer::Version(version.clone())));
    known.secrets.extend(answers);
    let mut changes = Changes::new(world, &known, at);
    changes.renewing = true;
    let held = world.workloads.values().flat_map(|record| &record.secret_versions);
    let newer = held.filter(|(id, version)| newest.get(id).is_some_and(|n| n != *version));
    changes.secrets_renewed = newer.map(|(id, _)| *id).collect();
    let platforms: Vec<PlatformName> = world.platforms.keys().cloned().collect();
    for name in &platforms {
        platform::renew_secrets(&mut changes, 0, name, newest)?;
    }
    workload::renew_users(&mut changes, platforms.len())?;
    changes.finish()
}
