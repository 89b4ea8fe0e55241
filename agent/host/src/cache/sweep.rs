//! Removes what nobody has used for a while from the artifacts and the compiled code, so that a host that runs for
//! years does not fill its disk.
//!
//! In: the data folder, and the artifacts that are wanted now. Out: fewer files. Whatever is removed by mistake is
//! fetched or compiled again.

use heddle_protocol::digest::Digest;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How long a file that nobody wants is kept: an undo within a day fetches nothing.
const KEPT: Duration = Duration::from_secs(86_400);

/// Sweeps both folders.
pub(crate) fn sweep(data: &Path, wanted: &BTreeSet<Digest>) {
    let wanted: BTreeSet<String> = wanted.iter().map(Digest::hex).collect();
    for folder in ["artifacts", "compiled"] {
        // A folder that is not there needs no sweeping.
        let Ok(entries) = std::fs::read_dir(data.join(folder)) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            // All names begin with the artifact's 64 digits.
            let named = name
                .to_str()
                .and_then(|name| name.get(..64))
                .is_some_and(|hex| wanted.contains(hex));
            if named || !is_old(&entry) {
                continue;
            }
            match std::fs::remove_file(entry.path()) {
                Ok(()) => tracing::debug!(path = %entry.path().display(), "swept"),
                Err(e) => tracing::warn!(path = %entry.path().display(), error = %e, "an old file cannot be removed"),
            }
        }
    }
}

fn is_old(entry: &std::fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > KEPT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::ArtifactFiles;
    use std::fs::File;

    #[test]
    fn old_files_go_unless_they_are_wanted() {
        let data = tempfile::tempdir().unwrap();
        let files = ArtifactFiles::new(data.path());
        let artifacts = [&b"wanted"[..], b"old", b"new"];
        for bytes in artifacts {
            files.keep(&Digest::of(bytes), bytes).unwrap();
        }
        let long_ago = SystemTime::now() - KEPT * 2;
        for bytes in &artifacts[..2] {
            File::options()
                .write(true)
                .open(files.path(&Digest::of(bytes)))
                .unwrap()
                .set_modified(long_ago)
                .unwrap();
        }
        sweep(data.path(), &BTreeSet::from([Digest::of(b"wanted")]));
        let left = artifacts.map(|bytes| files.read(&Digest::of(bytes)).is_some());
        assert_eq!(left, [true, false, true]);
    }
}
