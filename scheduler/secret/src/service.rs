//! Asking backends with care: each in its own bounds, so that a slow or dead one costs only those who need it.
//!
//! In: backends by name, and asks. Out: values, or typed reasons. Whoever asks for the same at the same time shares one
//! call; values are kept for a while, refusals for a moment; a backend that cannot be reached is left alone for longer and
//! longer. A call goes on when its asker is gone, so its result serves the next one.

mod breaker;
mod cache;

use crate::backend::{Ask, Backend, BackendError, Secret};
use breaker::Breaker;
use cache::{Cache, Kept};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::SecretUse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The bounds of a service.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// Calls to one backend at the same time.
    pub concurrency: usize,
    /// How long one call may take; half as long again at most is waited for a place among those.
    pub within: Duration,
    /// How long a value is kept.
    pub keep: Duration,
    /// How long the newest value is taken for the newest, where no version is named.
    pub keep_newest: Duration,
    /// How long a refusal is kept.
    pub keep_refusal: Duration,
    /// Values and refusals kept.
    pub kept_max: usize,
    /// Bytes of all values kept.
    pub kept_bytes_max: usize,
    /// Asks under way at the same time, of all backends; more are turned away.
    pub flights_max: usize,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            concurrency: 8,
            within: Duration::from_secs(8),
            // Long enough for a rollout over a fleet; a version that was destroyed is noticed after it.
            keep: Duration::from_secs(600),
            keep_newest: Duration::from_secs(5),
            keep_refusal: Duration::from_secs(2),
            kept_max: 8_192,
            kept_bytes_max: 32 << 20,
            flights_max: 4_096,
        }
    }
}

/// What is asked: the secret's id, and the version where the ask names another than the use does.
type Wanted = (Digest, Option<String>);
type Outcome = Result<Arc<Secret>, BackendError>;
type Flight = Shared<BoxFuture<'static, Outcome>>;

/// The backends of a scheduler. Clones share all of it.
#[derive(Clone)]
pub struct Secrets(Arc<Inner>);

struct Inner {
    options: ServiceOptions,
    desks: BTreeMap<String, Arc<Desk>>,
    cache: Mutex<Cache<Wanted>>,
    flights: Mutex<BTreeMap<Wanted, Flight>>,
}

/// One backend, and how it fares.
struct Desk {
    backend: Arc<dyn Backend>,
    places: Semaphore,
    breaker: Mutex<Breaker>,
    within: Duration,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("backends", &self.0.desks.keys())
            .finish_non_exhaustive()
    }
}

impl Secrets {
    /// A service over backends, by the names that manifests use.
    pub fn new(backends: BTreeMap<String, Arc<dyn Backend>>, options: ServiceOptions) -> Self {
        let desks = backends.into_iter().map(|(name, backend)| {
            let desk = Desk {
                backend,
                places: Semaphore::new(options.concurrency),
                breaker: Mutex::new(Breaker::default()),
                within: options.within,
            };
            (name, Arc::new(desk))
        });
        Self(Arc::new(Inner {
            desks: desks.collect(),
            cache: Mutex::new(Cache::new(options.kept_max, options.kept_bytes_max)),
            flights: Mutex::new(BTreeMap::new()),
            options,
        }))
    }

