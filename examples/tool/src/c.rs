//! Guests in C. In: a `main.c` and a WIT world. Out: a core module. The bindings are generated here at build time, so
//! the repository holds only what a person wrote; the compiler is the one inside the zig wheel, which brings its own
//! C library for WASI and needs nothing installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::{Resolve, WorldId};
use xtask::process::{make_executable, run};
use xtask::wheel::Wheel;

const ZIG: Wheel = Wheel {
    package: "ziglang",
    version: "0.17.1",
    sha256: &[
        // Linux x86_64 and aarch64 (glibc and musl), then macOS arm64.
        "ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54",
        "b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e",
        "09953b6af7f64168b915180a42774f520f92d86ef6331b28e33915c7e1f0bb23",
    ],
};

/// Text that differs when the components may.
pub(crate) fn describe() -> String {
    format!("c zig {}", ZIG.version)
}

/// Generates the bindings of `world` and compiles them with `folder/main.c`. `work` is kept: zig's compiled C library
/// is in it. The result is a list of one module, as other languages give lists.
pub(crate) fn build(folder: &Path, wit: &Path, world: &str, work: &Path) -> Result<Vec<Vec<u8>>> {
    let bindings = work.join("bindings");
    fs::create_dir_all(&bindings).with_context(|| format!("failed to make {}", bindings.display()))?;
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_dir(wit)
        .with_context(|| format!("failed to read the interfaces of {}", wit.display()))?;
    let world_id = resolve
        .select_world(&[package], Some(world))
        .with_context(|| format!("failed to find the world `{world}` in {}", wit.display()))?;
    let generated = generate(&mut resolve, world_id, &bindings)?;

    let module = work.join("module.wasm");
    let mut zig = Command::new(zig()?);
    zig.args([
        "cc",
        "-target",
        "wasm32-wasi",
        "-mexec-model=reactor",
        "-std=c17",
        "-Os",
        "-s",
        "-Wall",
        "-Wextra",
    ])
    // Generated code is not held to our warnings.
    .args(["-Wno-unused-parameter", "-Wno-unused-function", "-Wno-unused-variable"])
    .env("ZIG_GLOBAL_CACHE_DIR", work.join("zig"))
    .env("ZIG_LOCAL_CACHE_DIR", work.join("zig"))
    .arg("-I")
    .arg(&bindings)
    .arg(folder.join("main.c"))
    .args(&generated)
    .arg("-o")
    .arg(&module);
    run(&mut zig)?;
    Ok(vec![
        fs::read(&module).with_context(|| format!("failed to read {}", module.display()))?,
    ])
}

/// Writes the bindings into `folder` and returns what must be compiled and linked: C files, and an object file with the
/// world in it, which becomes the section that the component is encoded from.
fn generate(resolve: &mut Resolve, world: WorldId, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Files::default();
    wit_bindgen_c::Opts::default()
        .build()
        .generate(resolve, world, &mut files)
        .context("failed to generate C bindings")?;
    let mut inputs = Vec::new();
    for (name, contents) in files.iter() {
        let path = folder.join(name);
        fs::write(&path, contents).with_context(|| format!("failed to write {}", path.display()))?;
        if path
            .extension()
            .is_some_and(|extension| extension == "c" || extension == "o")
        {
            inputs.push(path);
        }
    }
    Ok(inputs)
}

fn zig() -> Result<PathBuf> {
    let path = ZIG.unpacked()?.join("ziglang").join("zig");
    // Archives made by pip's tools lose the bit that says so.
    make_executable(&path)?;
    Ok(path)
}
