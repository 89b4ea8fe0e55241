//! Following the store: each commit as it is stored, whole and in order, or a notice that one was missed.
//!
//! In: records as the server republishes them, which it may fail to do. Out: [`FeedEvent`]s. A commit is passed on only if
//! every message of its batch was seen and its head replaced the head seen last; anything else is a [`FeedEvent::Gap`],
//! after which the follower loads and goes on from there.

use super::chain::{Store, Wire};
use super::content::{Step, logical_writes};
use super::error::StoreError;
use super::load;
use super::log::{FeedItem, Record, RecordFeed};
use super::record::{CommitKind, Committed, HEAD, Head};
use super::stage::Manifest;

/// More records than any batch of ours has; beyond it, what was collected is not one of ours.
const BATCH_RECORDS_MAX: usize = 1000;

/// What the feed says next.
#[derive(Debug)]
pub enum FeedEvent {
    /// A commit, whole and next in order. [`Store::advance`] takes it in.
    Committed(Box<Committed>),
    /// Something was missed: load again, then [`Feed::resume_from`] the image's head.
    Gap {
        /// The sequence of the head seen last.
        after_seq: u64,
        /// What showed the gap, in words.
        why: String,
    },
    /// The connection was closed for good.
    Closed,
}

/// A subscription to a store's commits.
pub struct Feed {
    store: Store,
    records: RecordFeed,
    head_seq: Option<u64>,
    batch: Vec<Record>,
    attempt: String,
    /// Whether the gap was told, so that it is told once.
    in_gap: bool,
}

impl Store {
    /// Starts to follow. Begin the feed before loading, then tell it with [`Feed::resume_from`] which head was loaded: so
    /// nothing between the two is missed.
    pub async fn follow(&self) -> Result<Feed, StoreError> {
        let records = self.inner.wire.log.feed().await?;
        let attempt = String::new();
        Ok(Feed {
            store: self.clone(),
            records,
            head_seq: None,
            batch: Vec::new(),
            attempt,
            in_gap: false,
        })
    }
}

impl Feed {
    /// Expects the commit after the head with this sequence next. Older ones still on their way are passed over.
    pub fn resume_from(&mut self, head_seq: u64) {
        self.head_seq = Some(head_seq);
        self.in_gap = false;
    }

    /// Waits for the next event. It may be dropped at any await without losing a record, but for a batch that holds a
    /// staged change, whose blocks are then read again with the next gap.
    pub async fn next(&mut self) -> FeedEvent {
        loop {
            let record = match self.records.next().await {
                FeedItem::Record(record) => record,
                FeedItem::Closed => return FeedEvent::Closed,
                FeedItem::Lost => {
                    self.batch.clear();
                    self.attempt.clear();
                    match self.gap("records were dropped on the way") {
                        Some(gap) => return gap,
                        None => continue,
                    }
                }
            };
            self.collect(record);
            if self.batch.last().is_some_and(|last| last.key == HEAD) {
                let batch = std::mem::take(&mut self.batch);
                if let Some(event) = self.finish(batch).await {
                    return event;
                }
            }
        }
    }

    /// Adds a record to the batch it belongs to. Records outside a batch (blocks, or strays) mean nothing here; the digest
    /// of the next head tells whether a stray changed something.
    fn collect(&mut self, record: Record) {
        let Some((attempt, place)) = &record.attempt else {
            return;
        };
        if *place == 1 || *attempt != self.attempt || self.batch.len() >= BATCH_RECORDS_MAX {
            self.batch.clear();
            self.attempt.clone_from(attempt);
        }
        self.batch.push(record);
    }

    async fn finish(&mut self, batch: Vec<Record>) -> Option<FeedEvent> {
        let (seq, prev_seq) = batch.last().map(|head| (head.seq, head.prev_seq))?;
        match self.head_seq {
            // Nobody said yet from where to follow: the first head seen is the beginning.
            None => {
                self.head_seq = Some(seq);
                return None;
            }
            Some(known) if seq <= known => return None,
            Some(known) if prev_seq != known => {
                return self.gap(format!(
                    "head {seq} replaced head {prev_seq}, head {known} was seen last"
                ));
            }
            Some(_) if self.in_gap => return None,
            Some(_) => {}
        }
        let whole = (1..)
            .zip(&batch)
            .all(|(place, record)| record.attempt.as_ref().is_some_and(|(_, p)| *p == place));
        if !whole {
            return self.gap(format!(
                "only {} records of the batch of head {seq} arrived",
                batch.len()
            ));
        }
        match read_batch(&self.store.inner.wire, &batch).await {
            Ok(committed) => {
                self.head_seq = Some(seq);
                Some(FeedEvent::Committed(Box::new(committed)))
            }
            Err(error) => self.gap(format!("the batch of head {seq} could not be read: {error}")),
        }
    }

    fn gap(&mut self, why: impl Into<String>) -> Option<FeedEvent> {
        if self.in_gap {
            return None;
        }
        self.in_gap = true;
        Some(FeedEvent::Gap {
            after_seq: self.head_seq.unwrap_or(0),
            why: why.into(),
        })
    }
}

/// Turns a whole batch into a commit; blocks of a staged change are read at the stream's leader.
async fn read_batch(wire: &Wire, batch: &[Record]) -> Result<Committed, StoreError> {
    let Some((last, others)) = batch.split_last() else {
        return Err(StoreError::corrupt("a batch", "it is empty"));
    };
    let head = Head::parse(&last.body)?;
    let mut steps: Vec<Step> = Vec::with_capacity(others.len());
    let mut kind = CommitKind::Change;
    for record in others {
        if let Some(label) = &record.label {
            kind = label.kind;
        }
        let blocks = match record.key.starts_with("change.") && !record.marker {
            true => Some(wire.blocks(&Manifest::parse(&record.key, &record.body)?.blocks).await?),
            false => None,
        };
        let step = load::step(record, |_| Ok(blocks.unwrap_or_default())).map_err(|(_, error)| error)?;
        steps.extend(step);
    }
    let writes = logical_writes(&steps);
    Ok(Committed {
        head,
        seq: last.seq,
        prev_seq: last.prev_seq,
        kind,
        writes,
        steps,
    })
}
