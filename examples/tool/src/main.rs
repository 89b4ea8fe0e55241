//! `heddle-guests`: builds the guest components of the examples and tests from source. In: the guest sources of the
//! clone. Out: `*.wasm` components in one folder. What was built before is kept in the cache under a digest of its
//! sources, so a run that has nothing to do takes milliseconds.

mod c;
mod catalogue;
mod debian;
mod encode;
mod go;
mod imports;
mod input;
mod js;
mod rust;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use xtask::cache;
use xtask::process::say;

use catalogue::{GROUPS, Group, Language};

const HELP: &str = "\
Usage: heddle-guests build [--out DIR]    build all guests into DIR (default: target/guests of the clone)
       heddle-guests imports FILE...      list what components import and export

Environment: HEDDLE_CACHE (where fetched and built things are kept; default ~/.cache/heddle).
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["build"] => clone_root().and_then(|root| build(&root, &root.join("target").join("guests"))),
        ["build", "--out", out] => clone_root().and_then(|root| build(&root, Path::new(out))),
        ["imports", files @ ..] if !files.is_empty() => list_imports(files),
        ["help" | "--help" | "-h"] => print(HELP),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heddle-guests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build(root: &Path, out: &Path) -> Result<()> {
    let cache = cache::dir()?.join("guests");
    fs::create_dir_all(&cache).with_context(|| format!("failed to make {}", cache.display()))?;
    // Clones share one target folder for guests (so that the standard library is compiled once), and with it the names
    // of the modules in it: one build at a time.
    let lock_path = cache.join("lock");
    let lock = File::create(&lock_path).with_context(|| format!("failed to open {}", lock_path.display()))?;
    lock.lock()
        .with_context(|| format!("failed to lock {}", lock_path.display()))?;

    let route = rust::Route::find()?;
    let mut changed = 0_usize;
    let mut all = 0_usize;
    for group in GROUPS {
        let built = build_group(root, &cache, &route, group)
            .with_context(|| format!("failed to build the guests of {}", group.folder))?;
        for name in group.components {
            let file = format!("{name}.wasm");
            changed += usize::from(copy_if_other(&built.join(&file), &out.join(&file))?);
            all += 1;
        }
    }
    say(format_args!(
        "guests: {all} components in {}, {changed} of them new",
        out.display()
    ));
    Ok(())
}

/// Builds a group unless the cache has it, and returns the folder with its components.
fn build_group(root: &Path, cache: &Path, route: &rust::Route, group: &Group) -> Result<PathBuf> {
    let recipe = match group.language {
        Language::Rust => route.describe(),
        Language::C { .. } => c::describe(),
        Language::Go { .. } => go::describe(),
        Language::Js { .. } => js::describe(),
    };
    let digest = input::digest(root, group.inputs, &recipe)?;
    let built = cache.join("built").join(format!("{}-{digest}", group.name));
    cache::fill_once(&built, |dir| {
        say(format_args!(
            "building guests: {} ({})",
            group.components.join(", "),
            group.folder
        ));
        let folder = root.join(group.folder);
        let wit = root.join(catalogue::WIT);
        let modules = match group.language {
            Language::Rust => rust::build(route, &folder, &cache.join("target"), group.components)?,
            Language::C { world } => c::build(&folder, &wit, world, &cache.join("c"))?,
            Language::Go { world } => go::build(&folder, &wit, world, &cache.join("go"))?,
            Language::Js { world } => js::build(&folder, &wit, world, &cache.join("js"))?,
        };
        for (name, module) in group.components.iter().zip(modules) {
            let component = match group.language {
                // It comes as a component.
                Language::Js { .. } => module,
                _ => encode::component(&module).with_context(|| format!("failed to encode {name}"))?,
            };
            cache::write_whole(&dir.join(format!("{name}.wasm")), &component)?;
        }
        Ok(())
    })?;
    Ok(built)
}

/// Copies a file unless the same bytes are there already, so that what watches the folder sees only real changes.
fn copy_if_other(from: &Path, to: &Path) -> Result<bool> {
    let bytes = fs::read(from).with_context(|| format!("failed to read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    cache::write_whole(to, &bytes)?;
    Ok(true)
}

fn list_imports(files: &[&str]) -> Result<()> {
    for file in files {
        let bytes = fs::read(file).with_context(|| format!("failed to read {file}"))?;
        let listed = imports::list(&bytes).with_context(|| format!("failed to read the component {file}"))?;
        print(&format!("{file} ({} bytes)\n{listed}", bytes.len()))?;
    }
    Ok(())
}

fn clone_root() -> Result<PathBuf> {
    // This program is only ever run from a clone, by cargo, which compiled it there.
    let tool = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(root) = tool.parent().and_then(Path::parent) else {
        bail!("failed to find the clone: {} is not in one", tool.display());
    };
    Ok(root.to_path_buf())
}

fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("failed to write to stdout")
}
