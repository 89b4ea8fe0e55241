//! Hosts, and one host in full.

use super::table::{Cell, Style, Table, Tone};
use super::{age, printable};
use heddle_protocol::api::hosts::{HostList, HostState, HostStatus};
use heddle_protocol::manifest::Cpu;
use heddle_protocol::report::Bytes;
use serde::Serialize;

/// One line per host.
pub fn table(list: &HostList, style: Style) -> String {
    if list.hosts.is_empty() {
        return "no hosts\n".to_owned();
    }
    let mut table = Table::new(&[
        "HOST",
        "STATE",
        "HEARTBEAT",
        "REPLICAS",
        "MEMORY",
        "LISTENERS",
        "LABELS",
        "TAINTS",
        "WHY",
    ]);
    for host in &list.hosts {
        table.row([
            host.host.to_string().into(),
            Cell::toned(host.state.as_str(), tone(host.state)),
            heartbeat(host).into(),
            format!("{}/{}", host.replicas, host.capacity.replica_slots).into(),
            memory(host).into(),
            pairs(host.bound.iter().map(|(name, at)| (name.as_str(), at.as_str()))).into(),
            pairs(own_labels(host)).into(),
            printable(&taints(host)).into(),
            printable(&why(host)).into(),
        ]);
    }
    table.render(style)
}

/// Everything about one host.
pub fn describe(host: &HostStatus, style: Style) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("{:<14}{}\n", format!("{name}:"), value));
        }
    };
    line("host", host.host.to_string());
    line("state", tone(host.state).paint(host.state.as_str(), style));
    line("heartbeat", heartbeat(host));
    line(
        "boot",
        host.boot_id.as_ref().map(ToString::to_string).unwrap_or_default(),
    );
    line("agent", host.version.clone());
    line(
        "replicas",
        format!("{} of {}", host.replicas, host.capacity.replica_slots),
    );
    line("memory", memory(host));
    if let Some(millis) = host.capacity.cpu_millis {
        line("cpu", Cpu::from_millicores(u64::from(millis)).to_string());
    }
    let resources = host.capacity.resources.iter();
    let resources: Vec<String> = resources.map(|(name, count)| format!("{name}={count}")).collect();
    line("resources", printable(&resources.join(" ")));
    if let Some(max) = host.capacity.instance_memory_bytes_max {
        line("per instance", format!("at most {}", Bytes(max)));
    }
    let engine = &host.engine;
    line(
        "engine",
        printable(&format!(
            "wasmtime {}, {}, {}",
            engine.wasmtime, engine.target, engine.allocator
        )),
    );
    line(
        "features",
        host.features.iter().map(word).collect::<Vec<_>>().join(", "),
    );
    line(
        "labels",
        pairs(host.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
    );
    line("taints", printable(&taints(host)));
    line(
        "listeners",
        pairs(host.bound.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
    );
    line("spec", spec(host));
    for (capability, error) in &host.capability_errors {
        line("cannot lend", printable(&format!("{capability}: {error}")));
    }
    text
}

fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

fn spec(host: &HostStatus) -> String {
    match (&host.accepted, &host.wanted_digest) {
        (Some(held), Some(wanted)) if held.digest == *wanted => format!("{} (up to date)", held.version),
        (Some(held), Some(wanted)) => format!("{} (should hold {})", held.version, wanted.short()),
        (Some(held), None) => held.version.to_string(),
        (None, Some(wanted)) => format!("none (should hold {})", wanted.short()),
        (None, None) => String::new(),
    }
}

fn heartbeat(host: &HostStatus) -> String {
    host.heartbeat_age_ms
        .map(|ms| format!("{} ago", age(ms)))
        .unwrap_or_default()
}

fn memory(host: &HostStatus) -> String {
    format!("{}/{}", Bytes(host.reserved_bytes), Bytes(host.capacity.memory_bytes))
}

/// The labels that somebody gave it; those that every agent has are in `describe`.
fn own_labels(host: &HostStatus) -> impl Iterator<Item = (&str, &str)> {
    host.labels
        .iter()
        .filter(|(key, _)| !key.starts_with("heddle.dev/"))
        .map(|(k, v)| (k.as_str(), v.as_str()))
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    printable(
        &pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(" "),
    )
}

/// `acme.dev/gpu:no-new spot=yes:evict`, as `hosts taint` takes them.
fn taints(host: &HostStatus) -> String {
    let each = host.taints.iter();
    let each = each.map(|(name, taint)| format!("{}:{}", taint.named(name), taint.effect.as_str()));
    each.collect::<Vec<_>>().join(" ")
}

fn why(host: &HostStatus) -> String {
    let errors: Vec<String> = host
        .capability_errors
        .iter()
        .map(|(name, error)| format!("{name}: {error}"))
        .collect();
    errors.join("; ")
}

fn tone(state: HostState) -> Tone {
    match state {
        HostState::Ready => Tone::Good,
        HostState::Cordoned | HostState::Draining | HostState::Leaving | HostState::NotSeen => Tone::Warn,
        HostState::Conflict | HostState::Lost => Tone::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn host() -> HostStatus {
        serde_json::from_value(json!({
            "host": "host-1", "state": "ready", "heartbeat_age_ms": 340,
            "labels": {"zone": "a", "heddle.dev/arch": "x86_64"},
            "capacity": {"memory_bytes": 2_147_483_648u64, "replica_slots": 1000},
            "replicas": 3, "reserved_bytes": 201_326_592,
            "features": ["wasi-p2", "http"],
            "engine": {"wasmtime": "48.0.2", "target": "x86_64-unknown-linux-gnu", "allocator": "pooling", "fingerprints": {}},
            "bound": {"web": "127.0.0.1:18081"}, "capability_errors": {}, "version": "0.1.0",
        }))
        .unwrap()
    }

    #[test]
    fn a_table_has_one_line_per_host() {
        let list = HostList {
            commit: 1,
            hosts: vec![host()],
            more: false,
        };
        assert_eq!(
            table(&list, Style::Plain),
            "HOST    STATE  HEARTBEAT  REPLICAS  MEMORY     LISTENERS            LABELS\n\
             host-1  ready  340ms ago  3/1000    192Mi/2Gi  web=127.0.0.1:18081  zone=a\n"
        );
    }

    #[test]
    fn taints_are_shown_as_they_are_put_on() {
        let mut tainted = host();
        tainted.taints = serde_json::from_value(json!({
            "acme.dev/gpu": {"effect": "no-new"}, "spot": {"value": "yes", "effect": "evict"},
        }))
        .unwrap();
        let text = describe(&tainted, Style::Plain);
        assert!(
            text.contains("taints:       acme.dev/gpu:no-new spot=yes:evict\n"),
            "{text}"
        );
    }

    #[test]
    fn a_description_leaves_out_what_is_not_known() {
        let text = describe(&host(), Style::Plain);
        assert!(
            text.starts_with("host:         host-1\nstate:        ready\n"),
            "{text}"
        );
        assert!(
            text.contains("features:     wasi-p2, http\n") || text.contains("features:     http, wasi-p2\n"),
            "{text}"
        );
        assert!(!text.contains("spec:"), "{text}");
    }
}
