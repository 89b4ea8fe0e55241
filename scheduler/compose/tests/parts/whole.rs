//! What becomes of parts: which imports and exports the whole has, and why parts are refused.

use crate::support::{STORE, face, quoter, renames, wat};
use heddle_compose::{ComposeError, Link, Part, compose};
use std::collections::{BTreeMap, BTreeSet};

const NONE: &BTreeMap<String, String> = &BTreeMap::new();

fn parts<'a>(list: &'a [(&'a str, Vec<u8>)]) -> BTreeMap<&'a str, Part<'a>> {
    let part = |bytes| Part { bytes, rename: NONE };
    list.iter()
        .map(|(name, bytes)| (*name, part(bytes.as_slice())))
        .collect()
}

fn link<'a>(from: &'a str, to: &'a str, interface: &'a str) -> Link<'a> {
    Link {
        from,
        import: interface,
        to,
        export: interface,
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn a_chain_of_three_has_the_entrys_exports_and_what_nobody_met() {
    let list = [
        (
            "api",
            quoter(
                "shop:api/front@1.0.0",
                &["acme:pricing/quote@1.0.0", "wasi:clocks/some@0.2.0"],
            ),
        ),
        (
            "pricing",
            quoter(
                "acme:pricing/quote@1.0.0",
                &["acme:tax/rates@1.0.0", "wasi:clocks/some@0.2.0"],
            ),
        ),
        ("tax/rates", quoter("acme:tax/rates@1.0.0", &["acme:db/rows@1.0.0"])),
    ];
    let links = [
        link("api", "pricing", "acme:pricing/quote@1.0.0"),
        link("pricing", "tax/rates", "acme:tax/rates@1.0.0"),
    ];
    let whole = compose("api", &parts(&list), &links).unwrap();
    let (imports, exports) = face(&whole);
    assert_eq!(imports, set(&["acme:db/rows@1.0.0", "wasi:clocks/some@0.2.0"]));
    assert_eq!(exports, set(&["shop:api/front@1.0.0"]));
    // The same bytes again, whatever order maps have in memory.
    for _ in 0..10 {
        assert_eq!(compose("api", &parts(&list), &links).unwrap(), whole);
    }
}

#[test]
fn a_callee_of_two_callers_is_one_instance() {
    let both = quoter("shop:api/front@1.0.0", &["acme:a/q@1.0.0", "acme:b/q@1.0.0"]);
    let list = [
        ("api", both),
        ("a", quoter("acme:a/q@1.0.0", &["acme:db/rows@1.0.0"])),
        ("b", quoter("acme:b/q@1.0.0", &["acme:db/rows@1.0.0"])),
        ("db", quoter("acme:db/rows@1.0.0", &[])),
    ];
    let links = [
        link("api", "a", "acme:a/q@1.0.0"),
        link("api", "b", "acme:b/q@1.0.0"),
        link("a", "db", "acme:db/rows@1.0.0"),
        link("b", "db", "acme:db/rows@1.0.0"),
    ];
    let whole = compose("api", &parts(&list), &links).unwrap();
    let mut instances = 0;
    let mut depth = 0;
    for payload in wasmparser::Parser::new(0).parse_all(&whole) {
        match payload.unwrap() {
            wasmparser::Payload::ModuleSection { .. } | wasmparser::Payload::ComponentSection { .. } => depth += 1,
            wasmparser::Payload::End(_) => depth -= 1,
            wasmparser::Payload::ComponentInstanceSection(s) if depth == 0 => instances += s.count(),
            _ => {}
        }
    }
    assert_eq!(instances, 4);
    assert!(face(&whole).0.is_empty());
}

#[test]
fn a_newer_version_that_fits_meets_an_older_import_and_shared_wasi_is_the_newer_one() {
    let list = [
        (
            "api",
            quoter(
                "shop:api/front@1.0.0",
                &["acme:tax/rates@1.0.0", "wasi:clocks/some@0.2.0"],
            ),
        ),
        ("tax", quoter("acme:tax/rates@1.3.0", &["wasi:clocks/some@0.2.3"])),
    ];
    let links = [Link {
        from: "api",
        import: "acme:tax/rates@1.0.0",
        to: "tax",
        export: "acme:tax/rates@1.3.0",
    }];
    let whole = compose("api", &parts(&list), &links).unwrap();
    assert_eq!(face(&whole).0, set(&["wasi:clocks/some@0.2.3"]));
}

#[test]
fn each_part_keeps_its_own_binding_under_its_own_name() {
    let api = quoter(
        "shop:api/front@1.0.0",
        &["acme:tax/rates@1.0.0", "wasi:config/store@0.2.0-rc.1"],
    );
    let tax = quoter("acme:tax/rates@1.0.0", &["wasi:config/store@0.2.0-rc.1"]);
    let zero = renames(&[("wasi:config/store@0.2.0-rc.1", "heddle:p0-wasi-config/store@0.2.0-rc.1")]);
    let one = renames(&[("wasi:config/store@0.2.0-rc.1", "heddle:p1-wasi-config/store@0.2.0-rc.1")]);
    let parts = BTreeMap::from([
        (
            "api",
            Part {
                bytes: &api,
                rename: &zero,
            },
        ),
        (
            "tax",
            Part {
                bytes: &tax,
                rename: &one,
            },
        ),
    ]);
    let whole = compose("api", &parts, &[link("api", "tax", "acme:tax/rates@1.0.0")]).unwrap();
    let expected = set(&[
        "heddle:p0-wasi-config/store@0.2.0-rc.1",
        "heddle:p1-wasi-config/store@0.2.0-rc.1",
    ]);
    assert_eq!(face(&whole).0, expected);
}

#[test]
fn the_bucket_of_one_part_stays_its_own_and_its_atomics_know_it() {
    let part = |export: &str, import: &str| {
        wat(&format!(
            r#"(component {STORE}
                (import "wasi:keyvalue/atomics@0.2.0-draft" (instance
                    (alias outer 1 $bucket (type $o)) (export "bucket" (type $t (eq $o)))
                    (export "increment" (func (param "b" (borrow $t)) (result u64)))))
                {import}
                (core module $m (func (export "quote") (param i32) (result i32) local.get 0))
                (core instance $i (instantiate $m))
                (func $quote (param "n" u32) (result u32) (canon lift (core func $i "quote")))
                (instance $e (export "quote" (func $quote)))
                (export "{export}" (instance $e)))"#
        ))
    };
    let import = r#"(import "acme:tax/rates@1.0.0" (instance (export "quote" (func (param "n" u32) (result u32)))))"#;
    let (api, tax) = (part("shop:api/front@1.0.0", import), part("acme:tax/rates@1.0.0", ""));
    let own = |k: u32| {
        renames(&[
            (
                "wasi:keyvalue/store@0.2.0-draft",
                &format!("heddle:p{k}-wasi-keyvalue/store@0.2.0-draft"),
            ),
            (
                "wasi:keyvalue/atomics@0.2.0-draft",
                &format!("heddle:p{k}-wasi-keyvalue/atomics@0.2.0-draft"),
            ),
        ])
    };
    let (zero, one) = (own(0), own(1));
    let parts = BTreeMap::from([
        (
            "api",
            Part {
                bytes: &api,
                rename: &zero,
            },
        ),
        (
            "tax",
            Part {
                bytes: &tax,
                rename: &one,
            },
        ),
    ]);
    let whole = compose("api", &parts, &[link("api", "tax", "acme:tax/rates@1.0.0")]).unwrap();
    assert_eq!(face(&whole).0.len(), 4);
}

