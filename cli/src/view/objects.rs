//! Objects as they are stored.

use super::table::{Style, Table};
use super::{age, status, yaml};
use heddle_protocol::api::objects::{ObjectKind, Objects, QuotaUse, StoredObject};
use heddle_protocol::api::status::WorkloadStatus;
use heddle_protocol::manifest::{Cpu, Object, Scale, Trigger, Workload};
use heddle_protocol::record::QuotaLimits;
use heddle_protocol::report::Bytes;
use heddle_protocol::time::UnixMs;

/// One line per object, with what matters of its kind.
pub fn table(kind: ObjectKind, objects: &Objects, now: UnixMs, style: Style) -> String {
    if objects.objects.is_empty() {
        return format!("no {}\n", kind.plural());
    }
    let headings: &[&str] = match kind {
        ObjectKind::Platform => &["PLATFORM", "GENERATION", "AGE", "HOSTS", "CAPABILITIES"],
        ObjectKind::Workload => &["WORKLOAD", "GENERATION", "AGE", "REPLICAS", "COMPONENTS", "TRIGGERS"],
        ObjectKind::Config => &["CONFIG", "GENERATION", "AGE", "KEYS"],
        ObjectKind::SecretRef => &["SECRETREF", "GENERATION", "AGE", "BACKEND", "PATH", "VERSION"],
        ObjectKind::Policy => &["POLICY", "GENERATION", "AGE", "KEYS"],
        ObjectKind::Quota => &[
            "QUOTA",
            "GENERATION",
            "AGE",
            "WORKLOADS",
            "REPLICAS",
            "MEMORY",
            "CPU",
            "RESOURCES",
        ],
    };
    let mut table = Table::new(headings);
    for object in &objects.objects {
        let mut cells = vec![
            object.name.clone(),
            object.generation.to_string(),
            age(now.0.saturating_sub(object.applied_at.0)),
        ];
        cells.extend(summary(object));
        table.row(cells.into_iter().map(Into::into));
    }
    table.render(style)
}

/// The objects as one manifest, which `apply` reads again.
pub fn manifests(objects: &Objects) -> String {
    let documents: Vec<String> = objects
        .objects
        .iter()
        .map(|object| yaml::to_yaml(&object.manifest))
        .collect();
    documents.join("---\n")
}

/// Everything about one workload: how it fares, and the manifest that it was applied with.
pub fn describe(object: &StoredObject, status: Option<&WorkloadStatus>, style: Style) -> String {
    let mut text = format!(
        "workload:    {}\ngeneration:  {}, applied {}\n",
        object.name, object.generation, object.applied_at
    );
    if !object.history.is_empty() {
        let earlier: Vec<String> = object.history.iter().map(ToString::to_string).collect();
        text.push_str(&format!("undo to:     {}\n", earlier.join(", ")));
    }
    match status {
        Some(status) => text.push_str(&status::describe(status, style)),
        None => text.push_str("status:      gone meanwhile\n"),
    }
    format!("{text}\n{}", yaml::to_yaml(&object.manifest))
}

fn summary(object: &StoredObject) -> Vec<String> {
    match serde_json::from_value::<Object>(object.manifest.clone()) {
        Ok(Object::Platform(platform)) => {
            let hosts = &platform.spec.hosts;
            let selected = if hosts.is_empty() {
                "all".to_owned()
            } else {
                keys(hosts)
            };
            vec![selected, keys(&platform.spec.capabilities)]
        }
        Ok(Object::Workload(workload)) => of_workload(&workload),
        Ok(Object::Config(config)) => vec![config.spec.len().to_string()],
        Ok(Object::SecretRef(secret)) => {
            let version = secret.spec.version.map_or("newest".to_owned(), |v| v.to_string());
            vec![secret.spec.from, secret.spec.path, version]
        }
        Ok(Object::Policy(policy)) => vec![policy.spec.signatures.cosign.len().to_string()],
        Ok(Object::Quota(quota)) => of_quota(&quota.spec.limits(), object.used.as_ref()),
        // A newer server may know more than this program; the name and generation are still true.
        Err(_) => Vec::new(),
    }
}

