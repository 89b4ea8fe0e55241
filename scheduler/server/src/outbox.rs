//! Sends answers without making the loop wait: a bounded queue and one task that empties it.

use crate::outside::Around;
use async_nats::HeaderMap;
use bytes::Bytes;
use heddle_protocol::api::{self, ApiError, ErrorCode, Response};
use heddle_protocol::error::ProtocolError;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Answers that may wait to be sent. When NATS is away for long, later ones are dropped; their askers ask again.
const WAITING_MAX: usize = 16_384;

/// Longest answer, in bytes: below NATS's default limit of 1 MiB, with room for the subject and the protocol. A longer
/// one would never arrive, and its asker would wait for it until its patience ends.
const ANSWER_BYTES_MAX: usize = 1_000_000;

/// Problems of a manifest in an error that would be too long with all of them.
const PROBLEMS_MAX: usize = 100;
/// Longest text in such an error, in bytes.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Where answers go.
#[derive(Debug, Clone)]
pub struct Outbox(mpsc::Sender<Letter>);

#[derive(Debug)]
struct Letter {
    to: async_nats::Subject,
    headers: Option<HeaderMap>,
    payload: Bytes,
}

impl Outbox {
    /// Starts the task that sends.
    pub fn start(outside: Around) -> Self {
        let (sender, mut letters) = mpsc::channel::<Letter>(WAITING_MAX);
        let sending = Arc::clone(&outside);
        outside.spawn(Box::pin(async move {
            while let Some(Letter { to, headers, payload }) = letters.recv().await {
                if let Err(error) = sending.publish(to, headers, payload).await {
                    tracing::warn!(error, "an answer could not be sent; its asker asks again");
                }
            }
        }));
        Self(sender)
    }

    /// Sends bytes.
    pub fn send(&self, to: async_nats::Subject, payload: impl Into<Bytes>) {
        self.post(Letter {
            to,
            headers: None,
            payload: payload.into(),
        });
    }

    /// Sends nothing but headers.
    pub fn send_headers(&self, to: async_nats::Subject, headers: HeaderMap) {
        self.post(Letter {
            to,
            headers: Some(headers),
            payload: Bytes::new(),
        });
    }

    /// Sends an API answer and its attachment.
    pub fn answer(&self, to: async_nats::Subject, answer: Result<(serde_json::Value, Bytes), ApiError>) {
        match write(answer) {
            Ok(bytes) => self.send(to, bytes),
            Err(e) => tracing::error!(error = %e, "an answer could not be written"),
        }
    }

    /// Sends a value as JSON.
    pub fn json<T: Serialize>(&self, to: async_nats::Subject, value: &T) {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.send(to, bytes),
            Err(e) => tracing::error!(error = %e, "an answer could not be written"),
        }
    }

    fn post(&self, letter: Letter) {
        if self.0.try_send(letter).is_err() {
            tracing::warn!("too many answers wait to be sent; one was dropped, and its asker asks again");
        }
    }
}

/// An answer as it is sent: itself, or in few words that it is too long.
fn write(answer: Result<(serde_json::Value, Bytes), ApiError>) -> Result<Vec<u8>, ProtocolError> {
    let (ok, error, attachment) = match answer {
        Ok((ok, attachment)) => (Some(ok), None, attachment),
        Err(error) => (None, Some(error), Bytes::new()),
    };
    let response = Response {
        v: api::VERSION,
        ok,
        error,
    };
    let bytes = api::join("response", &response, &attachment)?;
    if bytes.len() <= ANSWER_BYTES_MAX {
        return Ok(bytes);
    }
    let error = match response.error {
        // A manifest with so many problems is mended in several rounds.
        Some(mut error) => {
            let left_out = error.problems.len().saturating_sub(PROBLEMS_MAX);
            error.problems.truncate(PROBLEMS_MAX);
            error.message = clip(error.message, TEXT_BYTES_MAX);
            error.next = format!(
                "{} ({left_out} more problems are not listed)",
                clip(error.next, TEXT_BYTES_MAX)
            );
            error
        }
        None => ApiError::new(
            ErrorCode::TooLarge,
            format!(
                "failed to send the answer: it has {} bytes, and NATS takes 1 MiB",
                bytes.len()
            ),
            "what was asked is done; ask for less at a time to see it",
        ),
    };
    let response = Response {
        v: api::VERSION,
        ok: None,
        error: Some(error),
    };
    api::join("response", &response, &[])
}

/// Text of at most so many bytes, cut between two characters.
pub(crate) fn clip(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_nats_would_refuse_is_replaced_by_one_that_says_so() {
        let long = serde_json::Value::String("x".repeat(2 << 20));
        let bytes = write(Ok((long, Bytes::new()))).unwrap();
        let (response, _): (Response, _) = api::split("response", &bytes).unwrap();
        assert_eq!(response.error.map(|e| e.code), Some(ErrorCode::TooLarge));
        let error = ApiError::new(ErrorCode::NotFound, "é".repeat(1 << 20), "");
        let bytes = write(Err(error)).unwrap();
        assert!(bytes.len() < ANSWER_BYTES_MAX);
        let (response, _): (Response, _) = api::split("response", &bytes).unwrap();
        assert_eq!(response.error.map(|e| e.code), Some(ErrorCode::NotFound));
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(clip("aéé".into(), 2), "a…");
        assert_eq!(clip("aé".into(), 3), "aé");
    }
}
