//! One page of keys. In: what their subjects begin with, and the place where the last page ended. Out: keys in the order
//! in which their values were stored.
//!
//! The cursor is a place in the bucket's stream: a key that is set again while somebody lists moves to the end and may be
//! seen twice; one that stays is never missed.

use crate::connection::unavailable;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::kv;
use futures::StreamExt as _;
use heddle_capability_keyvalue::{PAGE_KEYS, Page, Refused, text};
use std::collections::HashSet;

/// The header of an entry that says that it is a mark of something removed.
const OPERATION: &str = "KV-Operation";

pub(crate) async fn page(store: &kv::Store, prefix: &str, cursor: Option<u64>) -> Result<Page, Refused> {
    let mut consumer = store
        .stream
        .create_consumer(pull::OrderedConfig {
            filter_subject: format!("{prefix}>"),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: cursor.unwrap_or(1).max(1),
            },
            headers_only: true,
            ..pull::OrderedConfig::default()
        })
        .await
        .map_err(unavailable)?;
    if consumer.info().await.map_err(unavailable)?.num_pending == 0 {
        return Ok(Page::default());
    }
    let mut messages = consumer.messages().await.map_err(unavailable)?;
    let (mut page, mut seen) = (Page::default(), HashSet::new());
    while let Some(message) = messages.next().await {
        let message = message.map_err(unavailable)?;
        let (sequence, pending) = match message.info() {
            Ok(info) => (info.stream_sequence, info.pending),
            Err(error) => return Err(Refused::Unavailable(error.to_string())),
        };
        let removed = message
            .headers
            .as_ref()
            .is_some_and(|headers| headers.get(OPERATION).is_some());
        // Foreign keys below the scope that are no tokens are not the guest's.
        let key = message.subject.strip_prefix(prefix).and_then(text);
        if let Some(key) = key.filter(|key| !removed && seen.insert(key.clone())) {
            page.keys.push(key);
        }
        if pending == 0 {
            return Ok(page);
        }
        if page.keys.len() >= PAGE_KEYS {
            page.next = Some(sequence + 1);
            return Ok(page);
        }
    }
    Ok(page)
}
