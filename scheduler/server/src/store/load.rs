//! Reading the whole store, and believing it only if it is what its head says.
//!
//! In: the stream, in order. Out: a verified [`Image`]; or [`StoreError::Diverged`] if the content stayed different from
//! the head while nothing moved. The reader may be served by a follower; the head is read at the stream's leader.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use heddle_protocol::mutant::mutant;

use super::chain::Store;
use super::content::{Content, Step};
use super::error::StoreError;
use super::log::{Record, Selection};
use super::record::{AuditRecord, Head, Image};
use super::stage::Manifest;

/// The stream is read from the start this often before a difference is believed.
const READS_MAX: usize = 3;
/// Within one reading, a moving head is followed this often; each time costs what was committed meanwhile.
const CATCH_UPS_MAX: usize = 50;

/// What one reading of the stream gave.
pub(crate) struct Reading {
    pub(crate) head: Option<(Head, u64)>,
    pub(crate) content: Content,
    /// Staged changes that could not be read back. Only a rewrite goes on in spite of them.
    pub(crate) damaged: Vec<(u64, StoreError)>,
}

impl Store {
    /// Loads and verifies everything. Leadership ends; take over again before committing.
    ///
    /// Commits made meanwhile by others are followed. A commit of our own that was in doubt is dropped: what is there
    /// after loading is the truth, and the next take-over makes a late arrival impossible.
    pub async fn load(&self) -> Result<Image, StoreError> {
        let mut chain = self.inner.chain.lock().await;
        chain.leading = false;
        let mut reading = self.read_verified().await?;
        if let Some((_, error)) = reading.damaged.pop() {
            return Err(error);
        }
        let (head, head_seq) = reading.head.unwrap_or((Head::none(), 0));
        if (head.epoch, head.n) < (chain.head.epoch, chain.head.n) {
            return Err(StoreError::RolledBack {
                expected: chain.head.n,
                found: format!("commit {}", head.n),
            });
        }
        chain.head = head;
        chain.head_seq = head_seq;
        chain.content = reading.content;
        chain.doubt = None;
        chain.loaded = true;
        chain.verify()?;
        Ok(chain.image())
    }

    /// Reads the audit records stored within the last `since`, oldest first.
    pub async fn audits(&self, since: Duration) -> Result<Vec<AuditRecord>, StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The log in memory has a clock of its own, at which all that is kept is recent.
        let ms = now.saturating_sub(since).as_millis() as u64;
        let ms = if self.inner.wire.log.has_wall_clock() { ms } else { 0 };
        let mut records = Vec::new();
        self.inner
            .wire
            .log
            .open(Selection::AuditSince { ms })
            .await?
            .read_to(0, &mut records)
            .await?;
        let mut audits: Vec<AuditRecord> = records.into_iter().filter_map(audit).collect();
        audits.sort_by_key(|audit| audit.n);
        Ok(audits)
    }

    /// Reads one commit's audit record at the stream's leader.
    pub async fn audit(&self, n: u64) -> Result<Option<AuditRecord>, StoreError> {
        Ok(self.inner.wire.last(&format!("audit.{n}")).await?.and_then(audit))
    }

    /// Reads until content and head agree, or differ although nothing moved.
    async fn read_verified(&self) -> Result<Reading, StoreError> {
        let mut reading = self.read_once().await?;
        for _ in 1..READS_MAX {
            if reading.damaged.is_empty() && reading.agrees() {
                break;
            }
            tracing::warn!("the store's content differs from its head; read it again");
            reading = self.read_once().await?;
        }
        match reading.head {
            None if !reading.content.values.is_empty() => {
                let why = format!("it is missing, but there are {} values", reading.content.values.len());
                Err(StoreError::corrupt("head", why))
            }
            _ => Ok(reading),
        }
    }

    /// Reads the stream from its start up to a head read at the leader, following that head while it moves.
    pub(crate) async fn read_once(&self) -> Result<Reading, StoreError> {
        let mut records = Vec::new();
        let mut cursor = self.inner.wire.log.open(Selection::All).await?;
        let mut seen = None;
        let mut catch_ups = 0;
        loop {
            let head = self.inner.wire.head().await?;
            let head_seq = head.as_ref().map_or(0, |(_, seq)| *seq);
            cursor.read_to(head_seq, &mut records).await?;
            let reading = assemble(&records, head);
            catch_ups += 1;
            // Records replaced while reading are missing below a head that moved; the next head has them again.
            if reading.agrees() || seen == Some(head_seq) || catch_ups == CATCH_UPS_MAX {
                return Ok(reading);
            }
            seen = Some(head_seq);
        }
    }
}

