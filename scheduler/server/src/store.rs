//! The store: a fenced chain of commits in one JetStream stream for each realm.
//!
//! In: a [`Commit`], any number of keys that change together. Out: a [`CommitOutcome`] that is said only when it is
//! certain, and the [`Image`] of all live values. Every commit is one atomic batch whose last message moves `head`, and
//! `head` may move only from where this writer saw it: so one scheduler at a time can commit, a change is whole or absent,
//! and there is one order of events. The head's digest makes a silent loss visible.
//!
//! [`Store`] is a handle: clones share one chain, and one commit is in flight at a time. The same code runs on JetStream
//! and on a log in memory ([`MemoryRealm`]); one contract suite checks both. What to do when the store has diverged (safe
//! mode), when to take over, and what the values mean is the caller's business.

mod artifact_store;
mod batch;
mod chain;
mod code_store;
mod commit;
mod content;
mod digest;
mod error;
mod feed;
mod fold;
mod image;
mod jetstream;
mod load;
mod log;
mod memory;
mod past_store;
mod preflight;
mod record;
mod rewrite;
mod settings;
mod stage;
mod weather;

pub use artifact_store::{ArtifactInfo, ArtifactReader, ArtifactStore};
pub use chain::Store;
pub use code_store::CodeStore;
pub use digest::SetDigest;
pub use error::{Cause, StoreError};
pub use feed::{Feed, FeedEvent};
pub use image::{read_image, write_image};
#[doc(hidden)]
pub use log::Fault;
pub use memory::{LostRecord, MemoryRealm, Stored};
pub use past_store::PastStore;
pub use preflight::{Preflight, PreflightOptions, SERVER_VERSION_MIN, SyncMode, preflight};
pub use record::{
    AuditRecord, Commit, CommitKind, CommitOutcome, Committed, DIRECT_BYTES_MAX, DIRECT_WRITES_MAX, HEAD_SCHEMA, Head,
    Image, MARKER_TTL, VALUE_BYTES_MAX, Write,
};
pub use rewrite::RESTORE_EPOCH_STEP;
pub use settings::StoreOptions;
pub use weather::{Trip, Weather};
