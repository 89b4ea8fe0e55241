//! Serving a function as bytes: a handler takes arguments and gives results.
//!
//! In: calls of any peer on one subject, usually in a queue group. Out: results, or a fault that says what happened.
//! Every call has a bounded time and bounded arguments; what does not fit is refused, and what its caller cancels is
//! dropped.

use crate::accept;
use crate::connection::{Connection, Shared, subject};
use crate::error::{CallError, Fault, ServeError, connection};
use crate::header::{self, CallHeader};
use crate::mux::Registration;
use crate::slot::{Plan, Side};
use async_nats::client::traits::Publisher as _;
use async_nats::{Message, Subject};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tracing::debug;

/// Calls that a subscription which ends still takes where calls come often: more than arrive while NATS is told.
const LAST_CALLS: u64 = 8;
/// How long they may take to come. Calls that come more rarely hardly ever cross the unsubscribing.
const LAST_CALLS_WITHIN: Duration = Duration::from_millis(500);

/// Which function is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What the subject begins with; may be empty.
    pub prefix: String,
    /// The interface; may be empty.
    pub instance: String,
    /// The function.
    pub function: String,
    /// Those who serve the same function in one group share its calls. Without a group each of them executes each
    /// call.
    pub queue_group: Option<String>,
}

/// What one served function may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Calls at once; more are refused.
    pub in_flight: usize,
    /// Largest arguments.
    pub params_bytes: usize,
    /// Largest results.
    pub results_bytes: usize,
    /// Longest time of a call, whatever its caller says; a day at most.
    pub wall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 128,
            params_bytes: crate::connection::BYTES_MAX,
            results_bytes: crate::connection::BYTES_MAX,
            wall: Duration::from_secs(5 * 60),
        }
    }
}

/// One call.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The interface.
    pub instance: Arc<str>,
    /// The function.
    pub function: Arc<str>,
    /// The encoded arguments.
    pub params: Bytes,
    /// Until when the caller waits, if it says so.
    pub deadline: Option<Instant>,
}

/// What executes calls.
pub trait Handler: Send + Sync + 'static {
    /// Executes one call. The future is dropped when the caller cancels or the time is up.
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Fault>>;
}

impl<F> Handler for F
where
    F: Fn(Incoming) -> BoxFuture<'static, Result<Bytes, Fault>> + Send + Sync + 'static,
{
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Fault>> {
        self(incoming)
    }
}

/// A served function. Dropping it stops serving at once: calls in flight end with a fault.
#[derive(Debug)]
pub struct Serving {
    task: JoinHandle<()>,
    drain: Option<oneshot::Sender<()>>,
}

