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
    let binding = Binding::new("sessions".parse().unwrap(), "shop");
    Template {
        requires: BTreeSet::from([Feature::WASI_P2, Feature::HTTP, Feature::KEYVALUE_MEMORY]),
        components: vec![TemplateComponent {
            name: "api".parse().unwrap(),
            artifact: digest("artifact"),
            artifact_bytes: 65_536,
            wasi: Wasi::P2,
            config: BTreeMap::from([("page-size".into(), "20".into())]),
            bindings: BTreeMap::from([("wasi:keyvalue/store@0.2.0-draft".into(), binding)]),
            secrets: BTreeMap::new(),
            parts: BTreeMap::new(),
            calls: BTreeMap::new(),
        }],
        limits: Limits::new(64 << 20, 5_000, 200),
        run: None,
        consumes: Vec::new(),
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
        verified_by: BTreeSet::new(),
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
        ..HostSpecBody::default()
    };
    let spec = HostSpec {
        realm: "eu".parse().unwrap(),
        host: "h-1".parse().unwrap(),
        boot_id: BootId::new("boot-1"),
        version: Version { epoch: 2, n: 41 },
        body_digest: body.digest().unwrap(),
        body,
        secrets: BTreeMap::new(),
    };
    check("host-spec", &spec);
}

#[test]
fn a_feature_that_is_not_known_is_read_all_the_same() {
    let features: BTreeSet<Feature> = serde_json::from_str(r#"["http", "teleport"]"#).unwrap();
    assert_eq!(features, BTreeSet::from([Feature::HTTP, Feature::custom("teleport")]));
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
            ..Capacity::default()
        },
        features: BTreeSet::from([Feature::WASI_P2, Feature::HTTP]),
        engine: Engine {
            wasmtime: "48.0.8".into(),
            target: "x86_64-unknown-linux-gnu".into(),
            allocator: "pooling".into(),
            fingerprints: BTreeMap::from([("p2".into(), "ab12".into())]),
            ..Engine::default()
        },
        version: "0.1.0".into(),
        bound: BTreeMap::from([("web".parse().unwrap(), "127.0.0.1:8080".into())]),
        accepted: Some(accepted()),
        seal_key: String::new(),
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
        completed: 0,
        failed: 0,
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
        preempted_by: None,
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
        steps: Vec::new(),
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
                max_skew: None,
                hard: false,
            }],
            capabilities: BTreeSet::from(["web".parse().unwrap()]),
            reserve_bytes: 256 << 20,
            http: vec![trigger()],
            cron: Vec::new(),
            calls: BTreeSet::new(),
            serves: BTreeSet::new(),
            job: None,
            features: BTreeSet::new(),
            embedded: BTreeMap::new(),
            rules: Rules::default(),
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
        secret_refs: BTreeSet::new(),
        embeds: BTreeMap::new(),
        secret_versions: BTreeMap::new(),
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
        secrets: BTreeMap::new(),
        compile: None,
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
            takes: Taken::default(),
            http: vec![trigger()],
            hosts: BTreeMap::from([("h-1".parse().unwrap(), 2)]),
            moving: BTreeMap::new(),
            serves: BTreeSet::new(),
            calls: BTreeSet::new(),
        }],
        job: None,
        fired: BTreeMap::new(),
    };
    check("record-place", &place);
    let host = HostRecord {
        public_key: "UABC".into(),
        admin: HostAdmin::Draining,
        taints: BTreeMap::new(),
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

fn secret(version: Option<&str>) -> SecretUse {
    SecretUse {
        workload: Some("shop/cart".parse().unwrap()),
        from: "vault".into(),
        path: "kv/shop/payment".into(),
        field: Some("key".into()),
        version: version.map(str::to_owned),
        no_cache: true,
        env: Some("PAYMENT_KEY".into()),
    }
}

fn call() -> Call {
    Call {
        interface: Some("acme:fraud/score@1.0.0".into()),
        part: Some("tax/rates".into()),
        to: Callee::Workload("shop/fraud".parse().unwrap()),
        instance: "acme:fraud/score@1.2.0".into(),
        timeout_ms: 2_000,
        idempotent: true,
        max_in_flight: 64,
    }
}

/// A template of a composed component, with everything that a template can hold.
fn linked_template() -> Template {
    let binding = Binding {
        interface: Some("wasi:keyvalue/store@0.2.0-draft".into()),
        part: Some("tax/rates".into()),
        ..Binding::new("sessions".parse().unwrap(), "shop")
    };
    let outside = Call {
        part: None,
        to: Callee::Prefix("acme.bank".into()),
        ..call()
    };
    let part = Part {
        config: BTreeMap::from([("rate".into(), "19".into())]),
        secrets: BTreeMap::from([("key".into(), secret(None))]),
    };
    let component = TemplateComponent {
        config: BTreeMap::from([("page-size".into(), "20".into())]),
        secrets: BTreeMap::from([("payment-key".into(), secret(Some("7")))]),
        parts: BTreeMap::from([("pricing".into(), Part::default()), ("tax/rates".into(), part)]),
        bindings: BTreeMap::from([("heddle:p2-wasi-keyvalue/store@0.2.0-draft".into(), binding)]),
        calls: BTreeMap::from([
            ("heddle:p0-acme-bank/pay@1.0.0".into(), outside),
            ("heddle:p2-acme-fraud/score@1.0.0".into(), call()),
        ]),
        ..TemplateComponent::new("api".parse().unwrap(), digest("whole"), 131_072, Wasi::P3)
    };
    Template {
        requires: BTreeSet::from([Feature::WASI_P3, Feature::WRPC, Feature::custom("acme-ledger@1.2.0")]),
        components: vec![component],
        limits: Limits {
            egress: vec!["api.example.com:443".into()],
            cpu_millis: Some(250),
            ..Limits::new(64 << 20, 5_000, 200)
        },
        instances: Instances {
            reuse: 1,
            concurrency: 4,
        },
        run: Some(Run::Service {
            component: "api".parse().unwrap(),
        }),
        consumes: vec![Consume {
            capability: "bus".parse().unwrap(),
            component: "api".parse().unwrap(),
            subject: "orders.cart.>".into(),
            max_in_flight: 32,
            attempts: 5,
        }],
    }
}

#[test]
fn a_host_spec_with_links_and_secrets_is_what_it_was() {
    let template = linked_template();
    let template_digest = Digest::of_json(&template).unwrap();
    let platform_secret = SecretUse {
        workload: None,
        env: None,
        no_cache: false,
        ..secret(Some("3"))
    };
    let serve = Serve {
        unit: unit(),
        component: "api".parse().unwrap(),
        interface: "acme:cart/items@1.0.0".into(),
        prefix: None,
    };
    let body = HostSpecBody {
        templates: BTreeMap::from([(template_digest, Arc::new(template))]),
        units: vec![Unit {
            workload: unit().workload,
            generation: unit().generation,
            template: template_digest,
            count: 2,
        }],
        capabilities: BTreeMap::from([(
            "sessions".parse().unwrap(),
            CapabilityOffer::KeyvalueNats {
                bucket: "sessions".into(),
                url: None,
                shared: false,
            },
        )]),
        capability_secrets: BTreeMap::from([(
            "sessions".parse().unwrap(),
            BTreeMap::from([("credentials".into(), platform_secret.clone())]),
        )]),
        serves: vec![
            serve.clone(),
            Serve {
                prefix: Some("acme.cart".into()),
                ..serve
            },
        ],
        callees: BTreeMap::from([("shop/fraud".parse().unwrap(), vec![Generation(5), Generation(4)])]),
        secret_versions: BTreeMap::from([(secret(None).id(), "8".into())]),
        credentials: BTreeMap::from([(unit().workload, platform_secret.clone())]),
        compile: Compile::Local,
        ..HostSpecBody::default()
    };
    let sealed = SealedSecret {
        version: "3".into(),
        sealed: "AAEC".into(),
    };
    let spec = HostSpec {
        realm: "eu".parse().unwrap(),
        host: "h-1".parse().unwrap(),
        boot_id: BootId::new("boot-1"),
        version: Version { epoch: 2, n: 41 },
        body_digest: body.digest().unwrap(),
        body,
        secrets: BTreeMap::from([(platform_secret.id(), sealed)]),
    };
    check("host-spec-linked", &spec);
}

#[test]
fn what_becomes_of_jobs_and_points_in_time_is_what_it_was() {
    let run = Run::Job {
        component: "main".parse().unwrap(),
        attempts: 3,
        deadline_ms: Some(600_000),
    };
    check("run-job", &run);
    let fire = Fire {
        boot_id: BootId::new("boot-1"),
        unit: unit(),
        component: "main".parse().unwrap(),
        due: UnixMs(9),
    };
    check("fire", &fire);
    check("fire-begun", &FireAnswer::Begun);
    let place = PlaceRecord {
        sets: Vec::new(),
        job: Some(JobProgress {
            generation: Generation(3),
            completed: 2,
            failed: 1,
            reason: Some("it trapped".into()),
        }),
        fired: BTreeMap::from([(0, UnixMs(9))]),
    };
    check("record-place-of-a-job", &place);
}

#[test]
fn stored_records_of_linked_workloads_are_what_they_were() {
    let remote = RemoteExport {
        workload: "shop/fraud".parse().unwrap(),
        component: "score".parse().unwrap(),
        interface: "acme:fraud/score@1.2.0".into(),
    };
    let need = EmbeddedNeed {
        capabilities: BTreeSet::from(["sessions".parse().unwrap()]),
        require: vec![Requirement {
            label: "region".into(),
            rule: LabelRule::Exists(true),
        }],
    };
    let workload = WorkloadRecord {
        generation: Generation(3),
        manifest: serde_json::json!({"kind": "Workload"}),
        artifacts: BTreeMap::from([("api".parse().unwrap(), artifact())]),
        intent: Intent {
            unit_generation: Generation(3),
            replicas: Replicas::Count(2),
            require: need.require.clone(),
            spread: Vec::new(),
            capabilities: need.capabilities.clone(),
            reserve_bytes: 64 << 20,
            http: Vec::new(),
            cron: vec![CronTrigger {
                component: "api".parse().unwrap(),
                schedule: "*/5 * * * *".into(),
                time_zone: Some("Europe/Berlin".into()),
            }],
            calls: BTreeSet::from([remote]),
            serves: BTreeSet::from([ServedExport {
                component: "api".parse().unwrap(),
                interface: "acme:cart/items@1.0.0".into(),
                prefix: "acme.cart".into(),
            }]),
            job: Some(JobIntent { completions: 2 }),
            features: BTreeSet::from([Feature::WRPC]),
            embedded: BTreeMap::from([("shop/tax".parse().unwrap(), need)]),
            rules: Rules::default(),
        },
        template: digest("template"),
        configs: BTreeSet::new(),
        secret_refs: BTreeSet::from(["shop/payment".parse().unwrap()]),
        embeds: BTreeMap::from([("shop/tax".parse().unwrap(), Generation(7))]),
        secret_versions: BTreeMap::from([(secret(None).id(), "8".into())]),
        history: Vec::new(),
        applied_at: UnixMs(2),
    };
    check("record-workload-linked", &workload);
    let policy = PolicyRecord {
        generation: Generation(2),
        manifest: serde_json::json!({"kind": "Policy"}),
        keys: BTreeSet::from([digest("key")]),
        applied_at: UnixMs(1_800_000_000_000),
    };
    check("record-policy", &policy);
    let secret_ref = SecretRefRecord {
        generation: Generation(1),
        manifest: serde_json::json!({"kind": "SecretRef"}),
        applied_at: UnixMs(4),
    };
    check("record-secret-ref", &secret_ref);
}

fn rules() -> Rules {
    let company = |workload: &str, weight| Company {
        workload: workload.parse().unwrap(),
        by: "zone".into(),
        weight,
    };
    Rules {
        prefer: vec![Preference {
            labels: vec![Requirement {
                label: "disk".into(),
                rule: LabelRule::In(BTreeSet::from(["ssd".into()])),
            }],
            weight: 20,
        }],
        avoid: vec![company("shop/analytics", None)],
        near: vec![company("shop/sessions", Some(5))],
        max_per_host: Some(2),
        tolerate: BTreeSet::from([Toleration {
            taint: "spot".into(),
            value: Some("yes".into()),
        }]),
        strategy: Strategy::Pack,
        prefer_image: false,
        priority: 500,
        takes: Taken {
            cpu_millis: 250,
            resources: BTreeMap::from([("acme.dev/gpu".into(), 1)]),
        },
    }
}

#[test]
fn rules_of_placement_are_stored_as_they_were() {
    let comparisons = [
        LabelRule::Gt(3),
        LabelRule::Lt(129),
        LabelRule::Version(VersionRule::parse(">=5.4, <7").unwrap()),
    ];
    let intent = Intent {
        replicas: Replicas::Count(6),
        unit_generation: Generation(2),
        require: comparisons
            .map(|rule| Requirement {
                label: "cores".into(),
                rule,
            })
            .into(),
        spread: vec![Spread {
            by: "zone".into(),
            weights: BTreeMap::new(),
            max_skew: Some(1),
            hard: true,
        }],
        capabilities: BTreeSet::new(),
        reserve_bytes: 64 << 20,
        http: Vec::new(),
        cron: Vec::new(),
        calls: BTreeSet::new(),
        serves: BTreeSet::new(),
        job: None,
        features: BTreeSet::new(),
        embedded: BTreeMap::new(),
        rules: rules(),
    };
    check("record-intent-rules", &intent);
    let place = PlaceRecord {
        sets: vec![PlaceSet {
            generation: Generation(2),
            template: digest("template"),
            reserve_bytes: 64 << 20,
            takes: rules().takes,
            http: Vec::new(),
            hosts: BTreeMap::from([("h-1".parse().unwrap(), 2)]),
            moving: BTreeMap::new(),
            serves: BTreeSet::new(),
            calls: BTreeSet::new(),
        }],
        job: None,
        fired: BTreeMap::new(),
    };
    check("record-place-that-takes", &place);
    let taint = |value: &str, effect| Taint {
        value: value.into(),
        effect,
    };
    let host = HostRecord {
        public_key: "UABC".into(),
        admin: HostAdmin::Open,
        taints: BTreeMap::from([
            ("acme.dev/gpu".into(), taint("", TaintEffect::NoNew)),
            ("spot".into(), taint("yes", TaintEffect::Evict)),
        ]),
        joined_at: UnixMs(5),
    };
    check("record-host-tainted", &host);
    let quota = QuotaRecord {
        generation: Generation(1),
        manifest: serde_json::json!({"kind": "Quota"}),
        allowed: QuotaLimits {
            workloads: Some(20),
            replicas: Some(500),
            memory_bytes: Some(64 << 30),
            cpu_millis: Some(32_000),
            resources: BTreeMap::from([("acme.dev/gpu".into(), 4)]),
        },
        applied_at: UnixMs(6),
    };
    check("record-quota", &quota);
    let capacity = Capacity {
        memory_bytes: 2 << 30,
        replica_slots: 100,
        instance_memory_bytes_max: None,
        cpu_millis: Some(4_000),
        resources: BTreeMap::from([("acme.dev/gpu".into(), 2)]),
    };
    check("capacity", &capacity);
}
