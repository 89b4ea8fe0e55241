//! Replacing the content by a verified image: healing a store that lost something, and restoring a backup.
//!
//! In: an image from memory, or from a file. Out: one fenced commit of the differences, in a new epoch. It works on a
//! store that no longer verifies, because it trusts only the fence and what it reads record by record.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::batch::{self, Wish};
use super::chain::Store;
use super::content::{Content, Step};
use super::error::StoreError;
use super::record::{Commit, CommitKind, CommitOutcome, Head, Image, Write};

/// A restored store starts this many epochs above the backup and the store it replaces: far above anything that any host
/// has seen since, so that every host takes the restored intent for the newest.
pub const RESTORE_EPOCH_STEP: u64 = 1 << 20;

impl Store {
    /// Makes the store hold exactly the values of `image`, in one commit, and leads from then on.
    ///
    /// `epoch_step` is 1 to heal a store from memory, [`RESTORE_EPOCH_STEP`] to restore a backup. The image must verify.
    pub async fn rewrite(
        &self,
        image: &Image,
        leader_id: &str,
        epoch_step: u64,
        audit: Bytes,
    ) -> Result<CommitOutcome, StoreError> {
        image.verify()?;
        let mut chain = self.inner.chain.lock().await;
        let reading = self.read_once().await?;
        let (head, head_seq) = reading.head.unwrap_or((Head::none(), 0));
        let writes = differences(&reading.content, image);
        Commit {
            writes: writes.clone(),
            audit: audit.clone(),
        }
        .check()?;
        let wish = Wish {
            kind: CommitKind::Rewrite,
            epoch: head.epoch.max(image.head.epoch).saturating_add(epoch_step.max(1)),
            n: head.n.max(image.head.n) + 1,
            leader_id: leader_id.to_owned(),
            batch_id: self.inner.wire.log.new_batch_id(),
            audit,
        };
        let (mut steps, blocks) = batch::steps_of(&reading.content, wish.n, writes)?;
        // A change that cannot be read back must not be read again.
        let damaged: BTreeSet<u64> = reading.damaged.iter().map(|(n, _)| *n).collect();
        steps.splice(0..0, damaged.into_iter().map(|n| Step::DropChange { n }));
        chain.head = head;
        chain.head_seq = head_seq;
        chain.content = reading.content;
        chain.doubt = None;
        chain.loaded = false;
        chain.leading = false;
        let prepared = batch::prepare(
            &chain.tip(),
            &chain.content,
            wish,
            steps,
            blocks,
            self.inner.options.audit_ttl,
        )?;
        batch::check_target(&prepared, image.head.digest, image.head.count)?;
        self.send(&mut chain, prepared).await
    }
}

/// The writes that lead from what is there to the image.
fn differences(content: &Content, image: &Image) -> Vec<Write> {
    let keys: BTreeSet<&String> = content.values.keys().chain(image.values.keys()).collect();
    keys.into_iter()
        .filter(|key| content.values.get(*key) != image.values.get(*key))
        .map(|key| Write {
            key: key.clone(),
            value: image.values.get(key).cloned(),
        })
        .collect()
}
