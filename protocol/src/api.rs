//! What a client may ask the scheduler, one file per verb.
//!
//! A request travels in an [`crate::envelope`] of kind `Api`, on the subject that names its namespace and verb. Its
//! payload is one line of JSON ([`Request`]), a newline, and the bytes of an attachment if the verb takes one. The
//! answer is one line of JSON ([`Response`]), a newline, and an attachment likewise.

pub mod apply;
pub mod artifact;
pub mod audit;
pub mod events;
pub mod explain;
pub mod hosts;
pub mod logs;
pub mod objects;
pub mod realm;
pub mod rebalance;
pub mod replay;
pub mod status;
pub mod step;

use crate::error::ProtocolError;
use crate::id::{Namespace, Realm, RequestId};
use crate::manifest::Problem;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of requests and responses.
pub const VERSION: u32 = 1;

/// A verb of the API: its name in the subject, and the types of its body and answer.
pub trait Verb: Serialize + DeserializeOwned + Send {
    /// The verb's name, the subject's last token.
    const NAME: &'static str;
    /// Whether it changes anything.
    const WRITES: bool;
    /// What it answers.
    type Answer: Serialize + DeserializeOwned + Send;
}

/// A request, without its attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The version of this shape.
    pub v: u32,
    /// The client's name for this request: sent again with the same id, it has one effect.
    pub request_id: RequestId,
    /// The realm, as in the subject: a signature must not be worth anything elsewhere.
    pub realm: Realm,
    /// The verb, as in the subject.
    pub verb: String,
    /// The namespace, as in the subject.
    pub namespace: Namespace,
    /// Who asks, as they say; kept in the audit record. A signature binds it to a key.
    pub actor: String,
    /// The verb's own body.
    pub body: serde_json::Value,
}

/// An answer, without its attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The version of this shape.
    pub v: u32,
    /// The answer, if it went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<serde_json::Value>,
    /// What failed, if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What failed, where, and why, in one sentence.
    pub message: String,
    /// The next thing to try.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
    /// Everything that is wrong with a manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Value>")]
    pub problems: Vec<Problem>,
}

/// What kind of failure. Each has a page in `docs/errors/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request cannot be read.
    BadRequest,
    /// The manifest breaks rules; `problems` lists all of them.
    InvalidManifest,
    /// There is no such object.
    NotFound,
    /// The object is in use, or owned by another, or changed meanwhile.
    Conflict,
    /// The signature is missing or not trusted, or the actor may not do this.
    Forbidden,
    /// A request id was used again with another body.
    RequestIdReused,
    /// An artifact cannot be fetched, verified or read.
    Artifact,
    /// More than is allowed at once.
    TooLarge,
    /// The scheduler cannot commit now: the store does not answer, or it is in safe mode.
    Unavailable,
    /// Whether it was committed is not known; asking again with the same request id tells.
    Unknown,
    /// A fault of the scheduler's own.
    Internal,
}

impl ErrorCode {
    /// The code's name, as it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::InvalidManifest => "invalid-manifest",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Forbidden => "forbidden",
            Self::RequestIdReused => "request-id-reused",
            Self::Artifact => "artifact",
            Self::TooLarge => "too-large",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Internal => "internal",
        }
    }
}

impl ApiError {
    /// A failure with the next thing to try.
    pub fn new(code: ErrorCode, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            next: next.into(),
            problems: Vec::new(),
        }
    }

    /// A manifest that breaks rules.
    pub fn invalid(problems: Vec<Problem>) -> Self {
        let s = if problems.len() == 1 { "" } else { "s" };
        Self {
            code: ErrorCode::InvalidManifest,
            message: format!("failed to take the manifest: {} problem{s}", problems.len()),
            next: "mend what is listed; `heddle validate` checks a file without a fleet".to_owned(),
            problems,
        }
    }
}

/// Joins a head's JSON and an attachment.
pub fn join<T: Serialize>(what: &'static str, head: &T, attachment: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    let mut bytes = crate::envelope::to_bytes(what, head)?;
    if !attachment.is_empty() {
        bytes.push(b'\n');
        bytes.extend_from_slice(attachment);
    }
    Ok(bytes)
}

/// Takes a head and an attachment apart. JSON as we write it has no newline inside.
pub fn split<'a, T: DeserializeOwned>(what: &'static str, bytes: &'a [u8]) -> Result<(T, &'a [u8]), ProtocolError> {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let head = crate::envelope::read(what, &bytes[..end])?;
    Ok((head, bytes.get(end + 1..).unwrap_or(&[])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_may_hold_any_bytes() {
        let request = Request {
            v: 1,
            request_id: RequestId::new("r"),
            realm: Realm::parse("eu").unwrap(),
            verb: "apply".into(),
            namespace: Namespace::fallback(),
            actor: "a\nb".into(),
            body: serde_json::json!({}),
        };
        for attachment in [&b""[..], b"\n\n", &[0, 255, 10]] {
            let bytes = join("request", &request, attachment).unwrap();
            let (back, rest): (Request, _) = split("request", &bytes).unwrap();
            assert_eq!((back, rest), (request.clone(), attachment));
        }
    }
}
