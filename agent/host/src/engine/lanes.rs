//! Two lanes for guests: one for those that answer and are gone, one for those that compute.
//!
//! In: a call that was interrupted because it computes. Out: the same call on threads that get a processor only when nobody
//! else wants one. A guest that spins so costs its neighbours one tick, and not their processors.

use crate::priority;
use heddle_capability::{Interrupts, TICK, computed, in_turn};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinError, JoinHandle};

/// Turns of guests between two looks for new calls and for what came in.
const TURNS_BETWEEN_LOOKS: u32 = 2;

/// The slow lane of this process; none if its threads cannot be started.
fn slow() -> Option<&'static Runtime> {
    static SLOW: OnceLock<Option<Runtime>> = OnceLock::new();
    let made = SLOW.get_or_init(|| {
        let lower = || {
            // For the calling thread alone. Without it the lane still keeps computing guests apart.
            if let Err(error) = priority::lower() {
                tracing::debug!(%error, "a thread of the slow lane keeps its priority");
            }
        };
        let made = Builder::new_multi_thread()
            .worker_threads(threads(std::thread::available_parallelism().map_or(1, usize::from)))
            .thread_name("guest-slow")
            // A turn may last a tick, and those that wait for their first one or for an answer must not wait for dozens.
            .event_interval(TURNS_BETWEEN_LOOKS)
            .global_queue_interval(TURNS_BETWEEN_LOOKS)
            .on_thread_start(lower)
            .enable_all()
            .build();
        made.inspect_err(|error| tracing::error!(%error, "computing guests share the threads of all others"))
            .ok()
    });
    made.as_ref()
}

/// Threads of the slow lane: all processors but one. The kernel lets a thread of the lowest priority end its time slice before
/// another gets the processor ([`priority`]); with one free of them a guest that answers does not wait for that.
fn threads(processors: usize) -> usize {
    processors.saturating_sub(1).max(1)
}

/// Moves a call to the slow lane. Where there is none, it goes on where it is.
pub(crate) fn spawn_slow<T: Send + 'static>(call: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    match slow() {
        Some(runtime) => runtime.spawn(call),
        None => tokio::spawn(call),
    }
}

/// A call on the slow lane. Its turns are kept, so that ticks know how long it computed, and with each tick that they come to
/// together its component goes on counting as one that computes.
struct InTurns<T> {
    call: Pin<Box<dyn Future<Output = T> + Send>>,
    interrupts: Arc<Interrupts>,
    spent: Duration,
}

impl<T> InTurns<T> {
    fn new(call: Pin<Box<dyn Future<Output = T> + Send>>, interrupts: &Arc<Interrupts>) -> Self {
        Self {
            call,
            interrupts: Arc::clone(interrupts),
            spent: Duration::ZERO,
        }
    }
}

impl<T> Future for InTurns<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let (polled, spent) = in_turn(|| (self.call.as_mut().poll(cx), computed()));
        self.spent += spent.unwrap_or_default();
        if self.spent >= TICK {
            self.spent = Duration::ZERO;
            self.interrupts.note(Instant::now());
        }
        polled
    }
}

/// A call on the slow lane, which ends with whoever waits for it.
pub(crate) struct Moved<T>(JoinHandle<T>);

impl<T> Moved<T> {
    /// Of a task that was just spawned.
    pub(crate) fn new(task: JoinHandle<T>) -> Self {
        Self(task)
    }
}

impl<T> Drop for Moved<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Future for Moved<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// A call that begins where it is awaited, and goes on on the slow lane once it was interrupted because it computes.
pub(crate) struct Laned<T>(State<T>);

enum State<T> {
    /// With what it has computed in its turns so far: one that has many short ones is hardly ever met by a tick.
    Here(Pin<Box<dyn Future<Output = T> + Send>>, Arc<Interrupts>, Duration),
    Slow(Moved<T>),
    /// Between two lanes.
    Moving,
}

impl<T: Send + 'static> Laned<T> {
    /// A call of a component. One whose calls computed lately begins on the slow lane.
    pub(crate) fn new(call: Pin<Box<dyn Future<Output = T> + Send>>, interrupts: &Arc<Interrupts>) -> Self {
        Self(match interrupts.lately(Instant::now()) {
            true => State::Slow(Moved(spawn_slow(InTurns::new(call, interrupts)))),
            false => State::Here(call, Arc::clone(interrupts), Duration::ZERO),
        })
    }

    /// Whether it runs elsewhere: then nobody here sees what it does between two looks.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self.0, State::Slow(_))
    }
}

