//! Taking a platform: it must not clash with another on any host, nor take away what workloads use.

use super::changes::{Changes, bad_name};
use super::nearest::list;
use super::{CAPABILITY_IN_USE, CAPABILITY_KIND, PLATFORM_CLASH};
use crate::desired::{always_offered, selects, union};
use heddle_protocol::api::ApiError;
use heddle_protocol::api::apply::Change;
use heddle_protocol::host_spec::CapabilityOffer;
use heddle_protocol::id::{CapabilityName, Generation, PlatformName};
use heddle_protocol::manifest::{self, Document, FieldPath, Platform, Selector, rule};
use heddle_protocol::record::{LabelRule, PlatformRecord, Requirement};
use std::collections::BTreeMap;
use std::mem::discriminant;

/// Takes a platform into the change.
pub(super) fn take(
    changes: &mut Changes,
    order: usize,
    document: &Document,
    platform: &Platform,
) -> Result<(), ApiError> {
    let name = PlatformName::parse(&platform.metadata.name).map_err(bad_name)?;
    let manifest = document.object.canonical_value();
    let before = changes.next.platforms.get(&name).cloned();
    let (generation, change) = match &before {
        Some(before) if before.manifest == manifest => (before.generation, Change::Unchanged),
        Some(before) => (before.generation.next(), Change::Updated),
        None => (Generation(1), Change::Created),
    };
    changes.tell(order, "Platform", &name, generation, change);
    if change == Change::Unchanged {
        return Ok(());
    }
    let Some(offers) = offers_in(changes, document, platform)? else {
        return Ok(());
    };
    let Some(hosts) = requirements(changes, document, &FieldPath::spec().key("hosts"), &platform.spec.hosts) else {
        return Ok(());
    };
    let record = PlatformRecord {
        generation,
        manifest,
        hosts,
        offers,
        applied_at: changes.at,
    };
    let no_offers = BTreeMap::new();
    let offers_before = before.as_ref().map_or(&no_offers, |b| &b.offers);
    for (capability, offer) in offers_before {
        if record.offers.get(capability) != Some(offer) {
            changes.offers_changed.insert(capability.clone());
        }
    }
    changes.put_platform(&name, record.clone())?;
    check_kinds(changes, document, &name, &record);
    check_clashes(changes, document, &name, &record);
    for capability in offers_before.keys().filter(|c| !record.offers.contains_key(*c)) {
        check_unused(changes, document, capability);
    }
    Ok(())
}

/// What the platform lends; none if it holds something that this release does not lend.
fn offers_in(
    changes: &mut Changes,
    document: &Document,
    platform: &Platform,
) -> Result<Option<BTreeMap<CapabilityName, CapabilityOffer>>, ApiError> {
    let mut offers = BTreeMap::new();
    let mut whole = true;
    for (text, capability) in &platform.spec.capabilities {
        let name = CapabilityName::parse(text).map_err(bad_name)?;
        match offer_of(capability) {
            Some(offer) => drop(offers.insert(name, offer)),
            None => {
                let path = FieldPath::spec().key("capabilities").entry(text);
                let message = format!("capability {name} is of a kind that this release does not lend");
                changes
                    .problems
                    .push(document.problem(&path, rule::NOT_YET_SUPPORTED, message));
                whole = false;
            }
        }
    }
    Ok(whole.then_some(offers))
}

fn offer_of(capability: &manifest::Capability) -> Option<CapabilityOffer> {
    if let Some(http) = &capability.http {
        return Some(CapabilityOffer::Http {
            listen: http.listen.clone(),
            max_connections: http.max_connections,
        });
    }
    if let Some(keyvalue) = &capability.keyvalue {
        return keyvalue.memory.as_ref().map(|_| CapabilityOffer::KeyvalueMemory {
            shared: keyvalue.shared,
        });
    }
    match (&capability.config, &capability.logging) {
        (Some(_), _) => Some(CapabilityOffer::Config {}),
        (_, Some(_)) => Some(CapabilityOffer::Logging {}),
        (None, None) => None,
    }
}

