//! Taking messages over NATS alone: each goes to one member of a queue group, once or never.
//!
//! In: messages on a subject. Out: calls of the handler, as many at a time as there is room for. A message whose handler
//! fails is told to the workload's log and gone.

use crate::BODY_BYTES_MAX;
use crate::backoff::pause;
use crate::connection::Connection;
use crate::handler::{BrokerMessage, Handler, Outcome};
use crate::room::Room;
use futures::StreamExt as _;
use heddle_capability::Level;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::Consume;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The pause before a link or a consumer that failed is tried again, first and at most.
pub(crate) const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How often it is looked whether there is more room, because replicas may have come.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long the last messages of a subscription that ends may take to arrive.
pub(crate) const LAST_TIMEOUT: Duration = Duration::from_secs(3);

/// One trigger of one unit.
pub(crate) struct Consumer {
    pub(crate) connection: Arc<Connection>,
    pub(crate) consume: Consume,
    pub(crate) handler: Handler,
    pub(crate) room: Arc<Room>,
    pub(crate) stopped: watch::Receiver<()>,
}

impl Consumer {
    pub(crate) fn new(
        connection: Arc<Connection>,
        consume: &Consume,
        handler: Handler,
        stopped: watch::Receiver<()>,
    ) -> Self {
        Self {
            connection,
            room: Arc::new(Room::new(consume.max_in_flight)),
            consume: consume.clone(),
            handler,
            stopped,
        }
    }

    /// What all replicas of the workload, of whichever generation, share for this trigger: the name of a queue group or
    /// of a durable consumer. It names the workload for people and is told apart from others by a digest.
    pub(crate) fn group(&self) -> String {
        let workload = &self.handler.component.unit().workload;
        let (namespace, name) = (&workload.namespace, &workload.name);
        let trigger = format!(
            "{namespace}\n{name}\n{}\n{}",
            self.consume.component, self.consume.subject
        );
        format!("heddle-{namespace}-{name}-{}", Digest::of(trigger.as_bytes()).short())
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.has_changed().is_err()
    }

    pub(crate) fn free(&self) -> u32 {
        self.room.free(self.handler.component.replicas())
    }
}

/// Takes messages until the guard is dropped.
pub(crate) async fn run(consumer: Arc<Consumer>, mut stopped: watch::Receiver<()>) {
    let mut failures = 0;
    loop {
        let session = take(&consumer, &mut stopped).await;
        let Err(why) = session else { return };
        failures += 1;
        tracing::warn!(
            unit = %consumer.handler.component.unit(), subject = consumer.consume.subject, %why,
            "messages are not taken; trying again"
        );
        tokio::select! {
            _ = stopped.changed() => return,
            () = tokio::time::sleep(pause(failures, RETRY_PAUSES.0, RETRY_PAUSES.1)) => {}
        }
    }
}

/// Subscribes and takes; the client subscribes again by itself when its link comes back.
async fn take(consumer: &Arc<Consumer>, stopped: &mut watch::Receiver<()>) -> Result<(), String> {
    let link = consumer.connection.link().await.map_err(|e| e.to_string())?;
    let subject = consumer.consume.subject.clone();
    let subscribed = link.client.queue_subscribe(subject, consumer.group()).await;
    let mut messages = subscribed.map_err(|e| e.to_string())?;
    loop {
        let free = consumer.free() > 0;
        tokio::select! {
            biased;
            _ = stopped.changed() => break,
            message = messages.next(), if free => match message {
                Some(message) => begin(consumer, message),
                None => return Err("the subscription ended".to_owned()),
            },
            () = consumer.room.freed.notified(), if !free => {}
            () = tokio::time::sleep(LOOK_AGAIN), if !free => {}
        }
    }
    // Nothing new from now on. What is here already has no other taker: it is handled if the unit still may.
    let last = async {
        if messages.drain().await.is_ok() {
            while let Some(message) = messages.next().await {
                begin(consumer, message);
            }
        }
    };
    let _ = tokio::time::timeout(LAST_TIMEOUT, last).await;
    Ok(())
}

fn begin(consumer: &Arc<Consumer>, message: async_nats::Message) {
    let (consumer, place) = (Arc::clone(consumer), consumer.room.take());
    tokio::spawn(async move {
        let _place = place;
        let subject = message.subject.to_string();
        let outcome = match message.payload.len() > BODY_BYTES_MAX {
            true => Outcome::Refused(format!("it has more than {BODY_BYTES_MAX} bytes")),
            false => {
                let message = BrokerMessage {
                    subject: subject.clone(),
                    body: message.payload.to_vec(),
                    reply_to: message.reply.map(|reply| reply.to_string()),
                };
                consumer.handler.handle(message).await
            }
        };
        let why = match outcome {
            Outcome::Done => return,
            Outcome::Refused(why) => why,
            Outcome::Failed(failure) => failure.to_string(),
        };
        let text = format!("a message on {subject} is lost: {why}");
        consumer.handler.tell(Level::Error, &text);
    });
}
