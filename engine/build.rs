//! Tells the crate the target triple that it is built for. In: cargo's `TARGET`. Out: the same, at compile time.

fn main() {
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=HEDDLE_TARGET={target}");
    println!("cargo::rerun-if-changed=build.rs");
}
