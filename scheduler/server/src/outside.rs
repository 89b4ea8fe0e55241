//! What a scheduler needs of the world around it: messages, tasks, the time of day and chance, behind one trait.
//!
//! In: what the loop wants done. Out: what came of it. [`Nats`] is the world that schedulers live in; the simulator has
//! another one, in which the same loop runs. Monotonic time is tokio's, which a simulation can hold.

use anyhow::Context as _;
use async_nats::{HeaderMap, Message, Subject};
use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::{SelectAll, StreamExt as _};
use heddle_protocol::id::Realm;
use heddle_protocol::subject;
use heddle_protocol::time::UnixMs;
use heddle_wire::chunk::{self, RequestError};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::store::{Image, write_image};

/// Where a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An agent introduces itself.
    Hello,
    /// An agent lives.
    Heartbeat,
    /// An agent's work changed.
    Status,
    /// A client asks.
    Api,
}

/// All that comes in, in the order in which it came.
pub type Inputs = Pin<Box<dyn Stream<Item = (Source, Message)> + Send>>;

/// The world around a scheduler.
#[async_trait]
pub trait Outside: Send + Sync {
    /// Begins to listen. Once this is done, nothing that is sent to the scheduler of a realm is lost any more.
    async fn listen(&self, realm: &Realm) -> anyhow::Result<Inputs>;

    /// Sends a message that nobody answers. It may be lost.
    async fn publish(&self, to: Subject, headers: Option<HeaderMap>, payload: Bytes) -> Result<(), String>;

    /// Asks with a message of any size. Without progress for so long, it fails; it may have been carried out.
    async fn request(&self, subject: &str, payload: Bytes, within: Duration) -> Result<Message, RequestError>;

    /// Waits until what was sent is with the server.
    async fn flush(&self);

    /// Has work done beside the loop. What belongs to a scheduler ends with its process.
    fn spawn(&self, work: BoxFuture<'static, ()>);

    /// Keeps a verified image on the scheduler's own disk.
    async fn keep_image(&self, path: PathBuf, realm: Realm, image: Image) -> Result<(), String>;

    /// The time for people and records. Decisions use the monotonic clock.
    fn wall_clock(&self) -> UnixMs;

    /// Bits that nobody can foresee.
    fn random(&self) -> u64;

    /// A number from 0 up to but without 1, evenly spread.
    fn chance(&self) -> f64 {
        // The 53 bits that a float can hold.
        (self.random() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The world of schedulers in earnest: NATS, the runtime's tasks, the machine's clock.
#[derive(Debug, Clone)]
pub struct Nats(pub async_nats::Client);

#[async_trait]
impl Outside for Nats {
    async fn listen(&self, realm: &Realm) -> anyhow::Result<Inputs> {
        let mut inputs = SelectAll::new();
        for (source, subject) in [
            (Source::Hello, subject::all_hellos(realm)),
            (Source::Heartbeat, subject::all_heartbeats(realm)),
            (Source::Status, subject::all_statuses(realm)),
            (Source::Api, subject::all_api_requests(realm)),
        ] {
            let messages = self.0.subscribe(subject.clone()).await;
            let messages = messages.with_context(|| format!("failed to subscribe to {subject}"))?;
            inputs.push(messages.map(move |message| (source, message)).boxed());
        }
        // A flush only empties our own buffer. A request makes the round trip: once it is answered (that nobody listens),
        // the server has the subscriptions before it, and no request of an agent or client is lost any more.
        let request = async_nats::Request::new().timeout(Some(Duration::from_secs(2)));
        let nobody = format!("{}.{}", subject::ready_probe(realm), uuid::Uuid::new_v4().simple());
        if let Err(e) = self.0.send_request(nobody, request).await
            && e.kind() != async_nats::RequestErrorKind::NoResponders
        {
            return Err(e).context("failed to reach NATS");
        }
        Ok(inputs.boxed())
    }

    async fn publish(&self, to: Subject, headers: Option<HeaderMap>, payload: Bytes) -> Result<(), String> {
        let sent = match headers {
            Some(headers) => self.0.publish_with_headers(to, headers, payload).await,
            None => self.0.publish(to, payload).await,
        };
        sent.map_err(|e| e.to_string())
    }

    async fn request(&self, subject: &str, payload: Bytes, within: Duration) -> Result<Message, RequestError> {
        chunk::request(&self.0, subject, payload, within).await
    }

    async fn flush(&self) {
        // What cannot leave now is asked for again.
        let _ = self.0.flush().await;
    }

    fn spawn(&self, work: BoxFuture<'static, ()>) {
        tokio::spawn(work);
    }

    async fn keep_image(&self, path: PathBuf, realm: Realm, image: Image) -> Result<(), String> {
        let written = tokio::task::spawn_blocking(move || write_image(&path, realm.as_str(), &image)).await;
        written.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    fn wall_clock(&self) -> UnixMs {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn random(&self) -> u64 {
        rand::random()
    }
}

/// What parts of a scheduler share of the world.
pub type Around = Arc<dyn Outside>;

/// Does work that takes a processor for long, on a thread where nobody waits for anything else. A runtime that has but one
/// thread (a simulation's) does it at once, so that what comes of it never depends on other threads.
///
/// # Errors
/// If the work panicked.
pub async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::CurrentThread => Ok(work()),
        _ => tokio::task::spawn_blocking(work).await,
    }
}
