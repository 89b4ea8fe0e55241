//! Carries out actions. What takes no time is done at once; the rest goes to a bounded pool and comes back as a fact.
//!
//! A task that panics is a failed attempt like any other: its unit waits and is tried again.

use crate::artifact::{self, ArtifactFiles};
use crate::compile::{NotCompiled, Wanted};
use crate::run::runner::{Failure, Runner};
use crate::source::Uplink;
use heddle_agent_core::{Action, Fact};
use heddle_protocol::host_spec::HostSpecBody;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

/// Artifacts fetched at the same time: enough to fill a link, few enough to bound the memory that holds them.
const FETCHES_MAX: usize = 4;
/// Artifacts whose code is found, fetched or compiled at the same time. Most wait for the scheduler; those that compile here
/// take turns by themselves.
const COMPILES_MAX: usize = 8;
/// Units prepared at the same time, per core: preparing is mostly CPU time.
const PREPARES_PER_CORE: usize = 2;

/// Where work goes.
pub(crate) struct Pools {
    fetch: Arc<Semaphore>,
    compile: Arc<Semaphore>,
    prepare: Arc<Semaphore>,
    facts: mpsc::Sender<Fact>,
    runner: Arc<dyn Runner>,
    uplink: Arc<dyn Uplink>,
    artifacts: ArtifactFiles,
}

impl Pools {
    pub(crate) fn new(
        facts: mpsc::Sender<Fact>,
        runner: Arc<dyn Runner>,
        uplink: Arc<dyn Uplink>,
        artifacts: ArtifactFiles,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            fetch: Arc::new(Semaphore::new(FETCHES_MAX)),
            compile: Arc::new(Semaphore::new(COMPILES_MAX)),
            prepare: Arc::new(Semaphore::new(cores * PREPARES_PER_CORE)),
            facts,
            runner,
            uplink,
            artifacts,
        }
    }

    /// Begins an action. The fact of one that is done at once is returned.
    pub(crate) fn execute(&self, action: Action, spec: &Arc<HostSpecBody>) -> Option<Fact> {
        let runner = Arc::clone(&self.runner);
        match action {
            Action::SetCapability { name, offer } => {
                let none = BTreeMap::new();
                let secrets = spec.capability_secrets.get(&name).unwrap_or(&none);
                return Some(match runner.set_capability(&name, &offer, secrets) {
                    Ok(bound) => Fact::CapabilitySet {
                        name,
                        offer,
                        bound: bound.map(|address| address.to_string()),
                    },
                    Err(reason) => {
                        tracing::warn!(capability = %name, reason, "a capability cannot be lent");
                        Fact::CapabilityFailed { name, offer, reason }
                    }
                });
            }
            Action::RemoveCapability { name } => runner.remove_capability(&name),
            Action::ForgetComponent { digest, wasi } => runner.forget_component(digest, wasi),
            Action::ResizeUnit { run, count, .. } => runner.resize(run, count),
            Action::SetRoutes { serving } => runner.set_live(spec, &serving),
            Action::DropUnit { run, unit } => {
                tracing::info!(%unit, "gone");
                runner.drop_unit(run);
            }
            Action::DrainUnit { run, unit, .. } => {
                tracing::info!(%unit, "draining");
                let drained = runner.drain(run);
                let facts = self.facts.clone();
                tokio::spawn(async move {
                    drained.await;
                    let _ = facts.send(Fact::UnitDrained { run }).await;
                });
            }
            Action::FetchArtifact { digest, bytes } => {
                let (artifacts, uplink) = (self.artifacts.clone(), Arc::clone(&self.uplink));
                let work = async move {
                    match artifact::fetch(&artifacts, &*uplink, digest, bytes).await {
                        Ok(()) => Fact::ArtifactFetched { digest },
                        Err(e) => Fact::ArtifactFetchFailed {
                            digest,
                            reason: e.to_string(),
                        },
                    }
                };
                self.begin(&self.fetch, work, move |reason| Fact::ArtifactFetchFailed {
                    digest,
                    reason,
                });
            }
            Action::CompileArtifact {
                digest,
                bytes,
                wasi,
                by,
            } => {
                let failed = move |reason, for_good| Fact::ComponentCompileFailed {
                    digest,
                    wasi,
                    reason,
                    for_good,
                };
                let wanted = Wanted {
                    digest,
                    bytes,
                    wasi,
                    by,
                };
                let uplink = Arc::clone(&self.uplink);
                let work = async move {
                    match runner.compile(wanted, &*uplink).await {
                        Ok(()) => Fact::ComponentCompiled { digest, wasi },
                        Err(NotCompiled::Lost) => Fact::ArtifactLost { digest, wasi },
                        Err(NotCompiled::Failed(failure)) => failed(failure.reason, failure.for_good),
                    }
                };
                self.begin(&self.compile, work, move |reason| failed(reason, false));
            }
            Action::PrepareUnit {
                run,
                unit,
                template,
                count,
            } => {
                let failed = move |failure: Failure| Fact::UnitPrepareFailed {
                    run,
                    reason: failure.reason,
                    for_good: failure.for_good,
                    lacks_secret: failure.lacks_secret,
                };
                let work = async move {
                    match runner.prepare(run, unit.clone(), template, count).await {
                        Ok(()) => Fact::UnitPrepared { run, unit, count },
                        Err(failure) => {
                            tracing::warn!(%unit, reason = failure.reason, "a unit does not start");
                            failed(failure)
                        }
                    }
                };
                self.begin(&self.prepare, work, move |reason| failed(Failure::passing(reason)));
            }
        }
        None
    }

    fn begin(
        &self,
        pool: &Arc<Semaphore>,
        work: impl Future<Output = Fact> + Send + 'static,
        panicked: impl FnOnce(String) -> Fact + Send + 'static,
    ) {
        let (pool, facts) = (Arc::clone(pool), self.facts.clone());
        tokio::spawn(async move {
            // The pool is never closed; without a permit the work would only be unbounded.
            let _permit = pool.acquire_owned().await;
            let fact = match tokio::spawn(work).await {
                Ok(fact) => fact,
                Err(e) => {
                    tracing::error!(error = %e, "a piece of work ended early");
                    panicked(format!("the agent's own work failed: {e}"))
                }
            };
            // The control loop is gone only when the agent ends.
            let _ = facts.send(fact).await;
        });
    }
}
