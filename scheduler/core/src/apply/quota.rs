//! Quotas: how much the workloads of a namespace may ask for.
//!
//! In: Quotas, and a change that was worked out. Out: records, and a problem for what the change adds beyond a quota.
//! Only growth is refused: a quota below what is used already stops nothing, and what shrinks is always taken.

use super::changes::{Changes, bad_name, object_id};
use super::nearest::list;
use super::{QUOTA_EXCEEDED, QUOTA_TAKEN};
use crate::desired::{Labels, offers_of, selects};
use crate::world::World;
use heddle_protocol::api::ApiError;
use heddle_protocol::api::apply::Change;
use heddle_protocol::api::objects::QuotaUse;
use heddle_protocol::id::{Generation, HostId, Namespace, ObjectId, ObjectName, WorkloadId};
use heddle_protocol::key::Key;
use heddle_protocol::manifest::{Document, FieldPath, Quota};
use heddle_protocol::record::{Intent, QuotaLimits, QuotaRecord, Replicas, Rules};
use heddle_protocol::report::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Takes a Quota. A namespace has one.
pub(super) fn take(
    changes: &mut Changes<'_>,
    order: usize,
    document: &Document,
    quota: &Quota,
) -> Result<(), ApiError> {
    let id = object_id(&quota.metadata.namespace, &quota.metadata.name).map_err(bad_name)?;
    if let Some((other, _)) = quota_of(&changes.next, &id.namespace).filter(|(other, _)| **other != id) {
        let message = format!(
            "namespace {} has Quota {other} already; change that one, or delete it first",
            id.namespace
        );
        let path = FieldPath::root().key("metadata").key("name");
        let problem = document.problem(&path, QUOTA_TAKEN, message);
        changes.problems.push(problem.suggest(other.name.to_string()));
        return Ok(());
    }
    let manifest = document.object.canonical_value();
    let (generation, change) = match changes.next.quotas.get(&id) {
        Some(before) if before.manifest == manifest => (before.generation, Change::Unchanged),
        Some(before) => (before.generation.next(), Change::Updated),
        None => (Generation(1), Change::Created),
    };
    changes.tell(order, "Quota", &id, generation, change);
    if change == Change::Unchanged {
        return Ok(());
    }
    let record = QuotaRecord {
        generation,
        manifest,
        allowed: quota.spec.limits(),
        applied_at: changes.at,
    };
    changes.quotas_changed.insert(id.namespace.clone());
    changes.write(Key::Quota(id), &record)
}

/// The quota of a namespace.
fn quota_of<'a>(world: &'a World, namespace: &'a Namespace) -> Option<(&'a ObjectId, &'a QuotaRecord)> {
    let found = within(&world.quotas, namespace).next();
    found.map(|(id, record)| (id, record.as_ref()))
}

/// The objects of a namespace. They stand together, and a name's first letter is never before `0`.
fn within<'a, V>(
    all: &'a BTreeMap<ObjectId, V>,
    namespace: &'a Namespace,
) -> impl Iterator<Item = (&'a ObjectId, &'a V)> {
    let first = ObjectName::parse("0")
        .ok()
        .map(|name| ObjectId::new(namespace.clone(), name));
    let range = first.map(|first| all.range(first..)).into_iter().flatten();
    range.take_while(move |(id, _)| id.namespace == *namespace)
}

/// What the workloads of a namespace ask for: what is meant, whether or not there is room for it. A daemon counts once
/// for each host that it fits now.
pub fn quota_use(world: &World, namespace: &Namespace) -> QuotaUse {
    let mut used = QuotaUse::default();
    let mut hosts = None;
    for (_, record) in within(&world.workloads, namespace) {
        add(&mut used, world, &record.intent, &mut hosts);
    }
    used
}

/// Hosts alike, as far as a daemon's rules can tell: labels and what else is on them, and how many.
type HostKinds<'a> = Vec<(&'a Labels, Vec<&'a HostId>)>;

