//! What an embedded workload asks of the hosts of those who embed it, and what people are told of it.

use super::changes::Changes;
use super::group::Group;
use super::{placement, platform};
use heddle_protocol::id::{CapabilityName, WorkloadId};
use heddle_protocol::manifest::{Document, FieldPath, Workload};
use heddle_protocol::record::{EmbeddedNeed, Requirement};
use std::collections::{BTreeMap, BTreeSet};

/// What a host's labels must be, as the manifest says it.
pub(super) fn requirements(changes: &mut Changes<'_>, document: &Document, workload: &Workload) -> Vec<Requirement> {
    let mut require = Vec::new();
    for (index, selector) in workload.spec.placement.require.iter().enumerate() {
        let path = FieldPath::spec().key("placement").key("require").index(index);
        let rules = platform::requirements(changes, document, &path, selector);
        require.extend(rules.into_iter().flatten());
    }
    require
}

/// What each embedded workload asks of hosts that the workload does not ask for itself.
pub(super) fn embedded_needs(
    changes: &mut Changes<'_>,
    document: &Document,
    group: &Group,
    own: &BTreeSet<CapabilityName>,
    require: &[Requirement],
) -> BTreeMap<WorkloadId, EmbeddedNeed> {
    let mut needs = BTreeMap::new();
    for (id, stated) in &group.embedded {
        let used = group.capabilities.get(&Some(id.clone()));
        let always = crate::desired::always_offered();
        let new = |name: &&CapabilityName| !own.contains(*name) && !always.contains_key(*name);
        let capabilities: BTreeSet<CapabilityName> = used.into_iter().flatten().filter(new).cloned().collect();
        let rules = requirements(changes, document, &stated.workload);
        let rules: Vec<Requirement> = rules.into_iter().filter(|rule| !require.contains(rule)).collect();
        if !capabilities.is_empty() || !rules.is_empty() {
            let need = EmbeddedNeed {
                capabilities,
                require: rules,
            };
            needs.insert(id.clone(), need);
        }
    }
    needs
}

/// Says what embedding asks of hosts, and what it does not bring along.
pub(super) fn note_embedded(
    changes: &mut Changes<'_>,
    document: &Document,
    group: &Group,
    needs: &BTreeMap<WorkloadId, EmbeddedNeed>,
    workload: &Workload,
) {
    for (id, need) in needs {
        let lent = need.capabilities.iter().map(|name| format!("be lent {name}"));
        let labels = need.require.iter();
        let labels = labels.map(|r| format!("have label {}: {}", r.label, r.rule.in_words()));
        let asked: Vec<String> = lent.chain(labels).collect();
        let label = document.label();
        changes.notes.push(format!(
            "{label}: {id} is embedded: hosts must also {}",
            asked.join(", ")
        ));
    }
    let own = placement::taken(&workload.spec);
    for (id, stated) in &group.embedded {
        let theirs = placement::taken(&stated.workload.spec);
        let mut lacking = Vec::new();
        if theirs.cpu_millis > own.cpu_millis {
            lacking.push("reserve.cpu".to_owned());
        }
        let more = theirs.resources.iter();
        let more = more.filter(|(name, count)| own.resources.get(*name).is_none_or(|own| own < *count));
        lacking.extend(more.map(|(name, _)| format!("reserve.resources[{name}]")));
        if !lacking.is_empty() {
            changes.notes.push(format!(
                "{}: {id} is embedded without its own reservations: {} here is less than it reserves",
                document.label(),
                lacking.join(", ")
            ));
        }
        let granted = &workload.spec.limits.egress;
        let mut lacking = stated
            .workload
            .spec
            .limits
            .egress
            .iter()
            .filter(|address| !granted.contains(address));
        if let Some(address) = lacking.next() {
            changes.notes.push(format!(
                "{}: {id} is embedded without its own limits: it may not call {address} unless limits.egress here lists it",
                document.label()
            ));
        }
    }
}
