//! One call of `wasi:cli/run`. In: a component that exports it. Out: how it ended.

use heddle_capability::{CallFailure, Callable, Level, Work};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wasmtime::component::ComponentExportIndex;
use wasmtime_wasi::I32Exit;

/// The export, without version: both WASI 0.2 and 0.3 have it.
const RUN: &str = "wasi:cli/run@";
const FUNCTION: &str = "run";
/// What has no end of its own gets one that nobody lives to see.
const NEVER: Duration = Duration::from_secs(50 * 365 * 86_400);

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ran {
    /// Well: `run` answered ok, or the guest left with code 0.
    Well,
    /// The guest said that it failed.
    Badly(String),
    /// The call came to nothing, or never began.
    Failed(CallFailure),
}

impl Ran {
    /// Why it ended badly, in a few words; the guest's backtrace is in its log.
    pub(crate) fn reason(&self) -> Option<String> {
        match self {
            Self::Well => None,
            Self::Badly(why) => Some(why.clone()),
            Self::Failed(CallFailure::Trapped(why)) => {
                let first = why.lines().next().unwrap_or_default();
                let last = why.lines().rev().map(str::trim).find(|line| !line.is_empty());
                Some(match last.filter(|last| *last != first.trim()) {
                    Some(last) => format!("it trapped: {first}: {last}"),
                    None => format!("it trapped: {first}"),
                })
            }
            Self::Failed(failure) => Some(failure.to_string()),
        }
    }
}

/// The `run` of one component.
pub(crate) struct Command {
    pub(crate) component: Arc<dyn Callable>,
    function: ComponentExportIndex,
}

impl Command {
    /// The component's `run`, if it exports one.
    pub(crate) fn find(component: Arc<dyn Callable>) -> Option<Self> {
        let code = component.code();
        let ty = code.component_type();
        let name = ty
            .exports(code.engine())
            .map(|(name, _)| name.to_owned())
            .find(|name| name.starts_with(RUN))?;
        let interface = code.get_export_index(None, &name)?;
        let function = code.get_export_index(Some(&interface), FUNCTION)?;
        Some(Self { component, function })
    }

    /// Calls it once, in an instance of its own. Who lets go of this ends the call.
    pub(crate) async fn run(&self, deadline: Instant) -> Ran {
        let ended = Arc::new(Mutex::new(None));
        let (kept, function) = (Arc::clone(&ended), self.function);
        let work: Work = Box::new(move |store, instance| {
            Box::pin(async move {
                let run = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut *store, function)?;
                let ran = match run.call_async(&mut *store, ()).await {
                    Ok((Ok(()),)) => Ran::Well,
                    Ok((Err(()),)) => Ran::Badly("it answered with an error".to_owned()),
                    // Leaving early is a trap to the engine, and an end like any other to the guest.
                    Err(error) => match error.downcast_ref::<I32Exit>() {
                        Some(I32Exit(0)) => Ran::Well,
                        Some(I32Exit(code)) => Ran::Badly(format!("it left with code {code}")),
                        None => return Err(error),
                    },
                };
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(ran);
                Ok(())
            })
        });
        if let Err(failure) = Arc::clone(&self.component).call(deadline, work).await {
            return Ran::Failed(failure);
        }
        let ran = ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ran = ran.unwrap_or_else(|| Ran::Badly("it ended without an answer".to_owned()));
        // What the host noticed is in the log already; what the guest said is not.
        if let (Ran::Badly(why), Some(log)) = (&ran, self.component.log()) {
            log.write(Level::Warn, &format!("the run failed: {why}"));
        }
        ran
    }
}

/// A deadline for what may run for as long as it likes.
pub(crate) fn never() -> Instant {
    Instant::now() + NEVER
}
