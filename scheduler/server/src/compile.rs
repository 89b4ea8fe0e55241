//! Native code for the fleet: compiled once for each kind of engine, signed, kept, and given to every agent.
//!
//! In: the engines that hosts say they have, and artifacts. Out: which code an artifact has for an engine, under the realm
//! key, and that code's bytes. Compiling is done by worker processes ([`worker`]), a few at a time, and for one artifact
//! and engine only once however many ask. What cannot be compiled is remembered for a while, so that nobody pays for the
//! same attempt again and again.

mod serve;
#[cfg(test)]
mod tests;
mod worker;

use crate::artifact::ArtifactPool;
use crate::store::{CodeStore, StoreError};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::StreamExt as _;
use futures::future::{BoxFuture, Shared};
use heddle_protocol::api::artifact::CompiledCode;
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::compile::CompileJob;
use heddle_protocol::digest::Digest;
use heddle_protocol::envelope::{self, Kind};
use heddle_protocol::host_report::Engine;
use heddle_protocol::host_spec::Wasi;
use heddle_protocol::sign::SigningKey;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use worker::NoCode;

pub use worker::CompileOptions;

/// Engines remembered: a fleet has a handful. The one heard of longest ago is forgotten first.
const ENGINES_MAX: usize = 256;
/// How long a refusal is remembered. Then it is tried again: the limits may be others by then.
const REFUSAL_KEPT: Duration = Duration::from_secs(3_600);
/// How long the failure of a worker is remembered: long enough that a thousand hosts that ask do not start a thousand.
const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// Refusals and failures remembered at most.
const NO_CODE_MAX: usize = 4_096;
/// Bytes of code kept in memory for agents that fetch at the same time.
const CACHE_BYTES_MAX: u64 = 128 << 20;
/// Code read from the store at the same time: a fleet that asks for one at once must not fill the memory with it.
const READS_MAX: usize = 2;
/// Artifacts precompiled at the same time for one apply; the workers themselves take turns.
const PRECOMPILES_AT_ONCE: usize = 8;
/// How long code stays that was asked for, although no record names its artifact.
const ASKED_FOR: Duration = Duration::from_secs(86_400);

/// An artifact and the fingerprint of an engine.
type Pair = (Digest, String);
type UnderWay = Shared<BoxFuture<'static, Result<CompiledCode, NoCode>>>;

/// Why an agent or an apply gets no code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This scheduler cannot compile for the engine.
    Unsupported(String),
    /// The component cannot be compiled, or not within the limits.
    Refused(String),
    /// Not now.
    Unavailable(String),
}

/// The native code of a realm. Clones are the same pool.
#[derive(Clone)]
pub struct CompilePool(Arc<Inner>);

struct Inner {
    options: CompileOptions,
    artifacts: ArtifactPool,
    store: CodeStore,
    key: Arc<SigningKey>,
    turns: Semaphore,
    reads: Semaphore,
    state: Mutex<State>,
    /// Workers started.
    started: AtomicU64,
}

#[derive(Default)]
struct State {
    engines: BTreeMap<String, KnownEngine>,
    heard: u64,
    code: BTreeMap<Pair, (CompiledCode, Instant)>,
    /// Where bytes are found: one of those that have them.
    by_bytes: BTreeMap<Digest, Pair>,
    no_code: BTreeMap<Pair, (NoCode, Instant)>,
    under_way: BTreeMap<Pair, UnderWay>,
    cached: BTreeMap<Digest, Bytes>,
    order: VecDeque<Digest>,
    cached_bytes: u64,
}

struct KnownEngine {
    profile: BTreeMap<String, String>,
    wasi: Wasi,
    /// Raised with each hello.
    heard: u64,
}

impl CompilePool {
    /// A pool that knows all code that is in the store.
    pub async fn open(
        options: CompileOptions,
        artifacts: ArtifactPool,
        store: CodeStore,
        key: Arc<SigningKey>,
    ) -> Result<Self, StoreError> {
        let now = Instant::now();
        let kept = store.list().await?.into_iter();
        let mut state = State::default();
        kept.for_each(|code| state.remember(code, now));
        Ok(Self(Arc::new(Inner {
            turns: Semaphore::new(options.workers.max(1)),
            reads: Semaphore::new(READS_MAX),
            options,
            artifacts,
            store,
            key,
            state: Mutex::new(state),
            started: AtomicU64::new(0),
        })))
    }

