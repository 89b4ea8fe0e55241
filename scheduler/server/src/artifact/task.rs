//! Work on artifacts that decisions rest on: composing components, and checking calls between them.
//!
//! In: a task, as the core wrote it. Out: the component that came of it, kept in the store, or in words why none did.
//! The same task is carried out once at a time, off the threads that wait, and its outcome is remembered.

use super::ArtifactPool;
use crate::outside::off_the_loop;
use bytes::Bytes;
use heddle_compose::{Link, Part, compose};
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::artifact::ArtifactInfo;
use heddle_protocol::defaults::ARTIFACT_BYTES_MAX;
use heddle_protocol::digest::Digest;
use heddle_scheduler_core::ArtifactTask;
use heddle_scheduler_core::apply::{CallCheck, Composition};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OnceCell, Semaphore};

/// Outcomes remembered: a few hundred bytes each. One that is forgotten is worked out again, to the same bytes.
const OUTCOMES_MAX: usize = 16_384;

/// What came of a task: the composed component (the caller's own for a check), or why not.
pub type Outcome = Result<ArtifactInfo, String>;

/// Tasks that are carried out or were.
#[derive(Clone)]
pub(super) struct Tasks {
    remembered: Arc<Mutex<Remembered>>,
    /// As many at the same time as there are cores: each one is work for one.
    turns: Arc<Semaphore>,
}

#[derive(Default)]
struct Remembered {
    outcomes: BTreeMap<Digest, Arc<OnceCell<Outcome>>>,
    order: VecDeque<Digest>,
}

impl Default for Tasks {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            remembered: Arc::default(),
            turns: Arc::new(Semaphore::new(cores)),
        }
    }
}

impl Tasks {
    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        // A panicking holder leaves at worst an order without its outcome, which is skipped.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of a task's outcome: everybody who asks for the task meets there.
    fn place_of(&self, task: Digest) -> Arc<OnceCell<Outcome>> {
        let mut remembered = self.lock();
        if let Some(place) = remembered.outcomes.get(&task) {
            return Arc::clone(place);
        }
        let place = Arc::new(OnceCell::new());
        remembered.outcomes.insert(task, Arc::clone(&place));
        remembered.order.push_back(task);
        while remembered.order.len() > OUTCOMES_MAX {
            if let Some(oldest) = remembered.order.pop_front() {
                remembered.outcomes.remove(&oldest);
            }
        }
        place
    }

    fn forget(&self, task: &Digest, place: &Arc<OnceCell<Outcome>>) {
        let mut remembered = self.lock();
        // Somebody else may have begun it anew already.
        if remembered.outcomes.get(task).is_some_and(|now| Arc::ptr_eq(now, place)) {
            remembered.outcomes.remove(task);
            remembered.order.retain(|digest| digest != task);
        }
    }
}

impl ArtifactPool {
    /// Carries out a task, or says what came of it before.
    ///
    /// # Errors
    /// If it cannot be tried now: the store is away, or an artifact that it is about is not there.
    pub async fn run(&self, task: &ArtifactTask) -> Result<Outcome, ApiError> {
        let digest = task.digest().map_err(|e| internal("name a task", &e))?;
        let place = self.tasks.place_of(digest);
        if let Some(outcome) = place.get()
            && self.still_holds(task, outcome).await?
        {
            return Ok(outcome.clone());
        }
        let place = match place.initialized() {
            // What came of it is not in the store any more.
            true => {
                self.tasks.forget(&digest, &place);
                self.tasks.place_of(digest)
            }
            false => place,
        };
        let outcome = place.get_or_try_init(|| self.carry_out(task)).await?;
        Ok(outcome.clone())
    }

    /// Whether a remembered outcome is still so: what was composed may have been collected since.
    async fn still_holds(&self, task: &ArtifactTask, outcome: &Outcome) -> Result<bool, ApiError> {
        match (task, outcome) {
            (ArtifactTask::Compose(_), Ok(info)) => {
                Ok(self.known(&info.digest.to_string()).is_some() || self.contains(&info.digest).await?)
            }
            _ => Ok(true),
        }
    }

    async fn carry_out(&self, task: &ArtifactTask) -> Result<Outcome, ApiError> {
        // The semaphore is never closed.
        let _turn = self.tasks.turns.acquire().await.ok();
        match task {
            ArtifactTask::Compose(composition) => self.compose(composition).await,
            ArtifactTask::CheckCall(check) => self.check_call(check).await,
        }
    }

    async fn compose(&self, composition: &Composition) -> Result<Outcome, ApiError> {
        let mut bytes: BTreeMap<Digest, Bytes> = BTreeMap::new();
        let mut total = 0;
        for source in composition.parts.values() {
            // Bytes are shared, not copied, where a component is a part twice.
            let part = match bytes.get(&source.artifact) {
                Some(part) => part.clone(),
                None => self.bytes(&source.artifact).await?,
            };
            total += part.len() as u64;
            bytes.insert(source.artifact, part);
            if total > ARTIFACT_BYTES_MAX {
                return Ok(Err(format!(
                    "its components have more than {ARTIFACT_BYTES_MAX} bytes together, which is the most that one may \
                     have; link some of them with `via: wrpc` instead"
                )));
            }
        }
        let composition = composition.clone();
        let composed = off_the_loop(move || compose_now(&composition, &bytes));
        let composed = composed.await.map_err(|e| internal("compose", &e))?;
        match composed {
            Ok(whole) => self.put(None, whole.into()).await.map(Ok),
            Err(why) => Ok(Err(why)),
        }
    }

    async fn check_call(&self, check: &CallCheck) -> Result<Outcome, ApiError> {
        let info = self.info(&check.caller).await?;
        let caller = self.bytes(&check.caller).await?;
        let callee = match &check.callee {
            Some(callee) => Some(self.bytes(callee).await?),
            None => None,
        };
        let check = check.clone();
        let checked =
            off_the_loop(move || heddle_compose::check_call(&caller, &check.import, callee.as_deref(), &check.export));
        let checked = checked.await.map_err(|e| internal("check a call", &e))?;
        Ok(checked.map(|()| info))
    }
}

fn compose_now(composition: &Composition, bytes: &BTreeMap<Digest, Bytes>) -> Result<Vec<u8>, String> {
    let mut parts = BTreeMap::new();
    for (name, source) in &composition.parts {
        let bytes = bytes.get(&source.artifact).ok_or("a part was not read")?;
        let part = Part {
            bytes,
            rename: &source.rename,
        };
        parts.insert(name.as_str(), part);
    }
    let links: Vec<Link<'_>> = composition
        .links
        .iter()
        .map(|link| Link {
            from: &link.from,
            import: &link.import,
            to: &link.to,
            export: &link.export,
        })
        .collect();
    compose(&composition.entry, &parts, &links).map_err(|e| e.to_string())
}

fn internal(doing: &str, error: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(
        ErrorCode::Internal,
        format!("failed to {doing}: {error}"),
        "report this",
    )
}