impl Reading {
    fn agrees(&self) -> bool {
        match &self.head {
            _ if mutant("digest-unchecked") => true,
            None => self.content.values.is_empty(),
            Some((head, _)) => self.content.digest == head.digest && self.content.values.len() as u64 == head.count,
        }
    }
}

/// Puts the records up to a head together. Blocks count wherever they are: one stored twice has moved behind its change.
fn assemble(records: &[Record], head: Option<(Head, u64)>) -> Reading {
    let blocks: BTreeMap<&str, &Bytes> = records
        .iter()
        .filter(|record| !record.marker)
        .filter_map(|record| Some((record.key.strip_prefix("stage.")?, &record.body)))
        .collect();
    let mut content = Content::default();
    let mut damaged = Vec::new();
    let end = head.as_ref().map_or(u64::MAX, |(_, seq)| *seq);
    for record in records
        .iter()
        .filter(|record| record.seq <= end || record.key.starts_with("stage."))
    {
        match step(record, |manifest| collect(manifest, &blocks)) {
            Ok(Some(step)) => content.apply(&step),
            Ok(None) => {}
            Err((n, error)) => damaged.push((n, error)),
        }
    }
    Reading { head, content, damaged }
}

fn collect(manifest: &Manifest, blocks: &BTreeMap<&str, &Bytes>) -> Result<Vec<Bytes>, StoreError> {
    let find = |digest: &String| match blocks.get(digest.as_str()) {
        Some(body) => Ok((*body).clone()),
        None => Err(StoreError::corrupt(
            format!("stage.{digest}"),
            "it is gone, but a change names it",
        )),
    };
    manifest.blocks.iter().map(find).collect()
}

/// What a record means; `None` for those that mean nothing to the content.
pub(crate) fn step(
    record: &Record,
    blocks: impl FnOnce(&Manifest) -> Result<Vec<Bytes>, StoreError>,
) -> Result<Option<Step>, (u64, StoreError)> {
    let (family, rest) = record.key.split_once('.').unwrap_or((record.key.as_str(), ""));
    Ok(Some(match (family, record.marker) {
        ("head", _) if rest.is_empty() => return Ok(None),
        ("audit", _) => return Ok(None),
        ("stage", false) => Step::Stage {
            digest: rest.to_owned(),
        },
        ("stage", true) => Step::DropStage {
            digest: rest.to_owned(),
        },
        ("change", marker) => {
            let bad_name = |_| {
                (
                    0,
                    StoreError::corrupt(record.key.as_str(), "its name is not a commit number"),
                )
            };
            let n: u64 = rest.parse().map_err(bad_name)?;
            if marker {
                return Ok(Some(Step::DropChange { n }));
            }
            let read = || {
                let manifest = Manifest::parse(&record.key, &record.body)?;
                let writes = manifest.unpack(&blocks(&manifest)?)?;
                Ok(Step::Change {
                    n,
                    stages: manifest.blocks,
                    writes,
                })
            };
            read().map_err(|error| (n, error))?
        }
        (_, true) => Step::Remove {
            key: record.key.clone(),
            timed: record.timed,
        },
        (_, false) => Step::Put {
            key: record.key.clone(),
            value: record.body.clone(),
        },
    }))
}

fn audit(record: Record) -> Option<AuditRecord> {
    let n = record.key.strip_prefix("audit.")?.parse().ok()?;
    let label = record.label?;
    (!record.marker).then_some(AuditRecord {
        n,
        batch_id: label.batch_id,
        kind: label.kind,
        stored_at_ms: record.stored_at_ms,
        body: record.body,
    })
}
