//! How a command fails: what failed and why in one line, the next thing to try, and the exit code.
//!
//! In: errors of whatever was called. Out: what `output` prints, for people or as JSON.

use crate::exit::Exit;
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::manifest::Problem;
use heddle_wire::client::ClientError;
use heddle_wire::connect::ConnectError;
use serde::Serialize;
use std::fmt;

/// A command's failure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// The exit code.
    #[serde(serialize_with = "as_number")]
    pub exit: Exit,
    /// The scheduler's code, if it was the scheduler that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// What failed, and why: one line.
    pub message: String,
    /// The next thing to try.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next: String,
    /// Everything that is wrong with a manifest.
    #[serde(skip_serializing_if = "<[Problem]>::is_empty")]
    pub problems: Box<[Problem]>,
    /// What is known nevertheless: what was committed before the waiting timed out, say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<Box<serde_json::Value>>,
}

fn as_number<S: serde::Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(*exit as u8)
}

impl Failure {
    /// A failure with the next thing to try.
    pub fn new(exit: Exit, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            exit,
            code: None,
            message: message.into(),
            next: next.into(),
            problems: Box::default(),
            known: None,
        }
    }

    /// A manifest that breaks rules.
    pub fn invalid_manifest(problems: Vec<Problem>) -> Self {
        Self::from(ApiError::invalid(problems))
    }

    /// A file that cannot be read or written.
    pub fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let next = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path; paths are relative to the current directory",
            std::io::ErrorKind::PermissionDenied => "check who may use the file",
            _ => "",
        };
        Self::new(
            Exit::Failed,
            format!("failed to {doing} {}: {error}", path.display()),
            next,
        )
    }

    /// The same failure with what is known nevertheless.
    #[must_use]
    pub fn with_known<T: Serialize>(mut self, known: &T) -> Self {
        self.known = serde_json::to_value(known).ok().map(Box::new);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self {
            exit: error.code.into(),
            code: Some(error.code),
            message: error.message,
            next: error.next,
            problems: error.problems.into(),
            known: None,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Api(error) => error.into(),
            ClientError::Connect(error) => error.into(),
            ClientError::Unreachable { .. } => Self::new(
                Exit::Unreachable,
                message,
                "start a scheduler, or check the realm: `heddle context show` tells which one is asked",
            ),
            ClientError::Unknown { .. } => Self::new(
                Exit::Unknown,
                message,
                "run the same command again: a change that was already made is then reported as unchanged",
            ),
            ClientError::Protocol(_) => Self::new(
                Exit::Failed,
                message,
                "compare `heddle version` with the scheduler's version",
            ),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let message = error.to_string();
        match error {
            ConnectError::Credentials { .. } | ConnectError::Login => Self::new(
                Exit::Failed,
                message,
                "check --creds, HEDDLE_CREDS or the context's `creds`",
            ),
            ConnectError::Connect { .. } => Self::new(
                Exit::Unreachable,
                message,
                "start a local fleet with `heddle up`, or name another server with --nats, HEDDLE_NATS or `heddle context use`",
            ),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(Exit::Failed, format!("failed to write JSON: {error}"), "")
    }
}