fn add<'a>(used: &mut QuotaUse, world: &'a World, intent: &Intent, hosts: &mut Option<HostKinds<'a>>) {
    let replicas = match intent.replicas {
        Replicas::Count(count) => u64::from(count),
        Replicas::Daemon => daemon_hosts(world, intent, hosts.get_or_insert_with(|| host_kinds(world))),
    };
    let Rules { takes, .. } = &intent.rules;
    used.workloads += 1;
    used.replicas = used.replicas.saturating_add(replicas);
    used.memory_bytes = used
        .memory_bytes
        .saturating_add(replicas.saturating_mul(intent.reserve_bytes));
    used.cpu_millis = used
        .cpu_millis
        .saturating_add(replicas.saturating_mul(u64::from(takes.cpu_millis)));
    for (name, count) in &takes.resources {
        let sum = used.resources.entry(name.clone()).or_default();
        *sum = sum.saturating_add(replicas.saturating_mul(u64::from(*count)));
    }
}

fn host_kinds(world: &World) -> HostKinds<'_> {
    let mut kinds: BTreeMap<&Labels, Vec<&HostId>> = BTreeMap::new();
    for host in world.hosts.keys() {
        let hello = world.observed.get(host).and_then(|observed| observed.hello.as_deref());
        if let Some(hello) = hello {
            kinds.entry(&hello.labels).or_default().push(host);
        }
    }
    kinds.into_iter().collect()
}

