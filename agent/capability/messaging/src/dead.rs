//! Dead letters: messages that were given up. In: a message and why. Out: the same message on
//! `<dead letters>.<its own subject>`, kept by a stream before the original is let go.

use async_nats::HeaderMap;
use async_nats::jetstream::{Context, Message};
use heddle_protocol::id::WorkloadId;
use std::time::Duration;

/// How long a stream may take to keep one.
const KEEP_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest reason in a header, in bytes.
const REASON_BYTES_MAX: usize = 1_024;
/// Headers of the original that are kept, in bytes.
const HEADER_BYTES_MAX: usize = 8 << 10;

/// Where they go.
pub(crate) struct DeadLetters {
    context: Context,
    prefix: String,
}

impl DeadLetters {
    pub(crate) fn new(context: Context, prefix: &str) -> Self {
        Self {
            context,
            prefix: prefix.to_owned(),
        }
    }

    /// Posts one, and says where it went.
    pub(crate) async fn post(
        &self,
        message: &Message,
        workload: &WorkloadId,
        delivered: u32,
        why: &str,
    ) -> Result<String, String> {
        let to = format!("{}.{}", self.prefix, message.subject);
        let info = message.info().map_err(|e| e.to_string())?;
        let mut headers = kept_headers(message.headers.as_ref());
        // The same message twice is kept once.
        headers.insert(
            "Nats-Msg-Id",
            format!("{}-{}-{}", info.stream, info.consumer, info.stream_sequence),
        );
        headers.insert("Heddle-Workload", workload.to_string());
        headers.insert("Heddle-Reason", one_line(why));
        headers.insert("Heddle-Deliveries", delivered.to_string());
        headers.insert("Heddle-Subject", message.subject.as_str());
        headers.insert("Heddle-Stream", info.stream);
        headers.insert("Heddle-Sequence", info.stream_sequence.to_string());
        let kept = async {
            let sent = self
                .context
                .publish_with_headers(to.clone(), headers, message.payload.clone());
            let kept = sent.await.map_err(|e| e.to_string())?;
            kept.await.map_err(|e| e.to_string())
        };
        match tokio::time::timeout(KEEP_TIMEOUT, kept).await {
            Ok(Ok(_)) => Ok(to),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(format!("no stream kept it within {KEEP_TIMEOUT:?}")),
        }
    }
}

/// The original's own headers, but for those that steer the server.
fn kept_headers(original: Option<&HeaderMap>) -> HeaderMap {
    let mut kept = HeaderMap::new();
    let mut bytes = 0;
    for (name, values) in original.into_iter().flat_map(HeaderMap::iter) {
        let text: &str = name.as_ref();
        if text.to_ascii_lowercase().starts_with("nats-") {
            continue;
        }
        for value in values {
            let size = text.len() + value.as_str().len();
            // What is too large on its own does not take the place of the others.
            if bytes + size <= HEADER_BYTES_MAX {
                bytes += size;
                kept.append(name.clone(), value.clone());
            }
        }
    }
    kept
}

/// A reason as one line of a header.
fn one_line(why: &str) -> String {
    let end = why.floor_char_boundary(REASON_BYTES_MAX);
    why[..end].replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_short_line_and_headers_that_steer_the_server_are_left_out() {
        assert_eq!(one_line("a\nb\rc"), "a b c");
        assert!(one_line(&"ä".repeat(2_000)).len() <= REASON_BYTES_MAX);
        let mut original = HeaderMap::new();
        original.insert("Nats-Msg-Id", "1");
        original.insert("Nats-Rollup", "all");
        original.insert("Trace", "t");
        original.insert("Large", "x".repeat(HEADER_BYTES_MAX));
        let kept = kept_headers(Some(&original));
        assert_eq!(kept.iter().count(), 1);
        assert!(kept.get("Trace").is_some());
    }
}
