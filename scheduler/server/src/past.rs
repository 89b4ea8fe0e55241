//! What decisions were made from, kept for a week so that each can be made again and explained.
//!
//! In: with each commit its [`Step`]: what was asked, what hosts had said ([`Premises`]), what was placed. Out: the same steps
//! on the realm's stream of the past, together for a quarter of a second at a time, compressed. A step says only what is
//! new; now and then one has all records with it (a *base*), and a decision is made again from the base before it. Keeping is
//! no part of a commit: whoever is killed right after one leaves it without its step, and the next leader begins with a
//! base.

pub mod find;
pub mod replay;

use crate::change::Batch;
use crate::outside::{Around, off_the_loop};
use crate::store::{Image, PastStore, StoreError, VALUE_BYTES_MAX};
use bytes::Bytes;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use heddle_protocol::id::Version;
use heddle_protocol::key::Key;
use heddle_protocol::time::{Mono, UnixMs};
pub use heddle_scheduler_core::LivenessOptions;
use heddle_scheduler_core::{Premises, plan::PLANNER};
use serde::{Deserialize, Serialize};
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long steps wait to be written together.
const TOGETHER: Duration = Duration::from_millis(250);
/// Bytes of steps that may wait. More are not kept, and the next one that is has a base.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Placements of one step, in bytes: of more only the digest is kept, and what came out is known by making it again.
const PLACED_BYTES_MAX: usize = 8 << 20;
/// A step has a base if those since the last one have more bytes than this, and twice as many as that one.
const SINCE_BASE_BYTES: usize = 1 << 20;
/// A base at most so often, in milliseconds, but for the first.
const BASE_EVERY_MS: u64 = 10_000;
/// A frame at most, when it is not compressed: the largest base, and then some.
const FRAME_BYTES_MAX: u64 = 512 << 20;

/// One commit's decision: what it was made from, and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The commit.
    #[serde(flatten)]
    pub version: Version,
    /// The wall clock when it was decided.
    pub at: UnixMs,
    /// The version of the deciding code.
    pub planner: String,
    /// The step before, by its commit. None if this one has a base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<u64>,
    /// All records before the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Vec<Kept>>,
    /// What was known besides.
    pub premises: Premises,
    /// The records that were asked for.
    pub asked: Vec<Kept>,
    /// The placements that changed; none if they were too many.
    pub placed: Option<Vec<Kept>>,
    /// The digest of these; none until they are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed_digest: Option<heddle_protocol::digest::Digest>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its key.
    pub key: String,
    /// Its value; none if it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Text>,
}

impl Kept {
    fn of(key: &Key, value: Option<&Bytes>) -> Self {
        Self {
            key: key.to_string(),
            value: value.cloned().map(Text),
        }
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |value| value.0.len())
    }
}

/// The value of a record, which is JSON and so text, shared with whoever else holds it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Text(Bytes);

impl Text {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&String::from_utf8_lossy(&self.0))
    }
}

/// The digest of placements, in the order of their keys.
pub(crate) fn digest_of(placed: &[Kept]) -> heddle_protocol::digest::Digest {
    let mut bytes = Vec::new();
    for kept in placed {
        bytes.extend_from_slice(kept.key.as_bytes());
        bytes.push(u8::from(kept.value.is_some()));
        bytes.extend_from_slice(kept.value.as_ref().map_or(&[][..], Text::bytes));
        bytes.push(0);
    }
    heddle_protocol::digest::Digest::of(&bytes)
}

impl Step {
    /// What is kept of a batch that is about to be committed.
    pub(crate) fn of(batch: &Batch, premises: Premises, version: Version, at: UnixMs) -> Self {
        let places = batch.writes.iter().filter(|(key, _)| matches!(key, Key::Place(_)));
        let placed = places.map(|(key, value)| Kept::of(key, value.as_ref()));
        let asked = batch.asked.iter().map(|(key, value)| Kept::of(key, value.as_ref()));
        Self {
            version,
            at,
            planner: PLANNER.to_owned(),
            previous: None,
            base: None,
            premises,
            asked: asked.collect(),
            placed: Some(placed.collect()),
            placed_digest: None,
        }
    }

