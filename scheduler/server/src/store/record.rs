//! The words of the store: what is written, what is read back, and what became of a commit.
//!
//! Plain values shared by the real store, the one in memory, the feed and the local image. Values are opaque bytes here;
//! only `head` has a shape of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::digest::SetDigest;
use super::error::StoreError;

/// The form of `head` that this scheduler writes. It reads this one and the one before.
pub const HEAD_SCHEMA: u32 = 1;
/// Above this many writes a commit is staged: a NATS batch holds 1,000 messages, of which head and audit take two.
pub const DIRECT_WRITES_MAX: usize = 900;
/// Above this many bytes a commit is staged, so that one batch never holds much of a server's memory.
pub const DIRECT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// One value or audit record at most: half of NATS's default payload, as everywhere on our wire.
pub const VALUE_BYTES_MAX: usize = 512 * 1024;
/// How long a delete marker stays: longer than any reader needs to catch up, short enough not to pile up.
pub const MARKER_TTL: Duration = Duration::from_secs(3600);

/// The key of the fence.
pub(crate) const HEAD: &str = "head";

/// One key's new value, or its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key, such as `workload.shop.cart`.
    pub key: String,
    /// The value; `None` removes the key.
    pub value: Option<Bytes>,
}

impl Write {
    /// Sets `key` to `value`.
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            value: Some(value.into()),
        }
    }

    /// Removes `key`.
    pub fn remove(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: None,
        }
    }
}

/// One change: all of it is stored, or none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// The writes, at most one for each key.
    pub writes: Vec<Write>,
    /// The body of this commit's audit record.
    pub audit: Bytes,
}

impl Commit {
    /// Refuses what could not be stored or read back, before anything is sent.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.audit.len() > VALUE_BYTES_MAX {
            return Err(too_large("the audit record", self.audit.len()));
        }
        let mut seen = BTreeSet::new();
        for write in &self.writes {
            check_key(&write.key)?;
            let bytes = write.value.as_ref().map_or(0, Bytes::len);
            if bytes > VALUE_BYTES_MAX {
                return Err(too_large(&format!("the value of {:?}", write.key), bytes));
            }
            if !seen.insert(write.key.as_str()) {
                return Err(StoreError::Invalid(format!(
                    "key {:?} is written twice in one change",
                    write.key
                )));
            }
        }
        Ok(())
    }
}

fn too_large(what: &str, bytes: usize) -> StoreError {
    StoreError::Invalid(format!(
        "{what} has {bytes} bytes; {VALUE_BYTES_MAX} are allowed (split it)"
    ))
}

/// A key is what NATS key-value buckets take, and none of the store's own.
fn check_key(key: &str) -> Result<(), StoreError> {
    let bad = |why: &str| Err(StoreError::Invalid(format!("key {key:?} {why}")));
    if key.is_empty() || key.len() > 200 {
        return bad("must have 1 to 200 characters");
    }
    if key.split('.').any(str::is_empty) {
        return bad("has an empty part");
    }
    if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=./".contains(&b)) {
        return bad("may only hold letters, digits and - _ = / .");
    }
    if is_own(key) {
        return bad("belongs to the store itself");
    }
    Ok(())
}

/// Whether the store keeps its own books under this key; such keys are no part of the digest.
pub(crate) fn is_own(key: &str) -> bool {
    matches!(key.split('.').next(), Some("head" | "change" | "audit" | "stage"))
}

/// The newest commit: the fence, and the only source of order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The form of this record.
    pub schema: u32,
    /// Counts take-overs: commits of an older epoch cannot happen any more.
    pub epoch: u64,
    /// Counts commits, take-overs among them.
    pub n: u64,
    /// The set digest of all live values after this commit.
    pub digest: SetDigest,
    /// How many live values there are.
    pub count: u64,
    /// The id of the batch that wrote it; how a writer recognises its own commit.
    pub batch_id: String,
    /// Who wrote it.
    pub leader_id: String,
    /// The digest before this commit.
    pub prev_digest: SetDigest,
}

impl Head {
    /// The head of a store that was never written.
    pub fn none() -> Self {
        Self {
            schema: HEAD_SCHEMA,
            epoch: 0,
            n: 0,
            digest: SetDigest::EMPTY,
            count: 0,
            batch_id: String::new(),
            leader_id: String::new(),
            prev_digest: SetDigest::EMPTY,
        }
    }

