//! Links: what each import of each component is met by.

use super::super::problem::{FieldPath, nearest, quoted};
use super::super::workload::{Link, Target, Workload};
use super::super::{Duration, rule};
use super::cycle::{Edge, cycles};
use super::{Check, syntax};
use std::collections::{BTreeMap, HashMap};

/// The longest a call over a link may take.
const TIMEOUT_MAX: Duration = Duration::from_ms(3_600_000);

pub(super) fn check(check: &mut Check<'_>, workload: &Workload) {
    let links = &workload.spec.links;
    for (index, link) in links.iter().enumerate() {
        let at = FieldPath::spec().key("links").index(index);
        known_component(check, &at.key("from"), &link.from, workload);
        check.syntax(&at.key("import"), rule::BAD_INTERFACE, syntax::interface(&link.import));
        target(check, &at.key("to"), link, workload);
        needs_via(check, &at, link);
    }
    duplicates(check, links);
    circles(check, workload);
}

/// Reports a component that is not part of the workload.
pub(super) fn known_component(check: &mut Check<'_>, path: &FieldPath, name: &str, workload: &Workload) {
    let known = || workload.spec.components.iter().map(|component| component.name.as_str());
    if known().any(|known| known == name) {
        return;
    }
    let meant = nearest(name, known()).map(str::to_owned);
    let message = format!("no component of this workload is named {}", quoted(name));
    check.report_meant(path, rule::UNKNOWN_COMPONENT, message, meant);
}

fn target(check: &mut Check<'_>, at: &FieldPath, link: &Link, workload: &Workload) {
    let to = &link.to;
    check.exactly_one(
        at,
        &[
            ("component", to.component.is_some()),
            ("workload", to.workload.is_some()),
            ("capability", to.capability.is_some()),
        ],
    );
    if to.via.is_some() && to.workload.is_none() {
        check.report(
            &at.key("via"),
            rule::NOT_TOGETHER,
            "`via` goes with `workload`; everything else is on the same host",
        );
    }
    match to.target() {
        Some(Target::Component(name)) if name == link.from => {
            let message = format!("component {} is linked to itself", quoted(name));
            check.report(&at.key("component"), rule::LINK_TO_SELF, message);
        }
        Some(Target::Component(name)) => known_component(check, &at.key("component"), name, workload),
        Some(Target::Workload(name, _)) if name == workload.metadata.name => {
            let message = "the workload is linked to itself; link to one of its components with `component`";
            check.report(&at.key("workload"), rule::LINK_TO_SELF, message);
        }
        Some(Target::Workload(name, _)) => check.name(&at.key("workload"), name),
        Some(Target::Capability(name)) => check.name(&at.key("capability"), name),
        None => {}
    }
}

fn needs_via(check: &mut Check<'_>, at: &FieldPath, link: &Link) {
    if link.to.via.is_none() {
        let given = [
            ("timeout", link.timeout.is_some()),
            ("idempotent", link.idempotent),
            ("maxInflight", link.max_inflight.is_some()),
        ];
        for (field, _) in given.into_iter().filter(|(_, given)| *given) {
            let message = format!("`{field}` has a meaning only for calls over the network, on links with `via: wrpc`");
            check.report(&at.key(field), rule::NEEDS_VIA, message);
        }
    }
    if let Some(timeout) = link
        .timeout
        .filter(|timeout| timeout.as_ms() == 0 || *timeout > TIMEOUT_MAX)
    {
        let message = format!("a timeout from 1ms to {TIMEOUT_MAX} was expected and {timeout} was found");
        check.report(&at.key("timeout"), rule::OUT_OF_RANGE, message);
    }
}

/// An import without a version is any version of it, so it excludes links for a certain version.
fn duplicates(check: &mut Check<'_>, links: &[Link]) {
    type Import<'a> = (&'a str, &'a str);
    let mut seen: BTreeMap<Import<'_>, Vec<(Option<&str>, usize)>> = BTreeMap::new();
    for (index, link) in links.iter().enumerate() {
        let (interface, version) = match link.import.split_once('@') {
            Some((interface, version)) => (interface, Some(version)),
            None => (link.import.as_str(), None),
        };
        let earlier = seen.entry((&link.from, interface)).or_default();
        let clash = earlier
            .iter()
            .find(|(other, _)| other.is_none() || version.is_none() || *other == version);
        if let Some((_, first)) = clash {
            let first_at = FieldPath::spec().key("links").index(*first);
            let place = check
                .document
                .position(&first_at)
                .map_or(String::new(), |at| format!(" at {at}"));
            let message = format!(
                "import {} of component {} is linked twice; the first link is {first_at}{place}",
                quoted(&link.import),
                quoted(&link.from)
            );
            check.report(
                &FieldPath::spec().key("links").index(index),
                rule::DUPLICATE_LINK,
                message,
            );
        }
        earlier.push((version, index));
    }
}

fn circles(check: &mut Check<'_>, workload: &Workload) {
    let spec = &workload.spec;
    let numbers: HashMap<&str, usize> = spec
        .components
        .iter()
        .enumerate()
        .map(|(number, component)| (component.name.as_str(), number))
        .collect();
    let mut edges = Vec::new();
    let mut link_of = Vec::new();
    for (index, link) in spec.links.iter().enumerate() {
        let Some(Target::Component(to)) = link.to.target() else {
            continue;
        };
        let (Some(from), Some(to)) = (numbers.get(link.from.as_str()), numbers.get(to)) else {
            continue;
        };
        if from != to {
            edges.push(Edge { from: *from, to: *to });
            link_of.push(index);
        }
    }
    for circle in cycles(spec.components.len(), &edges) {
        let Some(last) = circle.last() else { continue };
        let mut names: Vec<&str> = circle
            .iter()
            .map(|edge| spec.components[edges[*edge].from].name.as_str())
            .collect();
        names.extend(names.first().copied());
        let message = format!(
            "components import each other in a circle: {}; take one of these links out, or reach across with a workload of \
             its own and `via: wrpc`",
            names.join(" → ")
        );
        check.report(
            &FieldPath::spec().key("links").index(link_of[*last]).key("to"),
            rule::LINK_CYCLE,
            message,
        );
    }
}
