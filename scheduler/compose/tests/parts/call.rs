//! Which calls may go over the network.

use crate::support::{STORE, quoter, wat};
use heddle_compose::check_call;

const RATES: &str = "acme:tax/rates@1.0.0";

fn caller(exports: &str) -> Vec<u8> {
    wat(&format!(r#"(component (import "{RATES}" (instance {exports})))"#))
}

#[test]
fn values_travel() {
    let bytes = caller(
        r#"(type $r (record (field "a" (list (option string))) (field "b" (tuple u8 f64)))) (export "r" (type $rate (eq $r)))
           (type $v (variant (case "x" $rate) (case "y"))) (export "v" (type $var (eq $v)))
           (export "get" (func (param "v" $var) (result (result $rate (error string)))))"#,
    );
    check_call(&bytes, RATES, None, RATES).unwrap();
}

#[test]
fn handles_streams_and_futures_do_not() {
    let resource = r#"(export "row" (type $row (sub resource)))
        (export "[method]row.read" (func (param "self" (borrow $row)) (result u32)))"#;
    let stream = r#"(type $s (stream u8)) (type $o (option $s)) (export "pour" (func (result $o)))"#;
    let future = r#"(type $f (future string)) (type $l (list $f)) (export "later" (func (param "all" $l)))"#;
    for (exports, words) in [
        (resource, ["`[method]row.read`", "`self`", "resource `row`"]),
        (stream, ["`pour`", "returns", "a stream"]),
        (future, ["`later`", "`all`", "a future"]),
    ] {
        let why = check_call(&caller(exports), RATES, None, RATES).unwrap_err();
        assert!(words.iter().all(|word| why.contains(word)), "{why}");
    }
    let used = wat(&format!(
        r#"(component {STORE}
            (import "{RATES}" (instance
                (alias outer 1 $bucket (type $o)) (export "bucket" (type $t (eq $o)))
                (export "count" (func (param "b" (borrow $t)) (result u32))))))"#
    ));
    assert!(check_call(&used, RATES, None, RATES).unwrap_err().contains("`bucket`"));
}

#[test]
fn both_sides_must_mean_the_same_functions() {
    let number = quoter("x:y/z@1.0.0", &[RATES]);
    check_call(
        &number,
        RATES,
        Some(&quoter("acme:tax/rates@1.2.0", &[])),
        "acme:tax/rates@1.2.0",
    )
    .unwrap();
    let why = check_call(&number, RATES, Some(&quoter("acme:tax/other@1.0.0", &[])), RATES).unwrap_err();
    assert!(
        why.contains("does not export") && why.contains("acme:tax/other@1.0.0"),
        "{why}"
    );
    let text = caller(r#"(export "quote" (func (param "n" string) (result u32)))"#);
    let why = check_call(&text, RATES, Some(&quoter(RATES, &[])), RATES).unwrap_err();
    assert!(why.contains("`quote`") && why.contains("`n`"), "{why}");
    let more = caller(r#"(export "all" (func)) (export "quote" (func (param "n" u32) (result u32)))"#);
    let why = check_call(&more, RATES, Some(&quoter(RATES, &[])), RATES).unwrap_err();
    assert!(why.contains("lacks function `all`; it has quote"), "{why}");
    let why = check_call(&number, "acme:tax/rate@1.0.0", None, RATES).unwrap_err();
    assert!(why.contains("does not import") && why.contains(RATES), "{why}");
}
