//! Links, secrets and what must be found out for them: what is asked for, what is refused, what hosts are told.

// In a test a broken expectation is its own message.
#![allow(clippy::unwrap_used, clippy::panic)]

use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::CapabilityOffer;
use heddle_protocol::key::Key;
use heddle_scheduler_core::apply::{ArtifactTask, Needed, PartLink, SecretAnswer, secrets_followed};
use heddle_scheduler_core::testing::{TestFleet, artifact, fleet, host, id};
use heddle_scheduler_core::{Known, ResolvedDocument, Undecided, decide_apply};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A workload of some components, `name=image`, and further fields.
fn workload(name: &str, components: &[(&str, &str)], fields: &str) -> String {
    let each = components.iter().map(|(name, image)| {
        let image = format!("oci://test.example/{image}:v1");
        format!("{{ name: {name}, image: \"{image}\" }}")
    });
    let components: Vec<String> = each.collect();
    format!(
        "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: {name} }}\nspec:\n  components: [{}]\n  {fields}\n---\n",
        components.join(", ")
    )
}

fn embeds(target: &str) -> String {
    format!("links: [{{ from: main, import: \"acme:tax/rates\", to: {{ workload: {target} }} }}]")
}

/// The rules that a refusal names.
fn rules(error: &ApiError) -> Vec<String> {
    error.problems.iter().map(|p| p.rule.to_string()).collect()
}

/// What deciding a manifest needs to be told first.
fn needs(fleet: &TestFleet, text: &str) -> Needed {
    let documents = heddle_protocol::manifest::load(text.as_bytes(), "test.yaml").unwrap();
    let documents: Vec<ResolvedDocument> = documents
        .into_iter()
        .map(|document| {
            let images = text.split('"').filter(|part| part.starts_with("oci:"));
            let artifacts = images.map(|image| (image.to_owned(), artifact(image))).collect();
            ResolvedDocument {
                document,
                artifacts: Arc::new(artifacts),
            }
        })
        .collect();
    match decide_apply(&fleet.world, &documents, &Known::default(), fleet.at()) {
        Err(Undecided::Needs(needed)) => needed,
        other => panic!("{other:?} needs nothing"),
    }
}

#[test]
fn everything_that_must_be_found_out_is_asked_for_at_once() {
    let fleet = fleet().hosts(1);
    let secrets = "secrets: { key: { from: vault, path: kv/a } }";
    let text = [
        workload("cart", &[("main", "silent-tax")], &embeds("tax")),
        workload("tax", &[("main", "silent-rates-quote"), ("pricing", "silent-pricing")],
            "links: [{ from: main, import: \"acme:pricing/quote\", to: { component: pricing } }]"),
        workload("shop", &[("main", "silent-tax-shop")], "links: [{ from: main, import: \"acme:tax/rates\", to: { workload: tax, via: wrpc } }]"),
        format!(
            "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: safe }}\nspec:\n  components: [{{ name: main, \
             image: \"oci://test.example/silent:v1\", {secrets} }}]\n"
        ),
    ]
    .concat();
    let needed = needs(&fleet, &text);
    let compositions: Vec<Vec<&String>> = needed
        .tasks
        .iter()
        .filter_map(|task| match task {
            ArtifactTask::Compose(composition) => Some(composition.parts.keys().collect()),
            ArtifactTask::CheckCall(_) => None,
        })
        .collect();
    assert_eq!(
        compositions,
        [vec!["main", "pricing"], vec!["main", "tax/main", "tax/pricing"]]
    );
    assert_eq!(needed.tasks.len(), 3, "two compositions and the check of one call");
    assert_eq!(needed.secrets.len(), 1);
}

