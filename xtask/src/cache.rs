//! Where fetched and built things are kept between runs, outside the clone so that a clean clone starts warm.
//! In: `HEDDLE_CACHE`, or the user's cache folder. Out: paths, and folders that appear whole or not at all.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The cache folder: `$HEDDLE_CACHE`, else `$XDG_CACHE_HOME/heddle`, else `~/.cache/heddle`. It is made when missing.
///
/// # Errors
/// When no folder can be named (neither variable nor a home folder) or made.
pub fn dir() -> Result<PathBuf> {
    let dir = choose(
        std::env::var_os("HEDDLE_CACHE"),
        std::env::var_os("XDG_CACHE_HOME"),
        std::env::var_os("HOME"),
    )
    .context("failed to find a cache folder: set HEDDLE_CACHE to a folder that may be written")?;
    fs::create_dir_all(&dir).with_context(|| {
        format!(
            "failed to make the cache folder {}: set HEDDLE_CACHE to another",
            dir.display()
        )
    })?;
    dir.canonicalize()
        .with_context(|| format!("failed to resolve the cache folder {}", dir.display()))
}

fn choose(own: Option<OsString>, xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let set = |value: Option<OsString>| value.filter(|v| !v.is_empty()).map(PathBuf::from);
    set(own)
        .or_else(|| set(xdg).filter(|p| p.is_absolute()).map(|p| p.join("heddle")))
        .or_else(|| set(home).map(|p| p.join(".cache").join("heddle")))
}

/// Fills the folder `target` through `fill` unless it exists already. The work happens in a neighbour that is renamed at
/// the end, so a run that dies halfway, or two runs at once, never leave a half-filled folder under the final name.
///
/// # Errors
/// Those of `fill`, and those of making and renaming folders.
pub fn fill_once(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if target.is_dir() {
        return Ok(());
    }
    let parent = target
        .parent()
        .context("failed to fill a cache folder: it has no parent")?;
    let name = target
        .file_name()
        .context("failed to fill a cache folder: it has no name")?
        .to_string_lossy();
    let work = parent.join(format!(".{name}.{}", std::process::id()));
    remove_if_there(&work)?;
    fs::create_dir_all(&work).with_context(|| format!("failed to make {}", work.display()))?;
    let filled = fill(&work).and_then(|()| match fs::rename(&work, target) {
        Ok(()) => Ok(()),
        // Somebody else finished first with the same content.
        Err(_) if target.is_dir() => remove_if_there(&work),
        Err(error) => Err(error).with_context(|| format!("failed to rename {} to its place", work.display())),
    });
    if filled.is_err() {
        // The first error is the one to report; what is left here is overwritten by the next run.
        let _ = remove_if_there(&work);
    }
    filled
}

fn remove_if_there(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("failed to remove {}", dir.display())),
    }
}

/// Writes `bytes` to `path` by way of a neighbour and a rename, so that readers see the old file or the new one.
///
/// # Errors
/// When the folder cannot be made or written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path
        .parent()
        .context("failed to write a file: its path has no folder")?;
    fs::create_dir_all(parent).with_context(|| format!("failed to make {}", parent.display()))?;
    let name = path
        .file_name()
        .context("failed to write a file: its path has no name")?
        .to_string_lossy();
    let work = parent.join(format!(".{name}.{}", std::process::id()));
    fs::write(&work, bytes).with_context(|| format!("failed to write {}", work.display()))?;
    fs::rename(&work, path).with_context(|| format!("failed to rename {} to its place", work.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(text: &str) -> Option<OsString> {
        Some(text.into())
    }

    #[test]
    fn the_projects_own_variable_beats_the_users_cache_folder() {
        assert_eq!(choose(s("/c"), s("/x"), s("/h")), Some("/c".into()));
        assert_eq!(choose(s(""), s("/x"), s("/h")), Some("/x/heddle".into()));
        assert_eq!(choose(None, s("relative"), s("/h")), Some("/h/.cache/heddle".into()));
        assert_eq!(choose(None, None, None), None);
    }

    #[test]
    fn a_failed_fill_leaves_nothing_and_a_done_one_is_not_repeated() {
        let base = std::env::temp_dir().join(format!("heddle-cache-test-{}", std::process::id()));
        let target = base.join("thing");
        assert!(fill_once(&target, |_| anyhow::bail!("failed to fill")).is_err());
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
        fill_once(&target, |dir| Ok(fs::write(dir.join("a"), "1")?)).unwrap();
        fill_once(&target, |_| panic!("filled twice")).unwrap();
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "1");
        fs::remove_dir_all(&base).unwrap();
    }
}
