//! Calls into a component that are not HTTP requests: an instance of its own for each piece of work.
//!
//! In: work, from a capability that brings messages or calls, or from what a unit runs by itself. Out: how it ended. The
//! same limits hold as for requests.

use crate::engine::lanes::Laned;
use crate::instance::component::PreparedComponent;
use futures::future::BoxFuture;
use heddle_capability::{CallFailure, Callable, Level, Log, TimeLimitReached, Work};
use heddle_protocol::id::{ComponentName, UnitId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wasmtime::PoolConcurrencyLimitError;
use wasmtime::component::Component;

impl Callable for PreparedComponent {
    fn unit(&self) -> &UnitId {
        &self.unit
    }

    fn component(&self) -> &ComponentName {
        &self.name
    }

    fn code(&self) -> &Component {
        self.pre.component()
    }

    fn time_limit(&self) -> Duration {
        self.maker.time
    }

    fn replicas(&self) -> u32 {
        self.admission.count()
    }

    fn log(&self) -> Option<&Arc<Log>> {
        Some(&self.maker.log)
    }

    fn call(self: Arc<Self>, deadline: Instant, work: Work) -> BoxFuture<'static, Result<(), CallFailure>> {
        Box::pin(async move {
            if self.admission.is_draining() {
                return Err(CallFailure::Draining);
            }
            let permit = self.admission.admit().ok_or(CallFailure::Overloaded)?;
            self.calls.fetch_add(1, Ordering::Relaxed);
            let component = Arc::clone(&self);
            let call = async move {
                let _permit = permit;
                component.run(deadline, work).await
            };
            let call = Laned::new(Box::pin(call), &self.maker.grants.interrupts);
            let ended = match tokio::time::timeout_at(deadline.into(), call).await {
                Ok(Some(ended)) => ended,
                Ok(None) => Err(CallFailure::Trapped("the call panicked".to_owned())),
                Err(_) => Err(CallFailure::TimeLimit),
            };
            if let Err(failure) = &ended {
                if matches!(failure, CallFailure::Trapped(_)) {
                    self.maker.grants.interrupts.trapped(Instant::now());
                }
                self.failed_calls.fetch_add(1, Ordering::Relaxed);
                self.maker.log.write(Level::Error, &failure.to_string());
            }
            ended
        })
    }
}

impl PreparedComponent {
    /// Makes an instance and does the work in it.
    async fn run(&self, deadline: Instant, work: Work) -> Result<(), CallFailure> {
        let mut store = self.maker.store(deadline);
        let instance = match self.pre.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(_) if store.data().refused_by_host() => return Err(CallFailure::HostFull),
            Err(error) if error.is::<PoolConcurrencyLimitError>() => return Err(CallFailure::HostFull),
            Err(error) => return Err(failure(&error)),
        };
        work(&mut store, instance).await.map_err(|error| failure(&error))
    }
}

fn failure(error: &wasmtime::Error) -> CallFailure {
    match error.is::<TimeLimitReached>() {
        true => CallFailure::TimeLimit,
        // The chain and the guest's backtrace, which are the workload's own business.
        false => CallFailure::Trapped(format!("{error:?}")),
    }
}
