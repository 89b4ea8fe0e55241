//! The messages of wasmCloud's protocol for secrets, as JSON.

use crate::backend::{Ask, BackendError, Secret};
use crate::field::{malformed, to_json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

/// The longest text that is taken over from a backend's own words.
const WORDS_MAX: usize = 200;

/// What is asked, sealed.
#[derive(Serialize)]
pub(super) struct Request {
    pub(super) key: String,
    pub(super) field: Option<String>,
    pub(super) version: Option<String>,
    pub(super) context: Context,
}

/// In whose name.
#[derive(Serialize)]
pub(super) struct Context {
    pub(super) entity_jwt: String,
    pub(super) host_jwt: String,
    pub(super) application: Application,
}

/// What it belongs to, and what the backend's rules need to know.
#[derive(Serialize)]
pub(super) struct Application {
    pub(super) name: Option<String>,
    pub(super) policy: String,
}

/// An answer: one of both.
#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    secret: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    version: String,
    #[serde(default)]
    string_secret: Option<String>,
    #[serde(default)]
    binary_secret: Option<Vec<u8>>,
}

impl Drop for Found {
    fn drop(&mut self) {
        self.string_secret.zeroize();
        self.binary_secret.zeroize();
    }
}

/// Why a backend gives nothing: the kind, and its own words where it has any.
pub(super) struct Refusal {
    kind: String,
    words: String,
}

impl Refusal {
    fn of(error: Option<&Value>) -> Self {
        let (kind, words) = match error {
            Some(Value::String(kind)) => (kind.clone(), String::new()),
            Some(Value::Object(map)) => match map.iter().next() {
                Some((kind, words)) => (kind.clone(), words.as_str().unwrap_or_default().to_owned()),
                None => (String::new(), String::new()),
            },
            _ => (String::new(), String::new()),
        };
        let clean = |text: String| text.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
        Self {
            kind: clean(kind),
            words: clean(words),
        }
    }

    /// Whether it could not open the request.
    pub(super) fn is_about_keys(&self) -> bool {
        matches!(self.kind.as_str(), "DecryptionError" | "InvalidXKey")
    }
}

impl From<Refusal> for BackendError {
    fn from(Refusal { kind, words }: Refusal) -> Self {
        let text = |fallback: &str| match words.is_empty() {
            true => fallback.to_owned(),
            false => format!("{fallback}: {words}"),
        };
        match kind.as_str() {
            "SecretNotFound" => Self::NotFound(text("it has no such secret")),
            "Unauthorized" => Self::Denied(text("this workload may not have it")),
            "InvalidEntityJWT" | "InvalidHostJWT" => Self::Denied(text("it does not take who asks")),
            "UpstreamError" => Self::Unreachable(text("what is behind it fails")),
            "DecryptionError" | "InvalidXKey" => Self::Denied(text("it cannot open what was sealed to its key")),
            "" => Self::Malformed("it refuses without a reason".to_owned()),
            kind => Self::Malformed(text(&format!("it answers {kind}"))),
        }
    }
}

pub(super) fn write(request: &Request) -> Result<Zeroizing<Vec<u8>>, BackendError> {
    to_json(request)
}

/// Reads an answer that came open.
pub(super) fn read_refusal(bytes: &[u8]) -> Result<Refusal, BackendError> {
    let response: Response =
        serde_json::from_slice(bytes).map_err(|e| malformed("its answer is neither sealed nor a refusal", &e))?;
    match response.secret {
        Some(_) => Err(BackendError::Malformed(
            "it sends a secret that is not sealed; it is not taken".to_owned(),
        )),
        None => Ok(Refusal::of(response.error.as_ref())),
    }
}

/// Reads an answer that was sealed.
pub(super) fn read_answer(bytes: &[u8], ask: &Ask) -> Result<Result<Secret, Refusal>, BackendError> {
    #[derive(Deserialize)]
    struct Sealed {
        #[serde(default)]
        secret: Option<Found>,
        #[serde(default)]
        error: Option<Value>,
    }
    let answer: Sealed = serde_json::from_slice(bytes).map_err(|e| malformed("its answer makes no sense", &e))?;
    let Some(mut found) = answer.secret else {
        return Ok(Err(Refusal::of(answer.error.as_ref())));
    };
    let value = match (found.string_secret.take(), found.binary_secret.take()) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(bytes)) => bytes,
        (None, None) => return Err(BackendError::NotFound("its answer holds no value".to_owned())),
    };
    let value = Zeroizing::new(value);
    let version = match (&ask.version, found.version.as_str()) {
        (Some(asked), "") => asked.clone(),
        (Some(asked), named) if asked != named => {
            return Err(BackendError::Malformed(format!(
                "asked for version {asked}, it answers with another one"
            )));
        }
        (None, "") => "unversioned".to_owned(),
        (_, named) => named.to_owned(),
    };
    Secret::new(version, value).map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_their_meaning() {
        let error = |json: &str| BackendError::from(read_refusal(json.as_bytes()).ok().unwrap());
        assert!(matches!(
            error(r#"{"error":"SecretNotFound"}"#),
            BackendError::NotFound(_)
        ));
        assert!(matches!(error(r#"{"error":"Unauthorized"}"#), BackendError::Denied(_)));
        assert!(
            error(r#"{"error":{"UpstreamError":"away"}}"#)
                .to_string()
                .contains("away")
        );
        assert!(error(r#"{"error":{"UpstreamError":"away"}}"#).is_retryable());
        assert!(matches!(error("{}"), BackendError::Malformed(_)));
    }

    #[test]
    fn a_value_that_comes_open_is_not_taken() {
        let open = br#"{"secret":{"version":"1","string_secret":"sesame"}}"#;
        let Err(error) = read_refusal(open) else {
            panic!("taken")
        };
        assert!(!error.to_string().contains("sesame"));
    }
}
