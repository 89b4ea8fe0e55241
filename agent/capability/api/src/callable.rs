//! Calls into components by whatever brings work to them: messages, calls from other hosts, points in time.
//!
//! In: a component of a prepared unit, and what to do with an instance of it. Out: what came of it, within the workload's
//! limits. Whoever calls knows neither how instances are made nor how many there may be.

use crate::ctx::Ctx;
use crate::log::Log;
use futures::future::BoxFuture;
use heddle_protocol::id::{ComponentName, UnitId};
use std::sync::Arc;
use std::time::Instant;
use wasmtime::Store;
use wasmtime::component::{Component, Instance};

/// What is done with one instance: find an export, call it, keep the result outside. A trap is its error.
pub type Work = Box<dyn for<'a> FnOnce(&'a mut Store<Ctx>, Instance) -> BoxFuture<'a, wasmtime::Result<()>> + Send>;

/// A component of a unit that can be called.
pub trait Callable: Send + Sync + 'static {
    /// The unit.
    fn unit(&self) -> &UnitId;

    /// The component.
    fn component(&self) -> &ComponentName;

    /// Its compiled code: the types of its exports are found there.
    fn code(&self) -> &Component;

    /// Wall time of one call, as the workload's limits say.
    fn time_limit(&self) -> std::time::Duration;

    /// Replicas that the unit stands for now.
    fn replicas(&self) -> u32;

    /// The component's log, for what its own developers should know of its calls; none where nobody reads it.
    fn log(&self) -> Option<&Arc<Log>> {
        None
    }

    /// Does some work in an instance of its own, within the workload's concurrency, memory and time.
    fn call(self: Arc<Self>, deadline: Instant, work: Work) -> BoxFuture<'static, Result<(), CallFailure>>;
}

/// Why a call into a component came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// As many calls as the workload may have are in flight.
    #[error("failed to call the component: the workload has as many calls in flight as it may")]
    Overloaded,
    /// The unit is going away.
    #[error("failed to call the component: its unit is draining")]
    Draining,
    /// The call took longer than it may.
    #[error("failed to finish the call: it reached its time limit")]
    TimeLimit,
    /// The host has no room for another instance.
    #[error("failed to make an instance: the host has no room for another one")]
    HostFull,
    /// The component trapped; its log says why.
    #[error("failed to finish the call: the component trapped: {0}")]
    Trapped(String),
}