    /// Workers started since this scheduler was.
    pub fn workers_started(&self) -> u64 {
        self.0.started.load(Ordering::Relaxed)
    }

    /// Remembers the engines of a host that said hello. A release that says too little of them compiles for itself.
    pub fn know(&self, engine: &Engine) {
        if engine.profile.is_empty() {
            return;
        }
        let mut state = self.0.lock();
        state.heard += 1;
        let heard = state.heard;
        for (name, wasi) in [("p2", Wasi::P2), ("p3", Wasi::P3)] {
            let Some(fingerprint) = engine.fingerprints.get(name).filter(|f| is_fingerprint(f)) else {
                continue;
            };
            let profile = engine.profile.clone();
            let known = KnownEngine { profile, wasi, heard };
            state.engines.insert(fingerprint.clone(), known);
        }
        while state.engines.len() > ENGINES_MAX {
            let oldest = state.engines.iter().min_by_key(|(_, engine)| engine.heard);
            let Some(oldest) = oldest.map(|(fingerprint, _)| fingerprint.clone()) else {
                break;
            };
            state.engines.remove(&oldest);
        }
    }

    /// Has artifacts compiled for every engine of the fleet before anything is committed that names them, so that what
    /// cannot be compiled is refused to whoever asks for it. What was compiled before costs nothing.
    pub async fn precompile(&self, artifacts: &[ArtifactInfo]) -> Result<(), ApiError> {
        let wanted: BTreeSet<(Digest, String)> = {
            let state = self.0.lock();
            let engines = |info: &ArtifactInfo| {
                let (digest, wasi) = (info.digest, info.wasi);
                let fitting = state.engines.iter().filter(move |(_, engine)| engine.wasi == wasi);
                fitting.map(move |(fingerprint, _)| (digest, fingerprint.clone()))
            };
            artifacts.iter().flat_map(engines).collect()
        };
        let mut compiled = futures::stream::iter(wanted)
            .map(|(artifact, fingerprint)| async move { (self.compiled(artifact, &fingerprint).await, artifact) })
            .buffer_unordered(PRECOMPILES_AT_ONCE);
        while let Some((result, artifact)) = compiled.next().await {
            match result {
                // Its agents may compile for themselves; and what fails here and now may succeed when they ask.
                Ok(_) | Err(Refusal::Unsupported(_)) => {}
                Err(Refusal::Unavailable(why)) => {
                    tracing::warn!(artifact = %artifact.short(), why, "an artifact was not compiled ahead");
                }
                Err(Refusal::Refused(why)) => {
                    return Err(ApiError::new(
                        ErrorCode::Artifact,
                        format!("failed to compile artifact {}: {why}", artifact.short()),
                        "split the component, or build it for size; limits are raised with the scheduler's --compile-cpu",
                    ));
                }
            }
        }
        Ok(())
    }

    /// The code that an artifact has for an engine; compiled now, if nobody did before.
    pub async fn compiled(&self, artifact: Digest, fingerprint: &str) -> Result<CompiledCode, Refusal> {
        let pair = (artifact, fingerprint.to_owned());
        let under_way = {
            let mut state = self.0.lock();
            if let Some(known) = state.known(&pair, Instant::now()) {
                return known.map_err(Refusal::from);
            }
            match state.under_way.get(&pair) {
                Some(under_way) => under_way.clone(),
                None => {
                    let Some(engine) = state.engines.get(fingerprint) else {
                        let why = "no host with such an engine has said hello to this scheduler yet";
                        return Err(Refusal::Unavailable(why.to_owned()));
                    };
                    let job = CompileJob {
                        profile: engine.profile.clone(),
                        wasi: engine.wasi,
                        fingerprint: fingerprint.to_owned(),
                        bytes: 0,
                        cpu_seconds: self.0.options.cpu_seconds,
                        memory_bytes: self.0.options.memory_bytes,
                    };
                    let begun = begin(Arc::clone(&self.0), artifact, job);
                    state.under_way.insert(pair, begun.clone());
                    begun
                }
            }
        };
        under_way.await.map_err(Refusal::from)
    }

