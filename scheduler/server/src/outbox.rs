//! Sends answers without making the loop wait: a bounded queue and one task that empties it.

use async_nats::HeaderMap;
use bytes::Bytes;
use heddle_protocol::api::{self, ApiError, Response};
use serde::Serialize;
use tokio::sync::mpsc;

/// Answers that may wait to be sent. When NATS is away for long, later ones are dropped; their askers ask again.
const WAITING_MAX: usize = 16_384;

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
    pub fn start(client: async_nats::Client) -> Self {
        let (sender, mut letters) = mpsc::channel::<Letter>(WAITING_MAX);
        tokio::spawn(async move {
            while let Some(letter) = letters.recv().await {
                let sent = match letter.headers {
                    Some(headers) => client.publish_with_headers(letter.to, headers, letter.payload).await,
                    None => client.publish(letter.to, letter.payload).await,
                };
                if let Err(e) = sent {
                    tracing::warn!(error = %e, "an answer could not be sent; its asker asks again");
                }
            }
        });
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
        let (response, attachment) = match answer {
            Ok((ok, attachment)) => (
                Response {
                    v: api::VERSION,
                    ok: Some(ok),
                    error: None,
                },
                attachment,
            ),
            Err(error) => (
                Response {
                    v: api::VERSION,
                    ok: None,
                    error: Some(error),
                },
                Bytes::new(),
            ),
        };
        match api::join("response", &response, &attachment) {
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
