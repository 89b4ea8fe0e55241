//! Messaging: `wasmcloud:messaging@0.2.0` over NATS (at most once) and over JetStream (at least once).
//!
//! In: an offer with the subjects that it lends; messages on them. Out: calls of `handler.handle-message`, one fresh
//! instance each, and what guests publish. A guest reaches the subjects of its offer and no others, and never those that
//! the fleet or NATS itself talks on, whatever the offer says. Each capability has a connection of its own, opened when
//! it is first needed.

#![forbid(unsafe_code)]

mod backoff;
mod connection;
mod consume;
mod dead;
mod guest;
mod handler;
mod publish;
mod room;
mod stream;
mod subject;
mod work;

use crate::connection::Connection;
use crate::consume::Consumer;
use crate::handler::Handler;
use crate::publish::Publisher;
use crate::stream::StreamOffer;
use crate::subject::Subjects;
use heddle_capability::{Callable, Capability, CapabilityError, Ctx, Guard, Import, Lending, Lent};
use heddle_protocol::host_spec::{CapabilityOffer, Consume, Feature};
use heddle_protocol::id::CapabilityName;
use std::sync::Arc;
use tokio::sync::watch;
use wasmtime::component::LinkerInstance;

const CONSUMER: &str = "wasmcloud:messaging/consumer@0.2.0";
const TYPES: &str = "wasmcloud:messaging/types@0.2.0";
/// The interfaces that it meets.
const MEETS: &[&str] = &[CONSUMER, TYPES];
/// The secret that holds the text of a NATS credentials file.
const CREDENTIALS: &str = "credentials";
/// Largest message that a guest may send or is given, in bytes: what NATS takes unless it is told otherwise.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Lends messaging over NATS: a message that nobody takes, or that fails, is gone.
#[derive(Debug, Clone, Copy, Default)]
pub struct MessagingNats;

/// Lends messaging over JetStream: a message stays until it was handled, or is given up after so many attempts.
#[derive(Debug, Clone, Copy, Default)]
pub struct MessagingJetstream;

impl Capability for MessagingNats {
    fn feature(&self) -> Feature {
        Feature::MESSAGING_NATS
    }

    fn configure(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        lending: &Lending,
    ) -> Result<Arc<dyn Lent>, CapabilityError> {
        let CapabilityOffer::MessagingNats { url, subjects } = offer else {
            return Err(other_kind(name, self.feature()));
        };
        let subjects = subjects_of(name, subjects)?;
        Ok(Arc::new(Messaging::new(name, url.as_deref(), subjects, None, lending)?))
    }
}

impl Capability for MessagingJetstream {
    fn feature(&self) -> Feature {
        Feature::MESSAGING_JETSTREAM
    }

    fn configure(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        lending: &Lending,
    ) -> Result<Arc<dyn Lent>, CapabilityError> {
        let CapabilityOffer::MessagingJetstream {
            stream,
            url,
            subjects,
            dead_letters,
        } = offer
        else {
            return Err(other_kind(name, self.feature()));
        };
        let subjects = subjects_of(name, subjects)?;
        let refused = |why| CapabilityError::Offer {
            name: name.clone(),
            why,
        };
        let stream = StreamOffer::new(stream, &subjects, dead_letters.as_deref()).map_err(refused)?;
        Ok(Arc::new(Messaging::new(
            name,
            url.as_deref(),
            subjects,
            Some(stream),
            lending,
        )?))
    }
}

fn other_kind(name: &CapabilityName, feature: Feature) -> CapabilityError {
    CapabilityError::OtherKind {
        name: name.clone(),
        feature,
    }
}

fn subjects_of(name: &CapabilityName, subjects: &[String]) -> Result<Subjects, CapabilityError> {
    Subjects::new(subjects).map_err(|why| CapabilityError::Offer {
        name: name.clone(),
        why,
    })
}

/// One messaging capability as it is lent.
struct Messaging {
    name: CapabilityName,
    connection: Arc<Connection>,
    subjects: Arc<Subjects>,
    /// Where messages are kept; none is NATS alone.
    stream: Option<Arc<StreamOffer>>,
}

impl Messaging {
    fn new(
        name: &CapabilityName,
        url: Option<&str>,
        subjects: Subjects,
        stream: Option<StreamOffer>,
        lending: &Lending,
    ) -> Result<Self, CapabilityError> {
        let Some(url) = url.or(lending.nats_url.as_deref()) else {
            return Err(CapabilityError::Offer {
                name: name.clone(),
                why: "it names no NATS server and this agent runs without one; give it a `url`".to_owned(),
            });
        };
        let credentials = lending.secrets.get(CREDENTIALS).cloned();
        Ok(Self {
            connection: Arc::new(Connection::new(name, url, credentials)),
            name: name.clone(),
            subjects: Arc::new(subjects),
            stream: stream.map(Arc::new),
        })
    }
}

impl Lent for Messaging {
    fn prepare(&self, import: &Import<'_>, linker: &mut LinkerInstance<'_, Ctx>) -> Result<(), CapabilityError> {
        let publisher = || Publisher {
            capability: self.name.clone(),
            connection: Arc::clone(&self.connection),
            subjects: Arc::clone(&self.subjects),
            stream: self.stream.clone(),
        };
        match import.interface {
            CONSUMER => guest::consumer(Arc::new(publisher()), linker).map_err(CapabilityError::link(import)),
            // It has types and no functions.
            TYPES => Ok(()),
            other => Err(CapabilityError::NotMet {
                interface: other.to_owned(),
                meets: MEETS.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    fn consume(&self, consume: &Consume, component: Arc<dyn Callable>) -> Result<Guard, CapabilityError> {
        let refused = |why| CapabilityError::Offer {
            name: self.name.clone(),
            why,
        };
        self.subjects.check_consumed(&consume.subject).map_err(refused)?;
        let handler = Handler::find(component).ok_or_else(|| {
            refused(format!(
                "component {} exports no wasmcloud:messaging/handler@0.2.0",
                consume.component
            ))
        })?;
        let (stop, stopped) = watch::channel(());
        let consumer = Arc::new(Consumer::new(
            Arc::clone(&self.connection),
            consume,
            handler,
            stopped.clone(),
        ));
        match &self.stream {
            None => tokio::spawn(consume::run(consumer, stopped)),
            Some(stream) => tokio::spawn(stream::run(consumer, Arc::clone(stream), stopped)),
        };
        Ok(Guard::new(move || drop(stop)))
    }
}