    /// Code as an agent believes it: signed by the realm key.
    pub fn sign(&self, code: &CompiledCode) -> Result<Vec<u8>, ApiError> {
        let internal = |e: &dyn std::fmt::Display| {
            ApiError::new(
                ErrorCode::Internal,
                format!("failed to sign compiled code: {e}"),
                "report this",
            )
        };
        let payload = envelope::to_bytes("compiled code", code).map_err(|e| internal(&e))?;
        envelope::seal(Kind::Compiled, &payload, &self.0.key).map_err(|e| internal(&e))
    }

    /// The bytes of code, by their digest. None if it is not code.
    pub async fn bytes(&self, digest: &Digest) -> Result<Option<Bytes>, ApiError> {
        if let Some(bytes) = self.0.lock().cached.get(digest).cloned() {
            return Ok(Some(bytes));
        }
        if !self.0.lock().by_bytes.contains_key(digest) {
            return Ok(None);
        }
        // The semaphore is never closed.
        let _turn = self.0.reads.acquire().await.ok();
        let code = {
            let state = self.0.lock();
            if let Some(bytes) = state.cached.get(digest) {
                return Ok(Some(bytes.clone()));
            }
            let code = state.by_bytes.get(digest).and_then(|pair| state.code.get(pair));
            code.map(|(code, _)| code.clone())
        };
        let Some(code) = code else { return Ok(None) };
        match self.0.store.read(&code).await {
            Ok(Some(bytes)) => {
                self.0.lock().cache(*digest, bytes.clone());
                Ok(Some(bytes))
            }
            Ok(None) | Err(StoreError::Corrupt { .. }) => {
                // It is compiled again when somebody asks for it.
                self.0.lock().forget(&code);
                Ok(None)
            }
            Err(e) => Err(ApiError::new(
                ErrorCode::Unavailable,
                format!("failed to read native code {}: {e}", digest.short()),
                "check that nats-server is up, then try again",
            )),
        }
    }

    /// Deletes the code of artifacts that nobody names, and nobody asked for lately.
    pub async fn collect(&self, named: &BTreeSet<Digest>) -> Result<usize, StoreError> {
        let now = Instant::now();
        let unnamed: Vec<CompiledCode> = {
            let state = self.0.lock();
            let old = |asked: &Instant| now.saturating_duration_since(*asked) >= ASKED_FOR;
            let codes = state
                .code
                .values()
                .filter(|(code, asked)| !named.contains(&code.artifact) && old(asked));
            codes.map(|(code, _)| code.clone()).collect()
        };
        let gone = unnamed.len();
        for code in unnamed {
            self.0.lock().forget(&code);
            self.0.store.delete(&code).await?;
        }
        Ok(gone)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a few inserts and removes of things that can be had again.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn compile(&self, artifact: Digest, mut job: CompileJob) -> Result<CompiledCode, NoCode> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.ok();
        let component = self.artifacts.bytes(&artifact).await;
        let component = component.map_err(|e| NoCode::Failed(e.message))?;
        job.bytes = component.len() as u64;
        self.started.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let bytes = worker::run(&self.options, &job, &component).await?;
        let summed = bytes.clone();
        let digest = tokio::task::spawn_blocking(move || Digest::of(&summed)).await;
        let code = CompiledCode {
            artifact,
            fingerprint: job.fingerprint,
            code: digest.map_err(|e| NoCode::Failed(e.to_string()))?,
            bytes: bytes.len() as u64,
        };
        let ms = begun.elapsed().as_millis() as u64;
        tracing::info!(artifact = %artifact.short(), engine = %code.fingerprint, ms, "compiled");
        let stored = self.store.put(&code, bytes.clone()).await;
        stored.map_err(|e| NoCode::Failed(format!("failed to keep native code: {e}")))?;
        self.lock().cache(code.code, bytes);
        Ok(code)
    }
}

