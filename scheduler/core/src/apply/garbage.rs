//! Records that nothing names any more: templates, and join tokens that are no longer valid.

use super::Write;
use crate::world::World;
use heddle_protocol::digest::Digest;
use heddle_protocol::key::Key;
use heddle_protocol::record::JoinTokenRecord;
use heddle_protocol::time::UnixMs;
use std::collections::BTreeSet;

/// The deletions that lose nothing. Templates of kept generations need not stay: undo makes them again from the
/// manifest and the artifacts.
pub fn collect_garbage(world: &World, at: UnixMs) -> Vec<Write> {
    let meant = world.workloads.values().map(|record| record.template);
    let placed = world.places.values().flat_map(|p| &p.sets).map(|set| set.template);
    let named: BTreeSet<Digest> = meant.chain(placed).collect();
    let templates = world
        .templates
        .keys()
        .filter(|digest| !named.contains(*digest))
        .map(|d| Key::Template(*d));
    let spent = world.policies.iter().filter(|(name, value)| {
        let record: Option<JoinTokenRecord> = serde_json::from_value(value.as_ref().clone()).ok();
        name.starts_with("join-") && record.is_some_and(|r| r.valid_until <= at)
    });
    let tokens = spent.map(|(name, _)| Key::Policy(name.clone()));
    templates.chain(tokens).map(|key| Write { key, value: None }).collect()
}
