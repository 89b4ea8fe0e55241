//! Sending and taking messages that are too large for one NATS message. The protocol is in [`heddle_protocol::chunk`].

use async_nats::header::HeaderMap;
use bytes::Bytes;
use heddle_protocol::chunk::{Assembler, Chunk, HEADER, NEXT_HEADER, Taken};
use heddle_protocol::defaults::{CHUNK_BYTES, MESSAGE_BYTES_MAX};
use heddle_protocol::digest::Digest;
use heddle_protocol::error::ProtocolError;
use std::time::Duration;

/// How often one chunk is sent again before the whole request fails.
const ATTEMPTS_MAX: u32 = 3;
/// How often a receiver may forget what it had before the whole request fails: with too many senders at a time, all of
/// them would otherwise begin again for ever.
const RESTARTS_MAX: u32 = 3;

/// Why a request has no reply.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens on the subject.
    #[error("nobody answers on {0}")]
    NoResponders(String),
    /// No reply came in time, or the link broke. The request may have been carried out.
    #[error("no reply on {subject}: {why}")]
    NoReply {
        /// The subject.
        subject: String,
        /// Why.
        why: String,
    },
    /// The receiver's reply makes no sense.
    #[error("the reply on {subject} cannot be read: {source}")]
    Reply {
        /// The subject.
        subject: String,
        /// Why.
        #[source]
        source: ProtocolError,
    },
}

/// Asks with a message of any size, in chunks when it is large, and returns the reply. Without progress for `timeout`,
/// it fails; the last chunk is the request itself, and its reply may take that long.
pub async fn request(
    client: &async_nats::Client,
    subject: &str,
    payload: Bytes,
    timeout: Duration,
) -> Result<async_nats::Message, RequestError> {
    if payload.len() <= MESSAGE_BYTES_MAX {
        return ask(client, subject, None, payload, timeout).await;
    }
    let (digest, size) = (Digest::of(&payload), payload.len() as u64);
    let (mut offset, mut attempts, mut restarts) = (0u64, 0u32, 0u32);
    loop {
        let end = (offset + CHUNK_BYTES as u64).min(size);
        let part = payload.slice(offset as usize..end as usize);
        let header = Chunk { digest, size, offset }.to_header();
        // A chunk before the last is answered at once: if it is not, it was lost, and there is time to send it again.
        let is_last = end == size;
        let within = if is_last { timeout } else { timeout / (ATTEMPTS_MAX + 1) };
        let reply = match ask(client, subject, Some(header), part, within).await {
            Ok(reply) => reply,
            Err(RequestError::NoReply { .. }) if !is_last && attempts < ATTEMPTS_MAX => {
                attempts += 1;
                continue;
            }
            Err(e) => return Err(e),
        };
        let next = reply
            .headers
            .as_ref()
            .and_then(|h| h.get(NEXT_HEADER))
            .map(|v| v.as_str().parse::<u64>());
        match next {
            None => return Ok(reply),
            Some(Ok(next)) if next < size => {
                // A receiver that forgot what it had asks from an earlier offset; that may not go on for ever.
                attempts = if next > offset { 0 } else { attempts + 1 };
                restarts += u32::from(next < offset);
                if attempts > ATTEMPTS_MAX || restarts > RESTARTS_MAX {
                    let why = format!("the receiver stays at byte {next} of {size}");
                    return Err(RequestError::NoReply {
                        subject: subject.to_owned(),
                        why,
                    });
                }
                offset = next;
            }
            Some(_) => {
                let source = ProtocolError::Frame {
                    what: "chunk reply",
                    why: "no offset within the message".into(),
                };
                return Err(RequestError::Reply {
                    subject: subject.to_owned(),
                    source,
                });
            }
        }
    }
}

async fn ask(
    client: &async_nats::Client,
    subject: &str,
    chunk: Option<String>,
    payload: Bytes,
    timeout: Duration,
) -> Result<async_nats::Message, RequestError> {
    use async_nats::client::RequestErrorKind;
    let mut request = async_nats::Request::new().payload(payload).timeout(Some(timeout));
    if let Some(chunk) = chunk {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, chunk);
        request = request.headers(headers);
    }
    client
        .send_request(subject.to_owned(), request)
        .await
        .map_err(|e| match e.kind() {
            RequestErrorKind::NoResponders => RequestError::NoResponders(subject.to_owned()),
            RequestErrorKind::TimedOut => RequestError::NoReply {
                subject: subject.to_owned(),
                why: format!("nothing within {timeout:?}"),
            },
            _ => RequestError::NoReply {
                subject: subject.to_owned(),
                why: e.to_string(),
            },
        })
}

/// What came of a message.
#[derive(Debug)]
pub enum Received {
    /// The whole request: answer it on the message's reply subject.
    Whole(Bytes),
    /// One chunk of several: send this back, and wait for more.
    Reply(HeaderMap),
    /// The chunk cannot be used.
    Bad(ProtocolError),
}

/// Takes messages that may be chunks.
#[derive(Debug)]
pub struct Receiver(Assembler);

impl Receiver {
    /// A receiver of wholes up to `bytes_max`, at most `wholes_max` of them unfinished at a time.
    pub fn new(bytes_max: u64, wholes_max: usize) -> Self {
        Self(Assembler::new(bytes_max, wholes_max))
    }

    /// Takes one message.
    pub fn take(&mut self, message: &async_nats::Message) -> Received {
        let Some(header) = message.headers.as_ref().and_then(|h| h.get(HEADER)) else {
            return Received::Whole(message.payload.clone());
        };
        match Chunk::from_header(header.as_str()).and_then(|c| self.0.take(c, &message.payload)) {
            Ok(Taken::Whole(bytes)) => Received::Whole(bytes.into()),
            Ok(Taken::Next(offset)) => {
                let mut headers = HeaderMap::new();
                headers.insert(NEXT_HEADER, offset.to_string());
                Received::Reply(headers)
            }
            Err(e) => Received::Bad(e),
        }
    }
}
