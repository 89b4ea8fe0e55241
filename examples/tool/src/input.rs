//! A digest of everything that a guest is made from. In: folders and a description of the toolchain. Out: a short hex
//! text that changes when any of them does.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Hex digits kept: 64 bits, far beyond the number of builds a cache will ever hold.
const DIGITS: usize = 16;

/// The digest of all files under `folders` (relative to `root`) together with `recipe`.
pub(crate) fn digest(root: &Path, folders: &[&str], recipe: &str) -> Result<String> {
    let mut hash = Sha256::new();
    take(&mut hash, recipe.as_bytes());
    for folder in folders {
        let mut files = Vec::new();
        collect(&root.join(folder), &mut files)?;
        files.sort();
        for file in files {
            let name = file.strip_prefix(root).unwrap_or(&file);
            take(&mut hash, name.to_string_lossy().as_bytes());
            take(
                &mut hash,
                &fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?,
            );
        }
    }
    let mut digits = hex::encode(hash.finalize());
    digits.truncate(DIGITS);
    Ok(digits)
}

/// Each part goes in with its length, so that no two lists of parts look alike.
fn take(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_be_bytes());
    hash.update(part);
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("failed to read the folder {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("failed to read the folder {}", folder.display()))?
            .path();
        if path.is_dir() {
            // Build output of somebody who ran cargo by hand is no source.
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_renamed_source_changes_the_digest_and_build_output_does_not() {
        let root = std::env::temp_dir().join(format!("heddle-guests-digest-{}", std::process::id()));
        let src = root.join("g").join("src");
        fs::create_dir_all(&src).unwrap();
        fs::write(src.join("a"), "1").unwrap();
        let first = digest(&root, &["g"], "r").unwrap();
        fs::create_dir_all(root.join("g").join("target")).unwrap();
        fs::write(root.join("g").join("target").join("x"), "1").unwrap();
        assert_eq!(digest(&root, &["g"], "r").unwrap(), first);
        assert_ne!(digest(&root, &["g"], "other").unwrap(), first);
        fs::rename(src.join("a"), src.join("b")).unwrap();
        let renamed = digest(&root, &["g"], "r").unwrap();
        assert_ne!(renamed, first);
        fs::write(src.join("b"), "2").unwrap();
        assert_ne!(digest(&root, &["g"], "r").unwrap(), renamed);
        fs::remove_dir_all(&root).unwrap();
    }
}
