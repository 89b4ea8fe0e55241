//! Programs that come as Debian packages. In: the names of packages. Out: a folder with them and with the shared
//! libraries that this system lacks, unpacked. Nothing is installed and no rights are needed; the system's packages stay
//! as they are.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{find_on_path, output, run, say};

/// Whether packages can be fetched and unpacked here at all.
#[must_use]
pub fn has_packages() -> bool {
    find_on_path("apt-get").is_some() && find_on_path("dpkg-deb").is_some()
}

/// Fetches packages, and the shared libraries they need, and unpacks them into a folder. `fit` looks at the version of
/// the first one before anything is downloaded.
///
/// # Errors
/// When this is no Debian, a package is not in its archive, the version does not fit, or a download fails.
pub fn unpack(folder: &Path, packages: &[&str], fit: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    if !has_packages() {
        bail!("this system has no Debian packages");
    }
    let apt = Apt::new(&folder.join(".apt"))?;
    apt.update();
    let first = packages.first().context("no package is named")?;
    fit(&apt.candidate(first)?)?;
    let wanted = apt.with_libraries(packages)?;
    apt.download(&wanted)?;
    for package in apt.downloaded()? {
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(folder))?;
    }
    fs::remove_dir_all(&apt.folder).with_context(|| format!("failed to remove {}", apt.folder.display()))
}

/// The folders of the shared libraries that were unpacked into a folder, for `LD_LIBRARY_PATH`.
#[must_use]
pub fn libraries(folder: &Path) -> OsString {
    let usr_lib = folder.join("usr/lib");
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
}