/// A selector as rules for labels; none if it holds a condition that this release does not keep.
pub(super) fn requirements(
    changes: &mut Changes,
    document: &Document,
    path: &FieldPath,
    selector: &Selector,
) -> Option<Vec<Requirement>> {
    let mut requirements = Vec::new();
    let mut whole = true;
    for (label, asked) in selector {
        if asked.gt.is_some() || asked.lt.is_some() {
            let message = format!("label {label}: this release does not compare numbers; use in, notIn or exists");
            changes
                .problems
                .push(document.problem(&path.entry(label), rule::NOT_YET_SUPPORTED, message));
            whole = false;
        }
        let values = |list: &Vec<String>| list.iter().cloned().collect();
        let rules = [
            asked.in_values.as_ref().map(|v| LabelRule::In(values(v))),
            asked.not_in.as_ref().map(|v| LabelRule::NotIn(values(v))),
            asked.exists.map(LabelRule::Exists),
        ];
        let rules = rules.into_iter().flatten();
        requirements.extend(rules.map(|rule| Requirement {
            label: label.clone(),
            rule,
        }));
    }
    whole.then_some(requirements)
}

/// A name means the same kind of capability on every platform, so that a workload may be placed on any of them.
fn check_kinds(changes: &mut Changes, document: &Document, name: &PlatformName, record: &PlatformRecord) {
    let always = always_offered();
    for (capability, offer) in &record.offers {
        let others = changes.next.platforms.iter().filter(|(other, _)| *other != name);
        let other = others.filter_map(|(other, r)| r.offers.get(capability).map(|o| (other.to_string(), o)));
        let fixed = always.get(capability).map(|o| ("every host".to_owned(), o));
        let differs = fixed.into_iter().chain(other).find(|(_, o)| !is_same_kind(o, offer));
        if let Some((owner, _)) = differs {
            let message = format!("capability {capability} is of another kind on {owner}: one name means one kind");
            let path = FieldPath::spec().key("capabilities").entry(capability.as_str());
            changes.problems.push(document.problem(&path, CAPABILITY_KIND, message));
        }
    }
}

fn is_same_kind(a: &CapabilityOffer, b: &CapabilityOffer) -> bool {
    match (a, b) {
        // Whether data is shared decides what a workload sees, so it may not depend on the host.
        (CapabilityOffer::KeyvalueMemory { shared: a }, CapabilityOffer::KeyvalueMemory { shared: b }) => a == b,
        (a, b) => discriminant(a) == discriminant(b),
    }
}

/// Two platforms may not give one name or address to one host: neither to one that is known, nor, as far as their
/// selectors tell, to one that may join.
fn check_clashes(changes: &mut Changes, document: &Document, name: &PlatformName, record: &PlatformRecord) {
    let mut problems = Vec::new();
    for (other_name, other) in changes.next.platforms.iter().filter(|(other, _)| *other != name) {
        let both = union([(other_name, other.as_ref()), (name, record)].into_iter());
        let Some(clash) = both.conflict else { continue };
        let labelled = changes
            .next
            .observed
            .iter()
            .filter_map(|(host, o)| Some((host, o.hello.as_ref()?)));
        let shared: Vec<_> = labelled
            .filter(|(_, hello)| selects(&record.hosts, &hello.labels) && selects(&other.hosts, &hello.labels))
            .map(|(host, _)| host)
            .collect();
        let overlap = record.hosts.is_empty() || other.hosts.is_empty() || record.hosts == other.hosts;
        if shared.is_empty() && !overlap {
            continue;
        }
        let on = if shared.is_empty() {
            "any host that both select".to_owned()
        } else {
            list(shared)
        };
        let message = format!("platforms {name} and {other_name} both give {} to {on}", clash.what);
        problems.push(document.problem(&FieldPath::spec().key("capabilities"), PLATFORM_CLASH, message));
    }
    changes.problems.extend(problems);
}

/// What workloads use stays lent somewhere.
fn check_unused(changes: &mut Changes, document: &Document, capability: &CapabilityName) {
    if let Some(message) = used_and_no_longer_lent(changes, capability) {
        let path = FieldPath::spec().key("capabilities");
        changes
            .problems
            .push(document.problem(&path, CAPABILITY_IN_USE, message));
    }
}

/// Who uses a capability that no platform lends any more, as a sentence.
pub(super) fn used_and_no_longer_lent(changes: &Changes, capability: &CapabilityName) -> Option<String> {
    if changes.catalog().contains_key(capability) {
        return None;
    }
    let users: Vec<_> = changes
        .next
        .workloads
        .iter()
        .filter(|(_, record)| record.intent.capabilities.contains(capability))
        .map(|(id, _)| id)
        .collect();
    match users.len() {
        0 => None,
        1 => Some(format!(
            "capability {capability} is used by workload {} and no other platform lends it",
            list(users)
        )),
        _ => Some(format!(
            "capability {capability} is used by workloads {} and no other platform lends it",
            list(users)
        )),
    }
}
