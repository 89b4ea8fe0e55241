//! How past commits came to be: read from their audit records, beside the loop.

use crate::serve::plain;
use crate::store::Store;
use bytes::Bytes;
use futures::StreamExt as _;
use heddle_protocol::api::audit::{Audit, AuditList};
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::record::AuditRecord;

/// Records of one answer when no number is named.
const LAST: u32 = 20;
/// Records of one answer at most.
const LAST_MAX: u32 = 200;
/// Records read at the same time.
const AT_ONCE: usize = 8;
/// Bytes of one answer: it must fit one NATS message with room to spare.
const ANSWER_BYTES_MAX: usize = 600 << 10;

/// `audit`: one commit, or the newest ones.
pub async fn audit(store: Store, head: u64, body: Audit) -> Result<(serde_json::Value, Bytes), ApiError> {
    let commits: Vec<u64> = match body.commit {
        Some(commit) => vec![commit],
        None => {
            let last = u64::from(body.last.unwrap_or(LAST).min(LAST_MAX));
            (head.saturating_sub(last) + 1..=head).rev().collect()
        }
    };
    let mut read = futures::stream::iter(commits)
        .map(|commit| read_one(&store, commit))
        .buffered(AT_ONCE);
    let mut list = AuditList {
        commit: head,
        records: Vec::new(),
        more: false,
    };
    let mut bytes = 0;
    while let Some(record) = read.next().await {
        let Some(record) = record? else { continue };
        bytes += serde_json::to_vec(&record).map_or(0, |json| json.len());
        if bytes > ANSWER_BYTES_MAX && !list.records.is_empty() {
            list.more = true;
            break;
        }
        list.records.push(record);
    }
    match body.commit {
        Some(commit) if list.records.is_empty() => Err(ApiError::new(
            ErrorCode::NotFound,
            format!("failed to find the audit record of commit {commit}: the newest commit is {head}"),
            "records are kept for a week; `heddle audit` lists the newest ones",
        )),
        _ => plain(&list),
    }
}

/// One record; none if it is not kept any more, or was of the store's own housekeeping.
async fn read_one(store: &Store, commit: u64) -> Result<Option<AuditRecord>, ApiError> {
    let stored = store.audit(commit).await.map_err(|error| {
        ApiError::new(
            ErrorCode::Unavailable,
            format!("failed to read the audit record of commit {commit}: {error}"),
            "try again in a moment",
        )
    })?;
    let Some(stored) = stored.filter(|stored| !stored.body.is_empty()) else {
        return Ok(None);
    };
    let record = serde_json::from_slice(&stored.body).map_err(|error| {
        ApiError::new(
            ErrorCode::Internal,
            format!("failed to read the audit record of commit {commit}: {error}"),
            "a newer scheduler may have written it; ask that one",
        )
    })?;
    Ok(Some(record))
}