    /// The backends' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.desks.keys().map(String::as_str)
    }

    /// A secret's value: at a version, else at the one that the use names, else the newest.
    pub async fn get(&self, secret: &SecretUse, version: Option<&str>) -> Outcome {
        let wanted = (secret.id(), version.map(str::to_owned));
        if let Some(kept) = lock(&self.0.cache).get(&wanted, Instant::now()) {
            return kept;
        }
        let desk = self.desk(secret)?;
        let mut ask = Ask::of(secret);
        if let Some(version) = version {
            ask = ask.at(version);
        }
        self.join(wanted, desk, ask)?.await
    }

    /// The name of a secret's newest version. It is asked for each time.
    pub async fn newest(&self, secret: &SecretUse) -> Result<String, BackendError> {
        let desk = self.desk(secret)?;
        let ask = Ask::of(secret);
        // On a task of its own, so that whoever stops waiting does not leave the backend's state half noted.
        let call = tokio::spawn(async move { desk.call(desk.backend.newest(&ask)).await });
        call.await.unwrap_or_else(|_| Err(broken_off()))
    }

    fn desk(&self, secret: &SecretUse) -> Result<Arc<Desk>, BackendError> {
        self.0.desks.get(&secret.from).cloned().ok_or_else(|| {
            let names: Vec<&str> = self.names().collect();
            BackendError::NotFound(match names.is_empty() {
                true => "this scheduler has no backends of secrets; start it with --secrets-config".to_owned(),
                false => format!(
                    "this scheduler has no backend of secrets named {}; it has {}",
                    secret.from,
                    names.join(", ")
                ),
            })
        })
    }

    /// The call under way for the same, or a new one.
    fn join(&self, wanted: Wanted, desk: Arc<Desk>, ask: Ask) -> Result<Flight, BackendError> {
        let mut flights = lock(&self.0.flights);
        if let Some(flight) = flights.get(&wanted) {
            return Ok(flight.clone());
        }
        if flights.len() >= self.0.options.flights_max {
            let others = flights.len();
            return Err(BackendError::Unreachable(format!(
                "{others} other secrets are being asked for"
            )));
        }
        let (service, key) = (self.clone(), wanted.clone());
        let call = tokio::spawn(async move {
            let outcome = desk.call(desk.backend.get(&ask)).await.map(Arc::new);
            service.land(&key, &outcome);
            outcome
        });
        let flight = call
            .map(|done| done.unwrap_or_else(|_| Err(broken_off())))
            .boxed()
            .shared();
        flights.insert(wanted, flight.clone());
        Ok(flight)
    }

    fn land(&self, wanted: &Wanted, outcome: &Outcome) {
        let now = Instant::now();
        let options = &self.0.options;
        let mut cache = lock(&self.0.cache);
        match outcome {
            Ok(secret) => {
                let whole = || Kept::Value(Arc::clone(secret));
                if wanted.1.as_deref() != Some(&secret.version) {
                    cache.keep(wanted.clone(), whole(), now + options.keep_newest);
                }
                let at_version = (wanted.0, Some(secret.version.clone()));
                cache.keep(at_version, whole(), now + options.keep);
            }
            Err(e) if e.is_retryable() => {}
            Err(e) => cache.keep(wanted.clone(), Kept::Refusal(e.clone()), now + options.keep_refusal),
        }
        drop(cache);
        lock(&self.0.flights).remove(wanted);
    }
}

impl Desk {
    /// One call, if the backend is to be asked at all, in bounded time; and what it says of the backend.
    async fn call<T>(&self, call: impl Future<Output = Result<T, BackendError>>) -> Result<T, BackendError> {
        if let Err(pause) = lock(&self.breaker).admit(Instant::now()) {
            return Err(BackendError::Unreachable(format!(
                "it could not be reached before; it is asked again in {} s",
                pause.as_secs() + 1
            )));
        }
        let outcome = self.bounded(call).await;
        let reached = !matches!(&outcome, Err(e) if e.is_retryable());
        lock(&self.breaker).note(reached, Instant::now(), rand::random::<f64>());
        outcome
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, BackendError>>) -> Result<T, BackendError> {
        let silent =
            |within: Duration, what| BackendError::Unreachable(format!("{what} within {} s", within.as_secs_f32()));
        // Half of the time for a place: a backend that fills all places without answering is not worth waiting for.
        let half = self.within / 2;
        let Ok(_place) = tokio::time::timeout(half, self.places.acquire()).await else {
            return Err(silent(half, "it answered none of those before"));
        };
        let answer = tokio::time::timeout(self.within, call).await;
        answer.unwrap_or_else(|_| Err(silent(self.within, "it gave no answer")))
    }
}

fn broken_off() -> BackendError {
    BackendError::Unreachable("the call was broken off".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