/// Used of allowed, for each thing that is bounded.
fn of_quota(allowed: &QuotaLimits, used: Option<&QuotaUse>) -> Vec<String> {
    let nothing = QuotaUse::default();
    let used = used.unwrap_or(&nothing);
    let plain = |amount: u64| amount.to_string();
    let bytes = |amount: u64| Bytes(amount).to_string();
    let millis = |amount: u64| Cpu::from_millicores(amount).to_string();
    let of = |used: u64, allowed: Option<u64>, write: &dyn Fn(u64) -> String| {
        allowed.map_or(String::new(), |allowed| format!("{}/{}", write(used), write(allowed)))
    };
    let resources = allowed.resources.iter().map(|(name, allowed)| {
        let used = used.resources.get(name).copied().unwrap_or(0);
        format!("{name}={used}/{allowed}")
    });
    vec![
        of(used.workloads, allowed.workloads, &plain),
        of(used.replicas, allowed.replicas, &plain),
        of(used.memory_bytes, allowed.memory_bytes, &bytes),
        of(used.cpu_millis, allowed.cpu_millis, &millis),
        resources.collect::<Vec<_>>().join(" "),
    ]
}

fn of_workload(workload: &Workload) -> Vec<String> {
    let replicas = match workload.spec.scale() {
        Scale::Replicas(n) => n.to_string(),
        Scale::Daemon => "one per host".to_owned(),
        Scale::Job(_) => "job".to_owned(),
    };
    let components: Vec<&str> = workload.spec.components.iter().map(|c| c.name.as_str()).collect();
    let triggers = workload.spec.triggers.iter().map(trigger);
    vec![replicas, components.join(" "), triggers.collect::<Vec<_>>().join(" ")]
}

fn trigger(trigger: &Trigger) -> String {
    if let Some(http) = &trigger.http {
        let host = http.host.as_deref().unwrap_or_default();
        return format!("{}:{host}{}", http.capability, http.path);
    }
    if let Some(messaging) = &trigger.messaging {
        return format!("{}:{}", messaging.capability, messaging.subject);
    }
    if let Some(cron) = &trigger.cron {
        // One word, as the others are.
        return format!(
            "cron:{}",
            cron.schedule.split_whitespace().collect::<Vec<_>>().join("_")
        );
    }
    if let Some(wrpc) = &trigger.wrpc {
        return format!("wrpc:{}", wrpc.prefix);
    }
    "service".to_owned()
}

fn keys<V>(map: &std::collections::BTreeMap<String, V>) -> String {
    map.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_quota_shows_how_much_of_it_is_used() {
        let objects: Objects = serde_json::from_value(json!({
            "commit": 3, "more": false,
            "objects": [{
                "name": "shop/limits", "generation": 1, "applied_at": 1_000,
                "manifest": {
                    "apiVersion": "heddle.dev/v1", "kind": "Quota", "metadata": {"name": "limits", "namespace": "shop"},
                    "spec": {"replicas": 10, "memory": "2Gi", "cpu": 4, "resources": {"gpu": 2}},
                },
                "used": {"workloads": 2, "replicas": 12, "memory_bytes": 1_073_741_824u64, "cpu_millis": 500,
                         "resources": {"gpu": 1}},
            }],
        }))
        .unwrap();
        assert_eq!(
            table(ObjectKind::Quota, &objects, UnixMs(6_000), Style::Plain),
            "QUOTA        GENERATION  AGE  REPLICAS  MEMORY   CPU     RESOURCES\n\
             shop/limits  1           5s   12/10     1Gi/2Gi  500m/4  gpu=1/2\n"
        );
    }

    #[test]
    fn workloads_show_what_runs_and_what_calls_it() {
        let objects: Objects = serde_json::from_value(json!({
            "commit": 3, "more": false,
            "objects": [{
                "name": "default/web", "generation": 2, "applied_at": 1_000,
                "manifest": {
                    "apiVersion": "heddle.dev/v1", "kind": "Workload", "metadata": {"name": "web"},
                    "spec": {
                        "components": [{"name": "api", "image": format!("sha256:{}", "a".repeat(64))}],
                        "triggers": [{"http": {"capability": "web", "path": "/hello"}}], "replicas": 3,
                    },
                },
            }],
        }))
        .unwrap();
        assert_eq!(
            table(ObjectKind::Workload, &objects, UnixMs(6_000), Style::Plain),
            "WORKLOAD     GENERATION  AGE  REPLICAS  COMPONENTS  TRIGGERS\n\
             default/web  2           5s   3         api         web:/hello\n"
        );
        assert!(manifests(&objects).starts_with("apiVersion: heddle.dev/v1\nkind: Workload\nmetadata:\n  name: web\n"));
    }
}
