//! What every store refuses, so that a workload behaves alike on all of them. In: sizes. Out: refusals with the reason.

use std::time::Duration;

/// One value, in bytes, as other stores allow (NATS takes 1 MiB, too).
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// One key or one bucket's name, in bytes.
pub const KEY_BYTES_MAX: usize = 1 << 10;
/// All values of one answer, in bytes: an answer is held twice while it is handed over.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Keys on one page of a list.
pub const PAGE_KEYS: usize = 1_000;
/// Keys of one batch: the calls behind it must fit into the time of one.
pub const BATCH_KEYS_MAX: usize = 1_000;
/// Longest wait of one call for a store: less than any workload's time limit is worth setting, so that the guest can
/// still answer whoever called it. A call whose own deadline is nearer has less.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(5);

/// Why something cannot be stored or answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The bucket is not there and cannot be made.
    #[error("there is no such store")]
    NoSuchStore,
    /// The store knows this agent's login and does not let it do that, or does not know it.
    #[error("the store denies access; check the capability's credentials")]
    AccessDenied,
    /// A key or a bucket's name is too long.
    #[error("a key has at most {KEY_BYTES_MAX} bytes, and this one {0}")]
    Key(usize),
    /// A value is too large.
    #[error("a value has at most {VALUE_BYTES_MAX} bytes, and this one {0}")]
    Value(usize),
    /// A batch has too many keys.
    #[error("a batch has at most {BATCH_KEYS_MAX} keys, and this one {0}")]
    Batch(usize),
    /// The store has no room.
    #[error("the store is full: {0}")]
    Full(String),
    /// There are too many buckets.
    #[error("a store has at most {0} buckets")]
    Buckets(usize),
    /// An answer would be too large.
    #[error("the values have more than {ANSWER_BYTES_MAX} bytes together; ask for fewer")]
    Answer,
    /// A number was to be added to something else.
    #[error("the value of {0:?} is no number in decimal digits")]
    NoNumber(String),
    /// A sum does not fit.
    #[error("the number would be larger than the store holds")]
    Overflow,
    /// Others changed the value each time.
    #[error("others changed {0:?} each time; try again")]
    Contended(String),
    /// The store did not answer in time: whether it did what was asked is unknown.
    #[error("the store did not answer within {} ms; whether it did what was asked is unknown", .0.as_millis())]
    Late(Duration),
    /// The store cannot be reached, or answers with an error.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
}

/// Whether a key, or a bucket's name, has a fit size.
pub(crate) fn check_key(key: &str) -> Result<(), Refused> {
    match key.len() {
        ..=KEY_BYTES_MAX => Ok(()),
        bytes => Err(Refused::Key(bytes)),
    }
}

/// Whether a pair has a fit size.
pub(crate) fn check_pair(key: &str, value: &[u8]) -> Result<(), Refused> {
    check_key(key)?;
    match value.len() {
        ..=VALUE_BYTES_MAX => Ok(()),
        bytes => Err(Refused::Value(bytes)),
    }
}

/// Whether a batch has a fit size.
pub(crate) fn check_batch<'a>(mut keys: impl ExactSizeIterator<Item = &'a str>) -> Result<(), Refused> {
    match keys.len() {
        ..=BATCH_KEYS_MAX => keys.try_for_each(check_key),
        many => Err(Refused::Batch(many)),
    }
}
