//! Real guests as parts: everything that a toolchain puts into a component survives.

use crate::support::{face, renames};
use heddle_compose::{Part, compose};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn guest(name: &str) -> Vec<u8> {
    let folder = std::env::var_os("HEDDLE_GUESTS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/guests"),
        PathBuf::from,
    );
    let path = folder.join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "failed to read {}: {error}; build the guests with `cargo xtask guests`",
            path.display()
        )
    })
}

#[test]
fn guests_of_wasi_02_and_03_share_what_they_import_and_keep_what_is_theirs() {
    let none = BTreeMap::new();
    let (counter, hello, third) = (guest("counter"), guest("hello"), guest("hello-p3"));
    let drafts: Vec<String> = face(&counter)
        .0
        .into_iter()
        .filter(|i| i.starts_with("wasi:keyvalue/"))
        .collect();
    assert!(!drafts.is_empty(), "the counter counts in a key-value store");
    let own: Vec<(String, String)> = drafts
        .iter()
        .map(|i| (i.clone(), i.replacen("wasi:", "heddle:p0-wasi-", 1)))
        .collect();
    let pairs: Vec<(&str, &str)> = own.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let rename = renames(&pairs);
    let part = |bytes, rename| Part { bytes, rename };
    let parts = BTreeMap::from([
        ("counter", part(counter.as_slice(), &rename)),
        ("hello", part(hello.as_slice(), &none)),
        ("third", part(third.as_slice(), &none)),
    ]);
    let whole = compose("counter", &parts, &[]).unwrap();
    let (imports, exports) = face(&whole);
    assert_eq!(exports, face(&counter).1);
    for (old, new) in &own {
        assert!(imports.contains(new) && !imports.contains(old), "{imports:?}");
    }
    assert!(
        imports.iter().any(|i| i.starts_with("wasi:http/types@0.2.")),
        "{imports:?}"
    );
    assert!(
        imports.iter().any(|i| i.starts_with("wasi:http/types@0.3.")),
        "{imports:?}"
    );
}