#[test]
fn a_recipe_names_every_link_and_gives_each_part_imports_of_its_own() {
    let fleet = fleet().hosts(1);
    let text = [
        workload("tax", &[("main", "silent-rates-counter")], ""),
        workload("cart", &[("main", "silent-tax-settings")], &embeds("tax")),
    ]
    .concat();
    let needed = needs(&fleet, &text);
    let [ArtifactTask::Compose(recipe)] = needed.tasks.as_slice() else {
        panic!("{needed:?}")
    };
    let link = PartLink {
        from: "main".into(),
        import: "acme:tax/rates@1.0.0".into(),
        to: "tax/main".into(),
        export: "acme:tax/rates@1.1.0".into(),
    };
    assert_eq!((recipe.entry.as_str(), recipe.links.as_slice()), ("main", &[link][..]));
    let names: BTreeMap<&str, Vec<&str>> = recipe
        .parts
        .iter()
        .map(|(name, part)| (name.as_str(), part.rename.values().map(String::as_str).collect()))
        .collect();
    assert_eq!(names["main"], ["heddle:p0-wasi-config/store@0.2.0-rc.1"]);
    assert_eq!(
        names["tax/main"],
        [
            "heddle:p1-wasi-keyvalue/atomics@0.2.0-draft",
            "heddle:p1-wasi-keyvalue/store@0.2.0-draft"
        ]
    );
}

#[test]
fn a_failed_composition_or_call_is_a_problem_of_the_link() {
    let mut fleet = fleet().hosts(1);
    fleet.apply(&workload("tax", &[("main", "silent-rates")], "")).unwrap();
    fleet.tasks_refused.push(("compose".into(), "the types differ".into()));
    fleet
        .tasks_refused
        .push(("check-call".into(), "it hands over a resource".into()));
    let error = fleet
        .apply(&workload("cart", &[("main", "silent-tax")], &embeds("tax")))
        .unwrap_err();
    assert_eq!(rules(&error), ["compose-failed"]);
    assert!(error.problems[0].message.contains("the types differ"), "{error:?}");
    let fields = "links: [{ from: main, import: \"acme:tax/rates\", to: { workload: tax, via: wrpc } }]";
    let error = fleet
        .apply(&workload("cart", &[("main", "silent-tax")], fields))
        .unwrap_err();
    assert_eq!(rules(&error), ["call-unfit"]);
    assert!(
        error.problems[0].message.contains("it hands over a resource"),
        "{error:?}"
    );
}

#[test]
fn a_link_that_could_mean_two_components_is_refused() {
    let mut fleet = fleet().hosts(1);
    let two = [("one", "silent-rates-one"), ("two", "silent-rates-other")];
    fleet.apply(&workload("tax", &two, "")).unwrap();
    let error = fleet
        .apply(&workload("cart", &[("main", "silent-tax")], &embeds("tax")))
        .unwrap_err();
    assert_eq!(rules(&error), ["export-ambiguous"]);
    assert!(error.problems[0].message.contains("one, two"), "{error:?}");
}

#[test]
fn embedding_ends_at_a_depth_and_at_a_number() {
    let mut fleet = fleet().hosts(1);
    fleet.apply(&workload("w0", &[("main", "silent-rates")], "")).unwrap();
    // Each embeds the one before, and exports what it imports.
    for n in 1..=8 {
        let below = format!("w{}", n - 1);
        fleet
            .apply(&workload(
                &format!("w{n}"),
                &[("main", "silent-tax-rates")],
                &embeds(&below),
            ))
            .unwrap();
    }
    let error = fleet
        .apply(&workload("w9", &[("main", "silent-tax-rates")], &embeds("w8")))
        .unwrap_err();
    assert_eq!(rules(&error), ["compose-too-large"]);

    let many: Vec<(String, String)> = (0..40).map(|n| (format!("c{n}"), "silent-tax".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, i)| (n.as_str(), i.as_str())).collect();
    let links: Vec<String> = many
        .iter()
        .map(|(name, _)| format!("{{ from: {name}, import: \"acme:tax/rates\", to: {{ workload: w0 }} }}"))
        .collect();
    fleet
        .apply(&workload("wide", &many, &format!("links: [{}]", links.join(", "))))
        .unwrap();
}

