//! What becomes of one message of a stream: handled, tried again later, or given up.
//!
//! In: a message that was delivered. Out: an acknowledgement, or a dead letter. While its call runs the server is told
//! so; an agent that dies in between is silent, and the message goes to another one.

use crate::BODY_BYTES_MAX;
use crate::backoff::pause;
use crate::consume::Consumer;
use crate::dead::DeadLetters;
use crate::handler::{BrokerMessage, Outcome};
use crate::stream::ACK_WAIT;
use async_nats::jetstream::{AckKind, Message};
use heddle_capability::{CallFailure, Level};
use std::time::Duration;

/// The pause before a message that failed is delivered again, first and at most.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// The pause before a call that found no room is tried again, first and at most: it is not the message's fault.
const ROOM_PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// The pause before a message that could not become a dead letter comes again.
const DEAD_LETTER_RETRY: Duration = Duration::from_secs(10);

/// Handles a message.
pub(crate) async fn carry_out(consumer: &Consumer, dead_letters: Option<&DeadLetters>, message: Message) {
    let delivered = match message.info() {
        Ok(info) => u32::try_from(info.delivered).unwrap_or(u32::MAX),
        Err(error) => {
            tracing::warn!(%error, "a message that is of no stream is left alone");
            return;
        }
    };
    let attempts = consumer.consume.attempts.max(1);
    let why = if delivered > attempts {
        "none of its takers answered: they stopped or were lost while they handled it".to_owned()
    } else if message.payload.len() > BODY_BYTES_MAX {
        format!("it has more than {BODY_BYTES_MAX} bytes")
    } else {
        match attempt(consumer, &message).await {
            Outcome::Done => return say(&message, AckKind::Ack).await,
            Outcome::Failed(CallFailure::Draining) => return hand_back(&message).await,
            Outcome::Refused(why) => why,
            Outcome::Failed(failure) => failure.to_string(),
        }
    };
    let for_good = delivered >= attempts || message.payload.len() > BODY_BYTES_MAX;
    let subject = &message.subject;
    if !for_good {
        let after = pause(delivered, RETRY_PAUSES.0, RETRY_PAUSES.1);
        let text =
            format!("a message on {subject} failed, attempt {delivered} of {attempts}, next in {after:.1?}: {why}");
        consumer.handler.tell(Level::Warn, &text);
        return say(&message, AckKind::Nak(Some(after))).await;
    }
    let Some(dead_letters) = dead_letters else {
        let text = format!("a message on {subject} is given up after {delivered} deliveries: {why}");
        consumer.handler.tell(Level::Error, &text);
        return say(&message, AckKind::Term).await;
    };
    let workload = &consumer.handler.component.unit().workload;
    match dead_letters.post(&message, workload, delivered, &why).await {
        Ok(to) => {
            let text =
                format!("a message on {subject} is given up after {delivered} deliveries and kept on {to}: {why}");
            consumer.handler.tell(Level::Error, &text);
            say(&message, AckKind::Term).await;
        }
        Err(error) => {
            // Nothing is lost: it stays in its stream until it can be kept elsewhere.
            tracing::warn!(%workload, %subject, %error, "a message cannot become a dead letter; it comes again");
            say(&message, AckKind::Nak(Some(DEAD_LETTER_RETRY))).await;
        }
    }
}

/// Calls the handler, and tells the server meanwhile that it goes on.
async fn attempt(consumer: &Consumer, message: &Message) -> Outcome {
    let handling = handle(consumer, message);
    tokio::pin!(handling);
    let mut progress = tokio::time::interval(ACK_WAIT / 3);
    // The first tick is at once, and the server knows that much.
    progress.tick().await;
    loop {
        tokio::select! {
            outcome = &mut handling => return outcome,
            _ = progress.tick() => say(message, AckKind::Progress).await,
        }
    }
}

async fn handle(consumer: &Consumer, message: &Message) -> Outcome {
    let mut refused = 0;
    loop {
        let handed = BrokerMessage {
            subject: message.subject.to_string(),
            body: message.payload.to_vec(),
            reply_to: None,
        };
        match consumer.handler.handle(handed).await {
            Outcome::Failed(CallFailure::Overloaded | CallFailure::HostFull) if !consumer.is_stopped() => {
                refused += 1;
                tokio::time::sleep(pause(refused, ROOM_PAUSES.0, ROOM_PAUSES.1)).await;
            }
            Outcome::Failed(CallFailure::Overloaded | CallFailure::HostFull) => {
                return Outcome::Failed(CallFailure::Draining);
            }
            outcome => return outcome,
        }
    }
}

/// Gives a message to whoever takes it next, at once.
pub(crate) async fn hand_back(message: &Message) {
    say(message, AckKind::Nak(None)).await;
}

/// What is not heard is asked for again: the server delivers the message once more.
async fn say(message: &Message, kind: AckKind) {
    if let Err(error) = message.ack_with(kind).await {
        tracing::debug!(%error, "an acknowledgement was not sent");
    }
}