/// Begins to compile. It goes on although nobody waits any more: the next who asks will.
fn begin(inner: Arc<Inner>, artifact: Digest, job: CompileJob) -> UnderWay {
    let pair = (artifact, job.fingerprint.clone());
    let work = tokio::spawn(async move {
        let result = inner.compile(artifact, job).await;
        if let Err(why) = &result {
            tracing::warn!(artifact = %artifact.short(), ?why, "an artifact was not compiled");
        }
        inner.lock().end(pair, &result);
        result
    });
    async move {
        work.await
            .unwrap_or_else(|e| Err(NoCode::Failed(format!("failed to compile: {e}"))))
    }
    .boxed()
    .shared()
}

impl State {
    fn known(&mut self, pair: &Pair, now: Instant) -> Option<Result<CompiledCode, NoCode>> {
        if let Some((code, asked)) = self.code.get_mut(pair) {
            *asked = now;
            return Some(Ok(code.clone()));
        }
        let (why, at) = self.no_code.get(pair)?;
        let kept = match why {
            NoCode::Failed(_) => FAILURE_KEPT,
            NoCode::Refused(_) | NoCode::Unsupported(_) => REFUSAL_KEPT,
        };
        match now.saturating_duration_since(*at) < kept {
            true => Some(Err(why.clone())),
            false => {
                self.no_code.remove(pair);
                None
            }
        }
    }

    fn end(&mut self, pair: Pair, result: &Result<CompiledCode, NoCode>) {
        self.under_way.remove(&pair);
        let now = Instant::now();
        match result {
            Ok(code) => self.remember(code.clone(), now),
            Err(why) => {
                if self.no_code.len() >= NO_CODE_MAX {
                    let oldest = self.no_code.iter().min_by_key(|(_, (_, at))| *at);
                    if let Some(oldest) = oldest.map(|(pair, _)| pair.clone()) {
                        self.no_code.remove(&oldest);
                    }
                }
                self.no_code.insert(pair, (why.clone(), now));
            }
        }
    }

    fn remember(&mut self, code: CompiledCode, now: Instant) {
        let pair = (code.artifact, code.fingerprint.clone());
        self.by_bytes.insert(code.code, pair.clone());
        self.code.insert(pair, (code, now));
    }

    fn cache(&mut self, digest: Digest, bytes: Bytes) {
        let size = bytes.len() as u64;
        if self.cached.insert(digest, bytes).is_none() {
            self.order.push_back(digest);
            self.cached_bytes += size;
        }
        while self.cached_bytes > CACHE_BYTES_MAX && self.order.len() > 1 {
            let Some(oldest) = self.order.pop_front() else { break };
            self.uncache(&oldest);
        }
    }

    fn uncache(&mut self, digest: &Digest) {
        if let Some(bytes) = self.cached.remove(digest) {
            self.cached_bytes -= bytes.len() as u64;
        }
    }

    fn forget(&mut self, code: &CompiledCode) {
        self.code.remove(&(code.artifact, code.fingerprint.clone()));
        // Components that differ in nothing that is run have the same code.
        let other = self.code.iter().find(|(_, (other, _))| other.code == code.code);
        match other.map(|(pair, _)| pair.clone()) {
            Some(pair) => drop(self.by_bytes.insert(code.code, pair)),
            None => drop(self.by_bytes.remove(&code.code)),
        }
        self.order.retain(|digest| *digest != code.code);
        self.uncache(&code.code);
    }
}

impl From<NoCode> for Refusal {
    fn from(why: NoCode) -> Self {
        match why {
            NoCode::Unsupported(why) => Self::Unsupported(why),
            NoCode::Refused(why) => Self::Refused(why),
            NoCode::Failed(why) => Self::Unavailable(why),
        }
    }
}

/// It becomes part of names in the store.
fn is_fingerprint(text: &str) -> bool {
    (16..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
