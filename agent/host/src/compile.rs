//! An artifact's code on its way into memory: from this host's own cache, from the scheduler, or compiled here.
//!
//! In: an artifact, and who should compile it. Out: the component, loaded; or why not. The scheduler's word is taken only
//! under the realm's signature, for this artifact and this engine; its code is then kept under this host's own seal. An
//! agent whose scheduler does not answer waits: it compiles by itself only where it is told to, or where the scheduler
//! says that it cannot.

use crate::artifact::{self, ArtifactFiles};
use crate::cache::compiled::{CompiledFiles, Origin};
use crate::engine::{CompiledComponent, Engines};
use crate::run::Failure;
use crate::source::{ChunkError, CodeAnswer, Uplink};
use bytes::Bytes;
use heddle_protocol::api::artifact::CompiledCode;
use heddle_protocol::defaults::CODE_BYTES_MAX;
use heddle_protocol::digest::Digest;
use heddle_protocol::envelope::{self, Kind};
use heddle_protocol::host_spec::{Compile, Wasi};
use rand::Rng as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How often the scheduler is asked before the attempt ends, if it does not answer.
const ASKS_MAX: u32 = 4;
/// How long the scheduler may take to compile. Longer than it gives itself.
const COMPILED_WITHIN: Duration = Duration::from_secs(240);
/// The pause before it is asked again, first and at most; doubled each time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// An artifact whose code is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) digest: Digest,
    /// The artifact's size, in bytes.
    pub(crate) bytes: u64,
    pub(crate) wasi: Wasi,
    /// Who compiles.
    pub(crate) by: Compile,
}

/// Why an artifact's code is not in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotCompiled {
    /// The artifact's file is gone or damaged.
    Lost,
    /// It cannot be had.
    Failed(Failure),
}

/// Brings code into memory.
pub(crate) struct Compiler {
    files: Arc<Files>,
    realm_keys: Vec<String>,
    /// Components compiled here at the same time.
    turns: Semaphore,
}

struct Files {
    engines: Engines,
    artifacts: ArtifactFiles,
    compiled: CompiledFiles,
    /// Whether this agent can compile.
    compiles: bool,
}

impl Compiler {
    pub(crate) fn new(
        engines: Engines,
        artifacts: ArtifactFiles,
        compiled: CompiledFiles,
        realm_keys: Vec<String>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let files = Files {
            engines,
            artifacts,
            compiled,
            compiles: heddle_engine::COMPILES,
        };
        Self {
            files: Arc::new(files),
            realm_keys,
            turns: Semaphore::new(cores),
        }
    }

    /// The component that an artifact's code makes.
    pub(crate) async fn component(
        &self,
        wanted: Wanted,
        uplink: &dyn Uplink,
    ) -> Result<CompiledComponent, NotCompiled> {
        let origins = match wanted.by {
            Compile::Local => &[Origin::Own][..],
            Compile::Precompiled => &[Origin::Signed, Origin::Own],
        };
        if let Some(component) = self.blocking(move |files| Ok(files.kept(&wanted, origins))).await? {
            return Ok(component);
        }
        match wanted.by {
            Compile::Local => self.compile_here(wanted).await,
            Compile::Precompiled => match self.ask(&wanted, uplink).await? {
                Ok(code) => self.fetch(wanted, code, uplink).await,
                Err(why) if !self.files.compiles => Err(failed(
                    format!("failed to have its code compiled: {why}; this agent is built without a compiler"),
                    false,
                )),
                Err(why) => {
                    tracing::info!(digest = %wanted.digest.short(), why, "compiling on this host");
                    let fetched = artifact::fetch(&self.files.artifacts, uplink, wanted.digest, wanted.bytes).await;
                    fetched.map_err(|e| passing(e.to_string()))?;
                    match self.compile_here(wanted).await {
                        // It was here a moment ago, and will be fetched again.
                        Err(NotCompiled::Lost) => Err(passing("its artifact is lost or damaged again".to_owned())),
                        done => done,
                    }
                }
            },
        }
    }