impl Serving {
    /// Takes no new calls, and returns when those in flight are answered. Dropping the future ends them with a fault.
    pub async fn drain(mut self) {
        if let Some(drain) = self.drain.take() {
            // The task is gone when the connection is: then nothing is in flight.
            let _ = drain.send(());
        }
        let _ = (&mut self.task).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Serves a function, and returns when calls reach it.
    pub async fn serve(
        &self,
        service: Service,
        handler: Arc<dyn Handler>,
        limits: Limits,
    ) -> Result<Serving, ServeError> {
        let subject = subject(&service.prefix, &service.instance, &service.function);
        let messages = self.subscribe(subject, service.queue_group).await?;
        let (drain, drained) = oneshot::channel();
        let server = Server {
            shared: self.shared().clone(),
            instance: service.instance.into(),
            function: service.function.into(),
            handler,
            in_flight: Arc::new(Semaphore::new(limits.in_flight.min(Semaphore::MAX_PERMITS))),
            limits,
        };
        let task = tokio::spawn(Arc::new(server).run(messages, drained));
        Ok(Serving {
            task,
            drain: Some(drain),
        })
    }

    /// Subscribes, and waits until NATS has done so.
    pub(crate) async fn subscribe(
        &self,
        subject: String,
        queue_group: Option<String>,
    ) -> Result<async_nats::Subscriber, ServeError> {
        let client = &self.shared().client;
        let subscribed = match queue_group {
            Some(group) => client.queue_subscribe(subject.clone(), group).await,
            None => client.subscribe(subject.clone()).await,
        };
        let messages = subscribed.map_err(|error| ServeError::Subscribe {
            subject: subject.clone(),
            reason: error.to_string(),
        })?;
        match self.round_trip().await {
            Ok(()) => Ok(messages),
            Err(CallError::Deadline) => {
                let within_ms = u64::try_from(self.shared().options.ready_within.as_millis()).unwrap_or(u64::MAX);
                Err(ServeError::Silent { subject, within_ms })
            }
            Err(error) => Err(ServeError::Subscribe {
                subject,
                reason: error.to_string(),
            }),
        }
    }
}

/// A subscription, and how many messages came of it.
struct Taken {
    subscriber: async_nats::Subscriber,
    seen: u64,
}

impl Taken {
    async fn next(&mut self) -> Option<Message> {
        let message = self.subscriber.next().await?;
        self.seen += 1;
        Some(message)
    }
}

struct Server {
    shared: Arc<Shared>,
    instance: Arc<str>,
    function: Arc<str>,
    handler: Arc<dyn Handler>,
    in_flight: Arc<Semaphore>,
    limits: Limits,
}

impl Server {
    async fn run(self: Arc<Self>, subscriber: async_nats::Subscriber, drain: oneshot::Receiver<()>) {
        let mut messages = Taken { subscriber, seen: 0 };
        let mut calls = JoinSet::new();
        let mut drain = std::pin::pin!(drain);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.begin(message, &mut calls),
                    None => break,
                },
                asked = &mut drain => {
                    if asked.is_ok() {
                        self.drain(&mut messages, &mut calls).await;
                    }
                    break;
                }
            }
            // Finished calls are let go here rather than by a wake-up each.
            while calls.try_join_next().is_some() {}
        }
        while calls.join_next().await.is_some() {}
        // Whoever drains may let go of the connection next.
        self.shared.settle().await;
    }

    /// Executes what NATS had handed over before it heard that no more is wanted.
    ///
    /// The client lets go of a subscription that drains before NATS has confirmed it, so a call that crosses the
    /// unsubscribing would be lost. Where calls come often, NATS is asked to end the subscription after a few more of
    /// them: then both sides agree on which is the last. Where they come rarely, hardly one crosses.
    async fn drain(self: &Arc<Self>, messages: &mut Taken, calls: &mut JoinSet<()>) {
        while let Some(Some(message)) = messages.next().now_or_never() {
            self.begin(message, calls);
        }
        let last = messages.seen + LAST_CALLS;
        if messages.subscriber.unsubscribe_after(last).await.is_err() {
            return;
        }
        let more = async {
            while let Some(message) = messages.next().await {
                self.begin(message, calls);
            }
        };
        if tokio::time::timeout(LAST_CALLS_WITHIN, more).await.is_ok() {
            return;
        }
        if messages.subscriber.drain().await.is_err() {
            return;
        }
        let patience = self.shared.options.ready_within;
        while let Ok(Some(message)) = tokio::time::timeout(patience, messages.next()).await {
            self.begin(message, calls);
        }
    }

    fn begin(self: &Arc<Self>, message: Message, calls: &mut JoinSet<()>) {
        let Some(reply) = message.reply.clone() else {
            debug!(
                function = &*self.function,
                "dropped a call that names no place for its results"
            );
            return;
        };
        let head = header::read_call(message.headers.as_ref());
        let answer = Answer {
            shared: self.shared.clone(),
            reply,
            ours: head.is_some(),
            given: false,
        };
        let Ok(permit) = self.in_flight.clone().try_acquire_owned() else {
            let most = self.limits.in_flight;
            answer.refuse(&Fault::Refused(format!("{most} calls are in flight already")));
            return;
        };
        match Arriving::new(&self.shared, &self.limits, head, message.payload) {
            Ok(arriving) => {
                calls.spawn(self.clone().execute(arriving, answer, permit));
            }
            Err(fault) => answer.refuse(&fault),
        }
    }

    async fn execute(self: Arc<Self>, arriving: Arriving, mut answer: Answer, permit: OwnedSemaphorePermit) {
        let wall = Instant::now() + self.limits.wall.min(header::DEADLINE_MAX);
        let end = arriving.deadline.map_or(wall, |deadline| deadline.min(wall));
        let outcome = match tokio::time::timeout_at(end.into(), self.results(&arriving, &answer)).await {
            Ok(Ok(results)) if results.len() > self.limits.results_bytes => Err(Some(Fault::TooLarge {
                bytes: results.len() as u64,
                limit: self.limits.results_bytes as u64,
            })),
            Ok(outcome) => outcome,
            Err(_) => Err(Some(Fault::Deadline)),
        };
        // From here on nothing is cancelled any more: the answer is on its way.
        let sent = match outcome {
            Ok(results) => answer.results(results).await,
            Err(Some(fault)) => answer.fault(&fault).await,
            // Nobody waits.
            Err(None) => {
                answer.given = true;
                Ok(())
            }
        };
        if let Err(error) = sent {
            debug!(function = &*self.function, %error, "failed to answer a call");
        }
        drop(permit);
    }

    /// The results, or the fault; neither when the caller has cancelled.
    async fn results(&self, arriving: &Arriving, answer: &Answer) -> Result<Bytes, Option<Fault>> {
        let registration = &arriving.registration;
        let slot = registration.slot();
        if answer.ours && arriving.whole {
            self.shared.accepts.later(registration.token(), answer.reply.clone());
        } else {
            answer.accept(registration).await.map_err(|_| None)?;
        }
        let rest = slot.complete().await.map_err(|failure| match &*failure {
            CallError::Cancelled => None,
            CallError::TooLarge { bytes, limit, .. } => Some(Fault::TooLarge {
                bytes: *bytes,
                limit: *limit,
            }),
            error => Some(Fault::Protocol(error.to_string())),
        })?;
        let params = if rest.is_empty() {
            arriving.first.clone()
        } else {
            let mut whole = BytesMut::with_capacity(arriving.first.len() + rest.len());
            whole.extend_from_slice(&arriving.first);
            whole.extend_from_slice(&rest);
            whole.freeze()
        };
        let call = self.handler.call(Incoming {
            instance: self.instance.clone(),
            function: self.function.clone(),
            params,
            deadline: arriving.deadline,
        });
        tokio::select! {
            results = call => results.map_err(Some),
            _ = slot.failed() => Err(None),
        }
    }
}

