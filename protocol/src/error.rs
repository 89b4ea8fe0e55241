//! What can be wrong with bytes that claim to be one of our messages.

/// A message, key or subject that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The bytes are not the JSON that this message has.
    #[error("failed to read {what}: {source}")]
    Json {
        /// The message.
        what: &'static str,
        /// Where and why the JSON is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The message is framed wrongly.
    #[error("failed to read {what}: {why}")]
    Frame {
        /// The message.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The message has a version that this program does not speak.
    #[error("failed to read {what}: version {found} is newer than {known}; update this program")]
    Version {
        /// The message.
        what: &'static str,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A key or seed is malformed.
    #[error("failed to use key: {0}")]
    Key(String),
    /// A signature does not fit, or its key is not trusted.
    #[error("failed to verify signature of key {key_id}: the bytes were changed, or another key signed them")]
    Signature {
        /// The key that the message names.
        key_id: String,
    },
    /// A sealed value does not open, or cannot be sealed.
    #[error("{0}")]
    Seal(String),
    /// A message is larger than its kind may be.
    #[error("failed to take {what} of {bytes} bytes: at most {bytes_max} are allowed")]
    TooLarge {
        /// The message.
        what: &'static str,
        /// Its size, in bytes.
        bytes: u64,
        /// The largest allowed size, in bytes.
        bytes_max: u64,
    },
}