    /// Asks until the scheduler says which code it is, that there is none for this engine (the inner error), or that there
    /// never will be.
    async fn ask(&self, wanted: &Wanted, uplink: &dyn Uplink) -> Result<Result<CompiledCode, String>, NotCompiled> {
        let fingerprint = self.files.engines.fingerprint(wanted.wasi);
        let until = Instant::now() + COMPILED_WITHIN;
        let (mut unanswered, mut pause) = (0, PAUSES.0);
        loop {
            match uplink.compiled(wanted.digest, &fingerprint).await {
                Ok(CodeAnswer::Signed(envelope)) => {
                    let read = read_code(&envelope, &self.realm_keys, &wanted.digest, &fingerprint);
                    return read.map(Ok).map_err(passing);
                }
                Ok(CodeAnswer::Unsupported(why)) => return Ok(Err(why)),
                Ok(CodeAnswer::UnderWay) if Instant::now() < until => unanswered = 0,
                Ok(CodeAnswer::UnderWay) => {
                    return Err(passing("its code is still being compiled".to_owned()));
                }
                Err(e) if e.may_pass() => {
                    unanswered += 1;
                    if unanswered >= ASKS_MAX {
                        return Err(passing(format!("failed to have its code compiled: {e}")));
                    }
                }
                Err(ChunkError::Refused(why) | ChunkError::NoAnswer(why)) => return Err(failed(why, true)),
            }
            let jitter = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn fetch(
        &self,
        wanted: Wanted,
        code: CompiledCode,
        uplink: &dyn Uplink,
    ) -> Result<CompiledComponent, NotCompiled> {
        let fetched = artifact::fetch_code(&self.files.artifacts, uplink, code.code, code.bytes).await;
        let bytes = fetched.map_err(|e| passing(e.to_string()))?;
        self.blocking(move |files| files.keep(&wanted, Origin::Signed, &bytes))
            .await
    }

    async fn compile_here(&self, wanted: Wanted) -> Result<CompiledComponent, NotCompiled> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.ok();
        self.blocking(move |files| files.compile(&wanted)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, NotCompiled> + Send + 'static,
    ) -> Result<T, NotCompiled> {
        let files = Arc::clone(&self.files);
        let done = tokio::task::spawn_blocking(move || work(&files)).await;
        done.unwrap_or_else(|e| Err(passing(format!("failed to compile: {e}"))))
    }
}

impl Files {
    /// What is on the disk already.
    fn kept(&self, wanted: &Wanted, origins: &[Origin]) -> Option<CompiledComponent> {
        let fingerprint = self.engines.fingerprint(wanted.wasi);
        origins.iter().find_map(|origin| {
            let path = self.compiled.find(&wanted.digest, &fingerprint, *origin)?;
            match self.engines.load_compiled(&path, wanted.wasi) {
                Ok(component) => Some(component),
                Err(e) => {
                    tracing::warn!(digest = %wanted.digest, error = %whole(&e), "kept code is made again");
                    None
                }
            }
        })
    }

    /// Keeps code and loads it.
    fn keep(&self, wanted: &Wanted, origin: Origin, code: &[u8]) -> Result<CompiledComponent, NotCompiled> {
        let fingerprint = self.engines.fingerprint(wanted.wasi);
        let loaded = match self.compiled.keep(&wanted.digest, &fingerprint, origin, code) {
            Ok(path) => self.engines.load_compiled(&path, wanted.wasi),
            Err(e) => {
                // A full disk costs the next start the same again, and no more.
                tracing::warn!(digest = %wanted.digest, error = %e, "compiled code cannot be kept on the disk");
                self.engines.load_code(code, wanted.wasi)
            }
        };
        loaded.map_err(|e| passing(whole(&e)))
    }

    #[cfg(feature = "compiler")]
    fn compile(&self, wanted: &Wanted) -> Result<CompiledComponent, NotCompiled> {
        if !self.compiles {
            return Err(no_compiler());
        }
        let Some(wasm) = self.artifacts.read(&wanted.digest) else {
            return Err(NotCompiled::Lost);
        };
        let started = std::time::Instant::now();
        let code = self.engines.compile(&wasm, wanted.wasi);
        // Neither its bytes nor the compiler change by themselves.
        let code = code.map_err(|e| failed(whole(&e), true))?;
        tracing::info!(digest = %wanted.digest.short(), ms = started.elapsed().as_millis() as u64, "compiled");
        self.keep(wanted, Origin::Own, &code)
    }

    #[cfg(not(feature = "compiler"))]
    fn compile(&self, _: &Wanted) -> Result<CompiledComponent, NotCompiled> {
        Err(no_compiler())
    }
}

/// What the scheduler signed, if it is about this artifact and this engine.
fn read_code(
    envelope: &Bytes,
    realm_keys: &[String],
    artifact: &Digest,
    fingerprint: &str,
) -> Result<CompiledCode, String> {
    let refused = |why: String| format!("failed to trust compiled code: {why}");
    let opened = envelope::open(envelope).map_err(|e| refused(e.to_string()))?;
    let payload = opened.verified(Kind::Compiled, realm_keys);
    let payload = payload.map_err(|e| refused(e.to_string()))?;
    let code: CompiledCode = envelope::read("compiled code", payload).map_err(|e| refused(e.to_string()))?;
    if code.artifact != *artifact {
        return Err(refused(format!("it is of artifact {}", code.artifact.short())));
    }
    if code.fingerprint != fingerprint {
        return Err(refused("it is for another engine".to_owned()));
    }
    if code.bytes > CODE_BYTES_MAX {
        return Err(refused(format!(
            "it has {} bytes, more than {CODE_BYTES_MAX}",
            code.bytes
        )));
    }
    Ok(code)
}

fn no_compiler() -> NotCompiled {
    failed(
        "failed to compile: this agent is built without a compiler; let the scheduler compile".to_owned(),
        true,
    )
}

fn failed(reason: String, for_good: bool) -> NotCompiled {
    NotCompiled::Failed(Failure {
        for_good,
        ..Failure::passing(reason)
    })
}

fn passing(reason: String) -> NotCompiled {
    failed(reason, false)
}

/// An error with all its causes, in one line.
fn whole(error: &dyn std::error::Error) -> String {
    crate::run::whole(error)
}

#[cfg(test)]
mod tests;