impl<T: Send + 'static> Future for Laned<T> {
    /// None if the slow lane ended it, which it does only when the process ends or the call panicked.
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let State::Here(call, interrupts, spent) = &mut self.0 {
            let before = interrupts.count();
            let polled = in_turn(|| {
                let polled = call.as_mut().poll(cx);
                if polled.is_pending() {
                    *spent += computed().unwrap_or_default();
                }
                polled
            });
            if polled.is_ready() {
                interrupts.answered(before);
                return polled.map(Some);
            }
            if interrupts.count() == before {
                if *spent < TICK {
                    return Poll::Pending;
                }
                interrupts.note(Instant::now());
            }
            if let State::Here(call, interrupts, _) = std::mem::replace(&mut self.0, State::Moving) {
                self.0 = State::Slow(Moved(spawn_slow(InTurns::new(call, &interrupts))));
            }
        }
        match &mut self.0 {
            State::Slow(moved) => Pin::new(moved).poll(cx).map(Result::ok),
            State::Here(..) | State::Moving => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_slow_lane_has_threads_of_its_own_with_the_lowest_priority() {
        let here = std::thread::current().id();
        let (thread, nice) = spawn_slow(async { (std::thread::current().id(), rustix::process::nice(0).unwrap()) })
            .await
            .unwrap();
        assert!(thread != here);
        assert_eq!(nice, priority::NICE);
    }

    #[test]
    fn one_processor_is_left_to_those_that_answer() {
        assert_eq!([1, 2, 16].map(threads), [1, 1, 15]);
    }

    /// Where its first and its second turn ran; it is interrupted in between if it says so.
    fn two_turns(interrupts: &Arc<Interrupts>, computes: bool) -> Laned<bool> {
        let here = Arc::clone(interrupts);
        let call = async move {
            let first = std::thread::current().name().map(str::to_owned);
            if computes {
                here.note(Instant::now());
            }
            tokio::task::yield_now().await;
            first.as_deref() != Some("guest-slow") && std::thread::current().name() == Some("guest-slow")
        };
        Laned::new(Box::pin(call), interrupts)
    }

    #[tokio::test]
    async fn a_call_that_computes_a_tick_in_many_short_turns_goes_on_on_the_slow_lane() {
        let interrupts = Arc::new(Interrupts::default());
        let call = async {
            let begin = Instant::now();
            while std::thread::current().name() != Some("guest-slow") && begin.elapsed() < Duration::from_secs(30) {
                let turn = Instant::now();
                while turn.elapsed() < TICK / 20 {}
                tokio::task::yield_now().await;
            }
            begin.elapsed()
        };
        let moved = Laned::new(Box::pin(call), &interrupts).await.unwrap();
        assert!(moved >= TICK && moved < Duration::from_secs(30), "{moved:?}");
        assert_eq!(interrupts.count(), 1);
        // There it goes on counting as one that computes, however short its turns are.
        let call = async {
            for _ in 0..200 {
                let turn = Instant::now();
                while turn.elapsed() < TICK / 20 {}
                tokio::task::yield_now().await;
            }
        };
        let slow = Laned::new(Box::pin(call), &interrupts);
        assert!(slow.is_slow());
        slow.await.unwrap();
        assert!(interrupts.count() >= 2, "{}", interrupts.count());
        // One that waits computes nothing, however long it waits.
        let interrupts = Arc::new(Interrupts::default());
        let waits = Box::pin(tokio::time::sleep(TICK * 3));
        assert!(Laned::new(waits, &interrupts).await.is_some());
        assert_eq!(interrupts.count(), 0);
    }

    #[tokio::test]
    async fn a_call_that_computes_goes_on_on_the_slow_lane_and_others_stay() {
        let interrupts = Arc::new(Interrupts::default());
        assert_eq!(two_turns(&interrupts, false).await, Some(false));
        assert_eq!(two_turns(&interrupts, true).await, Some(true));
        assert!(two_turns(&interrupts, false).is_slow(), "the next one begins there");
        assert!(
            !two_turns(&Arc::default(), false).is_slow(),
            "of another unit it does not"
        );
    }
}