/// A call whose arguments may not be there yet.
struct Arriving {
    registration: Registration,
    first: Bytes,
    whole: bool,
    deadline: Option<Instant>,
}

impl Arriving {
    fn new(shared: &Shared, limits: &Limits, head: Option<CallHeader>, first: Bytes) -> Result<Self, Fault> {
        let limit = limits.params_bytes;
        let bytes = head.map_or(0, |head| head.params).max(first.len() as u64);
        if bytes > limit as u64 {
            return Err(Fault::TooLarge {
                bytes,
                limit: limit as u64,
            });
        }
        let expected = rest(head, &first)?;
        let plan = Plan {
            side: Side::Callee,
            limit: limit - first.len(),
            expected,
            patterns: Box::default(),
            whole: true,
        };
        let registration = shared
            .mux
            .register(plan)
            .map_err(|error| Fault::Refused(error.to_string()))?;
        let deadline = head.and_then(|head| head.within).map(|within| Instant::now() + within);
        Ok(Self {
            registration,
            first,
            whole: expected == Some(0),
            deadline,
        })
    }
}

/// How many bytes of arguments follow after the first message, if the caller says so.
pub(crate) fn rest(head: Option<CallHeader>, first: &Bytes) -> Result<Option<u64>, Fault> {
    let Some(head) = head else { return Ok(None) };
    match head.params.checked_sub(first.len() as u64) {
        Some(rest) => Ok(Some(rest)),
        None => Err(Fault::Protocol("more bytes arrived than were announced".to_owned())),
    }
}

/// What a caller still has to hear. Dropped before it was given, it says that the callee stopped.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reply: Subject,
    pub(crate) ours: bool,
    pub(crate) given: bool,
}

impl Answer {
    fn subject(&self) -> Subject {
        Subject::from(format!("{}.results", self.reply))
    }

    /// Says where arguments and a cancel go.
    pub(crate) async fn accept(&self, registration: &Registration) -> Result<(), CallError> {
        let accept = accept::message(&self.shared.mux, registration.token(), self.reply.clone());
        self.shared.client.publish_message(accept).await.map_err(connection)
    }

    /// A fault of a call that was not begun.
    pub(crate) fn refuse(mut self, fault: &Fault) {
        self.given = true;
        let mux = &self.shared.mux;
        if !self.ours {
            // A caller of another make looks at results only after an acceptance; this one leads nowhere.
            mux.post_message(accept::message(mux, 0, self.reply.clone()));
        }
        mux.post(self.subject(), Some(header::fault(fault)));
    }

    /// A fault of a call that was accepted, from where nothing can be awaited.
    pub(crate) fn refuse_begun(mut self, fault: &Fault) {
        self.given = true;
        self.shared.mux.post(self.subject(), Some(header::fault(fault)));
    }

    async fn fault(&mut self, fault: &Fault) -> Result<(), CallError> {
        self.given = true;
        let headers = header::fault(fault);
        let sent = self
            .shared
            .client
            .publish_with_headers(self.subject(), headers, Bytes::new());
        sent.await.map_err(connection)
    }

    async fn results(&mut self, mut results: Bytes) -> Result<(), CallError> {
        let subject = self.subject();
        let client = &self.shared.client;
        if self.ours {
            let headers = header::one(header::RESULTS, results.len() as u64);
            let first = results.split_to(results.len().min(self.shared.first_bytes_max()));
            client
                .publish_with_headers(subject.clone(), headers, first)
                .await
                .map_err(connection)?;
            self.shared.send_chunks(&subject, results).await?;
        } else {
            self.shared.send_chunks(&subject, results).await?;
            client.publish(subject, Bytes::new()).await.map_err(connection)?;
        }
        self.given = true;
        Ok(())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.given {
            let text = if std::thread::panicking() {
                "it panicked"
            } else {
                "it was stopped"
            };
            self.shared
                .mux
                .post(self.subject(), Some(header::fault(&Fault::Failed(text.to_owned()))));
        }
    }
}
