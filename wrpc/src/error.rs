//! What can go wrong between two peers.
//!
//! In: nothing. Out: one enum per moment (connecting, serving, calling) and what a handler answers when it has no
//! results. Every message says what happened and what to try; none of them holds arguments or results.

use std::sync::Arc;

/// Longest text of a fault that travels, in bytes: the rest is cut off.
pub(crate) const FAULT_TEXT_BYTES_MAX: usize = 1 << 10;

/// Why a call has no results.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The time of the call is up. The callee may have executed it, wholly or in part, and was told to stop.
    #[error(
        "failed to get results in time: the deadline of the call has passed and the callee may have executed it; \
         give the call more time, or find out why the callee is slow"
    )]
    Deadline,
    /// Nobody serves the function: the call was certainly not executed.
    #[error(
        "failed to reach the callee: nobody serves this function now and the call was not executed; \
         check that a replica of the callee is ready, then call again"
    )]
    NoResponders,
    /// The callee refused before executing (it has too many calls in flight, or a reason of its own).
    #[error("failed to call: the callee refused before executing anything: {0}; call again later or elsewhere")]
    Refused(String),
    /// The callee began and failed: it trapped, panicked, or its answer has no results in it.
    #[error("failed to call: the callee failed: {0}; look at the callee's log")]
    Failed(String),
    /// Arguments or results are larger than allowed.
    #[error(
        "failed to call: {what} of {bytes} bytes are more than the {limit} bytes that are allowed; \
         send less at once, or raise the limit on both sides"
    )]
    TooLarge {
        /// Which side: "arguments", "results" or "unread data".
        what: &'static str,
        /// How many bytes there were, as far as they were counted.
        bytes: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// The peer does not keep to the protocol, or its types are not what the caller takes them for.
    #[error("failed to understand the peer: {0}; check that both sides were built from the same interface")]
    Protocol(String),
    /// The connection to NATS is gone, or a subject cannot be published on.
    #[error("failed to send the call: {0}; check the connection to NATS and its permissions")]
    Connection(String),
    /// Nobody waits for the results any more: seen only at the callee, in the streams of a typed call.
    #[error("failed to go on with the call: its caller has cancelled it or gone away; there is nothing to do")]
    Cancelled,
}

impl CallError {
    /// Whether the callee has certainly not executed anything, so that the call can be made again elsewhere.
    pub fn is_not_executed(&self) -> bool {
        matches!(self, Self::NoResponders | Self::Refused(_))
    }
}

/// Why a connection for calls could not be made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// NATS refused the subscription.
    #[error("failed to listen for answers: {reason}; check the connection to NATS")]
    Subscribe {
        /// What the client says.
        reason: String,
    },
    /// The inbox does not come to life.
    #[error(
        "failed to listen for answers: nothing that was sent to the own inbox {inbox:?} came back within {within_ms} ms; \
         check that NATS is up and that this user may publish and subscribe there"
    )]
    Silent {
        /// The subject that was tried.
        inbox: String,
        /// How long.
        within_ms: u64,
    },
}

/// Why a function is not served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ServeError {
    /// NATS refused the subscription.
    #[error("failed to serve {subject:?}: {reason}; check the subject and the connection to NATS")]
    Subscribe {
        /// The subject of the function.
        subject: String,
        /// What the client says.
        reason: String,
    },
    /// The server did not confirm the subscription in time.
    #[error(
        "failed to serve {subject:?}: NATS did not confirm the subscription within {within_ms} ms; \
         check that NATS is up, then serve again"
    )]
    Silent {
        /// The subject of the function.
        subject: String,
        /// How long.
        within_ms: u64,
    },
}

/// What a handler answers when it has no results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was executed: another callee may be asked.
    Refused(String),
    /// It was executed, at least in part, and failed. The text goes to the caller: no secrets in it.
    Failed(String),
    /// The callee ran out of time.
    Deadline,
    /// The arguments cannot be decoded.
    Protocol(String),
    /// The results are larger than allowed.
    TooLarge {
        /// How many bytes.
        bytes: u64,
        /// How many are allowed.
        limit: u64,
    },
}

/// An error that is shared by the readers and writers of one call.
pub(crate) fn io(error: &CallError) -> std::io::Error {
    let kind = match error {
        CallError::Deadline => std::io::ErrorKind::TimedOut,
        CallError::NoResponders => std::io::ErrorKind::NotConnected,
        CallError::Cancelled => std::io::ErrorKind::BrokenPipe,
        CallError::Refused(_) => std::io::ErrorKind::ConnectionRefused,
        CallError::TooLarge { .. } => std::io::ErrorKind::OutOfMemory,
        CallError::Protocol(_) => std::io::ErrorKind::InvalidData,
        CallError::Failed(_) | CallError::Connection(_) => std::io::ErrorKind::Other,
    };
    std::io::Error::new(kind, error.clone())
}

/// The typed error in an error of the typed calls (`invoke_values` and the readers), if there is one.
pub fn call_error(error: &anyhow::Error) -> Option<CallError> {
    error.chain().find_map(|cause| {
        if let Some(call) = cause.downcast_ref::<CallError>() {
            return Some(call.clone());
        }
        let io = cause.downcast_ref::<std::io::Error>()?;
        io.get_ref()?.downcast_ref::<CallError>().cloned()
    })
}

/// A text that fits in a header: one line, of bounded length.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(FAULT_TEXT_BYTES_MAX));
    for c in text.chars() {
        if line.len() + c.len_utf8() > FAULT_TEXT_BYTES_MAX {
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line.trim().to_owned()
}

/// What NATS says, for errors.
pub(crate) fn connection(error: impl std::fmt::Display) -> CallError {
    CallError::Connection(error.to_string())
}

/// A shared failure.
pub(crate) type Failure = Arc<CallError>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_text_is_one_line_of_bounded_length() {
        let line = one_line(&format!("a\r\nb{}", "ü".repeat(4096)));
        assert!(line.starts_with("a  bü"));
        assert!(line.len() <= FAULT_TEXT_BYTES_MAX);
        assert!(!line.contains(['\r', '\n']));
    }

    #[test]
    fn only_calls_that_reached_nobody_are_certainly_not_executed() {
        assert!(CallError::NoResponders.is_not_executed());
        assert!(CallError::Refused(String::new()).is_not_executed());
        assert!(!CallError::Deadline.is_not_executed());
        assert!(!CallError::Failed(String::new()).is_not_executed());
    }

    #[test]
    fn the_typed_error_is_found_inside_an_io_error() {
        let error = anyhow::Error::from(io(&CallError::Deadline)).context("failed to receive sync results");
        assert_eq!(call_error(&error), Some(CallError::Deadline));
    }
}
