//! Turning a wish into one batch: which messages, which digest, which head.
//!
//! In: the content as of the newest head, and what is to become of it. Out: a [`Prepared`] batch that can be sent as often
//! as needed, because every attempt stores the same bytes. Nothing is sent here.

use std::time::Duration;

use bytes::Bytes;

use super::content::{Content, Step, logical_writes};
use super::digest::SetDigest;
use super::error::StoreError;
use super::log::{Label, Message};
use super::record::{
    CommitKind, DIRECT_BYTES_MAX, DIRECT_WRITES_MAX, HEAD, HEAD_SCHEMA, Head, Image, MARKER_TTL, Write,
};
use super::stage::{self, Block};

/// A batch ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    /// The head that ends it.
    pub(crate) head: Head,
    /// The sequence that `head` must have for it to be stored.
    pub(crate) fence: u64,
    /// All messages, the head last.
    pub(crate) messages: Vec<Message>,
    /// What the messages mean.
    pub(crate) steps: Vec<Step>,
    /// Blocks to publish before it.
    pub(crate) blocks: Vec<Block>,
}

/// What one batch is to be.
pub(crate) struct Wish {
    pub(crate) kind: CommitKind,
    pub(crate) epoch: u64,
    pub(crate) n: u64,
    pub(crate) leader_id: String,
    pub(crate) batch_id: String,
    pub(crate) audit: Bytes,
}

/// Plans the steps of some writes: directly, or staged when they are too many or too large for one batch.
pub(crate) fn steps_of(content: &Content, n: u64, writes: Vec<Write>) -> Result<(Vec<Step>, Vec<Block>), StoreError> {
    let bytes: usize = writes
        .iter()
        .map(|write| write.key.len() + write.value.as_ref().map_or(0, Bytes::len))
        .sum();
    if writes.len() <= DIRECT_WRITES_MAX && bytes <= DIRECT_BYTES_MAX {
        let timed = content.changes.is_empty();
        let steps = writes.into_iter().map(|Write { key, value }| match value {
            Some(value) => Step::Put { key, value },
            None => Step::Remove { key, timed },
        });
        return Ok((steps.collect(), Vec::new()));
    }
    let (manifest, blocks) = stage::pack(&writes)?;
    Ok((
        vec![Step::Change {
            n,
            stages: manifest.blocks,
            writes,
        }],
        blocks,
    ))
}

/// Puts the batch together.
pub(crate) fn prepare(
    image: &Image,
    content: &Content,
    wish: Wish,
    steps: Vec<Step>,
    blocks: Vec<Block>,
    audit_ttl: Duration,
) -> Result<Prepared, StoreError> {
    let (digest, count) = content.preview(&logical_writes(&steps));
    let head = Head {
        schema: HEAD_SCHEMA,
        epoch: wish.epoch,
        n: wish.n,
        digest,
        count,
        batch_id: wish.batch_id,
        leader_id: wish.leader_id,
        prev_digest: image.head.digest,
    };
    let mut messages = Vec::with_capacity(steps.len() + 2);
    for step in &steps {
        messages.push(message(step)?);
    }
    messages.push(Message {
        key: format!("audit.{}", wish.n),
        body: wish.audit,
        marker: false,
        ttl: Some(audit_ttl),
        label: Some(Label {
            batch_id: head.batch_id.clone(),
            kind: wish.kind,
        }),
    });
    messages.push(Message::value(HEAD, json(&head)?));
    Ok(Prepared {
        head,
        fence: image.head_seq,
        messages,
        steps,
        blocks,
    })
}

/// The stored form of a block.
pub(crate) fn block_message(block: &Block) -> Message {
    Message::value(format!("stage.{}", block.digest), block.body.clone())
}

fn message(step: &Step) -> Result<Message, StoreError> {
    Ok(match step {
        Step::Put { key, value } => Message::value(key, value.clone()),
        Step::Remove { key, timed } => Message::marker(key, timed.then_some(MARKER_TTL)),
        Step::Change { n, stages, writes } => {
            let manifest = stage::Manifest {
                v: 1,
                writes: writes.len() as u64,
                blocks: stages.clone(),
            };
            Message::value(format!("change.{n}"), json(&manifest)?)
        }
        Step::DropChange { n } => Message::marker(format!("change.{n}"), Some(MARKER_TTL)),
        Step::DropStage { digest } => Message::marker(format!("stage.{digest}"), Some(MARKER_TTL)),
        Step::Stage { .. } => {
            return Err(StoreError::Invalid(
                "a block is published before its batch, not in it".into(),
            ));
        }
    })
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Invalid(format!("a record cannot be written: {error}")))
}

/// The digest of an image's values must be the one its head will carry; used where content is replaced as a whole.
pub(crate) fn check_target(prepared: &Prepared, digest: SetDigest, count: u64) -> Result<(), StoreError> {
    if prepared.head.digest == digest && prepared.head.count == count {
        return Ok(());
    }
    let why = "the writes planned do not lead to the image that was asked for; nothing was sent";
    Err(StoreError::Invalid(why.into()))
}
