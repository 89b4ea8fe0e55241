//! Taking a platform: it must not clash with another on any host, nor take away what workloads use.

use super::changes::{Changes, bad_name};
use super::nearest::list;
use super::offer::offer_of;
use super::secret::{Secrets, unversioned};
use super::{CAPABILITY_IN_USE, CAPABILITY_KIND, PLATFORM_CLASH};
use crate::desired::{always_offered, selects, union};
use heddle_protocol::api::ApiError;
use heddle_protocol::api::apply::Change;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{CapabilityOffer, Compile, SecretUse};
use heddle_protocol::id::{CapabilityName, Generation, PlatformName};
use heddle_protocol::manifest::{self, Document, FieldPath, Platform, Selector, rule};
use heddle_protocol::record::{PlatformRecord, Requirement};
use std::collections::BTreeMap;
use std::mem::discriminant;

/// Takes a platform into the change.
pub(super) fn take(
    changes: &mut Changes<'_>,
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
    let offers = offers_in(platform)?;
    let secrets = secrets_in(changes, document, platform, before.as_deref());
    let Some(hosts) = requirements(changes, document, &FieldPath::spec().key("hosts"), &platform.spec.hosts) else {
        return Ok(());
    };
    let record = PlatformRecord {
        generation,
        manifest,
        hosts,
        offers,
        applied_at: changes.at,
        secrets,
        compile: platform.spec.engines.compile.map(|compile| match compile {
            manifest::Compile::Local => Compile::Local,
            manifest::Compile::Precompiled => Compile::Precompiled,
        }),
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

/// What the platform lends. A capability of no kind or of several was refused when the manifest was checked.
fn offers_in(platform: &Platform) -> Result<BTreeMap<CapabilityName, CapabilityOffer>, ApiError> {
    let mut offers = BTreeMap::new();
    for (text, capability) in &platform.spec.capabilities {
        let name = CapabilityName::parse(text).map_err(bad_name)?;
        if let Some(offer) = offer_of(capability) {
            offers.insert(name, offer);
        }
    }
    Ok(offers)
}

/// The secrets that its capabilities need, each in the newest version or the one that is named.
fn secrets_in(
    changes: &mut Changes<'_>,
    document: &Document,
    platform: &Platform,
    before: Option<&PlatformRecord>,
) -> BTreeMap<CapabilityName, BTreeMap<String, SecretUse>> {
    let mut all = BTreeMap::new();
    let mut secrets = Secrets::of_platform(before);
    for (text, capability) in &platform.spec.capabilities {
        let Ok(name) = CapabilityName::parse(text) else {
            continue;
        };
        let mut uses = BTreeMap::new();
        for (key, source) in &capability.secrets {
            match secrets.take(changes, None, None, source) {
                Ok(Some(secret)) => drop(uses.insert(key.clone(), secret)),
                Ok(None) => {}
                Err(fault) => {
                    let path = FieldPath::spec()
                        .key("capabilities")
                        .entry(text)
                        .key("secrets")
                        .entry(key);
                    changes
                        .problems
                        .push(document.problem(&path, fault.rule, fault.message));
                }
            }
        }
        if !uses.is_empty() {
            all.insert(name, uses);
        }
    }
    let label = document.label();
    changes
        .notes
        .extend(secrets.notes.iter().map(|note| format!("{label}: {note}")));
    all
}

/// Takes newer versions of the secrets that a platform's capabilities need: those that name none.
pub(super) fn renew_secrets(
    changes: &mut Changes<'_>,
    order: usize,
    name: &PlatformName,
    newest: &BTreeMap<Digest, String>,
) -> Result<(), ApiError> {
    let Some(before) = changes.next.platforms.get(name).cloned() else {
        return Ok(());
    };
    let mut record = before.as_ref().clone();
    for secret in followed_mut(&mut record) {
        if let Some(version) = newest.get(&unversioned(secret).id()) {
            secret.version = Some(version.clone());
        }
    }
    if record.secrets == before.secrets {
        return Ok(());
    }
    record.generation = before.generation.next();
    record.applied_at = changes.at;
    changes.tell(order, "Platform", name, record.generation, Change::Updated);
    changes.put_platform(name, record)
}

/// The secrets of a platform that name no version in its manifest.
fn followed_mut(record: &mut PlatformRecord) -> impl Iterator<Item = &mut SecretUse> {
    let manifest = record.manifest.clone();
    let uses = record.secrets.iter_mut().flat_map(|(capability, uses)| {
        let each = uses.iter_mut();
        each.map(move |(key, secret)| (capability, key, secret))
            .collect::<Vec<_>>()
    });
    uses.filter(move |(capability, key, _)| names_no_version(&manifest, capability, key))
        .map(|(_, _, secret)| secret)
}

/// The secrets of a platform that name no version in its manifest, as backends are to be asked for them.
pub(super) fn followed(record: &PlatformRecord) -> impl Iterator<Item = SecretUse> {
    let uses = record
        .secrets
        .iter()
        .flat_map(|(capability, uses)| uses.iter().map(move |(k, s)| (capability, k, s)));
    uses.filter(|(capability, key, _)| names_no_version(&record.manifest, capability, key))
        .map(|(_, _, secret)| unversioned(secret))
}

fn names_no_version(manifest: &serde_json::Value, capability: &CapabilityName, key: &str) -> bool {
    manifest["spec"]["capabilities"][capability.as_str()]["secrets"][key]["version"].is_null()
}

/// A selector as rules for labels; none if it holds a condition that this release does not keep.
pub(super) fn requirements(
    changes: &mut Changes<'_>,
    document: &Document,
    path: &FieldPath,
    selector: &Selector,
) -> Option<Vec<Requirement>> {
    let mut requirements = Vec::new();
    let mut whole = true;
    for (label, asked) in selector {
        let rules = match asked.rules() {
            Ok(rules) => rules,
            Err(error) => {
                let path = path.entry(label).key("version");
                let problem = document.problem(&path, rule::BAD_VERSION_RULE, error.to_string());
                changes.problems.push(problem);
                whole = false;
                continue;
            }
        };
        requirements.extend(rules.into_iter().map(|rule| Requirement {
            label: label.clone(),
            rule,
        }));
    }
    whole.then_some(requirements)
}

/// A name means the same kind of capability on every platform, so that a workload may be placed on any of them.
fn check_kinds(changes: &mut Changes<'_>, document: &Document, name: &PlatformName, record: &PlatformRecord) {
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
        // What is called is part of the template, whatever the host.
        (CapabilityOffer::Wrpc { .. }, CapabilityOffer::Wrpc { .. }) => a == b,
        // What a kind of somebody's own is, its feature and interfaces say.
        (
            CapabilityOffer::Custom {
                feature: a_feature,
                interfaces: a_interfaces,
                ..
            },
            CapabilityOffer::Custom {
                feature: b_feature,
                interfaces: b_interfaces,
                ..
            },
        ) => a_feature == b_feature && a_interfaces == b_interfaces && a.is_scoped() == b.is_scoped(),
        // Whether data is shared decides what a workload sees, so it may not depend on the host. Where the data is may:
        // the backends of one kind differ from host to host, but not the kind.
        (a, b) => discriminant(a) == discriminant(b) && a.is_scoped() == b.is_scoped(),
    }
}

/// Two platforms may not give one name or address to one host: neither to one that is known, nor, as far as their
/// selectors tell, to one that may join.
fn check_clashes(changes: &mut Changes<'_>, document: &Document, name: &PlatformName, record: &PlatformRecord) {
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
fn check_unused(changes: &mut Changes<'_>, document: &Document, capability: &CapabilityName) {
    if let Some(message) = used_and_no_longer_lent(changes, capability) {
        let path = FieldPath::spec().key("capabilities");
        changes
            .problems
            .push(document.problem(&path, CAPABILITY_IN_USE, message));
    }
}

/// Who uses a capability that no platform lends any more, as a sentence.
pub(super) fn used_and_no_longer_lent(changes: &Changes<'_>, capability: &CapabilityName) -> Option<String> {
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