/// Hosts that a daemon fits by their labels, by what they are lent and by their taints.
fn daemon_hosts(world: &World, intent: &Intent, kinds: &HostKinds<'_>) -> u64 {
    let tolerated = |host: &HostId| {
        world.hosts.get(host).is_some_and(|record| {
            let mut taints = record.taints.iter();
            taints.all(|(name, taint)| intent.rules.tolerate.iter().any(|t| t.tolerates(name, taint)))
        })
    };
    let fits = kinds.iter().filter(|(labels, _)| {
        let lent = || offers_of(labels, &world.platforms).offers;
        selects(&intent.require, labels)
            && (intent.capabilities.is_empty() || {
                let lent = lent();
                intent.capabilities.iter().all(|name| lent.contains_key(name))
            })
    });
    let count: usize = fits
        .map(|(_, hosts)| hosts.iter().filter(|host| tolerated(host)).count())
        .sum();
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Something of which a change takes more than its namespace may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Excess {
    /// The first workload of the change that asks for more of it.
    pub(super) workload: Option<WorkloadId>,
    /// Where that stands in a manifest.
    pub(super) path: FieldPath,
    pub(super) message: String,
}

/// One thing that a quota bounds: where it stands, how it is written, used before, used after, and allowed.
struct Bounded {
    path: FieldPath,
    unit: Unit,
    before: u64,
    after: u64,
    allowed: Option<u64>,
}

enum Unit {
    Count(&'static str),
    Memory,
    Cpu,
    Resource(String),
}

impl Unit {
    /// An amount by itself.
    fn amount(&self, amount: u64) -> String {
        match self {
            Self::Count(_) | Self::Resource(_) => amount.to_string(),
            Self::Memory => Bytes(amount).to_string(),
            Self::Cpu => format!("{amount}m"),
        }
    }

    /// An amount with what it is of.
    fn named(&self, amount: u64) -> String {
        let number = self.amount(amount);
        match self {
            Self::Count(what) => format!("{number} {what}{}", if amount == 1 { "" } else { "s" }),
            Self::Memory => format!("{number} of memory"),
            Self::Cpu => format!("{number} of processor time"),
            Self::Resource(name) => format!("{number} of {name}"),
        }
    }
}

fn bounded(before: &QuotaUse, after: &QuotaUse, allowed: &QuotaLimits) -> Vec<Bounded> {
    let (spec, reserve) = (FieldPath::spec(), FieldPath::spec().key("reserve"));
    let one = |path, unit, before, after, allowed| Bounded {
        path,
        unit,
        before,
        after,
        allowed,
    };
    let mut all = vec![
        one(
            FieldPath::root().key("metadata").key("name"),
            Unit::Count("workload"),
            before.workloads,
            after.workloads,
            allowed.workloads,
        ),
        one(
            spec.key("replicas"),
            Unit::Count("replica"),
            before.replicas,
            after.replicas,
            allowed.replicas,
        ),
        one(
            reserve.key("memory"),
            Unit::Memory,
            before.memory_bytes,
            after.memory_bytes,
            allowed.memory_bytes,
        ),
        one(
            reserve.key("cpu"),
            Unit::Cpu,
            before.cpu_millis,
            after.cpu_millis,
            allowed.cpu_millis,
        ),
    ];
    all.extend(allowed.resources.iter().map(|(name, count)| {
        let of = |used: &QuotaUse| used.resources.get(name).copied().unwrap_or(0);
        let path = reserve.key("resources").entry(name);
        one(path, Unit::Resource(name.clone()), of(before), of(after), Some(*count))
    }));
    all
}

/// What a change takes beyond the quotas of its namespaces. Notes those that are below what is used.
pub(super) fn excesses(changes: &mut Changes<'_>, world: &World) -> Vec<Excess> {
    let put = changes.workloads_put.iter().map(|id| id.namespace.clone());
    let namespaces: BTreeSet<Namespace> = put.chain(changes.quotas_changed.iter().cloned()).collect();
    let mut found = Vec::new();
    for namespace in namespaces {
        let Some((quota, record)) = quota_of(&changes.next, &namespace) else {
            continue;
        };
        let (before, after) = (quota_use(world, &namespace), quota_use(&changes.next, &namespace));
        let mut above = Vec::new();
        for each in bounded(&before, &after, &record.allowed) {
            let Some(allowed) = each.allowed.filter(|allowed| each.after > *allowed) else {
                continue;
            };
            if each.after > each.before {
                let message = format!(
                    "Quota {quota} allows {} in namespace {namespace}: {} used, and this would make it {}",
                    each.unit.named(allowed),
                    are(&each.unit, each.before),
                    each.unit.amount(each.after)
                );
                found.push(Excess {
                    workload: grown(&changes.next, world, &changes.workloads_put, &namespace, &each.path),
                    path: each.path,
                    message,
                });
            } else {
                let (used, allowed) = (each.unit.amount(each.after), each.unit.named(allowed));
                above.push(format!("{used} of {allowed}"));
            }
        }
        if !above.is_empty() && changes.quotas_changed.contains(&namespace) {
            let note = format!(
                "Quota {quota}: more is used than it allows ({}): nothing is stopped, and what would take more is refused",
                list(above)
            );
            changes.notes.push(note);
        }
    }
    found
}

fn are(unit: &Unit, amount: u64) -> String {
    let verb = match (unit, amount) {
        (Unit::Count(_) | Unit::Resource(_), amount) if amount != 1 => "are",
        _ => "is",
    };
    format!("{} {verb}", unit.amount(amount))
}

/// The first workload that asks for more than before of what stands at a path.
fn grown(
    next: &World,
    before: &World,
    put: &BTreeSet<WorkloadId>,
    namespace: &Namespace,
    path: &FieldPath,
) -> Option<WorkloadId> {
    let mut hosts = (None, None);
    let mine = put.iter().filter(|id| id.namespace == *namespace);
    let grows = |id: &&WorkloadId| {
        let (mut old, mut new) = (QuotaUse::default(), QuotaUse::default());
        if let Some(record) = before.workloads.get(*id) {
            add(&mut old, before, &record.intent, &mut hosts.0);
        }
        if let Some(record) = next.workloads.get(*id) {
            add(&mut new, next, &record.intent, &mut hosts.1);
        }
        let names = new.resources.keys().map(|name| (name.clone(), 0)).collect();
        let all = QuotaLimits {
            resources: names,
            ..QuotaLimits::default()
        };
        let mut each = bounded(&old, &new, &all).into_iter();
        each.any(|each| each.path == *path && each.after > each.before)
    };
    mine.clone().find(grows).or_else(|| mine.clone().next()).cloned()
}

/// Notes as problems what a manifest takes beyond quotas, at the document that asks for it.
pub(super) fn check(changes: &mut Changes<'_>, world: &World, documents: &[super::ResolvedDocument]) {
    for excess in excesses(changes, world) {
        let named = |document: &&super::ResolvedDocument| {
            let object = &document.document.object;
            excess.workload.as_ref().is_some_and(|id| {
                object.kind() == heddle_protocol::manifest::Kind::Workload
                    && object.namespace() == Some(id.namespace.as_str())
                    && object.name() == id.name.as_str()
            })
        };
        if let Some(document) = documents.iter().find(named).or(documents.first()) {
            let problem = document.document.problem(&excess.path, QUOTA_EXCEEDED, excess.message);
            changes.problems.push(problem);
        }
    }
}