#[test]
fn each_caller_has_an_instance_of_its_own_and_the_parts_of_one_share_it() {
    let mut fleet = fleet().hosts(1);
    fleet.apply(&workload("tax", &[("main", "silent-rates")], "")).unwrap();
    let text = workload(
        "cart",
        &[
            ("api", "silent-quote-tax"),
            ("pricing", "silent-pricing-tax"),
            ("batch", "silent-tax-b"),
        ],
        "links:\n    - { from: api, import: \"acme:pricing/quote\", to: { component: pricing } }\n    - { from: api, import: \
         \"acme:tax/rates\", to: { workload: tax } }\n    - { from: pricing, import: \"acme:tax/rates\", to: { workload: tax } \
         }\n    - { from: batch, import: \"acme:tax/rates\", to: { workload: tax } }",
    );
    fleet.apply(&text).unwrap();
    let record = &fleet.world.workloads[&id("cart")];
    let template = &fleet.world.templates[&record.template];
    let parts: Vec<(&str, Vec<&str>)> = template
        .components
        .iter()
        .map(|c| (c.name.as_str(), c.parts.keys().map(String::as_str).collect()))
        .collect();
    assert_eq!(
        parts,
        [("api", vec!["pricing", "tax/main"]), ("batch", vec!["tax/main"])]
    );
    assert_eq!(
        record.embeds.keys().map(ToString::to_string).collect::<Vec<_>>(),
        ["default/tax"]
    );
}

#[test]
fn what_is_embedded_at_any_depth_rolls_all_who_embed_it_in_one_change() {
    let mut fleet = fleet().hosts(1);
    fleet.apply(&workload("base", &[("main", "silent-rates")], "")).unwrap();
    fleet
        .apply(&workload("tax", &[("main", "silent-tax-rates")], &embeds("base")))
        .unwrap();
    fleet
        .apply(&workload("cart", &[("main", "silent-tax")], &embeds("tax")))
        .unwrap();
    let applied = fleet
        .apply(&workload("base", &[("main", "silent-rates-new")], ""))
        .unwrap();
    let changed: Vec<String> = applied
        .objects
        .iter()
        .map(|o| format!("{}@{}", o.name, o.generation))
        .collect();
    assert_eq!(changed, ["default/base@2", "default/tax@2", "default/cart@2"]);
    let cart = &fleet.world.workloads[&id("cart")];
    assert!(
        cart.embeds.values().all(|generation| generation.0 == 2),
        "{:?}",
        cart.embeds
    );
}

#[test]
fn workloads_that_call_each_other_are_applied_together() {
    let mut fleet = fleet().hosts(1);
    let calls = |import: &str, target: &str| {
        format!("links: [{{ from: main, import: \"{import}\", to: {{ workload: {target}, via: wrpc }} }}]")
    };
    let text = [
        workload(
            "tax",
            &[("main", "silent-rates-quote")],
            &calls("acme:pricing/quote", "prices"),
        ),
        workload(
            "prices",
            &[("main", "silent-pricing-tax")],
            &calls("acme:tax/rates", "tax"),
        ),
    ]
    .concat();
    fleet.apply(&text).unwrap();
    let spec = &fleet.specs()[&host("host-1")];
    assert_eq!((spec.serves.len(), spec.callees.len()), (2, 2));
}

#[test]
fn a_change_of_a_callee_touches_the_hosts_of_its_callers() {
    let mut fleet = fleet().hosts(2);
    fleet.apply(&workload("tax", &[("main", "silent-rates")], "")).unwrap();
    let fields = "links: [{ from: main, import: \"acme:tax/rates\", to: { workload: tax, via: wrpc } }]";
    fleet
        .apply(&workload("cart", &[("main", "silent-tax")], fields))
        .unwrap();
    let both: Vec<String> = ["host-1", "host-2"].map(str::to_owned).to_vec();
    for key in [Key::Place(id("tax")), Key::Place(id("cart")), Key::Workload(id("cart"))] {
        let touched: Vec<String> = fleet
            .world
            .hosts_touched(&key)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(touched, both, "{key}");
    }
    fleet.restart_scheduler();
    assert_eq!(
        fleet.world.hosts_touched(&Key::Place(id("tax"))).len(),
        2,
        "known again after a restart"
    );
}

