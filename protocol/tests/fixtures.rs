//! One stored example of each message and record. Today's code writes exactly these bytes and reads them back; a later
//! version must go on reading them. `HEDDLE_BLESS=1` writes the files of messages that are new.

// A broken expectation is the message here, in helpers too, which clippy does not count as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use heddle_protocol::api::apply::{Applied, AppliedObject, Apply, Change};
use heddle_protocol::api::{ApiError, ErrorCode, Request, Response};
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::*;
use heddle_protocol::host_spec::*;
use heddle_protocol::id::*;
use heddle_protocol::record::*;
use heddle_protocol::report::{PlacementChange, Rejection, RejectionCount, WaitingOn};
use heddle_protocol::time::UnixMs;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

/// Compares a value with its stored example, both ways.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/v1")
        .join(format!("{name}.json"));
    let written = serde_json::to_string_pretty(value).unwrap() + "\n";
    if !path.exists() && std::env::var_os("HEDDLE_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &written).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_else(|e| {
        panic!(
            "{}: {e}; HEDDLE_BLESS=1 writes examples of new messages",
            path.display()
        )
    });
    let read: T = serde_json::from_str(&stored).unwrap_or_else(|e| panic!("{name} can no longer be read: {e}"));
    assert_eq!(&read, value, "{name} is read as something else than it was");
    assert_eq!(
        stored, written,
        "{name} is written otherwise than before: give the message a new version"
    );
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn unit() -> UnitId {
    UnitId {
        workload: "shop/cart".parse().unwrap(),
        generation: Generation(3),
    }
}

fn accepted() -> Accepted {
    Accepted {
        version: Version { epoch: 2, n: 41 },
        digest: digest("body"),
    }
}

fn template() -> Template {
    let binding = Binding {
        capability: "sessions".parse().unwrap(),
        scope: "shop".into(),
    };
    Template {
        requires: BTreeSet::from([Feature::WasiP2, Feature::Http, Feature::KeyvalueMemory]),
        components: vec![TemplateComponent {
            name: "api".parse().unwrap(),
            artifact: digest("artifact"),
            artifact_bytes: 65_536,
            wasi: Wasi::P2,
            config: BTreeMap::from([("page-size".into(), "20".into())]),
            bindings: BTreeMap::from([("wasi:keyvalue/store@0.2.0-draft".into(), binding)]),
        }],
        limits: Limits {
            memory_bytes: 64 << 20,
            time_ms: 5_000,
            concurrency: 200,
        },
        instances: Instances {
            reuse: 1,
            concurrency: 1,
        },
    }
}

fn trigger() -> HttpTrigger {
    HttpTrigger {
        capability: "web".parse().unwrap(),
        host: Some("cart.example.com".into()),
        path: "/cart".into(),
        methods: BTreeSet::from(["GET".into(), "POST".into()]),
        component: "api".parse().unwrap(),
    }
}

fn artifact() -> ArtifactInfo {
    ArtifactInfo {
        digest: digest("artifact"),
        bytes: 65_536,
        imports: BTreeSet::from(["wasi:keyvalue/store@0.2.0-draft".into()]),
        exports: BTreeSet::from(["wasi:http/incoming-handler@0.2.2".into()]),
        wasi: Wasi::P2,
    }
}

#[test]
fn a_host_spec_is_what_it_was() {
    let template = template();
    let template_digest = Digest::of_json(&template).unwrap();
    let body = HostSpecBody {
        templates: BTreeMap::from([(template_digest, Arc::new(template))]),
        units: vec![Unit {
            workload: unit().workload,
            generation: unit().generation,
            template: template_digest,
            count: 2,
        }],
        routes: vec![Route {
            capability: "web".parse().unwrap(),
            host: Some("cart.example.com".into()),
            path: "/cart".into(),
            methods: BTreeSet::from(["GET".into()]),
            targets: vec![RouteTarget {
                unit: unit(),
                component: "api".parse().unwrap(),
            }],
        }],
        capabilities: BTreeMap::from([
            (
                "web".parse().unwrap(),
                CapabilityOffer::Http {
                    listen: "127.0.0.1:8080".into(),
                    max_connections: 9,
                },
            ),
            (
                "sessions".parse().unwrap(),
                CapabilityOffer::KeyvalueMemory { shared: false },
            ),
            ("config".parse().unwrap(), CapabilityOffer::Config {}),
            ("logging".parse().unwrap(), CapabilityOffer::Logging {}),
        ]),
    };
    let spec = HostSpec {
        realm: "eu".parse().unwrap(),
        host: "h-1".parse().unwrap(),
        boot_id: BootId::new("boot-1"),
        version: Version { epoch: 2, n: 41 },
        body_digest: body.digest().unwrap(),
        body,
    };
    check("host-spec", &spec);
}