/// A component that imports the store and a `uses-bucket` interface that borrows a bucket of it, or exports one.
fn bucket_caller(interface: &str) -> Vec<u8> {
    wat(&format!(
        r#"(component {STORE}
            (import "{interface}" (instance
                (alias outer 1 $bucket (type $o)) (export "bucket" (type $t (eq $o)))
                (export "count" (func (param "b" (borrow $t)) (result u32))))))"#
    ))
}

fn bucket_callee(interface: &str) -> Vec<u8> {
    wat(&format!(
        r#"(component {STORE}
            (core module $m (func (export "count") (param i32) (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $count (param "b" (borrow $bucket)) (result u32) (canon lift (core func $i "count")))
            (component $c
                (import "b" (type $in (sub resource)))
                (import "f" (func $f (param "b" (borrow $in)) (result u32)))
                (export $out "bucket" (type $in))
                (export "count" (func $f) (func (param "b" (borrow $out)) (result u32))))
            (instance $e (instantiate $c (with "b" (type $bucket)) (with "f" (func $count))))
            (export "{interface}" (instance $e)))"#
    ))
}

#[test]
fn a_bucket_of_one_binding_cannot_be_given_to_a_part_with_another() {
    let (api, tax) = (
        bucket_caller("acme:tax/counts@1.0.0"),
        bucket_callee("acme:tax/counts@1.0.0"),
    );
    let store = "wasi:keyvalue/store@0.2.0-draft";
    let zero = renames(&[(store, "heddle:p0-wasi-keyvalue/store@0.2.0-draft")]);
    let one = renames(&[(store, "heddle:p1-wasi-keyvalue/store@0.2.0-draft")]);
    let links = [link("api", "tax", "acme:tax/counts@1.0.0")];
    let apart = BTreeMap::from([
        (
            "api",
            Part {
                bytes: &api,
                rename: &zero,
            },
        ),
        (
            "tax",
            Part {
                bytes: &tax,
                rename: &one,
            },
        ),
    ]);
    let error = compose("api", &apart, &links).unwrap_err();
    assert!(
        matches!(&error, ComposeError::Resource { resource, .. } if resource == "bucket"),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("each component has its own binding") && !text.contains("heddle:p0"),
        "{text}"
    );
    // One binding for both is one bucket.
    let together = BTreeMap::from([
        (
            "api",
            Part {
                bytes: &api,
                rename: &zero,
            },
        ),
        (
            "tax",
            Part {
                bytes: &tax,
                rename: &zero,
            },
        ),
    ]);
    compose("api", &together, &links).unwrap();
}

/// Exports `acme:db/rows` with a resource `row`, and `acme:db/query`, which uses it.
fn database() -> Vec<u8> {
    wat(r#"(component
        (core module $m
            (func (export "open") (result i32) i32.const 1)
            (func (export "read") (param i32) (result i32) i32.const 7))
        (core instance $i (instantiate $m))
        (type $row (resource (rep i32)))
        (func $open (result (own $row)) (canon lift (core func $i "open")))
        (func $read (param "r" (borrow $row)) (result u32) (canon lift (core func $i "read")))
        (component $rows
            (import "row" (type $in (sub resource)))
            (import "open" (func $f (result (own $in))))
            (export $out "row" (type $in))
            (export "open" (func $f) (func (result (own $out)))))
        (instance $r (instantiate $rows (with "row" (type $row)) (with "open" (func $open))))
        (export $rows-out "acme:db/rows@1.0.0" (instance $r))
        (alias export $rows-out "row" (type $row-out))
        (component $query
            (import "row" (type $in (sub resource)))
            (import "read" (func $f (param "r" (borrow $in)) (result u32)))
            (export $out "row" (type $in))
            (export "read" (func $f) (func (param "r" (borrow $out)) (result u32))))
        (instance $q (instantiate $query (with "row" (type $row-out)) (with "read" (func $read))))
        (export "acme:db/query@1.0.0" (instance $q)))"#)
}

fn database_user() -> Vec<u8> {
    wat(r#"(component
        (import "acme:db/rows@1.0.0" (instance $rows
            (export "row" (type $r (sub resource)))
            (export "open" (func (result (own $r))))))
        (alias export $rows "row" (type $row))
        (import "acme:db/query@1.0.0" (instance
            (alias outer 1 $row (type $o)) (export "row" (type $t (eq $o)))
            (export "read" (func (param "r" (borrow $t)) (result u32)))))
        (core module $m (func (export "quote") (param i32) (result i32) local.get 0))
        (core instance $i (instantiate $m))
        (func $quote (param "n" u32) (result u32) (canon lift (core func $i "quote")))
        (instance $e (export "quote" (func $quote)))
        (export "shop:api/front@1.0.0" (instance $e)))"#)
}

#[test]
fn resources_of_a_part_pass_if_every_interface_of_theirs_is_linked() {
    let list = [("api", database_user()), ("db", database())];
    let (rows, query) = (
        link("api", "db", "acme:db/rows@1.0.0"),
        link("api", "db", "acme:db/query@1.0.0"),
    );
    let whole = compose("api", &parts(&list), &[rows, query]).unwrap();
    assert!(face(&whole).0.is_empty());
    let error = compose("api", &parts(&list), &[query]).unwrap_err().to_string();
    assert!(
        error.contains("link acme:db/rows@1.0.0 of api to acme:db/rows@1.0.0 of db too"),
        "{error}"
    );
}

#[test]
fn streams_futures_and_asynchronous_functions_pass_a_local_link() {
    let face_of_it = r#"
        (type $s (stream u8)) (type $f (future string))
        (export "pour" (func async (param "in" $s) (result $f)))"#;
    let api = wat(&format!(
        r#"(component (import "acme:flow/pour@1.0.0" (instance {face_of_it})))"#
    ));
    let flow = wat(r#"(component
        (core module $libc (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 8))
        (core instance $libc (instantiate $libc))
        (alias core export $libc "memory" (core memory $mem))
        (alias core export $libc "realloc" (core func $realloc))
        (core module $m
            (func (export "pour") (param i32) (result i32) i32.const 0)
            (func (export "callback") (param i32 i32 i32) (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (type $s (stream u8)) (type $f (future string))
        (alias core export $i "pour" (core func $pour-core))
        (alias core export $i "callback" (core func $callback))
        (func $pour async (param "in" $s) (result $f)
            (canon lift (core func $pour-core) async (callback (core func $callback)) (memory (core memory $mem)) (realloc (core func $realloc))))
        (instance $e (export "pour" (func $pour)))
        (export "acme:flow/pour@1.0.0" (instance $e)))"#);
    let list = [("api", api.clone()), ("flow", flow)];
    compose("api", &parts(&list), &[link("api", "flow", "acme:flow/pour@1.0.0")]).unwrap();

    let waits = wat(r#"(component
        (core module $m (func (export "quote") (param i32) (result i32) local.get 0))
        (core instance $i (instantiate $m))
        (func $quote (param "n" u32) (result u32) (canon lift (core func $i "quote")))
        (instance $e (export "pour" (func $quote)))
        (export "acme:flow/pour@1.0.0" (instance $e)))"#);
    let list = [("api", api), ("flow", waits)];
    let error = compose("api", &parts(&list), &[link("api", "flow", "acme:flow/pour@1.0.0")]).unwrap_err();
    assert!(error.to_string().contains("async"), "{error}");
}

#[test]
fn a_cycle_is_named() {
    let list = [
        ("a", quoter("acme:a/q@1.0.0", &["acme:b/q@1.0.0"])),
        ("b", quoter("acme:b/q@1.0.0", &["acme:c/q@1.0.0"])),
        ("c", quoter("acme:c/q@1.0.0", &["acme:b/q@1.0.0"])),
    ];
    let links = [
        link("a", "b", "acme:b/q@1.0.0"),
        link("b", "c", "acme:c/q@1.0.0"),
        link("c", "b", "acme:b/q@1.0.0"),
    ];
    let error = compose("a", &parts(&list), &links).unwrap_err();
    assert_eq!(error, ComposeError::Cycle(vec!["b".into(), "c".into(), "b".into()]));
    let own = [("a", quoter("acme:a/q@1.0.0", &["acme:a/q@1.0.0"]))];
    let error = compose("a", &parts(&own), &[link("a", "a", "acme:a/q@1.0.0")]).unwrap_err();
    assert!(error.to_string().contains("a → a"), "{error}");
}

#[test]
fn what_is_missing_is_named_with_what_is_there() {
    let list = [
        ("api", quoter("shop:api/front@1.0.0", &["acme:tax/rates@1.0.0"])),
        ("tax", quoter("acme:tax/rate@1.0.0", &[])),
    ];
    let refused = |link: Link<'_>| compose("api", &parts(&list), &[link]).unwrap_err().to_string();
    let text = refused(link("api", "tax", "acme:tax/rates@1.0.0"));
    assert!(
        text.contains("does not export acme:tax/rates@1.0.0; it exports acme:tax/rate@1.0.0"),
        "{text}"
    );
    let text = refused(link("api", "tax", "acme:tax/rate@1.0.0"));
    assert!(
        text.contains("does not import that; it imports acme:tax/rates@1.0.0"),
        "{text}"
    );
    let text = refused(link("api", "nobody", "acme:tax/rates@1.0.0"));
    assert!(text.contains("no part \"nobody\""), "{text}");
}

#[test]
fn differing_types_are_refused_with_the_function_and_the_difference() {
    let other = |text: &str| {
        wat(&format!(
            r#"(component
                (core module $m (func (export "quote") (param {core}) (result i32) i32.const 0))
                (core instance $i (instantiate $m))
                (func $quote (param "n" {text}) (result u32) (canon lift (core func $i "quote")))
                (instance $e (export "{name}" (func $quote)))
                (export "acme:tax/rates@1.0.0" (instance $e)))"#,
            core = if text == "u64" { "i64" } else { "i32" },
            name = if text == "u64" { "quote" } else { "quotes" },
        ))
    };
    let api = quoter("shop:api/front@1.0.0", &["acme:tax/rates@1.0.0"]);
    let refused = |tax: Vec<u8>| {
        let list = [("api", api.clone()), ("tax", tax)];
        compose("api", &parts(&list), &[link("api", "tax", "acme:tax/rates@1.0.0")])
            .unwrap_err()
            .to_string()
    };
    let text = refused(other("u64"));
    for word in ["`quote`", "`n`", "u32", "u64", "acme:tax/rates@1.0.0"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let text = refused(other("u32"));
    assert!(text.contains("lacks function `quote`; it has quotes"), "{text}");
}

#[test]
fn two_versions_of_wasi_types_that_cannot_be_one_are_refused_with_both_parts() {
    let odd = wat(r#"(component
        (import "wasi:clocks/some@0.2.0" (instance (export "quote" (func (result string)))))
        (core module $m (func (export "quote") (param i32) (result i32) local.get 0))
        (core instance $i (instantiate $m))
        (func $quote (param "n" u32) (result u32) (canon lift (core func $i "quote")))
        (instance $e (export "quote" (func $quote)))
        (export "acme:tax/rates@1.0.0" (instance $e)))"#);
    let list = [
        (
            "api",
            quoter(
                "shop:api/front@1.0.0",
                &["acme:tax/rates@1.0.0", "wasi:clocks/some@0.2.0"],
            ),
        ),
        ("tax", odd),
    ];
    let error = compose("api", &parts(&list), &[link("api", "tax", "acme:tax/rates@1.0.0")]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("components api and tax both import wasi:clocks/some@0.2.0"),
        "{text}"
    );
}

#[test]
fn types_that_an_export_has_from_a_linked_part_stay_with_it() {
    // The callee defines a record; the entry imports it and gives it on in its own export.
    let callee = wat(r#"(component
        (core module $m (func (export "get") (result i32) i32.const 3))
        (core instance $i (instantiate $m))
        (type $rate (record (field "percent" u32)))
        (func $get (result $rate) (canon lift (core func $i "get")))
        (component $c
            (type $r0 (record (field "percent" u32)))
            (import "rate" (type $in (eq $r0)))
            (import "get" (func $f (result $in)))
            (export $out "rate" (type $in))
            (export "get" (func $f) (func (result $out))))
        (instance $e (instantiate $c (with "rate" (type $rate)) (with "get" (func $get))))
        (export "acme:tax/rates@1.0.0" (instance $e)))"#);
    let entry = wat(r#"(component
        (import "acme:tax/rates@1.0.0" (instance $rates
            (type $r (record (field "percent" u32)))
            (export "rate" (type $rate (eq $r)))
            (export "get" (func (result $rate)))))
        (alias export $rates "rate" (type $rate))
        (core module $m (func (export "get") (result i32) i32.const 3))
        (core instance $i (instantiate $m))
        (func $get (result $rate) (canon lift (core func $i "get")))
        (component $c
            (type $r0 (record (field "percent" u32)))
            (import "rate" (type $in (eq $r0)))
            (import "get" (func $f (result $in)))
            (export $out "rate" (type $in))
            (export "get" (func $f) (func (result $out))))
        (instance $e (instantiate $c (with "rate" (type $rate)) (with "get" (func $get))))
        (export "shop:api/front@1.0.0" (instance $e)))"#);
    let list = [("api", entry), ("tax", callee)];
    let whole = compose("api", &parts(&list), &[link("api", "tax", "acme:tax/rates@1.0.0")]).unwrap();
    assert_eq!(face(&whole).1, set(&["shop:api/front@1.0.0"]));
}

#[test]
fn bytes_that_are_no_component_are_refused() {
    for bytes in [
        &b""[..],
        b"\0asm",
        b"\0asm\x01\0\0\0",
        b"\0asm\x0d\0\x01\0\x0a\x05\x01\0\x7f",
    ] {
        let rename = renames(&[("a:b/c", "d:e/f")]);
        for rename in [NONE, &rename] {
            let parts = BTreeMap::from([("a", Part { bytes, rename })]);
            let error = compose("a", &parts, &[]).unwrap_err();
            assert!(
                matches!(error, ComposeError::Unreadable { .. } | ComposeError::Unsupported(_)),
                "{error}"
            );
        }
    }
}