    /// Whether its placements are so few that they are kept.
    fn is_small(&self) -> bool {
        let placed = self.placed.iter().flatten();
        placed.map(Kept::bytes).sum::<usize>() <= PLACED_BYTES_MAX
    }

    /// Makes it what is written of it. Takes a while if it is large.
    fn settle(&mut self) {
        self.placed_digest = self.placed.as_deref().map(digest_of);
        if !self.is_small() {
            self.placed = None;
        }
    }

    /// Gives it all records that were there before it.
    pub(crate) fn found(&mut self, image: &Image) {
        let values = image.values.iter().map(|(key, value)| Kept {
            key: key.clone(),
            value: Some(Text(value.clone())),
        });
        self.base = Some(values.collect());
    }

    /// About how many bytes it has.
    fn bytes(&self) -> usize {
        let premises = self.premises.hosts.len() * 600 + self.premises.odd.len() * 60;
        let units: usize = self.premises.looked_at.iter().map(|l| 60 + l.odd.len() * 160).sum();
        let records = self.asked.iter().chain(self.placed.iter().flatten());
        let records = records
            .chain(self.base.iter().flatten())
            .map(Kept::bytes)
            .sum::<usize>();
        premises + units + records
    }
}

/// What each part of the past begins with, in a line of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartHead {
    /// The version of this form.
    pub(crate) v: u32,
    /// The first step's commit.
    pub(crate) first: u64,
    /// The last one's.
    pub(crate) last: u64,
    /// Their epoch.
    pub(crate) epoch: u64,
    /// The commit of the last base at or before the last step.
    pub(crate) base: u64,
    /// Which part of the frame this is.
    pub(crate) part: usize,
    /// Of how many.
    pub(crate) parts: usize,
}

/// The version of the form of parts.
const FORM: u32 = 1;

/// Keeps steps. A handle; clones share what waits.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    pub(crate) store: PastStore,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Each with the commit of its base.
    waiting: Vec<(u64, Step)>,
    waiting_bytes: usize,
    is_writing: bool,
    /// The last step that was taken; none if the next one needs a base.
    previous: Option<u64>,
    base: u64,
    base_bytes: usize,
    since_base: usize,
    base_after: Mono,
}

impl Past {
    /// Keeps steps there.
    pub(crate) fn new(store: PastStore) -> Self {
        Self {
            store,
            state: Arc::default(),
        }
    }

    /// Whether the next step should come with a base; none if it cannot be kept, because one that it needs comes too soon.
    pub(crate) fn next(&self, now: Mono) -> Option<Base> {
        let state = self.lock();
        let long = state.since_base > SINCE_BASE_BYTES.max(2 * state.base_bytes);
        match (state.previous, now >= state.base_after) {
            (None, false) => None,
            (None, true) => Some(Base::Needed),
            (Some(_), true) if long => Some(Base::Needed),
            (Some(_), _) => Some(Base::Known),
        }
    }

    /// Notes that a commit has no step, or that it is not known whether it has one.
    pub(crate) fn miss(&self) {
        self.lock().previous = None;
    }

    /// Keeps the step of a commit that stands.
    pub(crate) fn keep(&self, mut step: Step, now: Mono, around: &Around) {
        let mut state = self.lock();
        let bytes = step.bytes();
        if state.waiting_bytes + bytes > WAITING_BYTES_MAX && state.waiting_bytes > 0 {
            state.previous = None;
            tracing::warn!(
                commit = step.version.n,
                "what a decision was made from is not kept: too much waits"
            );
            return;
        }
        if step.base.is_some() {
            state.base = step.version.n;
            (state.base_bytes, state.since_base) = (bytes, 0);
            state.base_after = now.plus(BASE_EVERY_MS);
        } else {
            // One that follows nothing is worth nothing.
            let Some(previous) = state.previous else { return };
            step.previous = Some(previous);
            state.since_base += bytes;
        }
        // What was placed is needed to go on from here.
        state.previous = step.is_small().then_some(step.version.n);
        let base = state.base;
        state.waiting.push((base, step));
        state.waiting_bytes += bytes;
        if !std::mem::replace(&mut state.is_writing, true) {
            let past = self.clone();
            around.spawn(Box::pin(async move { past.write().await }));
        }
    }

