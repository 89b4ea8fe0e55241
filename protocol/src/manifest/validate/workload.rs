//! Workloads: components, limits and scale; links, triggers and policies have files of their own.

use super::super::problem::FieldPath;
use super::super::workload::{Limits, Workload, WorkloadSpec};
use super::super::{Cpu, Duration, Size, rule};
use super::{Check, config, image, link, placement, policy, quota, syntax, trigger};
use std::collections::BTreeMap;

/// The least memory of an instance: one page of WebAssembly.
const MEMORY_MIN: Size = Size::from_bytes(64 << 10);
/// The most memory of an instance: all that 32 bits can address.
const MEMORY_MAX: Size = Size::from_bytes(4 << 30);
/// The most that one replica may take from a host.
const RESERVE_MAX: Size = Size::from_bytes(1 << 40);
/// The longest that a call may take.
const TIME_MAX: Duration = Duration::from_ms(3_600_000);
/// The most processor time of a replica: more cores than hosts have.
const CPU_MAX: Cpu = Cpu::from_millicores(1_024_000);

pub(super) fn check(check: &mut Check<'_>, workload: &Workload) {
    let spec = &workload.spec;
    components(check, spec);
    limits(check, &spec.limits);
    reserve(check, spec);
    link::check(check, workload);
    trigger::check(check, workload);
    scale(check, spec);
    placement::check(check, workload);
    policy::check(check, spec);
}

fn components(check: &mut Check<'_>, spec: &WorkloadSpec) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, component) in spec.components.iter().enumerate() {
        let at = FieldPath::spec().key("components").index(index);
        check.name(&at.key("name"), &component.name);
        if let Some(first) = seen.insert(&component.name, index) {
            let message = format!(
                "two components are named `{}`; the first is item {first}",
                component.name.escape_debug()
            );
            check.report(&at.key("name"), rule::DUPLICATE_NAME, message);
        }
        check.syntax(&at.key("image"), rule::BAD_IMAGE, image::image(&component.image));
        config::sources(check, &at.key("config"), &component.config);
        config::secrets(check, &at.key("secrets"), &component.secrets, true);
    }
}

fn limits(check: &mut Check<'_>, limits: &Limits) {
    let at = FieldPath::spec().key("limits");
    within(check, &at.key("memory"), limits.memory, MEMORY_MIN, MEMORY_MAX);
    within(check, &at.key("time"), limits.time, Duration::from_ms(1), TIME_MAX);
    if let Some(cpu) = limits.cpu {
        within(check, &at.key("cpu"), cpu, Cpu::from_millicores(1), CPU_MAX);
    }
    let at = at.key("egress");
    for (index, address) in limits.egress.iter().enumerate() {
        check.syntax(&at.index(index), rule::BAD_ADDRESS, syntax::egress(address));
    }
    check.unique(&at, limits.egress.iter().map(String::as_str));
}

fn reserve(check: &mut Check<'_>, spec: &WorkloadSpec) {
    if let Some(memory) = spec.reserve.memory {
        within(
            check,
            &FieldPath::spec().key("reserve").key("memory"),
            memory,
            MEMORY_MIN,
            RESERVE_MAX,
        );
    }
    let at = FieldPath::spec().key("reserve");
    if let Some(cpu) = spec.reserve.cpu {
        within(check, &at.key("cpu"), cpu, Cpu::from_millicores(1), CPU_MAX);
    }
    quota::resources(check, &at.key("resources"), spec.reserve.resources.keys());
}

fn scale(check: &mut Check<'_>, spec: &WorkloadSpec) {
    let given = [
        ("replicas", spec.replicas.is_some()),
        ("daemon", spec.daemon),
        ("job", spec.job.is_some()),
    ];
    let given: Vec<&'static str> = given
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(field, _)| field)
        .collect();
    if let [first, others @ ..] = given.as_slice() {
        for field in others {
            let message = format!("`{field}` and `{first}` exclude each other; write one of them");
            check.report(&FieldPath::spec().key(field), rule::NOT_TOGETHER, message);
        }
    }
}

fn within<T: PartialOrd + std::fmt::Display>(check: &mut Check<'_>, at: &FieldPath, amount: T, least: T, most: T) {
    if amount < least || amount > most {
        let message = format!("an amount from {least} to {most} was expected and {amount} was found");
        check.report(at, rule::OUT_OF_RANGE, message);
    }
}