#[test]
fn a_feature_that_is_not_known_is_read_as_unknown() {
    let features: BTreeSet<Feature> = serde_json::from_str(r#"["http", "teleport"]"#).unwrap();
    assert_eq!(features, BTreeSet::from([Feature::Http, Feature::Unknown]));
}

#[test]
fn what_hosts_say_is_what_it_was() {
    let hello = Hello {
        realm: "eu".parse().unwrap(),
        host: "h-1".parse().unwrap(),
        boot_id: BootId::new("boot-1"),
        join_token: Some("hj-1".into()),
        labels: BTreeMap::from([("zone".into(), "a".into())]),
        capacity: Capacity {
            memory_bytes: 8 << 30,
            replica_slots: 1_000,
            instance_memory_bytes_max: Some(128 << 20),
        },
        features: BTreeSet::from([Feature::WasiP2, Feature::Http]),
        engine: Engine {
            wasmtime: "48.0.8".into(),
            target: "x86_64-unknown-linux-gnu".into(),
            allocator: "pooling".into(),
            fingerprints: BTreeMap::from([("p2".into(), "ab12".into())]),
        },
        version: "0.1.0".into(),
        bound: BTreeMap::from([("web".parse().unwrap(), "127.0.0.1:8080".into())]),
        accepted: Some(accepted()),
    };
    check("hello", &hello);
    check(
        "hello-welcome",
        &HelloAnswer::Welcome {
            scheduler: "s-1".into(),
            epoch: 2,
        },
    );
    check(
        "hello-refused",
        &HelloAnswer::Refused {
            reason: "no token".into(),
            next: "make one".into(),
        },
    );
    let heartbeat = Heartbeat {
        boot_id: BootId::new("boot-1"),
        seq: 7,
        accepted: Some(accepted()),
        running_digest: digest("running"),
        status_seq: 3,
        leaving: true,
        rss_bytes: 1 << 20,
        in_flight: 4,
    };
    check("heartbeat", &heartbeat);
    let status = UnitStatus {
        unit: unit(),
        count: 2,
        phase: UnitPhase::Failed,
        reason: Some("it traps".into()),
        attempts: 2,
    };
    let report = HostReport {
        boot_id: BootId::new("boot-1"),
        status_seq: 4,
        full: true,
        accepted: Some(accepted()),
        units: vec![status],
        removed: vec![unit()],
        running_digest: digest("running"),
        bound: BTreeMap::from([("web".parse().unwrap(), "127.0.0.1:8080".into())]),
        capability_errors: BTreeMap::from([("bus".parse().unwrap(), "no such stream".into())]),
    };
    check("host-report", &report);
    check("spec-accepted", &SpecAnswer::Accepted(accepted()));
    let reason = SpecRefusal::Older("2.41".into());
    check(
        "spec-refused",
        &SpecAnswer::Refused {
            reason,
            accepted: Some(accepted()),
        },
    );
}

#[test]
fn the_api_is_what_it_was() {
    let body = serde_json::to_value(Apply {
        documents: vec![serde_json::json!({"kind": "Config"})],
        at: Some(4),
    });
    let request = Request {
        v: 1,
        request_id: RequestId::new("r-1"),
        realm: "eu".parse().unwrap(),
        verb: "apply".into(),
        namespace: "shop".parse().unwrap(),
        actor: "ann".into(),
        body: body.unwrap(),
    };
    check("request", &request);
    let change = PlacementChange {
        workload: unit().workload,
        generation: Generation(3),
        host: "h-1".parse().unwrap(),
        before: 0,
        after: 2,
    };
    let rejection = Rejection::Memory {
        needed_bytes: 64 << 20,
        free_bytes: 1 << 20,
    };
    let on = WaitingOn::Hosts {
        missing: 1,
        rejections: vec![RejectionCount {
            rejection,
            hosts: 3,
            example: "h-2".parse().unwrap(),
        }],
    };
    let applied = Applied {
        commit: 42,
        objects: vec![AppliedObject {
            kind: "Workload".into(),
            name: "shop/cart".into(),
            generation: Generation(3),
            change: Change::Updated,
        }],
        changes: vec![change],
        waiting: vec![heddle_protocol::api::apply::Waiting {
            workload: unit().workload,
            on,
        }],
        notes: vec!["a note".into()],
    };
    let ok = Response {
        v: 1,
        ok: Some(serde_json::to_value(&applied).unwrap()),
        error: None,
    };
    check("response", &ok);
    let error = ApiError::new(ErrorCode::Conflict, "failed to apply", "look again");
    check(
        "response-error",
        &Response {
            v: 1,
            ok: None,
            error: Some(error),
        },
    );
}

#[test]
fn stored_records_are_what_they_were() {
    let workload = WorkloadRecord {
        generation: Generation(3),
        manifest: serde_json::json!({"kind": "Workload"}),
        artifacts: BTreeMap::from([("api".parse().unwrap(), artifact())]),
        intent: Intent {
            replicas: Replicas::Count(6),
            unit_generation: Generation(2),
            require: vec![Requirement {
                label: "region".into(),
                rule: LabelRule::In(BTreeSet::from(["eu".into(), "us".into()])),
            }],
            spread: vec![Spread {
                by: "region".into(),
                weights: BTreeMap::from([("eu".into(), 2), ("us".into(), 1)]),
            }],
            capabilities: BTreeSet::from(["web".parse().unwrap()]),
            reserve_bytes: 256 << 20,
            http: vec![trigger()],
        },
        template: digest("template"),
        configs: BTreeSet::from(["shop/cart-defaults".parse().unwrap()]),
        history: vec![PastGeneration {
            generation: Generation(2),
            manifest: serde_json::json!({}),
            artifacts: BTreeMap::new(),
            applied_at: UnixMs(1),
        }],
        applied_at: UnixMs(2),
    };
    check("record-workload", &workload);
    let platform = PlatformRecord {
        generation: Generation(1),
        manifest: serde_json::json!({"kind": "Platform"}),
        hosts: vec![Requirement {
            label: "tier".into(),
            rule: LabelRule::Exists(true),
        }],
        offers: BTreeMap::from([(
            "sessions".parse().unwrap(),
            CapabilityOffer::KeyvalueMemory { shared: true },
        )]),
        applied_at: UnixMs(3),
    };
    check("record-platform", &platform);
    let config = ConfigRecord {
        generation: Generation(1),
        manifest: serde_json::json!({"kind": "Config"}),
        values: BTreeMap::from([("currency".into(), "EUR".into())]),
        applied_at: UnixMs(4),
    };
    check("record-config", &config);
    let place = PlaceRecord {
        sets: vec![PlaceSet {
            generation: Generation(3),
            template: digest("template"),
            reserve_bytes: 256 << 20,
            http: vec![trigger()],
            hosts: BTreeMap::from([("h-1".parse().unwrap(), 2)]),
        }],
    };
    check("record-place", &place);
    let host = HostRecord {
        public_key: "UABC".into(),
        admin: HostAdmin::Draining,
        joined_at: UnixMs(5),
    };
    check("record-host", &host);
    check(
        "record-join-token",
        &JoinTokenRecord {
            made_at: UnixMs(6),
            valid_until: UnixMs(7),
        },
    );
    let audit = AuditRecord {
        n: 42,
        epoch: 2,
        at: UnixMs(8),
        planner: "0.1.0".into(),
        requests: vec![AuditedRequest {
            request_id: RequestId::new("r-1"),
            actor: "ann".into(),
            verb: "apply".into(),
            body_digest: digest("request"),
            result: serde_json::json!({"commit": 42}),
        }],
        facts: vec!["host-lost h-2: silent".into()],
        changes: vec![AuditedChange {
            key: "workload.shop.cart".into(),
            before: None,
            after: Some(digest("record")),
        }],
    };
    check("record-audit", &audit);
}