    /// Writes what waits, until nothing does.
    async fn write(&self) {
        loop {
            tokio::time::sleep(TOGETHER).await;
            let steps = {
                let mut state = self.lock();
                state.waiting_bytes = 0;
                let steps = std::mem::take(&mut state.waiting);
                if steps.is_empty() {
                    state.is_writing = false;
                    return;
                }
                steps
            };
            for (base, frame) in frames(steps) {
                let commit = frame.first().map(|step| step.version.n);
                if let Err(error) = self.write_frame(base, frame).await {
                    self.miss();
                    tracing::warn!(?commit, error = %error, "what a decision was made from is not kept");
                }
            }
        }
    }

    async fn write_frame(&self, base: u64, mut frame: Vec<Step>) -> Result<(), StoreError> {
        let parts = off_the_loop(move || {
            frame.iter_mut().for_each(Step::settle);
            encode(&frame, base)
        })
        .await;
        let parts = parts.map_err(|error| StoreError::unavailable("compress a decision", error))?;
        for part in parts.map_err(|error| StoreError::Invalid(error.to_string()))? {
            self.store.append(part).await?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a step comes with a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// It needs one.
    Needed,
    /// It follows a step that is kept.
    Known,
}

/// Steps that are written together, with the commit of their base. One with a base begins a frame, so that a frame has one
/// base at most, at its start.
fn frames(steps: Vec<(u64, Step)>) -> Vec<(u64, Vec<Step>)> {
    let mut frames: Vec<(u64, Vec<Step>)> = Vec::new();
    for (base, step) in steps {
        match frames.last_mut() {
            Some((known, frame)) if *known == base => frame.push(step),
            _ => frames.push((base, vec![step])),
        }
    }
    frames
}

/// The parts of a frame: compressed, and cut to what one message holds.
fn encode(steps: &[Step], base: u64) -> std::io::Result<Vec<Bytes>> {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
        return Ok(Vec::new());
    };
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    serde_json::to_writer(&mut encoder, steps)?;
    encoder.flush()?;
    let bytes = encoder.finish()?;
    let room = VALUE_BYTES_MAX - 512;
    let parts = bytes.len().div_ceil(room);
    let mut head = PartHead {
        v: FORM,
        first: first.version.n,
        last: last.version.n,
        epoch: last.version.epoch,
        base,
        part: 0,
        parts,
    };
    let mut encoded = Vec::new();
    for (part, piece) in bytes.chunks(room).enumerate() {
        head.part = part;
        let mut out = serde_json::to_vec(&head)?;
        out.push(b'\n');
        out.extend_from_slice(piece);
        encoded.push(Bytes::from(out));
    }
    Ok(encoded)
}

/// A part's head, and what follows it.
pub(crate) fn open(part: &Bytes) -> Option<(PartHead, Bytes)> {
    let end = part.iter().position(|byte| *byte == b'\n')?;
    let head: PartHead = serde_json::from_slice(&part[..end]).ok()?;
    Some((head, part.slice(end + 1..)))
}

/// The steps of a frame, of all its parts.
pub(crate) fn decode(parts: &[Bytes]) -> Result<Vec<Step>, String> {
    let bytes = parts.concat();
    let mut json = Vec::new();
    let mut decoder = ZlibDecoder::new(&bytes[..]).take(FRAME_BYTES_MAX);
    decoder.read_to_end(&mut json).map_err(|error| error.to_string())?;
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}
