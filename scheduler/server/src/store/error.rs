//! What can go wrong in the store, in words a person can act on.
//!
//! In: what the server said or did not say. Out: [`StoreError`]. Each message finishes the phrase "failed to …" and
//! says what to try next. A lost fence is no error: it is [`CommitOutcome::Conflict`](super::CommitOutcome::Conflict).

use super::digest::SetDigest;

/// A reason kept as the source of an error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The server could not be reached, and nothing was or can be changed by this call.
    #[error("{doing}: the store cannot be reached (check that nats-server is up and its address is right)")]
    Unavailable {
        /// What was being done.
        doing: String,
        /// What the client reported.
        #[source]
        source: Cause,
    },
    /// The commit was sent and its outcome could not be learned: it may be stored, now or a little later.
    #[error(
        "learn the outcome of commit {n} (batch {batch_id}): the store did not answer in time; \
         ask again with the same request id once it is reachable"
    )]
    Unknown {
        /// The number the commit would have.
        n: u64,
        /// The id written into its head and audit record.
        batch_id: String,
        /// The last thing that was tried.
        #[source]
        source: Cause,
    },
    /// An earlier commit's outcome is still unknown, so nothing may be built on top of it.
    #[error("commit: the outcome of commit {n} (batch {batch_id}) is unknown; settle it or load again first")]
    InDoubt {
        /// The number of the commit in doubt.
        n: u64,
        /// Its batch id.
        batch_id: String,
    },
    /// The caller has no verified image yet, or lost it to a conflict.
    #[error("commit: no verified image is loaded; load the store first")]
    NotLoaded,
    /// The caller never took over, or another scheduler has since.
    #[error("commit: this scheduler does not lead; take over first")]
    NotLeading,
    /// The commit itself is not one the store takes.
    #[error("commit: {0}")]
    Invalid(String),
    /// The server took nothing and said why.
    #[error("{doing}: the server refused it with code {code} ({description}); {hint}")]
    Refused {
        /// What was being done.
        doing: String,
        /// NATS's error code.
        code: u64,
        /// NATS's own words.
        description: String,
        /// What to try next.
        hint: &'static str,
    },
    /// The content is not what the head says it is, and stayed so when read again.
    #[error(
        "verify the store at commit {n}: its {found_count} values have digest {found}, its head says {expected_count} \
         values with digest {expected}; nothing will be decided from it (restore a backup, or let a scheduler with a \
         verified image rewrite it)"
    )]
    Diverged {
        /// The commit of the head it was compared with.
        n: u64,
        /// The head's digest.
        expected: SetDigest,
        /// The head's number of values.
        expected_count: u64,
        /// The digest of what was read.
        found: SetDigest,
        /// The number of values read.
        found_count: u64,
    },
    /// Something stored cannot be read back as what it should be.
    #[error("read {what}: {why}; nothing will be decided from it (restore a backup)")]
    Corrupt {
        /// The key or file.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The store is older than what this scheduler has already seen.
    #[error(
        "trust the store: its head is {found}, but commit {expected} was seen before; it was rolled back or recreated \
         (restore from the newest verified image)"
    )]
    RolledBack {
        /// The commit seen before.
        expected: u64,
        /// What is there now, in words.
        found: String,
    },
    /// The stream exists with settings that would break the promises of the store.
    #[error(
        "use stream {stream}: its settings differ: {}; nothing was changed (correct them with `nats stream edit`, or \
         choose another realm)",
        differences.join("; ")
    )]
    Settings {
        /// The stream's name.
        stream: String,
        /// One line for each difference: setting, found, needed.
        differences: Vec<String>,
    },
    /// The server is not one that keeps acknowledged writes.
    #[error("use this nats-server: {0}")]
    Unfit(String),
    /// A local file could not be written or read.
    #[error("{doing}")]
    File {
        /// What was being done, with the path.
        doing: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

impl StoreError {
    /// An [`StoreError::Unavailable`] from any cause.
    pub(crate) fn unavailable(doing: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Unavailable {
            doing: doing.into(),
            source: source.into(),
        }
    }

    /// A [`StoreError::Corrupt`] from words.
    pub(crate) fn corrupt(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Corrupt {
            what: what.into(),
            why: why.to_string(),
        }
    }
}