#[test]
fn each_followed_secret_is_asked_for_once() {
    let mut fleet = fleet().hosts(1);
    fleet.secrets.insert("kv/a".into(), SecretAnswer::Version("1".into()));
    let with = |name: &str, secrets: &str| {
        format!(
            "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: {{ name: {name} }}\nspec:\n  components: [{{ name: main, \
             image: \"oci://test.example/silent:v1\", secrets: {{ {secrets} }} }}]\n"
        )
    };
    let twice = "a: { from: vault, path: kv/a }, b: { from: vault, path: kv/a, rotate: live, env: B }";
    fleet.apply(&with("cart", twice)).unwrap();
    fleet
        .apply(&with("fixed", "a: { from: vault, path: kv/a, version: 1 }"))
        .unwrap();
    let followed = secrets_followed(&fleet.world);
    assert_eq!(followed.len(), 1, "{followed:?}");
    assert_eq!(followed[0].workload, Some(id("cart")));
}

#[test]
fn a_backend_that_cannot_be_asked_refuses_with_a_code_of_its_own() {
    let mut fleet = fleet().hosts(1);
    fleet
        .secrets
        .insert("kv/a".into(), SecretAnswer::Unreachable("connection refused".into()));
    let text = "apiVersion: heddle.dev/v1\nkind: Workload\nmetadata: { name: cart }\nspec:\n  components: [{ name: main, \
                image: \"oci://test.example/silent:v1\", secrets: { a: { from: vault, path: kv/a } } }]\n";
    let error = fleet.apply(text).unwrap_err();
    assert_eq!(
        (error.code, rules(&error)),
        (ErrorCode::Unavailable, vec!["secret-unreachable".to_owned()])
    );
}

#[test]
fn every_kind_of_capability_can_be_lent() {
    let mut fleet = fleet().hosts(1);
    fleet.secrets.insert("kv/a".into(), SecretAnswer::Version("1".into()));
    let kinds = [
        "{ keyvalue: { nats: { bucket: a } } }",
        "{ keyvalue: { redis: { url: \"redis://a\" } }, secrets: { password: { from: vault, path: kv/a } } }",
        "{ blobstore: { filesystem: { path: a, quota: 1Gi } } }",
        "{ blobstore: { nats: { bucket: a } } }",
        "{ messaging: { nats: { subjects: [a] } } }",
        "{ messaging: { jetstream: { stream: ORDERS } } }",
        "{ postgres: { url: \"postgres://me@db/a\" } }",
        "{ wrpc: { prefix: a, interfaces: [\"a:b/c@1.0.0\"] } }",
        "{ custom: { feature: \"acme-ledger@1.0.0\", interfaces: [\"a:b/d@1.0.0\"] } }",
    ];
    let each = kinds.iter().enumerate().map(|(n, kind)| format!("    c{n}: {kind}\n"));
    let capabilities: String = each.collect();
    let text = format!(
        "apiVersion: heddle.dev/v1\nkind: Platform\nmetadata: {{ name: all }}\nspec:\n  capabilities:\n{capabilities}"
    );
    fleet.apply(&text).unwrap();
    let spec = &fleet.specs()[&host("host-1")];
    let lent = kinds.len();
    assert_eq!(
        spec.capabilities
            .keys()
            .filter(|name| name.as_str().starts_with('c'))
            .count(),
        lent + 1,
        "and config"
    );
    assert_eq!(spec.capability_secrets.len(), 1);
    let subjects = spec.capabilities.values().find_map(|offer| match offer {
        CapabilityOffer::MessagingJetstream { subjects, .. } => Some(subjects.clone()),
        _ => None,
    });
    assert_eq!(
        subjects.unwrap(),
        ["orders.>"],
        "those of the stream's name, where none are written"
    );
}

#[test]
fn a_task_is_known_by_what_it_asks() {
    let fleet = fleet().hosts(1);
    let text = |image: &str| {
        [
            workload("tax", &[("main", "silent-rates")], ""),
            workload("cart", &[("main", image)], &embeds("tax")),
        ]
        .concat()
    };
    let digest = |image: &str| -> Digest { needs(&fleet, &text(image)).tasks[0].digest().unwrap() };
    assert_eq!(digest("silent-tax"), digest("silent-tax"));
    assert_ne!(digest("silent-tax"), digest("silent-tax-other"));
}
