//! A Rust compiler with the source of its own standard library, from Debian packages, for machines where rustup cannot
//! download a wasm target. In: the distribution's package archive. Out: a folder in the cache with the packages
//! unpacked. Nothing is installed and no rights are needed; the system's packages stay as they are.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use xtask::cache;
use xtask::process::{find_on_path, output, run, say};

/// Compiler, cargo, and the library source that matches the compiler exactly. Debian keeps this set current (for its
/// browsers) while its ordinary `rustc` stays as it was when the distribution came out.
const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The bindings crates ask for this one or newer.
const OLDEST: (u32, u32) = (1, 88);

const OTHERWISE: &str = "run `rustup target add wasm32-unknown-unknown` and try again";

/// The folder of the unpacked toolchain, fetched when it is not in the cache.
pub(crate) fn toolchain() -> Result<PathBuf> {
    let folder = cache::dir()?.join("debian-rust");
    cache::fill_once(&folder, fetch).with_context(|| {
        format!("failed to get a compiler for wasm from Debian packages; where rustup can download, {OTHERWISE}")
    })?;
    Ok(folder)
}

/// The folders of the toolchain's shared libraries, for `LD_LIBRARY_PATH`.
pub(crate) fn libraries(toolchain: &Path) -> OsString {
    let usr_lib = toolchain.join("usr/lib");
    let mut folders = vec![usr_lib.clone()];
    // Debian puts libraries into a folder named after the machine (`x86_64-linux-gnu`).
    if let Ok(entries) = fs::read_dir(&usr_lib) {
        folders.extend(
            entries
                .flatten()
                .map(|e| e.path())
                .filter(|path| path.to_string_lossy().ends_with("-linux-gnu")),
        );
    }
    std::env::join_paths(folders).unwrap_or_else(|_| usr_lib.into_os_string())
}

fn fetch(folder: &Path) -> Result<()> {
    if find_on_path("apt-get").is_none() || find_on_path("dpkg-deb").is_none() {
        bail!("this Rust toolchain has no standard library for wasm, and this system has no Debian packages");
    }
    say(
        "this Rust toolchain has no standard library for wasm: fetching a compiler from Debian packages (140 MB, once)",
    );
    let apt = Apt::new(&folder.join(".apt"))?;
    apt.update();
    let version = apt.candidate(PACKAGES[0])?;
    if !at_least(&version, OLDEST) {
        bail!(
            "the newest {} is {version}, and the guests need {}.{}",
            PACKAGES[0],
            OLDEST.0,
            OLDEST.1
        );
    }
    let packages = apt.with_libraries(&PACKAGES)?;
    apt.download(&packages)?;
    for package in apt.downloaded()? {
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(folder))?;
    }
    fs::remove_dir_all(&apt.folder).with_context(|| format!("failed to remove {}", apt.folder.display()))
}

/// apt with lists and archives of its own, so that it neither needs rights nor sees what is not up to date.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self> {
        for part in ["lists/partial", "archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("failed to make {}", part.display()))?;
        }
        Ok(Self {
            folder: folder.to_path_buf(),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let option = |name: &str, value: &Path| format!("{name}={}", value.display());
        command
            .env("LC_ALL", "C")
            .args(["-o", &option("Dir::State::Lists", &self.folder.join("lists"))])
            .args(["-o", &option("Dir::Cache", &self.folder)])
            .args(["-o", &option("Dir::Cache::archives", &self.folder.join("archives"))])
            .args(["-o", "Debug::NoLocking=1"])
            // As root, apt would download as a user who may not read our cache.
            .args(["-o", "APT::Sandbox::User=root"]);
        command
    }

    fn update(&self) {
        // One unreachable third-party archive fails the whole update although Debian's own lists have come.
        if let Err(error) = run(self.command("apt-get").args(["-qq", "update"])) {
            say(format_args!(
                "going on although some package lists could not be read: {error:#}"
            ));
        }
    }

    fn candidate(&self, package: &str) -> Result<String> {
        let policy = output(self.command("apt-cache").args(["policy", package]))?;
        policy
            .lines()
            .find_map(|line| line.trim().strip_prefix("Candidate: "))
            .filter(|version| *version != "(none)")
            .map(str::to_owned)
            .with_context(|| format!("this distribution has no package {package}"))
    }

    /// The packages and, of what they depend on, the shared libraries that this system has not installed.
    fn with_libraries(&self, packages: &[&str]) -> Result<BTreeSet<String>> {
        let mut found: BTreeSet<String> = packages.iter().map(|&name| name.to_owned()).collect();
        let mut queue: Vec<String> = found.iter().cloned().collect();
        while let Some(package) = queue.pop() {
            let mut depends = self.command("apt-cache");
            depends.args(["depends", "--important", &package]);
            for name in libraries_among(&output(&mut depends)?) {
                if !found.contains(name) && !is_installed(name) {
                    found.insert(name.to_owned());
                    queue.push(name.to_owned());
                }
            }
        }
        Ok(found)
    }

    fn download(&self, packages: &BTreeSet<String>) -> Result<()> {
        // `download` puts files into the current folder.
        run(self
            .command("apt-get")
            .current_dir(self.folder.join("archives"))
            .args(["-qq", "download"])
            .args(packages))
    }

    fn downloaded(&self) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join("archives");
        let entries = fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))?;
        let mut files: Vec<PathBuf> = entries
            .flatten()
            .map(|e| e.path())
            .filter(|path| path.extension().is_some_and(|e| e == "deb"))
            .collect();
        files.sort();
        Ok(files)
    }
}

/// Names of shared libraries in what `apt-cache depends` prints. Alternatives (`|Depends`) and virtual packages
/// (`<name>`) are passed over, and so is what is only for compiling against, but the compiler's own library.
fn libraries_among(depends: &str) -> impl Iterator<Item = &str> {
    depends
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("Depends: "))
        .filter(|name| name.starts_with("lib") && (!name.ends_with("-dev") || name.starts_with("libstd-rust")))
}

fn is_installed(package: &str) -> bool {
    output(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]))
        .is_ok_and(|status| status.starts_with("installed"))
}

fn at_least(version: &str, oldest: (u32, u32)) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= oldest,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shared_libraries_and_the_compilers_own_library_are_followed() {
        let printed = "rustc-web\n  Depends: libc6\n  Depends: libstd-rust-web-dev\n  Depends: gcc\n \
                       |Depends: libclang-19\n  Depends: <libc-dev>\n    libc6-dev\n  Depends: libfoo-dev\n";
        assert_eq!(
            libraries_among(printed).collect::<Vec<_>>(),
            ["libc6", "libstd-rust-web-dev"]
        );
    }

    #[test]
    fn an_old_compiler_is_refused() {
        assert!(at_least("1.96.0+dfsg1-1~deb12u2", OLDEST));
        assert!(!at_least("1.85.0+dfsg3-1~deb12u3", OLDEST));
        assert!(!at_least("(none)", OLDEST));
    }
}