    /// Reads a stored head; one of a newer schema is refused, not guessed at.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, StoreError> {
        let head: Head = serde_json::from_slice(body).map_err(|error| StoreError::corrupt(HEAD, error))?;
        if head.schema > HEAD_SCHEMA {
            let why = format!(
                "it has schema {}, this scheduler knows {HEAD_SCHEMA} (upgrade the scheduler)",
                head.schema
            );
            return Err(StoreError::corrupt(HEAD, why));
        }
        Ok(head)
    }
}

/// The logical content of the store as of one head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The head it belongs to.
    pub head: Head,
    /// The stream sequence of that head: the fence of the next commit. Zero in a store never written.
    pub head_seq: u64,
    /// All live values, without the store's own records.
    pub values: BTreeMap<String, Bytes>,
}

impl Image {
    /// The image of a store that was never written.
    pub fn empty() -> Self {
        Self {
            head: Head::none(),
            head_seq: 0,
            values: BTreeMap::new(),
        }
    }

    /// Compares the values with the head.
    pub fn verify(&self) -> Result<(), StoreError> {
        let found = SetDigest::of(&self.values);
        let found_count = self.values.len() as u64;
        if found == self.head.digest && found_count == self.head.count {
            return Ok(());
        }
        Err(StoreError::Diverged {
            n: self.head.n,
            expected: self.head.digest,
            expected_count: self.head.count,
            found,
            found_count,
        })
    }
}

/// Why a commit was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommitKind {
    /// A change asked for by the caller.
    Change,
    /// A scheduler became the leader; no value changed.
    TakeOver,
    /// Staged writes moved to keys of their own; no value changed.
    Fold,
    /// The content was rewritten from a verified image.
    Rewrite,
}

impl CommitKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::TakeOver => "take-over",
            Self::Fold => "fold",
            Self::Rewrite => "rewrite",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Change, Self::TakeOver, Self::Fold, Self::Rewrite]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// One commit's audit record, as stored in the same batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// The number of the commit.
    pub n: u64,
    /// The batch that wrote it.
    pub batch_id: String,
    /// Why it was made; only [`CommitKind::Change`] and [`CommitKind::Rewrite`] carry a caller's body.
    pub kind: CommitKind,
    /// When the server stored it, in milliseconds since 1970 by the server's clock.
    pub stored_at_ms: u64,
    /// The caller's bytes.
    pub body: Bytes,
}

/// What became of a commit, said only when it is certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is stored.
    Committed {
        /// Its number.
        n: u64,
        /// The stream sequence of its head.
        seq: u64,
    },
    /// It is not stored and never will be: another scheduler has committed since.
    Conflict {
        /// The head that is there instead.
        head: Head,
    },
}

/// One commit as a follower sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The head that ended it.
    pub head: Head,
    /// The stream sequence of that head.
    pub seq: u64,
    /// The stream sequence of the head before it.
    pub prev_seq: u64,
    /// Why it was made.
    pub kind: CommitKind,
    /// The logical writes, in the order of the commit. A fold repeats values that are already there.
    pub writes: Vec<Write>,
    /// What it did to the stream; see [`Step`](super::content::Step).
    pub(crate) steps: Vec<super::content::Step>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_could_not_be_read_back_are_refused() {
        for key in [
            "", "head", "audit.7", "change.1", "stage.ab", "a..b", ".a", "a.", "a b", "a.*", "a.>", "ä",
        ] {
            assert!(check_key(key).is_err(), "{key:?} was taken");
        }
        for key in ["workload.shop.cart", "tmpl.0a", "host.edge-1", "header.x"] {
            assert!(check_key(key).is_ok(), "{key:?} was refused");
        }
    }

    #[test]
    fn a_head_of_a_newer_schema_is_refused() {
        let mut head = Head::none();
        head.schema = HEAD_SCHEMA + 1;
        let body = serde_json::to_vec(&head).unwrap();
        assert!(
            Head::parse(&body)
                .unwrap_err()
                .to_string()
                .contains("upgrade the scheduler")
        );
    }
}
